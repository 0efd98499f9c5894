"""The one file that knows grain: from a source to batches of images.

Order and augmentation are functions of the seed and of an example's place in the
stream of all processes: they are the same for any number of processes, reader
processes and threads, and from any step on. So a run stores no reader, only its step.
"""

import hashlib
import json
import logging
import math
import os
import threading
import time
from collections.abc import Iterator
from typing import NamedTuple

import grain.python as grain
import numpy as np
from absl import flags

from slimjax.data.decode import DecodeError, center_crop, decode, resize_smoothly
from slimjax.data.sources import Source

log = logging.getLogger(__name__)

# Decoded images of a small set stay in memory, up to so many bytes a process.
_CACHE_BYTES = 256 * 2**20
# Broken images in a row before a set is given up.
_TRIES = 100


class BadImagesError(ValueError):
    """More images than allowed could not be read; the message names some."""


class Augmentation(NamedTuple):
    """How training images are cut out.

    Attributes:
        crop_scale: smallest and largest area of a random-resized crop; () for none.
        crop_ratio: smallest and largest aspect ratio of it.
        pad: pixels of black around the image before a random crop.
        flip: whether half of the images are mirrored.
    """

    crop_scale: tuple[float, ...] = (0.08, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    pad: int = 0
    flip: bool = True


class Format(NamedTuple):
    """What images come out as.

    Attributes:
        image_size: side in pixels.
        channels: 3 or 1.
        exif_rotation: see `decode`.
    """

    image_size: int
    channels: int = 3
    exif_rotation: bool = True


class Reading(NamedTuple):
    """Who reads what, and how.

    Attributes:
        process_index: number of this process.
        process_count: processes that share each batch.
        num_workers: reader processes; 0 reads in threads of this one.
        num_threads: threads of each reader; 0 for one a core, up to 8.
    """

    process_index: int = 0
    process_count: int = 1
    num_workers: int = 0
    num_threads: int = 0


_DEFAULT_AUGMENTATION, _ALONE = Augmentation(), Reading()


def train_batches(
    source: Source,
    format: Format,
    *,
    batch_size: int,
    seed: int = 0,
    start_step: int = 0,
    augmentation: Augmentation = _DEFAULT_AUGMENTATION,
    reading: Reading = _ALONE,
    bad_image_limit: int = 0,
) -> 'Batches':
    """Returns this process's part of an endless stream of shuffled batches.

    A broken image is replaced by the one behind it in the source, named in the log and
    counted.

    Args:
        source: the examples.
        format: of the images.
        batch_size: examples in a batch of all processes together.
        seed: decides order and augmentation.
        start_step: number of batches to pass over, at no cost.
        augmentation: how images are cut out.
        reading: who reads what.
        bad_image_limit: so many different broken images are put up with.

    Returns:
        An iterator over `{'image': uint8 [examples, size, size, channels], 'label':
        int32 [examples]}`, to be closed.

    Raises:
        BadImagesError: while iterating, too many broken images.

    Example:
        >>> from slimjax.data.sources import load_source
        >>> source = load_source('synthetic', 'train')
        >>> batches = train_batches(source, Format(32), batch_size=4)
        >>> next(batches)['image'].shape
        (4, 32, 32, 3)
        >>> batches.close()
    """
    local = _share(batch_size, reading)
    examples = (
        _shuffled(len(source), seed)
        .repeat()
        .random_map(_TrainExample(source, format, augmentation))
    )
    first = start_step * reading.process_count + reading.process_index
    batches = examples.batch(local, drop_remainder=True)
    return Batches(
        batches[first :: reading.process_count], source, reading, bad_image_limit
    )


def eval_batches(
    source: Source,
    format: Format,
    *,
    batch_size: int,
    resize: int,
    reading: Reading = _ALONE,
    bad_image_limit: int = 0,
) -> 'Batches':
    """Returns this process's part of all examples, each once, in order.

    Args:
        source: the examples.
        format: of the images.
        batch_size: examples in a batch of all processes together; the last is filled
            up with blanks.
        resize: shorter side before the centre crop, in pixels.
        reading: who reads what.
        bad_image_limit: so many broken images are put up with; they are named in the
            log and masked out.

    Returns:
        An iterator over batches as of `train_batches`, with `mask`: float32
        `[examples]`, 1 for an example and 0 for a blank.

    Example:
        >>> from slimjax.data.sources import load_source
        >>> source = load_source('synthetic', 'test')
        >>> batches = eval_batches(source, Format(32), batch_size=500, resize=32)
        >>> [int(batch['mask'].sum()) for batch in batches]
        [500, 12]
    """
    local = _share(batch_size, reading)
    count = math.ceil(len(source) / batch_size) * batch_size
    examples = grain.MapDataset.range(count).map(_EvalExample(source, format, resize))
    batches = examples.batch(local)
    return Batches(
        batches[reading.process_index :: reading.process_count],
        source,
        reading,
        bad_image_limit,
    )


def fingerprint(source: Source, seed: int) -> str:
    """Returns a hash that tells whether a run would go on with the same data.

    It changes with the number of examples, the classes, and the order that this
    version of grain gives them.

    Example:
        >>> from slimjax.data.sources import load_source
        >>> len(fingerprint(load_source('synthetic', 'train'), seed=0))
        32
    """
    order = _shuffled(len(source), seed)
    facts = {
        'classes': source.class_names,
        'order': [int(order[i]) for i in range(min(256, len(source)))],
        'examples': len(source),
    }
    return hashlib.md5(json.dumps(facts).encode()).hexdigest()


class Batches(Iterator):
    """Reads ahead, and watches over broken images."""

    def __init__(self, dataset, source: Source, reading: Reading, bad_image_limit: int):
        threads = reading.num_threads or min(os.cpu_count() or 1, 8)
        options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads)
        dataset = dataset.to_iter_dataset(options)
        if reading.num_workers:
            # grain's reader processes want absl's flags, which notebooks don't parse.
            if not flags.FLAGS.is_parsed():
                flags.FLAGS.mark_as_parsed()
            dataset = dataset.mp_prefetch(
                grain.MultiprocessingOptions(
                    num_workers=reading.num_workers, per_worker_buffer_size=2
                ),
                worker_init_fn=_end_with_parent,
            )
        self._iterator = iter(dataset)
        self._source, self._limit = source, bad_image_limit
        self.bad_images: dict[int, str] = {}

    def __next__(self) -> dict[str, np.ndarray]:
        batch = dict(next(self._iterator))
        for index in batch.pop('bad').tolist():
            if index >= 0 and index not in self.bad_images:
                self._note(index)
        return batch

    def _note(self, index: int) -> None:
        self.bad_images[index] = self._source[index].name
        log.warning(
            'unreadable image %d of at most %d: %s',
            len(self.bad_images),
            self._limit,
            self.bad_images[index],
        )
        if len(self.bad_images) > self._limit:
            names = ', '.join(list(self.bad_images.values())[:5])
            raise BadImagesError(
                f'{len(self.bad_images)} images cannot be read, more than '
                f'bad_image_limit={self._limit}: {names}'
            )

    def close(self) -> None:
        """Ends the readers."""
        self._iterator.close()


class _Decoder:
    """Reads and decodes examples by index; keeps those of a small set."""

    def __init__(self, source: Source, format: Format):
        self._source, self._format = source, format
        self._cache, self._cached_bytes = {}, 0

    def __getstate__(self):
        return {**self.__dict__, '_cache': {}, '_cached_bytes': 0}

    def __call__(self, index: int) -> tuple[np.ndarray, int]:
        if index in self._cache:
            return self._cache[index]
        example = self._source[index]
        pixels = example.image
        if isinstance(pixels, bytes):
            pixels = decode(
                pixels,
                example.name,
                channels=self._format.channels,
                exif_rotation=self._format.exif_rotation,
            )
        elif pixels.shape[-1] != self._format.channels:
            raise ValueError(
                f'{example.name} has {pixels.shape[-1]} channels; '
                f'image_channels={self._format.channels} is set'
            )
        if self._cached_bytes + pixels.nbytes < _CACHE_BYTES:
            self._cache[index] = pixels, example.label
            self._cached_bytes += pixels.nbytes
        return pixels, example.label


class _TrainExample(grain.RandomMapTransform):
    """Turns an index into an augmented example."""

    def __init__(self, source: Source, format: Format, augmentation: Augmentation):
        self._decode = _Decoder(source, format)
        self._count = len(source)
        self._size, self._augmentation = format.image_size, augmentation

    def random_map(self, index: int, rng: np.random.Generator):
        first, bad = int(index), -1
        for index in range(first, first + min(_TRIES, self._count)):
            try:
                pixels, label = self._decode(index % self._count)
            except DecodeError:
                bad = first
                continue
            image = self._cut(pixels, rng)
            return {
                'image': image,
                'label': np.int32(label),
                'bad': np.int64(bad),
            }
        raise BadImagesError(
            f'no image from place {first} of the source on is readable'
        )

    def _cut(self, pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        size, how = self._size, self._augmentation
        if how.crop_scale:
            top, left, height, width = _crop_box(pixels.shape[:2], how, rng)
            pixels = pixels[top : top + height, left : left + width]
            pixels = resize_smoothly(np.ascontiguousarray(pixels), size)
        else:
            pixels = center_crop(pixels, size, size)
            if how.pad:
                pad = (how.pad, how.pad)
                pixels = np.pad(pixels, (pad, pad, (0, 0)))
                top, left = rng.integers(0, 2 * how.pad + 1, 2)
                pixels = pixels[top : top + size, left : left + size]
        if how.flip and rng.random() < 0.5:
            pixels = pixels[:, ::-1]
        return np.ascontiguousarray(pixels)


def _crop_box(shape, how: Augmentation, rng: np.random.Generator):
    """Draws a box as torchvision's RandomResizedCrop: (top, left, height, width)."""
    height, width = shape
    low, high = (math.log(ratio) for ratio in how.crop_ratio)
    for _ in range(10):
        area = height * width * rng.uniform(*how.crop_scale)
        ratio = math.exp(rng.uniform(low, high))
        box_width, box_height = (
            round(math.sqrt(area * ratio)),
            round(math.sqrt(area / ratio)),
        )
        if 0 < box_width <= width and 0 < box_height <= height:
            top = rng.integers(0, height - box_height + 1)
            left = rng.integers(0, width - box_width + 1)
            return top, left, box_height, box_width
    # An image too long for any box: as much of its middle as the ratio allows.
    ratio = min(max(width / height, how.crop_ratio[0]), how.crop_ratio[1])
    box_width = min(width, round(height * ratio))
    box_height = min(height, round(width / ratio))
    return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width


class _EvalExample(grain.MapTransform):
    """Turns an index into an example, or a blank behind the last one."""

    def __init__(self, source: Source, format: Format, resize: int):
        self._decode = _Decoder(source, format)
        self._count, self._resize = len(source), resize
        self._size, self._channels = format.image_size, format.channels

    def map(self, index: int):
        bad, mask, label = -1, 0.0, 0
        image = np.zeros((self._size, self._size, self._channels), np.uint8)
        if index < self._count:
            try:
                pixels, label = self._decode(int(index))
            except DecodeError:
                bad = int(index)
            else:
                image = np.ascontiguousarray(
                    center_crop(pixels, self._size, self._resize)
                )
                mask = 1.0
        return {
            'image': image,
            'label': np.int32(label),
            'mask': np.float32(mask),
            'bad': np.int64(bad),
        }


def _shuffled(count: int, seed: int):
    return grain.MapDataset.range(count).seed(seed).shuffle()


def _share(batch_size: int, reading: Reading) -> int:
    if batch_size % reading.process_count:
        raise ValueError(
            f'batch_size={batch_size} does not divide over {reading.process_count} '
            'processes'
        )
    return batch_size // reading.process_count


def _end_with_parent(*_) -> None:
    """Ends a reader process whose parent was killed; it would live for ever."""
    parent = os.getppid()

    def watch():
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
