"""Which box of the truth an anchor or a proposal stands for."""

from typing import Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from slimjax.detection.boxes import overlaps

LowQuality = Literal['none', 'label', 'reassign']
LOW_QUALITY = ('none', 'label', 'reassign')

POSITIVE, NEGATIVE, IGNORED = 1, 0, -1
# Overlaps that differ by rounding alone are ties.
_TIE = 1 - 1e-6


class Matches(NamedTuple):
    """What `match` finds for each candidate.

    Attributes:
        labels: 1 positive, 0 negative, -1 neither.
        truths: the box of the truth that it stands for; of use if it is positive.
    """

    labels: Int[Array, ' candidates']
    truths: Int[Array, ' candidates']


def match(
    candidates: Float[Array, 'candidates 4'],
    valid: Bool[Array, ' candidates'],
    truths: Float[Array, 'truths 4'],
    valid_truths: Bool[Array, ' truths'],
    *,
    positive: float,
    negative: float,
    low_quality: LowQuality = 'none',
    low_quality_minimum: float = 0.0,
    legacy: bool = False,
) -> Matches:
    """Labels candidates by their largest overlap with the truth.

    Args:
        candidates: anchors or proposals.
        valid: which are any; the others are ignored.
        truths: boxes of the truth, padded.
        valid_truths: which are any.
        positive: overlap from which on a candidate is positive.
        negative: overlap below which it is negative; in between, it is ignored.
        low_quality: what becomes of the best candidates of each box of the truth
            (Faster R-CNN, section 3.1.2), all of them where several are equal.
            `'label'` (Detectron, torchvision): they are positive, and stand for the
            box that they overlap most. `'reassign'` (mmdetection of 2018): they stand
            for this very box, of several for the last. `'none'`: nothing.
        low_quality_minimum: overlap that they need for that; above 0 in any case.
        legacy: the boxes' convention.

    Raises:
        ValueError: another rule.

    Example:
        >>> anchors = jnp.array([[0.0, 0, 4, 4], [0, 0, 8, 8], [20, 20, 24, 24]])
        >>> truth = jnp.array([[0.0, 0, 8, 6]])
        >>> match(anchors, jnp.ones(3, bool), truth, jnp.ones(1, bool),
        ...       positive=0.7, negative=0.3).labels.tolist()
        [-1, 1, 0]
    """
    if low_quality not in LOW_QUALITY:
        raise ValueError(
            f'low_quality={low_quality!r}; allowed are {", ".join(LOW_QUALITY)}'
        )
    shared = overlaps(truths, candidates, legacy=legacy)
    # Below any overlap there is, so that padding is nobody's best, not even of nothing.
    shared = jnp.where(valid_truths[:, None] & valid[None], shared, -1.0)
    best, matched = shared.max(0), shared.argmax(0)
    labels = jnp.where(best >= positive, POSITIVE, IGNORED)
    labels = jnp.where(best < negative, NEGATIVE, labels)
    if low_quality != 'none':
        most = shared.max(1)
        wanted = (most >= low_quality_minimum) & (most > 0)
        tied = wanted[:, None] & (shared >= most[:, None] * _TIE)
        labels = jnp.where(tied.any(0), POSITIVE, labels)
        if low_quality == 'reassign':
            last = truths.shape[0] - 1 - tied[::-1].argmax(0)
            matched = jnp.where(tied.any(0), last, matched)
    labels = jnp.where(valid, labels, IGNORED)
    return Matches(labels.astype(jnp.int32), matched.astype(jnp.int32))
