"""Channels switched off by numbers that are known only when a program runs.

A width slices kernels, so that each width is a program of its own. A search tries
thousands of networks, which must be one program: it computes with whole kernels, and
sets to zero what a narrow network does not have. Maps then hold the channels that the
narrow network has first, as in the sliced network, and zeros behind them; where layers
arrange channels by groups, they are moved there and back.
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import Array

# The collection that holds, under each layer's path, its number of output channels.
CHANNELS = 'channels'

Count = Array | int


def first_channels(values: Array, count: Count) -> Array:
    """Returns `values` with all but the first `count` of the last axis set to zero.

    Example:
        >>> first_channels(jnp.ones(4), jnp.array(3)).tolist()
        [1.0, 1.0, 1.0, 0.0]
    """
    return jnp.where(jnp.arange(values.shape[-1]) < count, values, 0)


def to_groups(values: Array, count: Count, groups: int) -> Array:
    """Deals the first `count` channels out to equal groups, each filled from its start.

    Args:
        values: `[..., channels]`, as they follow one another in the narrow network.
        count: how many are switched on; a multiple of `groups`.
        groups: parts of the channels; a divisor of their number.

    Example:
        >>> to_groups(jnp.array([1, 2, 3, 4, 0, 0]), jnp.array(4), 2).tolist()
        [1, 2, 0, 3, 4, 0]
    """
    size = values.shape[-1] // groups
    group, place = jnp.divmod(jnp.arange(values.shape[-1]), size)
    each = count // groups
    return _taken(values, group * each + place, place < each)


def from_groups(values: Array, count: Count, groups: int) -> Array:
    """Puts the channels of all groups behind one another; undoes `to_groups`.

    Args:
        values: `[..., channels]`, of which each group has `count / groups` at its
            start.
        count: how many are switched on; a multiple of `groups`.
        groups: parts of the channels; a divisor of their number.

    Example:
        >>> from_groups(jnp.array([1, 2, 0, 3, 4, 0]), jnp.array(4), 2).tolist()
        [1, 2, 3, 4, 0, 0]
    """
    places = jnp.arange(values.shape[-1])
    group, place = jnp.divmod(places, count // groups)
    size = values.shape[-1] // groups
    return _taken(values, group * size + place, places < count)


def shuffled(values: Array, count: Count, groups: int) -> Array:
    """Deals out the channels of the groups of the narrow network one by one.

    Args:
        values: `[..., channels]`.
        count: how many are switched on; a multiple of `groups`.
        groups: parts into which those fall.

    Example:
        >>> shuffled(jnp.array([1, 2, 3, 4, 0, 0]), jnp.array(4), 2).tolist()
        [1, 3, 2, 4, 0, 0]
    """
    places = jnp.arange(values.shape[-1])
    place, group = jnp.divmod(places, groups)
    return _taken(values, group * (count // groups) + place, places < count)


def concatenated(parts: Sequence[Array], counts: Sequence[Count]) -> Array:
    """Returns the channels of all parts that are switched on, and zeros behind them.

    Args:
        parts: `[..., channels]` each.
        counts: how many of each are switched on.

    Example:
        >>> parts = jnp.array([1, 2, 0]), jnp.array([3, 0])
        >>> concatenated(parts, (jnp.array(2), jnp.array(1))).tolist()
        [1, 2, 3, 0, 0]
    """
    whole = jnp.concatenate(parts, axis=-1)
    places = jnp.arange(whole.shape[-1])
    sources, start, stored = places, 0, 0
    for part, count in zip(parts, counts, strict=True):
        sources = jnp.where(places >= start, stored + places - start, sources)
        start, stored = start + count, stored + part.shape[-1]
    return _taken(whole, sources, places < start)


def _taken(values: Array, sources: Array, present: Array) -> Array:
    taken = jnp.take(values, sources, axis=-1, mode='clip')
    return jnp.where(present, taken, 0)
