"""Which pixels a value of a layer can see, found by trying.

The network is run with all weights positive, without its norms, on images that are
black but for one row (or one column). A value above 0 sees that row: nothing can
cancel, and what does not see it is exactly 0. So no layer need be known by name, and
max-pools, strides, paddings and branches are taken as they are.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from slimjax.insight.activations import Layer, outputs_seen
from slimjax.insight.passes import pass_keywords
from slimjax.layer_norm import SlimLayerNorm
from slimjax.norm import SwitchableBatchNorm

# What only rescales: it is left out.
_NORMS = (SwitchableBatchNorm, SlimLayerNorm, nn.BatchNorm, nn.LayerNorm, nn.GroupNorm)
# Images of one pass.
_CHUNK = 32


class Box(NamedTuple):
    """Rows `top` to `bottom` and columns `left` to `right`, the ends not included."""

    top: int
    bottom: int
    left: int
    right: int


@dataclasses.dataclass(frozen=True)
class ReceptiveFields:
    """Which rows and columns of an image the values of a layer see.

    Attributes:
        rows: `[image rows, *space]`, whether the value at a place sees the row.
        columns: `[image columns, *space]`, likewise.
    """

    rows: np.ndarray
    columns: np.ndarray

    def box(self, place: int) -> Box:
        """Returns what the value at a place sees, an index into the flattened space.

        Example:
            >>> sees = np.eye(4, dtype=bool)[:, :, None]
            >>> ReceptiveFields(sees, np.ones((4, 4, 1), bool)).box(2)
            Box(top=2, bottom=3, left=0, right=4)
        """
        ends = []
        for sees in (self.rows, self.columns):
            seen = np.flatnonzero(sees.reshape(len(sees), -1)[:, place])
            # What sees nothing here has weights of its own mind: the whole image.
            ends += [seen[0], seen[-1] + 1] if len(seen) else [0, len(sees)]
        return Box(*map(int, ends))


def receptive_fields(
    model: nn.Module,
    variables: Mapping[str, Any],
    layer: Layer,
    image_shape: tuple[int, int, int],
) -> ReceptiveFields:
    """Returns what each value of a layer sees, the same at all widths and channels.

    Args:
        model: a network that subtracts nothing but in its norms, such as all of
            slimjax's; a layer of attention sees all.
        variables: of the model; only their shapes matter.
        layer: one of `find_layers`.
        image_shape: height and width in pixels, and channels.

    Example:
        >>> import slimjax
        >>> from slimjax.insight.activations import find_layers
        >>> fields = {'small_images': True, 'stage_sizes': (1,)}
        >>> model = slimjax.create_model('resnet14', num_classes=10, **fields)
        >>> images = jnp.ones((1, 16, 16, 3))
        >>> variables = jax.jit(model.init)(jax.random.key(0), images)
        >>> stem = find_layers(model, variables, (16, 16, 3))[2]
        >>> receptive_fields(model, variables, stem, (16, 16, 3)).box(5 * 16 + 7)
        Box(top=4, bottom=7, left=6, right=9)
    """
    keywords = list(pass_keywords(model).values())[-1]  # the narrowest costs the least
    positive = jax.tree_util.tree_map_with_path(_positive, dict(variables))

    @jax.jit
    def sees(images):
        values = []

        def see(module, output):
            if '/'.join(module.path) == layer.name:
                values.append(output)

        with outputs_seen(see), nn.intercept_methods(_without_norms):
            model.apply(positive, images, **keywords)
        return (values[-1] > 0).any(-1)

    height, width, _ = image_shape
    black = functools.partial(np.zeros, (_CHUNK, *image_shape), np.float32)
    found = {}
    for axis, size in ((1, height), (2, width)):
        parts = []
        for start in range(0, size, _CHUNK):
            images = np.moveaxis(black(), axis, 1)
            count = min(_CHUNK, size - start)
            images[np.arange(count), start + np.arange(count)] = 1
            seen = sees(jnp.asarray(np.moveaxis(images, 1, axis)))
            parts.append(np.asarray(seen)[:count])
        found[axis] = np.concatenate(parts)
    return ReceptiveFields(found[1], found[2])


def _positive(path, leaf) -> np.ndarray:
    """A weight that sums up, in size about 1 over all inputs; no bias."""
    if leaf.ndim > 1:
        return np.full(leaf.shape, 1 / np.prod(leaf.shape[:-1]), leaf.dtype)
    bias = 'bias' in str(path[-1])
    return np.full(leaf.shape, 0 if bias else 1, leaf.dtype)


def _without_norms(call, args, kwargs, context):
    if isinstance(context.module, _NORMS) and context.method_name == '__call__':
        return args[0]
    return call(*args, **kwargs)
