"""From the mask of a box, 28 x 28 probabilities, to the pixels of the image.

On the host and on numpy arrays: a mask costs as much as its box has pixels.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np

# Pixels; a box without area has no pixels, and is no division by zero.
_THINNEST = 1e-6
STYLES = ('detectron2', 'torchvision', 'published')


class PastedMask(NamedTuple):
    """A bitmap that is zero outside of a part of the image.

    Attributes:
        part: bool `[rows, columns]`.
        top: row of the image where it begins.
        left: column of the image where it begins.
        height: of the image, in pixels.
        width: of the image, in pixels.

    Example:
        >>> PastedMask(np.ones((1, 1), bool), 1, 0, 2, 2).whole().tolist()
        [[False, False], [True, False]]
    """

    part: np.ndarray
    top: int
    left: int
    height: int
    width: int

    def whole(self) -> np.ndarray:
        """Returns bool `[height, width]`."""
        bitmap = np.zeros((self.height, self.width), bool)
        rows, columns = self.part.shape
        bitmap[self.top : self.top + rows, self.left : self.left + columns] = self.part
        return bitmap


def paste_mask(
    mask: np.ndarray,
    box: Sequence[float],
    height: int,
    width: int,
    style: str = 'detectron2',
) -> PastedMask:
    """Returns the pixels of an image that belong to an object.

    Args:
        mask: float `[size, size]`, probabilities in the box.
        box: x1, y1, x2, y2 in pixels of the image.
        height: of the image.
        width: of the image.
        style: `'detectron2'` reads the mask at the centre of each pixel, zero
            outside of it, and takes .5 and more. `'torchvision'` puts a point of zero
            around the mask, widens the box as much, rounds it to whole pixels and
            resizes; `'published'` (mmdetection of 2018) rounds the box, whose ends are
            its last pixels, and resizes; both take what is above .5.

    Raises:
        ValueError: no such style.

    Example:
        >>> found = paste_mask(np.ones((28, 28), np.float32), (1, 1, 3, 2), 4, 4)
        >>> found.whole().astype(int).tolist()[:3]
        [[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    """
    if style not in STYLES:
        raise ValueError(f'style={style!r}; allowed are {", ".join(STYLES)}')
    mask = np.asarray(mask, np.float32)
    if style == 'detectron2':
        return _at_centres(mask, box, height, width)
    if style == 'torchvision':
        whole_box, values = _resized_with_border(mask, box)
    else:
        whole_box, values = _resized(mask, box)
    left, top = whole_box
    rows = slice(max(-top, 0), max(height - top, 0))
    columns = slice(max(-left, 0), max(width - left, 0))
    part = values[rows, columns] > 0.5
    return PastedMask(part, max(top, 0), max(left, 0), height, width)


def _at_centres(mask, box, height, width) -> PastedMask:
    x1, y1, x2, y2 = (float(edge) for edge in box)
    top, left = max(math.floor(y1) - 1, 0), max(math.floor(x1) - 1, 0)
    bottom = max(min(math.ceil(y2) + 1, height), top)
    right = max(min(math.ceil(x2) + 1, width), left)
    rows, columns = (
        (np.arange(first, last) + 0.5 - start) / max(end - start, _THINNEST) * size
        - 0.5
        for first, last, start, end, size in (
            (top, bottom, y1, y2, mask.shape[0]),
            (left, right, x1, x2, mask.shape[1]),
        )
    )
    # Zero outside: one point before the mask, and two behind it.
    padded = np.zeros((mask.shape[0] + 3, mask.shape[1] + 3), np.float32)
    padded[1:-2, 1:-2] = mask
    part = _sampled(_sampled(padded, rows).T, columns).T >= 0.5
    return PastedMask(part, top, left, height, width)


def _sampled(padded: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Rows of a padded mask, the first of which is at -1, interpolated between them."""
    positions = np.clip(positions + 1, 0, len(padded) - 2)
    lower = positions.astype(int)
    fraction = (positions - lower).astype(np.float32)[:, None]
    return padded[lower] * (1 - fraction) + padded[lower + 1] * fraction


def _resized_with_border(mask, box):
    size = mask.shape[0]
    scale = np.float32((size + 2) / size)
    low, high = np.asarray(box, np.float32).reshape(2, 2)
    half = (high - low) * np.float32(0.5) * scale
    centre = (high + low) * np.float32(0.5)
    return _resized(np.pad(mask, 1), [*(centre - half), *(centre + half)])


def _resized(mask, box):
    """Corner and values of a mask whose box ends at its last whole pixels."""
    low, high = np.asarray(box, np.float32).reshape(2, 2).astype(int)
    size = np.maximum(high - low + 1, 1).tolist()
    return low.tolist(), cv2.resize(mask, size, interpolation=cv2.INTER_LINEAR)
