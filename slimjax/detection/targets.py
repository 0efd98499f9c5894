"""What the mask and keypoint heads are to learn of each box."""

from typing import Literal

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from slimjax.detection.boxes import sides

MaskTargets = Literal['soft', 'binary', 'crop']
MASK_TARGETS = ('soft', 'binary', 'crop')


def mask_targets(
    crops: Float[Array, 'truths crop crop'],
    truths: Float[Array, 'truths 4'],
    matched: Int[Array, ' boxes'],
    boxes: Float[Array, 'boxes 4'],
    image_size: Int[Array, '2'],
    size: int,
    *,
    style: MaskTargets,
    shift: float = 0.0,
    legacy: bool = False,
) -> Float[Array, 'boxes size size']:
    """Returns the part of a mask that each box sees.

    As the mask comes cut to its own box, at a resolution of its own, the result is
    exact where a pixel of the image is one of the crop. Boxes count as a pixel long at
    least.

    Args:
        crops: the masks, 0 to 1, cut to their boxes.
        truths: the boxes of the masks, which end at their edges.
        matched: the truth of each box.
        boxes: what is learnt from.
        image_size: height and width in pixels; samples outside move to the border.
        size: of the targets.
        style: `'soft'`: a bin is the mean of as many samples as the box is times larger
            than `size`, rounded up. `'binary'`: the same, as 0 or 1. `'crop'`: the
            whole pixels of the box are cut out and resized, a sample a bin, to 0 or 1,
            as mmdetection of 2018 did.
        shift: pixels by which masks are read further right and down than they lie:
            0.5 is torchvision's RoIAlign, which takes pixels for points at their
            upper left corners.
        legacy: the convention of `boxes`.

    Example:
        >>> box = jnp.array([[0.0, 0.0, 2.0, 2.0]])
        >>> crop = jnp.array([[[1.0, 0.0], [1.0, 0.0]]])
        >>> mask_targets(crop, box, jnp.array([0]), box, jnp.array([9, 9]), 2,
        ...              style='soft')[0].tolist()
        [[1.0, 0.0], [1.0, 0.0]]
    """
    own = truths[matched]
    starts, ends = boxes[:, :2] + shift, boxes[:, 2:] + shift + float(legacy)
    if style == 'crop':
        starts, ends = jnp.floor(starts), jnp.floor(ends)
    lengths = jnp.maximum(ends - starts, 1.0)
    if style == 'crop':
        counts, borders = jnp.ones_like(lengths), (starts, starts + lengths)
    else:
        image = jnp.broadcast_to(image_size[::-1].astype(boxes.dtype), starts.shape)
        counts, borders = jnp.ceil(lengths / size), (jnp.zeros_like(image), image)
    rows, columns = (
        _axis_weights(
            starts[:, axis],
            lengths[:, axis],
            counts[:, axis],
            [each[:, axis] for each in borders],
            own[:, axis],
            own[:, 2 + axis] - own[:, axis],
            size,
            crops.shape[1],
        )
        for axis in (1, 0)
    )
    targets = jnp.einsum('bph,bhw,bqw->bpq', rows, crops[matched], columns)
    return targets if style == 'soft' else (targets >= 0.5).astype(targets.dtype)


def _axis_weights(start, length, counts, borders, crop_start, crop_length, size, crop):
    """The share of each pixel of a crop in each bin of a box, `[boxes, size, crop]`.

    A bin has `counts` samples; those outside of the borders move there.
    """
    bins = jnp.arange(size, dtype=start.dtype)[None]
    pixels = jnp.arange(crop, dtype=start.dtype)[None, None]
    scale = crop / jnp.maximum(crop_length, 1e-6)

    def add(sample, total):
        share = (sample.astype(start.dtype) + 0.5) / counts
        place = start[:, None] + (bins + share[:, None]) * (length / size)[:, None]
        # Values stand at the centres of pixels, of the image as of the crop.
        place = jnp.clip(place, borders[0][:, None] + 0.5, borders[1][:, None] - 0.5)
        place = place - crop_start[:, None]
        place = place * scale[:, None] - 0.5
        weights = jnp.maximum(1 - jnp.abs(place[..., None] - pixels), 0)
        used = (sample.astype(start.dtype) < counts)[:, None, None]
        return total + jnp.where(used, weights, 0)

    total = jnp.zeros((start.shape[0], size, crop), start.dtype)
    total = lax.fori_loop(0, counts.max().astype(jnp.int32), add, total)
    return total / jnp.maximum(counts, 1)[:, None, None]


def keypoint_targets(
    keypoints: Float[Array, 'boxes keypoints 3'],
    boxes: Float[Array, 'boxes 4'],
    size: int,
    *,
    legacy: bool = False,
) -> tuple[Int[Array, 'boxes keypoints'], Bool[Array, 'boxes keypoints']]:
    """Returns the cell in which each keypoint lies, and which of them count.

    Cells are numbered by rows. A keypoint counts if it is labelled and in its box,
    whose right and lower edges belong to the last cells (Mask R-CNN, section 5).

    Args:
        keypoints: x, y in pixels, and visibility, 0 for none.
        boxes: what is learnt from.
        size: cells along each side.
        legacy: the boxes' convention.

    Example:
        >>> points = jnp.array([[[4.0, 0.0, 2.0], [9.0, 9.0, 2.0]]])
        >>> cells, count = keypoint_targets(points, jnp.array([[0.0, 0, 8, 8]]), 4)
        >>> int(cells[0, 0]), count.tolist()
        (2, [[True, False]])
    """
    lengths = jnp.stack(sides(boxes, legacy=legacy), -1)[:, None]
    places, starts = keypoints[..., :2], boxes[:, None, :2]
    ends = boxes[:, None, 2:] + float(legacy)
    cells = jnp.floor((places - starts) * (size / jnp.maximum(lengths, 1e-6)))
    cells = jnp.where(places == ends, size - 1, cells)
    inside = ((cells >= 0) & (cells < size)).all(-1)
    counts = inside & (keypoints[..., 2] > 0)
    cells = jnp.clip(cells, 0, size - 1).astype(jnp.int32)
    return cells[..., 1] * size + cells[..., 0], counts
