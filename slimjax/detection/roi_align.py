"""RoIAlign (Mask R-CNN, section 3) over a feature pyramid, 2 x 2 samples a bin.

Two forms of the same arithmetic. `'gather'` reads four taps a sample, from all levels
at once; its gradient scatters. `'einsum'` multiplies by interpolation matrices, level
by level: hundreds of times the arithmetic, but no scatter, which TPUs are slow at.
"""

from collections.abc import Sequence
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jaxtyping import Float, Int

from slimjax.detection.boxes import areas
from slimjax.dtypes import at_least_float32

Alignment = Literal['legacy', 'unaligned', 'aligned']
ALIGNMENTS = ('legacy', 'unaligned', 'aligned')
Form = Literal['auto', 'gather', 'einsum']
FORMS = ('auto', 'gather', 'einsum')

FINEST_LEVEL = 2
# The side of ImageNet's crops, and the level that a box of this size is taken from.
_CANONICAL_SIDE, _CANONICAL_LEVEL = 224, 4
_SAMPLES = 2
# So many boxes at a time are multiplied by matrices of a row a pixel.
_CHUNK = 64


def assign_levels(
    boxes: Float[Array, '*batch 4'],
    *,
    levels: int = 4,
    scale_epsilon: float = 0.0,
    epsilon: float = 1e-6,
    legacy: bool = False,
) -> Int[Array, '*batch']:
    """Returns the level whose map each box is taken from (FPN, equation 1), 0 finest.

    Args:
        boxes: in pixels of the image.
        levels: number of levels, the finest of stride 4.
        scale_epsilon: added to the side over 224, before the logarithm.
        epsilon: added to the logarithm.
        legacy: the boxes' convention.

    Example:
        >>> assign_levels(jnp.array([[0.0, 0, 50, 50], [0, 0, 224, 224]])).tolist()
        [0, 2]
    """
    side = jnp.sqrt(areas(boxes, legacy=legacy)) / _CANONICAL_SIDE
    level = jnp.floor(_CANONICAL_LEVEL + jnp.log2(side + scale_epsilon) + epsilon)
    return jnp.clip(level - FINEST_LEVEL, 0, levels - 1).astype(jnp.int32)


def roi_align(
    maps: Sequence[Float[Array, 'batch _height _width channels']],
    boxes: Float[Array, 'batch boxes 4'],
    levels: Int[Array, 'batch boxes'],
    size: int,
    *,
    alignment: Alignment = 'unaligned',
    form: Form = 'auto',
) -> Float[Array, 'batch boxes size size channels']:
    """Returns `size` x `size` features of each box.

    A bin is the mean of four samples, each interpolated between four pixels. Samples
    more than a pixel outside of the map are 0, others are moved to its border.

    Args:
        maps: of strides 4, 8 and so on.
        boxes: in pixels of the image.
        levels: which map each is taken from.
        size: bins along each side.
        alignment: `'unaligned'` takes a pixel's value to be at its upper left corner
            and no box to be narrower than one pixel of the map (torchvision);
            `'aligned'` takes it to be at its centre (detectron2); `'legacy'` is
            unaligned, for boxes whose x2 and y2 are their last pixels.
        form: see this module; `'auto'` is `'einsum'` on TPUs.

    Raises:
        ValueError: another alignment or form.

    Example:
        >>> maps = [jnp.arange(64.0).reshape(1, 8, 8, 1)]
        >>> box, level = jnp.array([[[0.0, 0, 16, 16]]]), jnp.zeros((1, 1), int)
        >>> roi_align(maps, box, level, 2).ravel().tolist()
        [9.0, 11.0, 25.0, 27.0]
    """
    starts, lengths = _spans(boxes, levels, alignment)
    return _FORMS[resolve_form(form)](maps, starts, lengths, levels, size)


def resolve_form(form: Form) -> Literal['gather', 'einsum']:
    """Returns the form itself, or for `'auto'` the one that suits the platform.

    Raises:
        ValueError: an unknown form.

    Example:
        >>> resolve_form('gather')
        'gather'
    """
    if form not in FORMS:
        raise ValueError(f'roi_align_form={form!r}; allowed are {", ".join(FORMS)}')
    if form == 'auto':
        return 'einsum' if jax.default_backend() == 'tpu' else 'gather'
    return form


def _spans(boxes, levels, alignment):
    """Where the boxes start on their maps and how long they are, `[..., (y, x)]`."""
    if alignment not in ALIGNMENTS:
        raise ValueError(
            f'roi_alignment={alignment!r}; allowed are {", ".join(ALIGNMENTS)}'
        )
    scale = (0.5**FINEST_LEVEL / (1 << levels).astype(boxes.dtype))[..., None]
    start, end = boxes[..., 1::-1], boxes[..., :1:-1]
    if alignment == 'legacy':
        end = end + 1.0
    start, end = start * scale, end * scale
    if alignment == 'unaligned':
        return start, jnp.maximum(end - start, 1.0)
    if alignment == 'aligned':
        start, end = start - 0.5, end - 0.5
    return start, end - start


def _samples(start, length, size):
    """Where a box is sampled along an axis, `[..., size, 2]`."""
    steps = (np.arange(size * _SAMPLES) + 0.5) / (size * _SAMPLES)
    steps = jnp.array(steps, start.dtype)
    steps = steps.reshape((1,) * start.ndim + (size, _SAMPLES))
    return start[..., None, None] + steps * length[..., None, None]


def _on_map(places, side):
    """Places moved onto a map, and whether they count."""
    inside = (places >= -1) & (places <= side)
    return jnp.clip(places, 0, side - 1), inside


def _gathered(maps, starts, lengths, levels, size):
    batch, _, _, channels = maps[0].shape
    sides = jnp.array([each.shape[1:3] for each in maps], jnp.int32)[levels]
    ends = [0]
    for each in maps:
        ends.append(ends[-1] + each.shape[1] * each.shape[2])
    pixels = jnp.concatenate([m.reshape(batch, -1, channels) for m in maps], 1)
    pixels = pixels.reshape(-1, channels)
    first = jnp.array(ends[:-1], jnp.int32)[levels]
    first += (jnp.arange(batch, dtype=jnp.int32) * ends[-1])[:, None]
    dtype = at_least_float32(pixels.dtype)
    rows, columns = (
        _taps(starts[..., axis], lengths[..., axis], sides[..., axis], size, dtype)
        for axis in (0, 1)
    )
    # [batch, boxes, bins, samples] of rows meet those of columns.
    down, along = (..., None, None), (..., None, None, slice(None), slice(None))
    per_row = sides[..., 1][..., None, None]
    first, total = first[..., None, None], 0.0
    for row, row_weight in rows:
        for column, column_weight in columns:
            place = (first + row * per_row)[down] + column[along]
            weight = row_weight[down] * column_weight[along]
            total += pixels[place].astype(dtype) * weight[..., None]
    return total.mean((3, 5)).astype(pixels.dtype)


def _taps(start, length, side, size, dtype):
    """The two pixels beside each sample, and their weights."""
    side = side[..., None, None]
    places, inside = _on_map(_samples(start, length, size), side.astype(start.dtype))
    low = jnp.floor(places).astype(jnp.int32)
    share = (places - low.astype(places.dtype)).astype(dtype)
    counts = inside.astype(dtype)
    high = jnp.minimum(low + 1, side - 1)
    return (low, (1 - share) * counts), (high, share * counts)


def _multiplied(maps, starts, lengths, levels, size):
    def of_image(maps, starts, lengths, levels):
        # Of all the products, nothing is kept for the gradient.
        box = jax.checkpoint(partial(_of_box, maps, size=size))
        chunk = min(_CHUNK, starts.shape[0])
        return lax.map(
            lambda each: box(*each), (starts, lengths, levels), batch_size=chunk
        )

    return jax.vmap(of_image)(list(maps), starts, lengths, levels)


def _of_box(maps, start, length, level, *, size):
    dtype = at_least_float32(maps[0].dtype)
    total = jnp.zeros((size, size, maps[0].shape[-1]), dtype)
    for number, each in enumerate(maps):
        own = (level == number).astype(start.dtype)
        rows, columns = (
            _weights(start[axis], length[axis], each.shape[axis], size)
            for axis in (0, 1)
        )
        total += jnp.einsum(
            'ph,hwc,qw->pqc',
            (rows * own).astype(each.dtype),
            each,
            columns.astype(each.dtype),
            preferred_element_type=dtype,
        )
    return total.astype(maps[0].dtype)


def _weights(start, length, side, size):
    """The share of each pixel in each bin of an axis, `[size, side]`."""
    places, inside = _on_map(_samples(start, length, size), side)
    pixels = jnp.arange(side, dtype=places.dtype)[None, None]
    shares = jnp.maximum(1 - jnp.abs(places[..., None] - pixels), 0)
    return jnp.where(inside[..., None], shares, 0).mean(1)


_FORMS = {'gather': _gathered, 'einsum': _multiplied}
