"""Image files for the tests: made on the spot, of every kind that people have."""

import io
import pathlib
import struct
import zlib

import numpy as np
from PIL import Image

from slimjax.data.base import Example


def picture(height: int = 40, width: int = 60, seed: int = 0) -> np.ndarray:
    """A smooth picture, as photographs are: uint8 `[height, width, 3]`."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
    large = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(large)


def encoded(image: np.ndarray | Image.Image, format: str = 'PNG', **options) -> bytes:
    """The file that Pillow makes of an image."""
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def jpeg(seed: int = 0, height: int = 40, width: int = 60, **options) -> bytes:
    """A JPEG file of a picture."""
    return encoded(picture(height, width, seed), 'JPEG', quality=95, **options)


def png_header(width: int, height: int) -> bytes:
    """A PNG file that claims a size and has no pixels."""

    def chunk(kind, data):
        checksum = struct.pack('>I', zlib.crc32(kind + data))
        return struct.pack('>I', len(data)) + kind + data + checksum

    header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    data = chunk(b'IDAT', zlib.compress(b'\0'))
    return b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) + data + chunk(b'IEND', b'')


def class_folders(
    root: pathlib.Path, counts: dict[str, int], seed: int = 0
) -> pathlib.Path:
    """Makes `root/<class>/<number>.jpg`."""
    for name, count in counts.items():
        folder = root / name
        folder.mkdir(parents=True)
        for index in range(count):
            (folder / f'{index}.jpg').write_bytes(jpeg(seed := seed + 1, 20, 24))
    return root


class Files:
    """A source of image files that are given."""

    class_names = ('a', 'b', 'c')

    def __init__(self, files: list[bytes]):
        self._files = files

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Example:
        return Example(self._files[index], index % 3, f'file {index}')
