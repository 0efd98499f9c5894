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
import weakref
from collections.abc import Callable, Iterator
from typing import NamedTuple

import grain.python as grain
import numpy as np
from absl import flags

from slimjax.data.decode import DecodeError
from slimjax.data.examples import (
    BadImagesError,
    Decoder,
    EvalExample,
    Format,
    TrainExample,
)
from slimjax.data.orphans import end_with_parent
from slimjax.data.resize import Augmentation
from slimjax.data.sources import Source

__all__ = [
    'Augmentation',
    'BadImagesError',
    'Batches',
    'Format',
    'Reading',
    'eval_batches',
    'fingerprint',
    'train_batches',
]

log = logging.getLogger(__name__)


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
    decoder = Decoder(source, format, keep=not reading.num_workers)
    make = TrainExample(decoder, len(source), format.image_size, augmentation)
    examples = _shuffled(len(source), seed).repeat().random_map(make)
    batches = examples.batch(local, drop_remainder=True)
    # Whole batches are dealt to the processes, after the draws of augmentation were
    # bound to the places of the examples: so neither depends on the processes.
    first = start_step * reading.process_count + reading.process_index
    return Batches(
        batches[first :: reading.process_count], decoder, reading, bad_image_limit
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
    decoder = Decoder(source, format)
    make = EvalExample(decoder, len(source), format, resize)
    count = math.ceil(len(source) / batch_size) * batch_size
    batches = grain.MapDataset.range(count).map(make).batch(local)
    return Batches(
        batches[reading.process_index :: reading.process_count],
        decoder,
        reading,
        bad_image_limit,
    )


def fingerprint(source: Source, seed: int) -> str:
    """Returns a hash that tells whether a run would go on with the same data.

    It changes with the number of examples, the classes, the order that this version of
    grain gives them, and the content of the first few.

    Args:
        source: the training examples.
        seed: of the run.

    Returns:
        32 hexadecimal digits, the same on every machine.

    Example:
        >>> from slimjax.data.sources import load_source
        >>> len(fingerprint(load_source('synthetic', 'train'), seed=0))
        32
    """
    order = _shuffled(len(source), seed)
    first = [int(order[i]) for i in range(min(256, len(source)))]
    facts = {'examples': len(source), 'classes': source.class_names, 'order': first}
    digest = hashlib.md5(json.dumps(facts).encode())
    for index in first[:16]:
        try:
            example = source[index]
        except OSError:
            continue  # A broken example is dealt with when it is read in earnest.
        pixels = example.image
        digest.update(pixels if isinstance(pixels, bytes) else pixels.tobytes())
        digest.update(str(example.label).encode())
    return digest.hexdigest()


class Batches(Iterator):
    """Reads ahead, and watches over broken images.

    Attributes:
        bad_images: what is wrong with each broken image that was met in this process's
            part, by its index in the source.
    """

    def __init__(
        self,
        dataset: grain.MapDataset,
        explain: Callable[[int], object],
        reading: Reading,
        bad_image_limit: int,
    ):
        # As many batches are prepared ahead as there are threads: they share the work
        # by whole batches.
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
                worker_init_fn=end_with_parent,
            )
        self._iterators = [iter(dataset)]
        # At the latest as the interpreter ends, while grain is still whole: it would
        # otherwise print errors of its own end.
        self._close = weakref.finalize(self, _close, self._iterators)
        self._explain, self._limit = explain, bad_image_limit
        self.bad_images: dict[int, str] = {}

    def __next__(self) -> dict[str, np.ndarray]:
        if not self._iterators:
            raise StopIteration
        batch = dict(next(self._iterators[0]))
        # Reader processes cannot count together: the batch says what was broken.
        for index in batch.pop('bad').tolist():
            if index >= 0 and index not in self.bad_images:
                self._note(index)
        return batch

    def _note(self, index: int) -> None:
        try:
            self._explain(index)
            reason = f'example {index}: unreadable at first, readable now'
        except DecodeError as error:
            reason = str(error)
        self.bad_images[index] = reason
        count = len(self.bad_images)
        log.warning('unreadable image %d, %d allowed: %s', count, self._limit, reason)
        if count > self._limit:
            found = '\n'.join(list(self.bad_images.values())[:5])
            raise BadImagesError(
                f'{count} images cannot be read, bad_image_limit={self._limit} is '
                f'allowed: repair or remove them, or raise the limit:\n{found}'
            )

    def close(self) -> None:
        """Ends the readers; there are no batches after it."""
        self._close()


def _close(iterators: list[grain.DatasetIterator]) -> None:
    while iterators:
        iterators.pop().close()


def _shuffled(count: int, seed: int):
    return grain.MapDataset.range(count).seed(seed).shuffle()


def _share(batch_size: int, reading: Reading) -> int:
    if batch_size % reading.process_count:
        raise ValueError(
            f'batch_size={batch_size} does not divide over {reading.process_count} '
            'processes'
        )
    return batch_size // reading.process_count
