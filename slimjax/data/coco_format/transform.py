"""From an image file and its objects to arrays of one size."""

import cv2
import numpy as np

from slimjax.data.coco_format.formats import (
    DetectionFormat,
    fitting_bucket,
    resized_size,
)
from slimjax.data.coco_format.masks import CROP, unpack
from slimjax.data.coco_format.source import DetectionExample
from slimjax.data.decode import decode
from slimjax.data.resize import resize_smoothly


def prepare_example(
    example: DetectionExample,
    format: DetectionFormat,
    bucket: tuple[int, int],
    short_side: int,
    mirror: tuple[int, ...] | None,
) -> dict[str, np.ndarray]:
    """Returns the arrays of an example; see `slimjax.data.coco_format.batches`.

    Args:
        example: the image file and its objects.
        format: see there.
        bucket: height and width of the result; it holds the resized image.
        short_side: of the resized image.
        mirror: which keypoint each becomes, to mirror the example; None leaves it.

    Raises:
        DecodeError: the image cannot be decoded.
    """
    pixels = decode(example.image, example.name, exif_rotation=False)
    found = _image(pixels, format, bucket, short_side, mirror is not None)
    original, size = (
        tuple(found[name].tolist()) for name in ('original_size', 'image_size')
    )
    kept = _kept(example, format)
    scale = np.array(size[::-1], np.float32) / np.array(original[::-1], np.float32)
    found |= {
        'image_id': np.int32(example.image_id),
        'boxes': _boxes(example.boxes[kept], scale, size, mirror is not None),
        'labels': example.labels[kept].astype(np.int32),
        'crowd': example.crowd[kept],
        'valid': np.ones(len(kept), np.bool_),
    }
    if format.masks:
        crops = unpack(example.masks[kept])
        found['masks'] = crops if mirror is None else crops[:, :, ::-1]
    if format.keypoints:
        points = example.keypoints[kept]
        found['keypoints'] = _keypoints(points, scale, size, format, mirror)
    for name in ('boxes', 'labels', 'crowd', 'valid', 'masks', 'keypoints'):
        if name in found:
            found[name] = _filled_up(found[name], format.max_boxes)
    return found


def prepare_image(pixels: np.ndarray, format: DetectionFormat) -> dict[str, np.ndarray]:
    """Returns the arrays of an image that nothing is known of, to detect what is on it.

    Args:
        pixels: uint8 `[height, width, 3]`.
        format: see there.

    Returns:
        `image`, `image_size`, `original_size`, `image_id` (0) and `mask`, as of an
        example.

    Raises:
        ValueError: no bucket holds the image.

    Example:
        >>> format = DetectionFormat(((32, 64), (64, 32)), short_side=32, long_side=64)
        >>> found = prepare_image(np.zeros((20, 10, 3), np.uint8), format)
        >>> found['image'].shape, found['image_size'].tolist()
        ((64, 32, 3), [64, 32])
    """
    bucket = fitting_bucket(*pixels.shape[:2], format)
    if bucket is None:
        raise ValueError(
            f'buckets={format.buckets}: none holds an image of {pixels.shape[0]} x '
            f'{pixels.shape[1]} pixels (height x width; short_side='
            f'{format.short_side}, long_side={format.long_side})'
        )
    found = _image(pixels, format, format.buckets[bucket], format.short_side, False)
    return found | {'image_id': np.int32(0)}


def _image(pixels, format, bucket, short_side, mirrored) -> dict[str, np.ndarray]:
    original = pixels.shape[:2]
    size = resized_size(*original, short_side, format.long_side)
    if size != original:
        pixels = resize_smoothly(pixels, size)
    if mirrored:
        pixels = cv2.flip(pixels, 1)
    return {
        'image': normalized(pixels, format, bucket),
        'image_size': np.array(size, np.int32),
        'original_size': np.array(original, np.int32),
        'mask': np.float32(1),
    }


def blank_example(
    format: DetectionFormat, bucket: tuple[int, int], num_keypoints: int
) -> dict[str, np.ndarray]:
    """Returns an example that counts for nothing, and fills up a batch.

    Example:
        >>> float(blank_example(DetectionFormat(), (8, 8), 0)['mask'])
        0.0
    """
    rows = format.max_boxes
    found = {
        'image': np.zeros((*bucket, 3), np.float32),
        'image_size': np.array(bucket, np.int32),
        'original_size': np.array(bucket, np.int32),
        'image_id': np.int32(0),
        'mask': np.float32(0),
        'boxes': np.zeros((rows, 4), np.float32),
        'labels': np.zeros(rows, np.int32),
        'crowd': np.zeros(rows, np.bool_),
        'valid': np.zeros(rows, np.bool_),
    }
    if format.masks:
        found['masks'] = np.zeros((rows, CROP, CROP), np.uint8)
    if format.keypoints:
        found['keypoints'] = np.zeros((rows, num_keypoints, 3), np.float32)
    return found


def normalized(
    pixels: np.ndarray, format: DetectionFormat, bucket: tuple[int, int]
) -> np.ndarray:
    """Returns an image as the network takes it, with zeros below and to the right.

    Args:
        pixels: uint8 `[height, width, 3]`, not larger than the bucket.
        format: says mean, std and the order of the colours.
        bucket: height and width of the result.

    Returns:
        float32 `[*bucket, 3]`.

    Example:
        >>> image = np.full((1, 1, 3), 255, np.uint8)
        >>> format = DetectionFormat(mean=(5, 0, 0), std=(2, 1, 1))
        >>> normalized(image, format, (2, 2))[:, :, 0].tolist()
        [[125.0, 0.0], [0.0, 0.0]]
    """
    # A table of the 256 values costs less than arithmetic along an axis of three.
    mean, std = np.array([format.mean, format.std], np.float32)
    table = (np.arange(256, dtype=np.float32)[:, None] - mean) / std
    values = cv2.LUT(pixels, table[None])
    height, width, _ = pixels.shape
    image = np.zeros((*bucket, 3), np.float32)
    image[:height, :width] = values[..., ::-1] if format.bgr else values
    return image


def _kept(example: DetectionExample, format: DetectionFormat) -> np.ndarray:
    """Places of the objects that stay, in their order."""
    sides = example.boxes[:, 2:] - example.boxes[:, :2]
    places = np.flatnonzero((sides >= format.min_box_side).all(1))
    if len(places) > format.max_boxes:
        # The largest, crowds last.
        rank = np.lexsort((-sides[places].prod(1), example.crowd[places]))
        places = np.sort(places[rank[: format.max_boxes]])
    return places


def _boxes(boxes, scale, size, mirrored) -> np.ndarray:
    limits = np.array(size[::-1], np.float32)
    boxes = boxes * np.tile(scale, 2)
    boxes = np.clip(boxes, 0, np.tile(limits, 2))
    if mirrored:
        left, right = boxes[:, 0].copy(), boxes[:, 2].copy()
        boxes[:, 0], boxes[:, 2] = limits[0] - right, limits[0] - left
    return boxes.astype(np.float32)


def _keypoints(points, scale, size, format, mirror) -> np.ndarray:
    points = points.copy()
    points[..., :2] = (points[..., :2] + np.float32(format.keypoint_offset)) * scale
    if mirror is not None:
        points = points[:, list(mirror)]
        points[..., 0] = size[1] - points[..., 0]
    inside = (points[..., :2] >= 0) & (points[..., :2] <= np.array(size[::-1]))
    known = inside.all(-1) & (points[..., 2] > 0)
    return np.where(known[..., None], points, 0).astype(np.float32)


def _filled_up(rows: np.ndarray, count: int) -> np.ndarray:
    result = np.zeros((count, *rows.shape[1:]), rows.dtype)
    result[: len(rows)] = rows
    return result
