"""From the outputs of the second stage to the detections of an image."""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from slimjax.detection.boxes import Weights, at_least, clip, decode
from slimjax.detection.nms import kept_boxes
from slimjax.detection.proposals import best
from slimjax.detection.settings import Settings

BOX_WEIGHTS: Weights = (10.0, 10.0, 5.0, 5.0)
# Of the cubic convolution, PyTorch's and OpenCV's choice.
_CUBIC = -0.75
# A block of so many rows and columns of a keypoint's map is looked at in turn.
_BLOCK = 64


class Detections(NamedTuple):
    """What was found in one image, the likeliest first; padding is all zeros."""

    boxes: Float[Array, 'detections 4']
    labels: Int[Array, ' detections']
    scores: Float[Array, ' detections']
    valid: Bool[Array, ' detections']


def detect(
    logits: Float[Array, 'boxes classes'],
    deltas: Float[Array, 'boxes classes 4'],
    proposals: Float[Array, 'boxes 4'],
    valid: Bool[Array, ' boxes'],
    image_size: Int[Array, '2'],
    options: Settings,
) -> Detections:
    """Returns the detections of one image.

    Each proposal is a candidate of every class but the background, if its score is
    above the threshold. The best candidates go through suppression, where those of one
    class alone meet.

    Args:
        logits: of the classes, background first.
        deltas: the boxes' code, one a class.
        proposals: from where.
        valid: which are any.
        image_size: height and width in pixels, without padding.
        options: settings of the model.

    Example:
        >>> boxes = jnp.array([[0.0, 0, 8, 8], [1, 0, 9, 8]])
        >>> found = detect(jnp.array([[0.0, 9], [0, 8]]), jnp.zeros((2, 2, 4)), boxes,
        ...                jnp.ones(2, bool), jnp.array([16, 16]), Settings())
        >>> found.valid.tolist(), found.labels.tolist()
        ([True, False], [1, 0])
    """
    count, classes = logits.shape
    scores = jax.nn.softmax(logits)[:, 1:].reshape(-1)
    boxes = decode(
        deltas[:, 1:],
        jnp.broadcast_to(proposals[:, None], (count, classes - 1, 4)),
        BOX_WEIGHTS,
        legacy=options.legacy,
        clamp_shrinking=options.clamp_shrinking,
    )
    boxes = clip(boxes, image_size, legacy=options.legacy).reshape(-1, 4)
    labels = jnp.tile(jnp.arange(1, classes, dtype=jnp.int32), count)
    usable = jnp.repeat(valid, classes - 1) & (scores > options.score_threshold)
    usable &= at_least(boxes, options.detection_minimum, legacy=options.legacy)
    boxes, labels, scores, usable = best(
        options.detection_candidates, scores, usable, (boxes, labels)
    )
    kept = kept_boxes(
        boxes,
        usable,
        options.detection_threshold,
        groups=labels,
        legacy=options.legacy,
    )
    return Detections(*best(options.detections, scores, kept, (boxes, labels)))


def decode_keypoints(
    logits: Float[Array, 'boxes size size keypoints'],
    boxes: Float[Array, 'boxes 4'],
    *,
    score: Literal['logit', 'probability'],
    legacy: bool = False,
) -> Float[Array, 'boxes keypoints 3']:
    """Returns the likeliest place of each keypoint, and its score.

    The logits are enlarged to the box's own pixels by cubic convolution; the place is
    the middle of the largest pixel (Mask R-CNN, section 5, as Detectron has it). The
    large map is looked at block by block, as many as the box has.

    Args:
        logits: of each keypoint's place.
        boxes: in pixels of the image.
        score: `'logit'`, the largest itself, or `'probability'`, its exponential over
            the sum of those of `logits`.
        legacy: the boxes' convention.

    Returns:
        x and y in pixels of the image, and the score.

    Example:
        >>> logits = jnp.zeros((1, 8, 8, 1)).at[0, 2, 5].set(9.0)
        >>> box = jnp.array([[0.0, 0, 8, 8]])
        >>> decode_keypoints(logits, box, score='logit').tolist()
        [[[5.5, 2.5, 9.0]]]
    """
    ends = boxes[:, 2:] + float(legacy)
    lengths = jnp.maximum(ends - boxes[:, :2], 1.0)

    def of_box(each):
        own, start, length = each
        value, place = _largest(own, jnp.ceil(length).astype(jnp.int32))
        pixel = length / jnp.ceil(length)
        middle = (place.astype(start.dtype) + 0.5) * pixel[None] + start[None]
        if score == 'probability':
            # A difference of logarithms, which no size of the logits lets overflow.
            value = jnp.exp(value - jax.nn.logsumexp(own, axis=(0, 1)))
        return jnp.concatenate([middle, value[:, None]], -1)

    return lax.map(of_box, (logits, boxes[:, :2], lengths))


def _largest(logits, lengths):
    """Largest value and its (x, y) on maps enlarged to `lengths` (x, y) pixels."""
    size, keypoints = logits.shape[0], logits.shape[-1]
    blocks = -(-lengths // _BLOCK)

    def look(number, found):
        value, place = found
        first = jnp.stack([number % blocks[0], number // blocks[0]]) * _BLOCK
        x, y = (first[axis] + jnp.arange(_BLOCK, dtype=jnp.int32) for axis in (0, 1))
        columns, rows = (
            _cubic_weights(each, lengths[axis], size, logits.dtype)
            for axis, each in enumerate((x, y))
        )
        # Rounded to bfloat16, as by a TPU, the largest is found a pixel or two beside.
        large = jnp.einsum(
            'rh,hwk,cw->krc', rows, logits, columns, precision=lax.Precision.HIGHEST
        )
        inside = (y < lengths[1])[:, None] & (x < lengths[0])[None]
        large = jnp.where(inside[None], large, -jnp.inf).reshape(keypoints, -1)
        best_here = large.argmax(-1).astype(jnp.int32)
        new = jnp.stack([x[best_here % _BLOCK], y[best_here // _BLOCK]], -1)
        better = large.max(-1) > value
        return (
            jnp.where(better, large.max(-1), value),
            jnp.where(better[:, None], new, place),
        )

    start = (
        jnp.full((keypoints,), -jnp.inf, logits.dtype),
        jnp.zeros((keypoints, 2), jnp.int32),
    )
    return lax.fori_loop(0, blocks[0] * blocks[1], look, start)


def _cubic_weights(pixels, length, size, dtype):
    """The share of each of `size` cells in pixels of an axis enlarged to `length`."""
    scale = size / length.astype(dtype)
    place = (pixels.astype(dtype) + 0.5) * scale - 0.5
    low = jnp.floor(place)
    cells = jnp.arange(size, dtype=dtype)[None]
    total = jnp.zeros((pixels.shape[0], size), dtype)
    for tap in (-1.0, 0.0, 1.0, 2.0):
        # Taps beyond the border are those of the border.
        cell = jnp.clip(low + tap, 0, size - 1)[:, None]
        weight = _cubic(jnp.abs(place - (low + tap)))[:, None]
        total += jnp.where(cells == cell, weight, 0)
    return total


def _cubic(distance):
    near = ((_CUBIC + 2) * distance - (_CUBIC + 3)) * distance**2 + 1
    far = ((_CUBIC * distance - 5 * _CUBIC) * distance + 8 * _CUBIC) * distance
    return jnp.where(distance <= 1, near, far - 4 * _CUBIC)
