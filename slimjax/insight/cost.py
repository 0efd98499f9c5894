"""Parameters and multiply-adds of each width, read off the traced program.

Nothing is computed, no array is placed on a device, and no layer is known by name, so
that a user's own network is counted as well.
"""

import contextlib
import dataclasses
import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from slimjax.insight.passes import changed_fields, pass_keywords
from slimjax.insight.program import (
    multiply_adds,
    pooled_elements,
    total,
    used_elements,
)
from slimjax.width import Width, width_name


@dataclasses.dataclass(frozen=True)
class WidthCost:
    """What a network costs at one width.

    Attributes:
        params: parameters that this width uses, those of its norms included.
        params_bn: those of them that are scale and bias of a norm.
        macs: multiply-adds of convolutions and matrix products for one image.
        macs_published: what the published profiler calls MACs: `macs`, and one for
            each element that enters an average pool.
    """

    params: int
    params_bn: int
    macs: int
    macs_published: int


def width_costs(
    model: nn.Module,
    image_shape: tuple[int, int, int],
    *,
    widths: Sequence[Width] | None = None,
) -> dict[Width, WidthCost]:
    """Returns the costs of every width of a model, widest first.

    A depthwise convolution by `slimjax.convolution.convolve`, which the CPU runs as
    shifted products, is counted where a module has it as `conv_form`, as all of
    slimjax do. A parameter from which an index array picks counts whole.

    Args:
        model: a Flax module called with images, and with `width=` and `train=` if it
            takes them; one that takes no `width=` is counted as width 1.0.
        image_shape: height and width in pixels, and channels.
        widths: None for the model's field `widths`.

    Raises:
        ValueError: `image_shape` is no three sizes, or the widths are unknown.

    Example:
        >>> import slimjax
        >>> model = slimjax.create_model('mobilenet_v1', widths=(0.25, 1.0))
        >>> width_costs(model, (224, 224, 3))[0.25].macs
        41030272
    """
    return _costs(model, image_shape, widths)[1]


def cost_results(
    model: nn.Module,
    image_shape: tuple[int, int, int],
    *,
    widths: Sequence[Width] | None = None,
) -> dict[str, Any]:
    """Returns the costs of every width as `--json` writes them.

    Args:
        model: as in `width_costs`.
        image_shape: height and width in pixels, and channels.
        widths: None for the model's field `widths`.

    Returns:
        `{'stored_params': parameters of all widths together, 'widths': {'0.25':
        {'params': int, 'params_bn': int, 'macs': int, 'macs_published': int}, ...}}`,
        widest first.

    Raises:
        ValueError: `image_shape` is no three sizes, or the widths are unknown.

    Example:
        >>> import slimjax
        >>> model = slimjax.create_model('mobilenet_v1', widths=(1.0,))
        >>> cost_results(model, (224, 224, 3))['stored_params']
        4231976
    """
    stored, costs = _costs(model, image_shape, widths)
    return {
        'stored_params': stored,
        'widths': {
            width_name(width): dataclasses.asdict(cost) for width, cost in costs.items()
        },
    }


def _costs(model, image_shape, widths) -> tuple[int, dict[Width, WidthCost]]:
    if len(image_shape) != 3:
        raise ValueError(
            f'image_shape={tuple(image_shape)}: (height, width, channels) is expected'
        )
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    keywords = pass_keywords(model, widths)
    widest = next(iter(keywords))
    with plain_convolutions():
        key = jax.eval_shape(jax.random.key, 0)
        init = partial(model.init, **keywords[widest])
        variables = jax.eval_shape(init, key, images)
        costs = {
            width: _cost(model, variables, images, keywords[width])
            for width in keywords
        }
    params = jax.tree.leaves(variables.get('params', {}))
    return sum(math.prod(leaf.shape) for leaf in params), costs


def _cost(model, variables, images, keywords) -> WidthCost:
    def run(params, others, images):
        return model.apply({**others, 'params': params}, images, **keywords)

    others = {name: tree for name, tree in variables.items() if name != 'params'}
    params = variables.get('params', {})
    program = jax.make_jaxpr(run)(params, others, images).jaxpr
    leaves = jax.tree_util.tree_leaves_with_path(params)
    used = used_elements(program, [leaf.shape for _, leaf in leaves])
    paths = [
        jax.tree_util.keystr(path, simple=True, separator='/') for path, _ in leaves
    ]
    norms = {
        path.rpartition('/')[0] for path in paths if path.rpartition('/')[2] == 'scale'
    }
    macs = total(program, multiply_adds)
    return WidthCost(
        params=sum(used),
        params_bn=sum(
            count
            for path, count in zip(paths, used, strict=True)
            if path.rpartition('/')[0] in norms
        ),
        macs=macs,
        macs_published=macs + total(program, pooled_elements),
    )


@contextlib.contextmanager
def plain_convolutions() -> Iterator[None]:
    """Has modules call XLA's convolution: shifted products would hide it."""

    def interceptor(call, args, kwargs, context):
        layer = context.module
        if not hasattr(layer, 'conv_form'):
            return call(*args, **kwargs)
        with changed_fields(layer, conv_form='plain'):
            return call(*args, **kwargs)

    with nn.intercept_methods(interceptor):
        yield
