"""The one file that knows grain: a stream of examples, dealt out in batches.

Order and augmentation are functions of the seed and of an example's place in the
stream of all processes: they are the same for any number of processes, reader
processes and threads, and from any step on. So a run stores no reader, only its step.
"""

import logging
import os
import weakref
from collections.abc import Callable, Iterator
from typing import NamedTuple

import grain.python as grain
import numpy as np
from absl import flags

from slimjax.data.decode import DecodeError
from slimjax.data.examples import BadImagesError
from slimjax.data.orphans import end_with_parent

log = logging.getLogger(__name__)

# Places of a stream that does not end: so many examples are never read.
_ENDLESS = 2**48
_NONE = np.array([], np.int64)


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


ALONE = Reading()


def shuffled(count: int, seed: int) -> grain.MapDataset:
    """Returns the places of one epoch in the order of a seed; `repeat()` goes on.

    Example:
        >>> sorted(shuffled(3, seed=0))
        [0, 1, 2]
    """
    return grain.MapDataset.range(count).seed(seed).shuffle()


def in_order(order: Callable[[int], int], seed: int) -> grain.MapDataset:
    """Returns an endless stream whose order is a function of the place.

    Args:
        order: from a place in the stream to the index of an example.
        seed: of what `random_map` draws at each place.

    Example:
        >>> in_order(lambda place: place % 3, seed=0)[7]
        1
    """
    return grain.MapDataset.range(_ENDLESS).seed(seed).map(order)


def each_once(count: int, make: Callable[[int], dict]) -> grain.MapDataset:
    """Returns what `make` makes of 0 to `count` - 1, in this order.

    Example:
        >>> list(each_once(2, lambda index: {'index': index}))
        [{'index': 0}, {'index': 1}]
    """
    return grain.MapDataset.range(count).map(make)


def dealt(
    examples: grain.MapDataset, batch_size: int, reading: Reading, start_step: int = 0
) -> grain.MapDataset:
    """Returns this process's part of the batches of a stream.

    Whole batches are dealt to the processes, after the draws of augmentation were
    bound to the places of the examples: so neither depends on the processes.

    Args:
        examples: of all processes.
        batch_size: examples in a batch of all processes together.
        reading: who reads what.
        start_step: number of batches to pass over, at no cost.

    Raises:
        ValueError: the batch does not divide over the processes.

    Example:
        >>> examples = each_once(8, lambda index: {'index': index})
        >>> [b['index'].tolist() for b in dealt(examples, 4, Reading(1, 2))]
        [[2, 3], [6, 7]]
    """
    if batch_size % reading.process_count:
        raise ValueError(
            f'batch_size={batch_size} does not divide over {reading.process_count} '
            'processes'
        )
    batches = examples.batch(batch_size // reading.process_count, drop_remainder=True)
    first = start_step * reading.process_count + reading.process_index
    return batches[first :: reading.process_count]


class Batches(Iterator):
    """Reads ahead, and watches over broken images.

    Args:
        dataset: the batches of this process.
        reading: who reads, and how.
        explain: reads the image of an index whose `bad` is in a batch, and raises
            what is wrong with it; None where batches have no `bad`.
        bad_image_limit: so many different broken images are put up with.

    Attributes:
        bad_images: what is wrong with each broken image that was met in this process's
            part, by its index in the source.
    """

    def __init__(
        self,
        dataset: grain.MapDataset,
        reading: Reading,
        explain: Callable[[int], object] | None = None,
        bad_image_limit: int = 0,
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
        for index in batch.pop('bad', _NONE).tolist():
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
