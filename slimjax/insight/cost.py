"""Parameters and multiply-adds of each width, read off the traced program.

Nothing is computed and no layer is known by name, so a user's own network is counted
as well: only shapes of the jaxpr matter.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from slimjax.width import Width, widest_first, width_name


@dataclasses.dataclass(frozen=True)
class WidthCost:
    """What one image costs at one width.

    Attributes:
        params: parameters that this width uses, its BatchNorm included.
        norm_params: those of them that are scale and bias of a norm.
        macs: multiply-adds of convolutions and matrix products.
        pooled: elements that go into average pools, which the published profiler
            counts as multiply-adds.
    """

    params: int
    norm_params: int
    macs: int
    pooled: int


def width_costs(
    model: nn.Module, image_shape: tuple[int, int, int]
) -> dict[Width, WidthCost]:
    """Returns the costs of every width of a model, widest first.

    Args:
        model: takes images and `width=`, and has a field `widths`.
        image_shape: height, width and channels.

    Example:
        >>> import slimjax
        >>> model = slimjax.create_model('mobilenet_v1', widths=(0.25, 1.0))
        >>> width_costs(model, (224, 224, 3))[0.25].macs
        41030272
    """
    if hasattr(model, 'conv_form'):
        # Shifted products would hide the convolutions.
        model = model.clone(conv_form='plain')
    images, variables = _shapes(model, image_shape)
    return {
        width: _cost(model, variables, images, width)
        for width in widest_first(model.widths)
    }


def cost_results(model: nn.Module, image_shape: tuple[int, int, int]) -> dict[str, Any]:
    """Returns the costs of every width as `--json` writes them.

    Args:
        model: takes images and `width=`, and has a field `widths`.
        image_shape: height, width and channels.

    Returns:
        `{'stored_params': parameters of all widths together, 'widths': {'0.25':
        {'params': int, 'norm_params': int, 'macs': int, 'pooled': int}, ...}}`.

    Example:
        >>> import slimjax
        >>> model = slimjax.create_model('mobilenet_v1')
        >>> cost_results(model, (224, 224, 3))['stored_params']
        4264808
    """
    _, variables = _shapes(model, image_shape)
    return {
        'stored_params': sum(
            leaf.size for leaf in jax.tree.leaves(variables['params'])
        ),
        'widths': {
            width_name(width): dataclasses.asdict(cost)
            for width, cost in width_costs(model, image_shape).items()
        },
    }


def _shapes(model, image_shape):
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    return images, jax.eval_shape(model.init, jax.random.key(0), images)


def _cost(model, variables, images, width) -> WidthCost:
    apply = functools.partial(model.apply, width=width)
    closed = jax.make_jaxpr(apply)(variables, images)
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    used = {
        path: np.zeros(leaf.size, bool)
        for path, leaf in leaves
        if path[0].key == 'params'
    }
    # What of which parameter a value of the program holds, as places in it.
    places = {
        var: (path, np.arange(leaf.size).reshape(leaf.shape))
        for var, (path, leaf) in zip(closed.jaxpr.invars, leaves, strict=False)
        if path in used
    }
    _mark_used(closed.jaxpr, places, used)
    counts = {path: int(mask.sum()) for path, mask in used.items()}
    norms = {path[:-1] for path in counts if path[-1].key == 'scale'}
    return WidthCost(
        params=sum(counts.values()),
        norm_params=sum(n for path, n in counts.items() if path[:-1] in norms),
        macs=sum(n * _macs(eqn) for eqn, n in _equations(closed.jaxpr)),
        pooled=sum(n * _pooled(eqn) for eqn, n in _equations(closed.jaxpr)),
    )


def _inner_jaxprs(eqn) -> list[Any]:
    """The programs inside an equation, such as those of `jit` and `cond`."""
    found = []
    for value in eqn.params.values():
        for each in value if isinstance(value, (tuple, list)) else (value,):
            inner = getattr(each, 'jaxpr', each)
            if hasattr(inner, 'eqns'):
                found.append(inner)
    return found


def _equations(jaxpr, times: int = 1) -> Iterator[tuple[Any, int]]:
    """Yields each equation and how often it runs."""
    for eqn in jaxpr.eqns:
        inner = _inner_jaxprs(eqn)
        if not inner:
            yield eqn, times
        elif eqn.primitive.name == 'cond':
            # One branch runs: the costliest is counted.
            yield from max(
                (list(_equations(branch, times)) for branch in inner),
                key=lambda found: sum(n * _macs(each) for each, n in found),
            )
        else:
            for each in inner:
                yield from _equations(each, times * eqn.params.get('length', 1))


def _macs(eqn) -> int:
    if eqn.primitive.name == 'conv_general_dilated':
        kernel = eqn.invars[1].aval.shape
        outputs = kernel[eqn.params['dimension_numbers'].rhs_spec[0]]
        return eqn.outvars[0].aval.size * math.prod(kernel) // outputs
    if eqn.primitive.name == 'dot_general':
        (contracted, _), _ = eqn.params['dimension_numbers']
        left = eqn.invars[0].aval.shape
        return eqn.outvars[0].aval.size * math.prod(left[axis] for axis in contracted)
    return 0


def _pooled(eqn) -> int:
    inputs = eqn.invars[0].aval if eqn.invars else None
    windows = eqn.primitive.name == 'reduce_window_sum'
    over_space = (
        eqn.primitive.name == 'reduce_sum'
        and inputs.ndim == 4
        and tuple(eqn.params['axes']) == (1, 2)
    )
    return inputs.size if windows or over_space else 0


def _mark_used(jaxpr, places: dict, used: dict) -> None:
    """Marks the elements of parameters that any arithmetic of `jaxpr` reads."""
    for eqn in jaxpr.eqns:
        known = [
            places.get(var) if not hasattr(var, 'val') else None for var in eqn.invars
        ]
        if not any(known):
            continue
        name, inner = eqn.primitive.name, _inner_jaxprs(eqn)
        if len(inner) == 1 and len(inner[0].invars) == len(eqn.invars):
            arguments = {
                var: place
                for var, place in zip(inner[0].invars, known, strict=True)
                if place
            }
            _mark_used(inner[0], arguments, used)
            for outer, var in zip(eqn.outvars, inner[0].outvars, strict=False):
                if not hasattr(var, 'val') and var in arguments:
                    places[outer] = arguments[var]
        elif known[0] and name in _REARRANGE:
            path, indices = known[0]
            places[eqn.outvars[0]] = path, _REARRANGE[name](indices, eqn.params)
        else:
            for path, indices in filter(None, known):
                used[path][indices.ravel()] = True


def _slice(indices, params):
    strides = params['strides'] or (1,) * indices.ndim
    bounds = zip(params['start_indices'], params['limit_indices'], strides, strict=True)
    return indices[tuple(slice(*each) for each in bounds)]


_REARRANGE = {
    'slice': _slice,
    'reshape': lambda indices, params: indices.reshape(params['new_sizes']),
    'squeeze': lambda indices, params: indices.squeeze(params['dimensions']),
    'transpose': lambda indices, params: indices.transpose(params['permutation']),
    'convert_element_type': lambda indices, params: indices,
    'copy': lambda indices, params: indices,
}
