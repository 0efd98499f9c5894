"""From an index to a finished example: read, decode, cut out, put up with the broken.

Each is a plain function of the index, and of the generator that comes with it: the
pipeline calls them in any order, thread or process.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from slimjax.data.decode import DecodeError, decode
from slimjax.data.resize import Augmentation, center_crop, crop_box, random_crop
from slimjax.data.sources import Source

# A set whose pixels are less than so many bytes is decoded once and kept.
_CACHE_BYTES = 256 * 2**20
# Broken images in a row before a set is given up.
_TRIES = 100


class BadImagesError(ValueError):
    """More images than allowed could not be read; the message names some."""


class Format(NamedTuple):
    """What images come out as.

    Attributes:
        image_size: side in pixels.
        channels: 3 or 1.
        exif_rotation: see `decode`.

    Example:
        >>> Format(32).channels
        3
    """

    image_size: int
    channels: int = 3
    exif_rotation: bool = True


class Decoder:
    """Reads and decodes examples by index.

    Args:
        source: the examples.
        format: of the images.
        keep: whether the pixels of a small set stay in memory.
        cut: made of the pixels before they are kept, and the same each time.
    """

    def __init__(
        self,
        source: Source,
        format: Format,
        *,
        keep: bool = False,
        cut: Callable[[np.ndarray], np.ndarray] | None = None,
    ):
        self._source, self._format, self._keep = source, format, keep
        self._cut = cut
        self._kept, self._kept_bytes = {}, 0

    def __call__(
        self, index: int, rows: Callable[[int, int], int] | None = None
    ) -> tuple[np.ndarray, int]:
        """Returns the pixels, uint8 `[height, width, channels]`, and the label.

        Args:
            index: of the example.
            rows: see `decode`.

        Raises:
            DecodeError: a file that cannot be read or decoded.
            ValueError: pixels of another number of channels, or a label that is no
                class: arithmetic on it would quietly learn something else.
        """
        if index in self._kept:
            return self._kept[index]
        try:
            example = self._source[index]
        except OSError as error:
            raise DecodeError(str(error)) from error
        classes = len(self._source.class_names)
        if not 0 <= example.label < classes:
            raise ValueError(
                f'{example.name} has label {example.label}; the {classes} classes are '
                f'0 to {classes - 1}'
            )
        pixels = example.image
        if isinstance(pixels, bytes):
            pixels = decode(
                pixels,
                example.name,
                channels=self._format.channels,
                exif_rotation=self._format.exif_rotation,
                rows=None if self._keep else rows,
            )
            if self._cut:
                pixels = self._cut(pixels)
            self._remember(index, pixels, example.label)
        elif pixels.shape[-1] != self._format.channels:
            raise ValueError(
                f'{example.name} has {pixels.shape[-1]} channels; '
                f'image_channels={self._format.channels} is set'
            )
        return pixels, example.label

    def _remember(self, index: int, pixels: np.ndarray, label: int) -> None:
        # Part of a large set would be kept to no use: the first image tells.
        if not self._kept and pixels.nbytes * len(self._source) > _CACHE_BYTES:
            self._keep = False
        if self._keep and self._kept_bytes + pixels.nbytes <= _CACHE_BYTES:
            self._kept[index] = pixels, label
            self._kept_bytes += pixels.nbytes


class TrainExample:
    """Turns an index and a generator into an augmented example.

    A broken image is replaced by the next readable one of the source: by its place
    alone, so that every run replaces it by the same.

    Args:
        decoder: reads the images.
        count: how many there are.
        size: side of the result.
        augmentation: how it is cut out.
    """

    def __init__(
        self, decoder: Decoder, count: int, size: int, augmentation: Augmentation
    ):
        self._decode, self._count = decoder, count
        self._size, self._augmentation = size, augmentation

    def __call__(self, first: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Returns `image`, `label`, and in `bad` the index of a broken image, or -1.

        Raises:
            BadImagesError: there is nothing to replace a broken image by.
        """
        bad, how, box = -1, self._augmentation, None

        def rows(height: int, width: int) -> int:
            nonlocal box
            box = crop_box((height, width), how, rng)
            top, _, height, _ = box
            return top + height

        state, why = rng.bit_generator.state, None
        for index in range(first, first + min(_TRIES, self._count)):
            try:
                pixels, label = self._decode(
                    index % self._count, rows if how.crop_scale else None
                )
            except DecodeError as error:
                # What takes its place gets the same draws.
                why = error
                bad, box, rng.bit_generator.state = first, None, state
                continue
            image = random_crop(pixels, self._size, how, rng, box)
            return {'image': image, 'label': np.int32(label), 'bad': np.int64(bad)}
        raise BadImagesError(
            f'none of {min(_TRIES, self._count)} images from place {first} of the '
            f'source on can be read: {why}'
        )


class EvalExample:
    """Turns an index into an example, or into a blank behind the last one.

    Args:
        decoder: reads the images.
        count: how many there are.
        format: of the result.
        resize: shorter side before the centre crop, in pixels.
    """

    def __init__(self, decoder: Decoder, count: int, format: Format, resize: int):
        self._decode, self._count, self._resize = decoder, count, resize
        self._size, self._channels = format.image_size, format.channels

    def __call__(self, index: int) -> dict[str, np.ndarray]:
        """Returns `image`, `label`, `mask`, and in `bad` its index if it is broken."""
        bad, mask, label = -1, 0.0, 0
        image = np.zeros((self._size, self._size, self._channels), np.uint8)
        if index < self._count:
            try:
                pixels, label = self._decode(index)
            except DecodeError:
                bad = index
            else:
                image, mask = center_crop(pixels, self._size, self._resize), 1.0
        return {
            'image': image,
            'label': np.int32(label),
            'mask': np.float32(mask),
            'bad': np.int64(bad),
        }
