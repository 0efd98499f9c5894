"""Networks of a given cost, drawn at random."""

from collections.abc import Callable

import numpy as np

from slimjax.search.space import SearchSpace

# Draws after which a range of costs counts as empty.
_TRIES = 100


def draw(
    space: SearchSpace,
    rng: np.random.Generator,
    cost: Callable[[np.ndarray], np.ndarray],
    low: float,
    high: float,
) -> np.ndarray:
    """Returns a network that costs from `low` to `high`.

    Every number of channels is drawn by itself, and then chunks are taken away or added
    at random until the cost fits.

    Args:
        space: of the networks.
        rng: decides.
        cost: of networks, such as `space.macs`.
        low: the least that it may cost.
        high: the most that it may cost.

    Raises:
        ValueError: none was found.
    """
    reachable = cost(space.least) <= high and low <= cost(space.whole)
    for _ in range(_TRIES if reachable else 0):
        (counts,) = space.random(rng, 1)
        counts = fitted(space, rng, counts, cost, low, high)
        if counts is not None:
            return counts
    raise ValueError(
        f'no network of {low:,.4g} to {high:,.4g} was found; the '
        f'range has {float(cost(space.least)):,.4g} to {float(cost(space.whole)):,.4g}'
    )


def fitted(
    space: SearchSpace,
    rng: np.random.Generator,
    counts: np.ndarray,
    cost: Callable[[np.ndarray], np.ndarray],
    low: float,
    high: float,
) -> np.ndarray | None:
    """Returns `counts` with chunks taken away or added until its cost fits, or None."""
    while cost(counts) > high:
        fewer = space.fewer(counts)
        if not len(fewer):
            return None
        counts = rng.choice(fewer)
    while cost(counts) < low:
        more = space.more(counts)
        more = more[cost(more) <= high]
        if not len(more):
            return None
        counts = rng.choice(more)
    return counts
