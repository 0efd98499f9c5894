"""Drawing the candidates that a loss sees, with static shapes."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from slimjax.detection.matching import NEGATIVE, POSITIVE


class Sample(NamedTuple):
    """Which candidates were drawn."""

    positive: Bool[Array, ' candidates']
    negative: Bool[Array, ' candidates']


def priorities(key: Array | None, count: int) -> Float[Array, ' count']:
    """Returns a number for each candidate; those of the smallest are drawn.

    Args:
        key: of the random numbers; None draws candidates in their order, so that what
            is drawn can be compared with other code.
        count: number of candidates.

    Example:
        >>> priorities(None, 3).tolist()
        [0.0, 1.0, 2.0]
    """
    if key is None:
        return jnp.arange(count, dtype=jnp.float32)
    return jax.random.uniform(key, (count,))


def sample(
    labels: Int[Array, ' candidates'],
    order: Float[Array, ' candidates'],
    *,
    count: int,
    positives: int,
) -> Sample:
    """Draws `count` candidates, of which at most `positives` are positive.

    There are fewer where the candidates are, or where the negatives are too few.

    Args:
        labels: 1 positive, 0 negative, -1 neither.
        order: the smallest are drawn first, see `priorities`.
        count: how many.
        positives: how many of them at most are positive.

    Example:
        >>> drawn = sample(jnp.array([1, 0, 1, 0, -1]), priorities(None, 5),
        ...                count=3, positives=1)
        >>> drawn.positive.tolist(), drawn.negative.tolist()
        ([True, False, False, False, False], [False, True, False, True, False])
    """
    positive, drawn = _first(labels == POSITIVE, order, positives, positives)
    negative, _ = _first(labels == NEGATIVE, order, count, count - drawn)
    return Sample(positive, negative)


def first_slots(drawn: Sample, count: int) -> Int[Array, ' slots']:
    """Returns the places of the drawn candidates in `count` slots, positive ones first.

    Slots that are left over hold places that were not drawn.

    Example:
        >>> drawn = Sample(jnp.array([False, False, True]),
        ...                jnp.array([True, False, False]))
        >>> first_slots(drawn, 2).tolist()
        [2, 0]
    """
    rank = jnp.where(drawn.positive, 0, jnp.where(drawn.negative, 1, 2))
    return jnp.argsort(rank, stable=True)[:count].astype(jnp.int32)


def _first(eligible, order, most, wanted):
    """The first `wanted` eligible, at most `most`, and their number."""
    most = min(most, eligible.shape[0])
    _, places = lax.top_k(jnp.where(eligible, -order, -jnp.inf), most)
    number = jnp.minimum(eligible.sum(), wanted)
    chosen = jnp.arange(most) < number
    return jnp.zeros(eligible.shape, bool).at[places].set(chosen), number
