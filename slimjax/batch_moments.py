"""Moments over groups of examples, and normalising by them: BatchNorm's arithmetic.

It is jitted, inside of whatever is compiled, as that traces it once for each shape and
not for each layer and width: tracing is most of what a restart waits for. And inlined:
as calls, the TPU's compiler did not fuse the sums of a norm's gradient with what is
around them, and a step of S-MobileNet v2 moved a seventh more memory.
"""

from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

NormBatch = int | Literal['device', 'global']


class GroupMoments(NamedTuple):
    """Biased moments of the groups that this device has a part in."""

    mean: Array  # [groups, channels]
    var: Array  # [groups, channels]
    count: int  # values per channel in one group


def group_moments(values: Array, norm_batch: NormBatch, axis_name: str | None):
    """Means and variances over groups of `norm_batch` examples, `GroupMoments`."""
    batch = values.shape[0]
    devices = 1 if axis_name is None else lax.axis_size(axis_name)
    size = {'device': batch, 'global': batch * devices}.get(norm_batch, norm_batch)
    if not isinstance(size, int) or size < 1:
        raise ValueError(
            f"norm_batch={norm_batch!r}: allowed are 'device', 'global' or a number "
            'of examples'
        )
    whole, part = (batch, size) if size <= batch else (size, batch)
    if whole % part or (batch * devices) % size:
        raise ValueError(
            f'norm_batch={size} does not divide into the {batch} examples of each of '
            f'{devices} devices; choose a divisor of {batch}, or a multiple of it '
            f'that divides {batch * devices}'
        )
    mean, var = _parts_moments(values, part)
    if size > batch:
        mean, var = _across_devices(mean[0], var[0], size // batch, axis_name)
    return GroupMoments(mean, var, size * values[0, ..., 0].size)


@partial(jax.jit, static_argnames='part', inline=True)
def _parts_moments(values: Array, part: int) -> tuple[Array, Array]:
    return _moments(values.reshape(-1, part, *values.shape[1:]))


@jax.custom_jvp
def _moments(groups: Array) -> tuple[Array, Array]:
    """Means and biased variances, `[groups, channels]`, of all axes between."""
    mean = _mean(groups)
    return mean, _mean(jnp.square(groups - _beside(mean, groups)))


@_moments.defjvp
def _moments_derivative(primals, tangents):
    # What the mean contributes to the derivative of the variance is zero.
    (groups,), (change,) = primals, tangents
    mean, var = _moments(groups)
    of_var = 2 * _mean((groups - _beside(mean, groups)) * change)
    return (mean, var), (_mean(change), of_var)


def _mean(groups: Array) -> Array:
    return groups.mean(tuple(range(1, groups.ndim - 1)))


def _beside(moments: Array, groups: Array) -> Array:
    """`[groups, channels]` with axes for all that is between in `groups`."""
    between = (1,) * (groups.ndim - 2)
    return moments.reshape(moments.shape[0], *between, moments.shape[1])


def _across_devices(mean: Array, var: Array, neighbours: int, axis_name: str):
    """The moments of `neighbours` devices together, of equal parts each."""
    own = lax.axis_index(axis_name) // neighbours
    parts = lax.all_gather(jnp.stack([mean, var]), axis_name)
    parts = parts.reshape(-1, neighbours, *parts.shape[1:])
    means, variances = jnp.moveaxis(
        lax.dynamic_index_in_dim(parts, own, keepdims=False), 1, 0
    )
    mean = means.mean(0)
    var = (variances + jnp.square(means - mean[None])).mean(0)
    return mean[None], var[None]


@partial(jax.jit, static_argnames='epsilon', inline=True)
def normalize(values, mean, var, scale, bias, *, epsilon: float) -> Array:
    """Normalises groups of examples by their `[groups, channels]` moments."""
    groups = values.reshape(mean.shape[0], -1, *values.shape[1:])
    factor = lax.rsqrt(var + epsilon) * scale[None]
    bias = jnp.broadcast_to(bias[None], mean.shape)
    return _scale_and_shift(groups, mean, factor, bias).reshape(values.shape)


@jax.custom_jvp
def _scale_and_shift(groups, mean, factor, bias) -> Array:
    """`(groups - mean) * factor + bias`."""
    centred = groups - _beside(mean, groups)
    return centred * _beside(factor, groups) + _beside(bias, groups)


@_scale_and_shift.defjvp
def _scale_and_shift_derivative(primals, tangents):
    """Adds up what all values of a channel share before it meets them.

    Transposed, the gradients of mean and bias are then one sum over the values.
    """
    groups, mean, factor, _ = primals
    of_groups, of_mean, of_factor, of_bias = tangents
    shared = of_bias - factor * of_mean - mean * of_factor
    change = of_groups * _beside(factor, groups)
    return _scale_and_shift(*primals), (
        change + (groups * _beside(of_factor, groups) + _beside(shared, groups))
    )
