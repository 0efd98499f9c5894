"""Boxes `x1 y1 x2 y2` in pixels: areas, overlaps, and their code against anchors.

Two conventions exist, and a run has one of them throughout. Continuous: x2 is the
right edge, so that a box is `x2 - x1` wide. Legacy (the detection code of 2018): x2 is
the last pixel, and a box is `x2 - x1 + 1` wide.
"""

import math

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

# What exp may make of a side: 1000 / 16, as in all published code.
LARGEST_LOG_SCALE = math.log(1000 / 16)
# Stands in for the sides of padding, whose logarithm would be a NaN in gradients.
_SMALLEST_SIDE = 1e-6

Weights = tuple[float, float, float, float]


def sides(
    boxes: Float[Array, '*batch 4'], *, legacy: bool = False
) -> tuple[Float[Array, '*batch'], Float[Array, '*batch']]:
    """Returns the widths and heights of boxes.

    Example:
        >>> box = jnp.array([0.0, 0.0, 9.0, 4.0])
        >>> [float(side) for side in sides(box)], [
        ...     float(side) for side in sides(box, legacy=True)]
        ([9.0, 4.0], [10.0, 5.0])
    """
    x1, y1, x2, y2 = jnp.moveaxis(boxes, -1, 0)
    extra = float(legacy)
    return x2 - x1 + extra, y2 - y1 + extra


def areas(
    boxes: Float[Array, '*batch 4'], *, legacy: bool = False
) -> Float[Array, '*batch']:
    """Returns the areas of boxes in square pixels.

    Example:
        >>> float(areas(jnp.array([0.0, 0.0, 9.0, 4.0])))
        36.0
    """
    width, height = sides(boxes, legacy=legacy)
    return width * height


def overlaps(
    boxes: Float[Array, 'boxes 4'],
    others: Float[Array, 'others 4'],
    *,
    legacy: bool = False,
) -> Float[Array, 'boxes others']:
    """Returns the intersection over union of each box with each other; 0 of nothing.

    Example:
        >>> boxes = jnp.array([[0.0, 0.0, 2.0, 2.0], [5.0, 5.0, 5.0, 5.0]])
        >>> overlaps(boxes, jnp.array([[1.0, 0.0, 3.0, 2.0]])).ravel().round(3).tolist()
        [0.3330000042915344, 0.0]
    """
    first, second = boxes[:, None], others[None]
    corner = jnp.maximum(first[..., :2], second[..., :2])
    end = jnp.minimum(first[..., 2:], second[..., 2:])
    shared = jnp.maximum(end - corner + float(legacy), 0.0)
    shared = shared[..., 0] * shared[..., 1]
    own, of_others = areas(boxes, legacy=legacy), areas(others, legacy=legacy)
    union = own[:, None] + of_others[None] - shared
    return shared / jnp.where(union > 0, union, 1.0)


def encode(
    boxes: Float[Array, '*batch 4'],
    anchors: Float[Array, '*batch 4'],
    weights: Weights = (1.0, 1.0, 1.0, 1.0),
    *,
    legacy: bool = False,
) -> Float[Array, '*batch 4']:
    """Returns boxes as offsets from anchors (Faster R-CNN, section 3.1.2).

    Args:
        boxes: what is told.
        anchors: from where.
        weights: factors of the offsets: x, y, log width, log height.
        legacy: the boxes' convention.

    Example:
        >>> box = jnp.array([0.0, 0.0, 4.0, 4.0])
        >>> encode(box, jnp.array([2.0, 0.0, 6.0, 4.0])).tolist()
        [-0.5, 0.0, 0.0, 0.0]
    """
    x, y, width, height = _centres(boxes, legacy)
    own_x, own_y, own_width, own_height = _centres(anchors, legacy)
    offsets = (
        (x - own_x) / own_width,
        (y - own_y) / own_height,
        jnp.log(width / own_width),
        jnp.log(height / own_height),
    )
    return jnp.stack(
        [weight * each for weight, each in zip(weights, offsets, strict=True)], -1
    )


def decode(
    deltas: Float[Array, '*batch 4'],
    anchors: Float[Array, '*batch 4'],
    weights: Weights = (1.0, 1.0, 1.0, 1.0),
    *,
    legacy: bool = False,
    clamp_shrinking: bool = False,
) -> Float[Array, '*batch 4']:
    """Returns the boxes that `encode` tells so.

    Args:
        deltas: offsets; a side grows at most by 1000 / 16.
        anchors: from where.
        weights: as of `encode`.
        legacy: the boxes' convention.
        clamp_shrinking: whether a side may shrink by no more than that, either.

    Example:
        >>> box, anchor = jnp.array([1.0, 2, 4, 8]), jnp.array([0.0, 0, 4, 4])
        >>> decode(encode(box, anchor), anchor).round(5).tolist()
        [1.0, 2.0, 4.0, 8.0]
    """
    x, y, width, height = _centres(anchors, legacy)
    offsets = jnp.moveaxis(deltas, -1, 0)
    dx, dy, dw, dh = (
        each / weight for each, weight in zip(offsets, weights, strict=True)
    )
    low = -LARGEST_LOG_SCALE if clamp_shrinking else None
    dw, dh = (jnp.clip(each, low, LARGEST_LOG_SCALE) for each in (dw, dh))
    x, y = x + dx * width, y + dy * height
    # From the centre to the last pixel it is half a pixel less.
    half_width, half_height = (
        0.5 * (side * jnp.exp(grown) - float(legacy))
        for side, grown in ((width, dw), (height, dh))
    )
    return jnp.stack(
        [x - half_width, y - half_height, x + half_width, y + half_height], -1
    )


def clip(
    boxes: Float[Array, '*batch 4'],
    image_size: Float[Array, '2'] | Int[Array, '2'],
    *,
    legacy: bool = False,
) -> Float[Array, '*batch 4']:
    """Returns boxes cut off at the borders of an image of (height, width) pixels.

    Example:
        >>> clip(jnp.array([-2.0, 3.0, 50.0, 9.0]), jnp.array([8, 16])).tolist()
        [0.0, 3.0, 16.0, 8.0]
    """
    height, width = (side.astype(boxes.dtype) - float(legacy) for side in image_size)
    x1, y1, x2, y2 = jnp.moveaxis(boxes, -1, 0)
    return jnp.stack(
        [
            jnp.clip(x1, 0.0, width),
            jnp.clip(y1, 0.0, height),
            jnp.clip(x2, 0.0, width),
            jnp.clip(y2, 0.0, height),
        ],
        -1,
    )


def at_least(
    boxes: Float[Array, '*batch 4'], side: float, *, legacy: bool = False
) -> Bool[Array, '*batch']:
    """Returns which boxes have an area, and no side shorter than `side` pixels.

    Example:
        >>> boxes = jnp.array([[0.0, 0.0, 2.0, 3.0], [1.0, 1.0, 1.0, 9.0]])
        >>> at_least(boxes, 0.0).tolist()
        [True, False]
    """
    shorter = jnp.minimum(*sides(boxes, legacy=legacy))
    return (shorter >= side) & (shorter > 0)


def _centres(boxes, legacy):
    """Centres and sides, the latter fit for a logarithm."""
    x1, y1, x2, y2 = jnp.moveaxis(boxes, -1, 0)
    width, height = (
        jnp.maximum(side, _SMALLEST_SIDE) for side in sides(boxes, legacy=legacy)
    )
    return x1 + 0.5 * (x2 - x1), y1 + 0.5 * (y2 - y1), width, height
