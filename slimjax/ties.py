"""Which channels of which parameters are one channel of the network.

A channel that one layer gives is a channel of its norm, of the kernels that read it
and, where a residual connection adds it, of other layers: they are *tied*. The ties are
read off the traced program, so that they hold for a user's own network as well. They
tell which reorderings of channels leave the network's function alone, and which layers
must keep equal numbers of channels.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from slimjax.insight.cost import plain_convolutions
from slimjax.tie_labels import fixed_labels
from slimjax.tie_reader import TieReader, Ties


def channel_ties(
    model: Any,
    variables: Mapping[str, Any],
    image_shape: tuple[int, int, int],
    **keywords: Any,
) -> Ties:
    """Returns the ties between the channels of a network; nothing is computed.

    Operations that this does not know keep the channels they work on where they are, as
    do batched matrix products, in which the heads of an attention are mixed.

    Args:
        model: a Flax module, called with images.
        variables: of the model, or their shapes.
        image_shape: height and width in pixels, and channels.
        **keywords: of the pass, such as `width`.

    Example:
        >>> import slimjax
        >>> model = slimjax.create_model('resnet14', num_classes=10, widths=(1.0,))
        >>> images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
        >>> variables = jax.eval_shape(model.init, jax.random.key(0), images)
        >>> ties = channel_ties(model, variables, (32, 32, 3), width=1.0)
        >>> shortcut, last = (
        ...     ties.of(('params', 'stage1_block1', name, 'conv', 'kernel'), 3)
        ...     for name in ('shortcut', 'conv3')
        ... )
        >>> len(shortcut), bool((shortcut == last).all())
        (256, True)
    """
    leaves = flatten_dict(dict(variables))
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)

    def run(leaves, images):
        return model.apply(unflatten_dict(leaves), images, **keywords)

    shapes = {
        path: jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype)
        for path, leaf in leaves.items()
    }
    with plain_convolutions():
        program = jax.make_jaxpr(run)(shapes, images)
    paths = sorted(shapes)
    groups = {}
    while True:
        reader = TieReader(groups)
        inputs = [reader.variable(path, shapes[path].shape) for path in paths]
        outputs = reader.run(
            program.jaxpr, program.consts, [*inputs, fixed_labels(images.shape)]
        )
        for labels in outputs:
            reader.fix(labels)
        # Kernels turn out to be grouped only where they are used.
        if reader.groups == groups:
            return reader.ties()
        groups = reader.groups
