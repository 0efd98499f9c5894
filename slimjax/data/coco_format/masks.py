"""From COCO's segmentations to bitmaps, and to crops of the size that targets need.

A mask is stored as a crop of its own box at 112 x 112, a bit a point: it is the same
for any size of the image, and mirrored as the image is (as in tensorflow/tpu's Mask
R-CNN, `gt_mask_size`).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

CROP = 112
PACKED = CROP // 8
# Sides of its box that a polygon is followed away from it.
_FARTHEST = 100


def coco_masks() -> Any:
    """Returns the module of COCO's run-length encoding, of faster-coco-eval.

    Raises:
        ImportError: it is not installed; says how to get it.
    """
    try:
        from faster_coco_eval import mask
    except ImportError:
        raise ImportError(
            "COCO's masks and metrics come with faster-coco-eval: "
            "pip install 'slimjax[detection]'"
        ) from None
    return mask


def rle_counts(text: str | bytes) -> list[int]:
    """Returns the lengths of runs that a compressed COCO string holds.

    Five bits a character, the lowest first; from the third number on, each is the
    difference to the one two before it (COCO API, `rleFrString`).

    Args:
        text: the field `counts`.

    Raises:
        ValueError: it is no such string.

    Example:
        >>> rle_counts('141')
        [1, 4, 1]
    """
    data = text.encode() if isinstance(text, str) else text
    counts, value, shift = [], 0, 0
    for character in data:
        bits = character - 48
        if not 0 <= bits < 64:
            raise ValueError(f'the character {chr(character)!r} stands for nothing')
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value, shift = 0, 0
    if shift:
        raise ValueError('it ends inside a number')
    return counts


def decode_rle(segmentation: dict[str, Any]) -> np.ndarray:
    """Returns the bitmap of a run-length encoding, compressed or not.

    Args:
        segmentation: `{'size': [height, width], 'counts': list or string}`; runs of
            0 and 1 by turns, down the columns.

    Returns:
        bool `[height, width]`.

    Raises:
        ValueError: the runs do not fill the size.

    Example:
        >>> decode_rle({'size': [2, 3], 'counts': [1, 4, 1]}).astype(int).tolist()
        [[0, 1, 1], [1, 1, 0]]
    """
    height, width = segmentation['size']
    counts = segmentation['counts']
    if isinstance(counts, (str, bytes)):
        counts = rle_counts(counts)
    if min(counts, default=0) < 0 or sum(counts) != height * width:
        raise ValueError(
            f'runs of {sum(counts)} pixels in all, where the size is {height} x {width}'
        )
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(width, height).T


def encode_part(
    part: np.ndarray, top: int, left: int, height: int, width: int
) -> dict[str, Any]:
    """Returns the run-length encoding of a bitmap that is zero outside of a part.

    Its cost is that of the part: the image of a small mask is never filled.

    Args:
        part: bool `[rows, columns]`, inside the image.
        top: row of the image where it begins.
        left: column of the image where it begins.
        height: of the image.
        width: of the image.

    Returns:
        `{'size': [height, width], 'counts': text}`, as COCO's results have it.

    Example:
        >>> encoded = encode_part(np.array([[True, True]]), 1, 1, 2, 3)
        >>> decode_rle(encoded).astype(int).tolist()
        [[0, 0, 0], [0, 1, 1]]
    """
    # A row of zeros on both ends: where the value changes, runs begin and end.
    columns = np.zeros((part.shape[1], part.shape[0] + 2), bool)
    columns[:, 1:-1] = part.T
    column, row = np.nonzero(columns[:, 1:] != columns[:, :-1])
    changes = (left + column) * height + top + row
    # A run that reaches the bottom goes on at the top of the next column.
    joined = np.flatnonzero(np.diff(changes) == 0)
    changes = np.delete(changes, np.concatenate([joined, joined + 1]))
    counts = np.diff(changes, prepend=0, append=height * width).tolist()
    if counts[-1] == 0:
        counts.pop()  # As COCO's own library does.
    encoded = coco_masks().frPyObjects(
        [{'size': [height, width], 'counts': counts}], height, width
    )[0]
    return {'size': [height, width], 'counts': encoded['counts'].decode()}


def crop_mask(
    segmentation: Sequence[Sequence[float]] | dict[str, Any],
    box: Sequence[float],
    size: int = CROP,
) -> np.ndarray:
    """Returns the part of a mask that its box frames, at another resolution.

    Polygons are drawn at that resolution, as Detectron2 draws its targets, so that
    the mask of a small object is as smooth as its outline. A bitmap is read at the
    centre of each point.

    Args:
        segmentation: polygons `[x, y, x, y, ...]`, or a run-length encoding.
        box: x1, y1, x2, y2 in pixels of the image, of an area above 0.
        size: points on each side.

    Returns:
        bool `[size, size]`.

    Example:
        >>> square = [[2, 2, 6, 2, 6, 6, 2, 6]]
        >>> crop_mask(square, (2, 2, 10, 6), 4).astype(int).tolist()[0]
        [1, 1, 0, 0]
    """
    left, top, right, bottom = (float(edge) for edge in box)
    if isinstance(segmentation, dict):
        bitmap = decode_rle(segmentation)
        points = (np.arange(size) + 0.5) / size
        rows, columns = (
            np.clip((first + points * (last - first)).astype(int), 0, limit - 1)
            for first, last, limit in (
                (top, bottom, bitmap.shape[0]),
                (left, right, bitmap.shape[1]),
            )
        )
        return bitmap[np.ix_(rows, columns)]
    scale = np.array([size / (right - left), size / (bottom - top)])
    # Of a box of which little is in the image, drawing the rest would take for ever.
    limit = _FARTHEST * size
    polygons = [
        np.clip((np.reshape(polygon, (-1, 2)) - (left, top)) * scale, -limit, limit)
        .ravel()
        .tolist()
        for polygon in segmentation
    ]
    library = coco_masks()
    return library.decode(
        library.merge(library.frPyObjects(polygons, size, size))
    ).astype(bool)


def pack(crops: np.ndarray) -> np.ndarray:
    """Returns crops as bits: uint8 `[objects, 112, 14]` of bool `[objects, 112, 112]`.

    Example:
        >>> pack(np.ones((1, 112, 112), bool)).shape
        (1, 112, 14)
    """
    return np.packbits(crops, axis=-1)


def unpack(packed: np.ndarray) -> np.ndarray:
    """Returns uint8 `[objects, 112, 112]`, 0 or 1, of what `pack` has made.

    Example:
        >>> unpack(np.full((1, 112, 14), 255, np.uint8)).min()
        np.uint8(1)
    """
    return np.unpackbits(packed, axis=-1)
