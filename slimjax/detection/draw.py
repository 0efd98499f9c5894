"""The anchors and proposals that the losses see, and what they are to say."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from slimjax.detection.boxes import encode
from slimjax.detection.matching import IGNORED, POSITIVE, Matches, match
from slimjax.detection.postprocess import BOX_WEIGHTS
from slimjax.detection.sampling import first_slots, priorities, sample
from slimjax.detection.settings import Settings

_RPN_POSITIVE_SHARE = 0.5


class DrawnAnchors(NamedTuple):
    """The anchors of an image that the losses see.

    Attributes:
        positive: drawn as objects.
        negative: drawn as background.
        targets: what their boxes' code should be; of use where positive.
    """

    positive: Bool[Array, ' anchors']
    negative: Bool[Array, ' anchors']
    targets: Float[Array, 'anchors 4']


class DrawnBoxes(NamedTuple):
    """The proposals of an image that the losses see, positive ones first.

    Attributes:
        boxes: of the proposals.
        drawn: which are any; the others are padding.
        positive: which stand for a box of the truth.
        labels: its class, or 0, the background.
        truths: which one it is.
        targets: what the boxes' code should be; of use where positive.
    """

    boxes: Float[Array, 'boxes 4']
    drawn: Bool[Array, ' boxes']
    positive: Bool[Array, ' boxes']
    labels: Int[Array, ' boxes']
    truths: Int[Array, ' boxes']
    targets: Float[Array, 'boxes 4']


def draw_anchors(
    anchors: Float[Array, 'anchors 4'],
    truths: Float[Array, 'truths 4'],
    usable: Bool[Array, ' truths'],
    image_size: Int[Array, '2'],
    key: Array | None,
    options: Settings,
) -> DrawnAnchors:
    """Returns the anchors of one image that the losses see (Faster R-CNN, 3.1.2).

    Args:
        anchors: of all levels.
        truths: boxes of the truth, padded.
        usable: which are any, and no crowds.
        image_size: height and width in pixels, without padding.
        key: random, or None, see `slimjax.detection.sampling.priorities`.
        options: settings of the model.

    Example:
        >>> anchors = jnp.array([[0.0, 0, 8, 8], [40, 40, 48, 48]])
        >>> drawn = draw_anchors(anchors, anchors[:1], jnp.array([True]),
        ...                      jnp.array([64, 64]), None, Settings())
        >>> drawn.positive.tolist(), drawn.negative.tolist()
        ([True, False], [False, True])
    """
    considered = jnp.ones(anchors.shape[:1], bool)
    if options.drop_outside_anchors:
        height, width = image_size.astype(anchors.dtype)
        x1, y1, x2, y2 = anchors.T
        considered = (x1 >= 0) & (y1 >= 0) & (x2 < width) & (y2 < height)
    matches = match(
        anchors,
        considered,
        truths,
        usable,
        positive=options.rpn_positive,
        negative=options.rpn_negative,
        low_quality=options.rpn_low_quality,
        low_quality_minimum=options.rpn_low_quality_minimum,
        legacy=options.legacy,
    )
    drawn = sample(
        matches.labels,
        priorities(key, anchors.shape[0]),
        count=options.rpn_samples,
        positives=int(options.rpn_samples * _RPN_POSITIVE_SHARE),
    )
    targets = encode(truths[matches.truths], anchors, legacy=options.legacy)
    return DrawnAnchors(drawn.positive, drawn.negative, targets)


def draw_boxes(
    proposals: Float[Array, 'proposals 4'],
    valid: Bool[Array, ' proposals'],
    truths: Float[Array, 'truths 4'],
    labels: Int[Array, ' truths'],
    usable: Bool[Array, ' truths'],
    key: Array | None,
    options: Settings,
) -> DrawnBoxes:
    """Returns the proposals of one image that the losses see.

    The boxes of the truth are proposals too.

    Args:
        proposals: of the first stage.
        valid: which are any.
        truths: boxes of the truth, padded.
        labels: their classes, from 1 on.
        usable: which are any, and no crowds.
        key: random, or None, see `slimjax.detection.sampling.priorities`.
        options: settings of the model.

    Example:
        >>> truth = jnp.array([[0.0, 0, 8, 8]])
        >>> drawn = draw_boxes(truth + 40, jnp.array([True]), truth, jnp.array([3]),
        ...                    jnp.array([True]), None, Settings())
        >>> drawn.labels.tolist(), drawn.boxes[0].tolist()
        ([3, 0], [0.0, 0.0, 8.0, 8.0])
    """
    candidates = jnp.concatenate([proposals, truths])
    # mmdetection matches proposals alone, so that the best of each box of the truth is
    # one of them, and not this very box.
    apart = options.roi_low_quality == 'reassign'
    matches = match(
        proposals if apart else candidates,
        valid if apart else jnp.concatenate([valid, usable]),
        truths,
        usable,
        positive=options.roi_positive,
        negative=options.roi_positive,
        low_quality=options.roi_low_quality,
        low_quality_minimum=options.roi_positive,
        legacy=options.legacy,
    )
    if apart:
        matches = Matches(
            jnp.concatenate([matches.labels, jnp.where(usable, POSITIVE, IGNORED)]),
            jnp.concatenate([matches.truths, jnp.arange(truths.shape[0])]),
        )
    chosen = sample(
        matches.labels,
        priorities(key, candidates.shape[0]),
        count=options.roi_samples,
        positives=positive_slots(options),
    )
    slots = first_slots(chosen, options.roi_samples)
    positive, negative = chosen.positive[slots], chosen.negative[slots]
    matched, boxes = matches.truths[slots], candidates[slots]
    targets = encode(truths[matched], boxes, BOX_WEIGHTS, legacy=options.legacy)
    return DrawnBoxes(
        boxes=boxes,
        drawn=positive | negative,
        positive=positive,
        labels=jnp.where(positive, labels[matched], 0),
        truths=matched,
        targets=targets,
    )


def positive_slots(options: Settings) -> int:
    """Returns how many proposals of an image are positive at most.

    Example:
        >>> positive_slots(Settings())
        128
    """
    return int(options.roi_samples * options.roi_positive_share)
