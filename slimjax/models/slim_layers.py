"""The layers of a network whose channels the width decides, found by tracing it."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from slimjax.layers import SlimConv, SlimDense
from slimjax.width import widest


def slim_layers(
    model: nn.Module, image_shape: tuple[int, int, int]
) -> dict[str, SlimConv | SlimDense]:
    """Returns by their paths the layers that have channels of their own at each width.

    A depthwise layer, which has those of its input, is none, and neither is one of
    `slim_output=False`. Nothing is computed; the layers are for reading their fields.

    Args:
        model: a slimmable module with a field `widths`.
        image_shape: height and width in pixels, and channels.

    Example:
        >>> import slimjax
        >>> model = slimjax.create_model('mobilenet_v1', widths=(0.5, 1.0))
        >>> layers = slim_layers(model, (32, 32, 3))
        >>> len(layers), layers['stem/conv'].output_channels(0.5)
        (14, 16)
    """
    return layers_and_shapes(model, image_shape)[0]


def layers_and_shapes(
    model: nn.Module, image_shape: tuple[int, int, int]
) -> tuple[dict[str, SlimConv | SlimDense], dict[str, Any]]:
    """Returns what `slim_layers` does, and the shapes of the variables."""
    found = {}

    def interceptor(call, args, kwargs, context):
        layer = context.module
        if (
            isinstance(layer, SlimConv | SlimDense)
            and context.method_name == '__call__'
            and layer.slim_output
            and not getattr(layer, 'depthwise', False)
        ):
            # Out of its scope, so that it can be kept.
            found['/'.join(layer.path)] = layer.clone(parent=None)
        return call(*args, **kwargs)

    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    with nn.intercept_methods(interceptor):
        shapes = jax.eval_shape(
            functools.partial(model.init, width=widest(model.widths)),
            jax.eval_shape(jax.random.key, 0),
            images,
        )
    return found, dict(shapes)
