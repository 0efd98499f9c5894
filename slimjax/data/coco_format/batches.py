"""Batches of a COCO source for training and evaluation, through the stream of all."""

import hashlib
import json
import logging

import numpy as np

from slimjax.data.coco_format.formats import (
    DetectionAugmentation,
    DetectionFormat,
    check_format,
    choose_buckets,
)
from slimjax.data.coco_format.order import BucketOrder
from slimjax.data.coco_format.source import CocoSource
from slimjax.data.coco_format.transform import blank_example, prepare_example
from slimjax.data.stream import (
    ALONE,
    Batches,
    Reading,
    dealt,
    each_once,
    in_order,
)

log = logging.getLogger(__name__)

_DEFAULT_AUGMENTATION = DetectionAugmentation()
_NO_AUGMENTATION = DetectionAugmentation(flip=False)


def detection_train_batches(
    source: CocoSource,
    format: DetectionFormat,
    *,
    batch_size: int,
    seed: int = 0,
    start_step: int = 0,
    augmentation: DetectionAugmentation = _DEFAULT_AUGMENTATION,
    reading: Reading = ALONE,
) -> Batches:
    """Returns this process's part of an endless stream of shuffled batches.

    All images of a batch are of one bucket, in all processes. Order and draws are
    functions of the seed and the step.

    Args:
        source: the images, usually those that `trainable` leaves.
        format: what a batch holds.
        batch_size: images in a batch of all processes together.
        seed: decides order and augmentation.
        start_step: number of batches to pass over, at no cost.
        augmentation: what is drawn.
        reading: who reads what.

    Returns:
        An iterator over dicts, to be closed. With B images of H x W pixels, N
        = `format.max_boxes` rows and K keypoints:

        - `image`: float32 `[B, H, W, 3]`, resized, normalised, zeros below and right.
        - `image_size`: int32 `[B, 2]`, height and width before padding.
        - `original_size`: int32 `[B, 2]`, height and width of the file.
        - `image_id`: int32 `[B]`.
        - `mask`: float32 `[B]`, 1 for an image and 0 for what fills up a batch.
        - `boxes`: float32 `[B, N, 4]`, x1, y1, x2, y2 in pixels of `image`; zeros
          behind the last object.
        - `labels`: int32 `[B, N]`, from 1; 0 behind the last object.
        - `crowd`: bool `[B, N]`; `valid`: bool `[B, N]`, whether there is an object,
          crowds included.
        - `masks`: uint8 `[B, N, 112, 112]`, the part of each mask in its box, if
          `format.masks`.
        - `keypoints`: float32 `[B, N, K, 3]`, x and y in pixels of `image` and
          visibility 0, 1 or 2, if `format.keypoints`; 0 where one is outside.

    Raises:
        ValueError: what cannot be read, before anything is; while iterating, an image
            that cannot be decoded (DecodeError).
    """
    check_format(source, format, augmentation)
    _check_counts(source, format)
    buckets = choose_buckets(source, format, augmentation.short_sides)
    make = _TrainExample(source, format, augmentation, buckets)
    order = BucketOrder(buckets, batch_size, seed)
    examples = in_order(order, seed).random_map(make)
    return Batches(dealt(examples, batch_size, reading, start_step), reading)


def detection_eval_batches(
    source: CocoSource,
    format: DetectionFormat,
    *,
    batch_size: int,
    reading: Reading = ALONE,
) -> Batches:
    """Returns this process's part of all images, each once, bucket after bucket.

    Args:
        source: the images.
        format: what a batch holds.
        batch_size: images in a batch of all processes together; the last of each
            bucket is filled up with blanks, whose `mask` is 0.
        reading: who reads what.

    Returns:
        As `detection_train_batches`; it ends. Of more objects than there are rows the
        largest are there: what was found is compared with the annotations, not these.

    Raises:
        ValueError: likewise.
    """
    check_format(source, format, _NO_AUGMENTATION)
    buckets = choose_buckets(source, format)
    places = []
    for bucket in np.unique(buckets).tolist():
        indices = np.flatnonzero(buckets == bucket).tolist()
        blanks = -len(indices) % batch_size
        places += [(index, bucket) for index in [*indices, *[-1] * blanks]]
    make = _EvalExample(source, format, places)
    examples = each_once(len(places), make)
    return Batches(dealt(examples, batch_size, reading), reading)


def detection_fingerprint(source: CocoSource, seed: int) -> str:
    """Returns a hash that tells whether a run would go on with the same data.

    It changes with the images, the categories and the order of the first epoch.

    Args:
        source: the training images.
        seed: of the run.

    Returns:
        32 hexadecimal digits.
    """
    order = BucketOrder(np.zeros(len(source), np.int64), 1, seed)
    facts = {
        'images': source.index['image_id'].tolist(),
        'boxes': source.index['boxes'].tolist(),
        'categories': [each._asdict() for each in source.categories],
        'order': [order(place) for place in range(min(256, len(source)))],
    }
    digest = hashlib.md5(json.dumps(facts).encode())
    for index in facts['order'][:16]:
        example = source[index]
        digest.update(example.image + example.boxes.tobytes())
        digest.update(example.labels.tobytes())
    return digest.hexdigest()


def _check_counts(source: CocoSource, format: DetectionFormat) -> None:
    counts = source.index['boxes'] + source.index['crowds']
    over = np.flatnonzero(counts > format.max_boxes)
    if not len(over):
        return
    most = over[counts[over].argmax()]
    found = (
        f'max_boxes={format.max_boxes}: {len(over)} of {len(source)} images have more '
        f'objects, image {source.index["image_id"][most]} {counts[most]} of them'
    )
    if format.too_many == 'error':
        raise ValueError(
            f"{found}; raise it, or set too_many='truncate' to keep the largest"
        )
    log.warning('%s; the largest are kept', found)


class _TrainExample:
    """Turns an index and a generator into an augmented example."""

    def __init__(self, source, format, augmentation, buckets):
        self._source, self._format, self._buckets = source, format, buckets
        self._short_sides = augmentation.short_sides or (format.short_side,)
        points = augmentation.flip and format.keypoints
        mirror = source.mirrored_keypoints if points else ()
        self._mirror = mirror if augmentation.flip else None

    def __call__(self, index: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        side = self._short_sides[rng.integers(len(self._short_sides))]
        mirrored = self._mirror is not None and rng.random() < 0.5
        return prepare_example(
            self._source[index],
            self._format,
            self._format.buckets[self._buckets[index]],
            side,
            self._mirror if mirrored else None,
        )


class _EvalExample:
    """Turns a place among all batches into an example, or into a blank."""

    def __init__(self, source, format, places):
        self._source, self._format, self._places = source, format, places

    def __call__(self, place: int) -> dict[str, np.ndarray]:
        index, bucket = self._places[place]
        shape = self._format.buckets[bucket]
        if index < 0:
            return blank_example(self._format, shape, self._source.num_keypoints)
        return prepare_example(
            self._source[index], self._format, shape, self._format.short_side, None
        )
