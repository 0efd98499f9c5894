"""How much two orders of the same things have in common."""

from collections.abc import Collection

import numpy as np
from jaxtyping import Float


def jaccard(one: Collection[int], other: Collection[int]) -> float:
    """Returns the share of the elements of either set that are in both.

    Raises:
        ValueError: both are empty.

    Example:
        >>> jaccard({1, 2, 3}, {2, 3, 4})
        0.5
    """
    either = set(one) | set(other)
    if not either:
        raise ValueError('two empty sets have no overlap to speak of')
    return len(set(one) & set(other)) / len(either)


def ranks(values: Float[np.ndarray, ' n']) -> Float[np.ndarray, ' n']:
    """Returns each value's place in order, from 1; equal ones share the mean of theirs.

    Example:
        >>> ranks(np.array([0.5, 0.1, 0.5])).tolist()
        [2.5, 1.0, 2.5]
    """
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[group]


def rank_correlation(
    one: Float[np.ndarray, ' n'], other: Float[np.ndarray, ' n']
) -> float:
    """Returns Spearman's correlation: that of the ranks, ties included.

    It is NaN where all values of one are equal.

    Raises:
        ValueError: fewer than two values, or not as many of each.

    Example:
        >>> rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([1.0, 8.0, 9.0]))
        1.0
    """
    if len(one) != len(other) or len(one) < 2:
        raise ValueError(
            f'{len(one)} and {len(other)} values: two or more of each are ranked'
        )
    first, second = (ranks(np.asarray(values)) for values in (one, other))
    first, second = first - first.mean(), second - second.mean()
    scale = np.sqrt((first**2).sum() * (second**2).sum())
    return float((first * second).sum() / scale) if scale else float('nan')
