"""What images come out as: their size, values and boxes; checked before use."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from slimjax.data.coco_format.source import CocoSource

TOO_MANY = ('error', 'truncate')


class DetectionFormat(NamedTuple):
    """What a batch holds, in training and in evaluation.

    Attributes:
        buckets: heights and widths of batches; an image goes to the smallest that
            holds it, by default landscape or portrait.
        short_side: of a resized image, in pixels.
        long_side: at most; the short side gives way.
        mean: subtracted from pixels in 0..255, for red, green and blue.
        std: divided by.
        bgr: whether blue comes first, as in networks that came from Caffe.
        masks: whether masks are wanted.
        keypoints: whether keypoints are wanted.
        max_boxes: rows for the objects of an image.
        too_many: what happens to an image of more objects: `'error'`, or `'truncate'`
            to the largest, crowds last.
        min_box_side: an object of a narrower or lower box, in pixels of the original
            image, is left out; the published code asks for 1.
        keypoint_offset: added to coordinates in the original image; 0.5 stands for
            the middle of a pixel, as in Detectron2.

    Example:
        >>> DetectionFormat().buckets
        ((800, 1344), (1344, 800))
    """

    buckets: tuple[tuple[int, int], ...] = ((800, 1344), (1344, 800))
    short_side: int = 800
    long_side: int = 1333
    mean: tuple[float, ...] = (123.675, 116.28, 103.53)
    std: tuple[float, ...] = (58.395, 57.12, 57.375)
    bgr: bool = False
    masks: bool = False
    keypoints: bool = False
    max_boxes: int = 100
    too_many: str = 'error'
    min_box_side: float = 0.0
    keypoint_offset: float = 0.0


class DetectionAugmentation(NamedTuple):
    """What is drawn for each training image.

    Attributes:
        short_sides: of the resized image, one of which is drawn; () for that of the
            format.
        flip: whether half of the images are mirrored.

    Example:
        >>> DetectionAugmentation(tuple(range(640, 801, 32))).flip
        True
    """

    short_sides: tuple[int, ...] = ()
    flip: bool = True


def resized_size(
    height: int, width: int, short_side: int, long_side: int
) -> tuple[int, int]:
    """Returns the size of a resized image, as Detectron2's ResizeShortestEdge.

    Args:
        height: of the image.
        width: of the image.
        short_side: wanted, in pixels.
        long_side: at most.

    Example:
        >>> resized_size(480, 640, 800, 1333), resized_size(300, 900, 800, 1333)
        ((800, 1067), (444, 1333))
    """
    scale = min(short_side / min(height, width), long_side / max(height, width))
    return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))


def fitting_bucket(
    height: int, width: int, format: DetectionFormat, short_side: int = 0
) -> int | None:
    """Returns the place of the smallest bucket that holds an image; None for none.

    Args:
        height: of the image, before it is resized.
        width: of the image.
        format: see there.
        short_side: of the resized image; 0 for that of the format.

    Example:
        >>> fitting_bucket(640, 480, DetectionFormat())
        1
    """
    height, width = resized_size(
        height, width, short_side or format.short_side, format.long_side
    )
    fitting = [
        place
        for place, bucket in enumerate(format.buckets)
        if height <= bucket[0] and width <= bucket[1]
    ]
    return min(
        fitting, key=lambda place: math.prod(format.buckets[place]), default=None
    )


def choose_buckets(
    source: CocoSource, format: DetectionFormat, short_sides: Sequence[int] = ()
) -> np.ndarray:
    """Returns the place in `format.buckets` of each image.

    Args:
        source: the images.
        format: see there.
        short_sides: that may be drawn; () for that of the format.

    Returns:
        int64 `[images]`; the same for all sizes that may be drawn.

    Raises:
        ValueError: no bucket holds an image; names it.
    """
    short_side = max(short_sides, default=format.short_side)
    sizes = np.stack([source.index['height'], source.index['width']], 1)
    distinct, firsts, places = np.unique(
        sizes, axis=0, return_index=True, return_inverse=True
    )
    chosen = []
    for (height, width), first in zip(distinct.tolist(), firsts, strict=True):
        chosen.append(fitting_bucket(height, width, format, short_side))
        if chosen[-1] is None:
            resized = resized_size(height, width, short_side, format.long_side)
            raise ValueError(
                f'buckets={format.buckets}: image {source.index["image_id"][first]} '
                f'of {height} x {width} pixels becomes {resized[0]} x {resized[1]} '
                f'(height x width; short_side={short_side}, long_side='
                f'{format.long_side}), which none holds'
            )
    return np.array(chosen, np.int64)[places.ravel()]


def check_format(
    source: CocoSource, format: DetectionFormat, augmentation: DetectionAugmentation
) -> None:
    """Refuses what cannot be read.

    Raises:
        ValueError: names the field, its value, and what is allowed.
    """
    for name in ('short_side', 'long_side', 'max_boxes'):
        if getattr(format, name) < 1:
            raise ValueError(f'{name}={getattr(format, name)}; allowed is 1 or more')
    if any(side < 1 for side in augmentation.short_sides):
        raise ValueError(
            f'short_sides={augmentation.short_sides}; allowed are numbers above 0'
        )
    if not format.buckets or any(
        len(bucket) != 2 or min(bucket) < 1 for bucket in format.buckets
    ):
        raise ValueError(
            f'buckets={format.buckets}; allowed are one or more (height, width)'
        )
    for name in ('mean', 'std'):
        if len(getattr(format, name)) != 3:
            raise ValueError(
                f'{name}={getattr(format, name)}; allowed are 3 numbers, of pixels in '
                '0..255'
            )
    if min(format.std) <= 0:
        raise ValueError(f'std={format.std}; allowed are numbers above 0')
    if format.too_many not in TOO_MANY:
        raise ValueError(
            f'too_many={format.too_many!r}; allowed are {", ".join(TOO_MANY)}'
        )
    _check_content(source, format)
    if format.keypoints and augmentation.flip:
        _ = source.mirrored_keypoints  # Raises where there is no one answer.


def _check_content(source: CocoSource, format: DetectionFormat) -> None:
    if format.masks and not source.has_masks:
        raise ValueError(
            f'masks=True: {source.annotations} has no segmentations; allowed is False'
        )
    without = [each.name for each in source.categories if not each.keypoints]
    if format.keypoints and without:
        raise ValueError(
            f'keypoints=True: the category {without[0]!r} of {source.annotations} has '
            'none; allowed is True with CocoSource(..., keypoints=True)'
        )
    largest = int(source.index['image_id'].max(initial=0))
    if largest >= 2**31:
        raise ValueError(
            f'{source.annotations}: image_id={largest}; allowed are numbers below 2^31'
        )
