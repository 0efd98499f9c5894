"""Windows over images as shifted views of them, one for each tap of the window.

XLA runs arithmetic on such views at the speed of the memory on the CPU, if columns and
channels are one axis, long enough for its vectors.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax import Array, lax

Pair = tuple[int, int]
Pads = tuple[Pair, Pair]


def padded(images: Array, pads: Pads, value: Any = 0) -> Array:
    """Adds pixels to the spatial axes of images; takes them away where negative.

    Args:
        images: `[batch, height, width, channels]`.
        pads: pixels (before, after) each spatial axis.
        value: what they hold.
    """
    space = ((low, high, 0) for low, high in pads)
    value = jnp.array(value, images.dtype)
    return lax.pad(images, value, ((0, 0, 0), *space, (0, 0, 0)))


def offsets(taps: Pair, dilation: Pair) -> list[Pair]:
    """Returns how far each tap is from the first one, in pixels, row by row.

    Example:
        >>> offsets((2, 2), (1, 3))
        [(0, 0), (0, 3), (1, 0), (1, 3)]
    """
    return [
        (row * dilation[0], column * dilation[1])
        for row in range(taps[0])
        for column in range(taps[1])
    ]


def output_size(images: Array, taps: Pair, strides: Pair, dilation: Pair) -> Pair:
    """Returns the height and width that a window has over images padded already."""
    height, width = (
        max((size - 1 - (count - 1) * distance) // stride + 1, 0)
        for size, count, distance, stride in zip(
            images.shape[1:3], taps, dilation, strides, strict=True
        )
    )
    return height, width


def view(images: Array, offset: Pair, size: Pair, strides: Pair) -> Array:
    """Returns what one tap sees: the pixels from `offset` on.

    Args:
        images: `[batch, height, width, channels]`.
        offset: of the first pixel, (vertical, horizontal).
        size: height and width of the view.
        strides: step in pixels, (vertical, horizontal).

    Returns:
        `[batch, *size, channels]`, `merged`.
    """
    if strides[1] == 1:
        channels = images.shape[-1]
        images = merged(images, strides)
        offset, size = (offset[0], offset[1] * channels), (size[0], size[1] * channels)
    rest = images.shape[3:]
    ends = (
        min(start + count * step, most)
        for start, count, step, most in zip(
            offset, size, strides, images.shape[1:3], strict=True
        )
    )
    # Written as images[...] it takes several times as long to trace.
    return lax.slice(
        images,
        (0, *offset, *(0 for _ in rest)),
        (images.shape[0], *ends, *rest),
        (1, *strides, *(1 for _ in rest)),
    )


def merged(images: Array, strides: Pair) -> Array:
    """Images with columns and channels as one axis, if columns are read in a row."""
    batch, height, width, channels = images.shape
    if strides[1] > 1:
        return images
    return images.reshape(batch, height, width * channels)


def spread_back(
    arrays: tuple[Array, ...],
    contribution: Callable[..., Array],
    *,
    taps: Pair,
    shape: tuple[int, int, int, int],
    strides: Pair,
    padding: Pads,
    dilation: Pair,
) -> Array:
    """Adds up for each pixel what comes back from the windows that saw it.

    A stride leaves out taps: pixel `stride * j + phase` was seen only by those at a
    multiple of the stride from it. So each phase is a sum of its own over views of
    all that comes back, and nothing is multiplied with zeros in between.

    Args:
        arrays: what comes back, one or several `[batch, height, width, channels]` of
            the windows' size.
        contribution: `(tap number, *views) -> view` of what one tap brings back.
        taps: of the window, (vertical, horizontal).
        shape: of the images that the windows saw.
        strides: step of the windows in pixels.
        padding: pixels that were added (before, after) each spatial axis.
        dilation: distance of the taps in pixels.
    """
    meetings = [
        _meetings(taps[axis], strides[axis], padding[axis][0], dilation[axis])
        for axis in (0, 1)
    ]
    size = (-(-shape[1] // strides[0]), -(-shape[2] // strides[1]))
    pads = []
    for axis in (0, 1):
        shifts = [shift for phase in meetings[axis] for _, shift in phase]
        low, high = min(shifts, default=0), max(shifts, default=0)
        pads.append((-low, size[axis] + high - arrays[0].shape[axis + 1]))
    arrays = tuple(padded(array, tuple(pads)) for array in arrays)
    batch, channels = shape[0], shape[-1]

    def phase_sum(vertical, horizontal):
        total = None
        for row, top in vertical:
            for column, left in horizontal:
                offset = (top + pads[0][0], left + pads[1][0])
                views = (view(array, offset, size, (1, 1)) for array in arrays)
                part = contribution(row * taps[1] + column, *views)
                total = part if total is None else total + part
        if total is None:
            return jnp.zeros((batch, *size, channels), arrays[0].dtype)
        return total.reshape(batch, *size, channels)

    rows = [
        _interleave([phase_sum(vertical, each) for each in meetings[1]], axis=2)
        for vertical in meetings[0]
    ]
    return _interleave(rows, axis=1)[:, : shape[1], : shape[2]]


def _meetings(taps: int, stride: int, before: int, distance: int):
    """For each phase, which taps meet pixels of it, and the shift of the windows."""
    return [
        [
            (tap, (phase + before - tap * distance) // stride)
            for tap in range(taps)
            if (phase + before - tap * distance) % stride == 0
        ]
        for phase in range(stride)
    ]


def _interleave(parts: list[Array], axis: int) -> Array:
    """Deals the elements of the parts along `axis` out one by one."""
    if len(parts) == 1:
        return parts[0]
    shape = list(parts[0].shape)
    shape[axis] *= len(parts)
    return jnp.stack(parts, axis + 1).reshape(shape)
