"""From the outputs of the first stage to the proposals of an image."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from slimjax.detection.boxes import at_least, clip, decode
from slimjax.detection.nms import kept_boxes
from slimjax.detection.settings import Settings


class Proposals(NamedTuple):
    """Boxes that may hold an object, the most likely first; padding is all zeros."""

    boxes: Float[Array, 'proposals 4']
    scores: Float[Array, ' proposals']
    valid: Bool[Array, ' proposals']


def propose(
    logits: Sequence[Float[Array, ' _anchors']],
    deltas: Sequence[Float[Array, '_anchors 4']],
    anchors: Sequence[Float[Array, '_anchors 4']],
    image_size: Int[Array, '2'],
    options: Settings,
    *,
    train: bool,
) -> Proposals:
    """Returns the proposals of one image (Faster R-CNN, section 3.3).

    The best anchors of each level become boxes within the image, those that are too
    small are dropped, and so are those that a better one of their level overlaps. Of
    the rest, the best of all levels are proposed.

    Args:
        logits: of being an object, a level each.
        deltas: the boxes' code likewise.
        anchors: likewise.
        image_size: height and width in pixels, without padding.
        options: settings of the model.
        train: whether as many are proposed as in training.

    Example:
        >>> anchors = jnp.array([[0.0, 0, 8, 8], [0, 0, 8, 7], [8, 8, 16, 16]])
        >>> found = propose([jnp.array([1.0, 2.0, 0.0])], [jnp.zeros((3, 4))],
        ...                 [anchors], jnp.array([16, 16]), Settings(), train=False)
        >>> found.valid.tolist(), found.boxes[0].tolist()
        ([True, True, False], [0.0, 0.0, 8.0, 7.0])
    """
    most = options.train_level_proposals if train else options.test_level_proposals
    wanted = options.train_proposals if train else options.test_proposals
    levels = [
        _of_level(*each, image_size, most, options)
        for each in zip(logits, deltas, anchors, strict=True)
    ]
    boxes, scores, valid = (jnp.concatenate(each) for each in zip(*levels, strict=True))
    return Proposals(*best(wanted, scores, valid, (boxes,)))


def best(
    count: int,
    scores: Float[Array, ' boxes'],
    valid: Bool[Array, ' boxes'],
    others: Sequence[Array],
) -> tuple[Array, ...]:
    """Returns the valid of the highest scores, padded with zeros: `others`, both.

    Args:
        count: how many at most; fewer if there are fewer boxes.
        scores: finite.
        valid: which are any.
        others: arrays of the boxes, `[boxes, ...]`, sorted along.

    Example:
        >>> scores, valid = jnp.array([3.0, 2.0, 1.0]), jnp.array([False, True, True])
        >>> [each.tolist() for each in best(2, scores, valid, (jnp.arange(3),))]
        [[1, 2], [2.0, 1.0], [True, True]]
    """
    ranked = jnp.where(valid, scores, -jnp.inf)
    _, places = lax.top_k(ranked, min(count, scores.shape[0]))
    kept = valid[places]

    def chosen(each):
        mask = kept.reshape(-1, *(1,) * (each.ndim - 1))
        return jnp.where(mask, each[places], jnp.zeros((), each.dtype))

    return *map(chosen, others), chosen(scores), kept


def _of_level(logits, deltas, anchors, image_size, most, options):
    scores, places = lax.top_k(logits, min(most, logits.shape[0]))
    boxes = decode(
        deltas[places],
        anchors[places],
        legacy=options.legacy,
        clamp_shrinking=options.clamp_shrinking,
    )
    boxes = clip(boxes, image_size, legacy=options.legacy)
    valid = at_least(boxes, options.proposal_minimum, legacy=options.legacy)
    threshold = options.proposal_threshold
    valid = kept_boxes(boxes, valid, threshold, legacy=options.legacy)
    return boxes, jax.nn.sigmoid(scores), valid
