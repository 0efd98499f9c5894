"""What a source is: examples by place, in any order, and their classes."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np


class Example(NamedTuple):
    """An image, encoded or as uint8 pixels, with its class and a name for messages.

    Example:
        >>> Example(b'', 3, 'cat.jpg').label
        3
    """

    image: bytes | np.ndarray
    label: int
    name: str


class Source(Protocol):
    """Examples by place, and the classes that they belong to.

    It is pickled to reader processes, and read by several threads at once. An example
    that cannot be read raises `OSError`.
    """

    class_names: tuple[str, ...]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...


class Subset:
    """Some examples of a source.

    Args:
        source: all examples.
        indices: the places of those that are kept, in their new order.

    Example:
        >>> len(Subset(SyntheticSource('test', 10, 3), [5, 7]))
        2
    """

    def __init__(self, source: Source, indices: Sequence[int]):
        self._source, self._indices = source, np.asarray(indices, np.int64)
        self.class_names = source.class_names

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Example:
        return self._source[int(self._indices[index])]


class SyntheticSource:
    """Noise, the same at each reading and on each machine; for throughput.

    Args:
        split: decides the number of examples, and the noise.
        classes: number of classes, which follow each other.
        channels: 3 or 1.
        side: of the images, in pixels.

    Example:
        >>> SyntheticSource('train', 10, 1)[12].label
        2
    """

    def __init__(self, split: str, classes: int, channels: int, side: int = 256):
        self.class_names = tuple(str(label) for label in range(classes))
        self._length = {'train': 10_000, 'validation': 512, 'test': 512}[split]
        # A few images again and again: pixels that cost nothing to make.
        self._images = np.random.default_rng(len(split)).integers(
            0, 256, (16, side, side, channels), np.uint8
        )

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Example:
        image = self._images[index % len(self._images)]
        return Example(image, index % len(self.class_names), f'synthetic {index}')
