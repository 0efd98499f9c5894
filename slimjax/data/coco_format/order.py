"""The order of training images, such that each batch is of one bucket."""

import bisect
from typing import NamedTuple

import numpy as np


class BucketOrder:
    """From a place in the endless stream to the image that stands there.

    Each epoch is a permutation of the images. They are dealt to their buckets in this
    order, and a batch is made when a bucket has enough; what is left waits for the
    next epoch. This is what Detectron2's grouping by aspect ratio does to a stream,
    here as a function of the place: a run starts at any step at the cost of one epoch's
    permutation.

    Args:
        buckets: int `[images]`, the bucket of each.
        batch_size: images in a batch.
        seed: decides.

    Example:
        >>> order = BucketOrder(np.array([0, 1, 0, 1]), 2, seed=0)
        >>> sorted(order(place) for place in range(4))
        [0, 1, 2, 3]
    """

    def __init__(self, buckets: np.ndarray, batch_size: int, seed: int):
        self._buckets = np.asarray(buckets)
        self._counts = {
            int(bucket): int(count)
            for bucket, count in zip(
                *np.unique(self._buckets, return_counts=True), strict=True
            )
        }
        self._batch_size, self._seed = batch_size, seed
        self._known_epochs = {}

    def __call__(self, place: int) -> int:
        """Returns the index of the image."""
        step, row = divmod(int(place), self._batch_size)
        epoch = self._epoch_of(step)
        bucket, batch = self._epoch(epoch).batches[step - self._batches_before(epoch)]
        epoch, position = divmod(batch * self._batch_size + row, self._counts[bucket])
        return int(self._epoch(epoch).images[bucket][position])

    def _epoch_of(self, step: int) -> int:
        # Of e epochs at least e * images / size - buckets batches are made.
        longest = step + len(self._counts) + 1
        bound = longest * self._batch_size // len(self._buckets) + 2
        return bisect.bisect_right(range(bound), step, key=self._batches_before) - 1

    def _batches_before(self, epoch: int) -> int:
        return sum(epoch * count // self._batch_size for count in self._counts.values())

    def _epoch(self, epoch: int) -> '_Epoch':
        found = self._known_epochs.get(epoch)
        if found is None:
            if len(self._known_epochs) > 8:
                self._known_epochs.clear()
            found = self._known_epochs[epoch] = self._new_epoch(epoch)
        return found

    def _new_epoch(self, epoch: int) -> '_Epoch':
        rng = np.random.default_rng([self._seed, epoch])
        permutation = rng.permutation(len(self._buckets))
        size, images, made = self._batch_size, {}, []
        for bucket, count in self._counts.items():
            places = np.flatnonzero(self._buckets[permutation] == bucket)
            images[bucket] = permutation[places]
            for batch in range(epoch * count // size, (epoch + 1) * count // size):
                # It is made when its last image comes.
                last = places[(batch + 1) * size - 1 - epoch * count]
                made.append((int(last), bucket, batch))
        return _Epoch(images, [(bucket, batch) for _, bucket, batch in sorted(made)])


class _Epoch(NamedTuple):
    """The images of each bucket in order; and bucket and number of each batch."""

    images: dict[int, np.ndarray]
    batches: list[tuple[int, int]]
