"""From the bytes of an image file to its pixels."""

import io
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError

# Threads would fight with those that read: one image is one thread's work.
cv2.setNumThreads(0)

# An image of more pixels is a mistake or an attack; refused before it is unpacked.
# 268 MB as RGB, the size from which Pillow warns.
MAX_PIXELS = 89_478_485

_EXIF_ORIENTATION = 0x0112
# What undoes each orientation of the EXIF standard; 1 is upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# Markers of JPEG segments: of the frame, for images of Huffman's code, of the scan.
_FRAMES, _PROGRESSIVE, _SCAN, _APP1 = (0xC0, 0xC1, 0xC2), 0xC2, 0xDA, 0xE1
# Rows below those that are needed: colours are smoothed between rows of blocks.
_MARGIN = 16


class DecodeError(ValueError):
    """An image file that cannot be read; the message names it."""


def decode(
    data: bytes,
    name: str,
    *,
    channels: int = 3,
    exif_rotation: bool = True,
    rows: Callable[[int, int], int] | None = None,
) -> np.ndarray:
    """Returns the pixels of an image file.

    Grey and colour JPEGs go through simplejpeg, whose pixels are the same as Pillow's
    at two thirds of the time; everything else, and what it refuses, through Pillow.

    Args:
        data: a JPEG, PNG, WebP or BMP file; grey, CMYK, with a palette, of 16 bits
            (scaled to 8) or with alpha (put on white).
        name: of the file, for the error.
        channels: 3 for red, green, blue; 1 for grey.
        exif_rotation: turn the image as its EXIF tag says, as people see it. The
            published ImageNet numbers were measured without.
        rows: given height and width, says how many rows from the top are needed.
            Where it is called, at most once, there may be fewer rows than the image
            has, which saves their time.

    Returns:
        uint8 `[height, width, channels]`.

    Raises:
        DecodeError: an empty, truncated or oversized file, or none of an image.

    Example:
        >>> import io
        >>> file = io.BytesIO()
        >>> Image.new('L', (3, 2)).save(file, 'png')
        >>> decode(file.getvalue(), 'grey.png').shape
        (2, 3, 3)
    """
    if not data:
        raise DecodeError(f'{name}: an empty file')
    frame = _frame(data)
    if frame and not (exif_rotation and frame.described):
        pixels = _decode_jpeg(data, channels, frame, rows)
        if pixels is not None:
            return pixels
    try:
        with Image.open(io.BytesIO(data)) as image:
            _check_size(image)
            turn = _UPRIGHT.get(_orientation(image)) if exif_rotation else None
            pixels = _decode_jpeg(data, channels, frame) if frame else None
            if pixels is None:
                pixels = _decode_any(image, data, channels)
    except MemoryError:
        raise  # The machine's trouble, not the file's.
    except UnidentifiedImageError:
        raise DecodeError(f'{name}: not an image file that can be read') from None
    except Exception as error:  # Broken files raise whatever their decoder does.
        raise DecodeError(f'{name}: {error or type(error).__name__}') from None
    if turn is not None:
        pixels = np.asarray(to_pillow(pixels).transpose(turn))
    return pixels.reshape(*pixels.shape[:2], channels)


def to_pillow(pixels: np.ndarray) -> Image.Image:
    """Returns pixels `[height, width, 1 or 3]` as Pillow's image.

    Example:
        >>> to_pillow(np.zeros((2, 3, 1), np.uint8)).size
        (3, 2)
    """
    return Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels)


def _check_size(image: Image.Image) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise DecodeError(
            f'{width} x {height} px are more than the {MAX_PIXELS} that are allowed'
        )


def _orientation(image: Image.Image) -> int:
    try:
        return image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # Cameras write broken tags beside perfect pixels.
        return 1


class _Frame(NamedTuple):
    """What the header of a JPEG file says.

    Attributes:
        start: of its description, in bytes.
        sequential: stored from top to bottom, not from coarse to fine.
        described: by EXIF or XMP, which may hold an orientation.
        height: in pixels.
        width: in pixels.
        components: number of colours; 1 is grey.
    """

    start: int
    sequential: bool
    described: bool
    height: int
    width: int
    components: int


def _frame(data: bytes) -> _Frame | None:
    """Reads the header of a JPEG file, in a tenth of Pillow's time; None for others."""
    # A file that is cut in its last block may pass for a whole one.
    if not (data.startswith(b'\xff\xd8') and data.endswith(b'\xff\xd9')):
        return None
    start, described, frame = 2, False, None
    # Segments: their marker, their length and what they hold.
    while start + 10 <= len(data) and data[start] == 0xFF:
        marker = data[start + 1]
        if marker == _APP1:
            described = True
        elif marker in _FRAMES:
            height = data[start + 5] << 8 | data[start + 6]
            width = data[start + 7] << 8 | data[start + 8]
            sequential = marker != _PROGRESSIVE
            frame = _Frame(start, sequential, False, height, width, data[start + 9])
        elif marker == _SCAN:
            return frame and frame._replace(described=described)
        start += 2 + (data[start + 2] << 8 | data[start + 3])
    return None


def _decode_jpeg(
    data: bytes,
    channels: int,
    frame: _Frame,
    rows: Callable[[int, int], int] | None = None,
) -> np.ndarray | None:
    """Returns the pixels of a plain and sound JPEG file; None leaves it to Pillow."""
    if frame.components not in (1, 3):
        return None
    if not 0 < frame.height * frame.width <= MAX_PIXELS:
        return None
    height = frame.height
    if rows is not None and frame.sequential:
        height = rows(height, frame.width) + _MARGIN
    cut = height < frame.height
    if cut:
        # The decoder stops where the header says that the image ends.
        data = bytearray(data)
        data[frame.start + 5 : frame.start + 7] = height.to_bytes(2, 'big')
    colors = 'RGB' if channels == 3 else 'GRAY'
    try:
        # Strict, it would complain of what follows.
        return simplejpeg.decode_jpeg(data, colors, strict=not cut)
    except ValueError:
        return None


def _decode_any(image: Image.Image, data: bytes, channels: int) -> np.ndarray:
    if image.format == 'PNG' and _png_bits(data) == 16:
        image = _eight_bits(data)
    if image.mode in ('RGBA', 'LA', 'PA') or 'transparency' in image.info:
        image = image.convert('RGBA')
        white = Image.new('RGBA', image.size, 'white')
        image = Image.alpha_composite(white, image)
    pixels = np.asarray(image.convert('RGB' if channels == 3 else 'L'))
    return pixels.reshape(*pixels.shape[:2], channels)


def _png_bits(data: bytes) -> int:
    # Signature, length and name of the header, width, height: then the bits.
    return data[24]


def _eight_bits(data: bytes) -> Image.Image:
    """Scales 0..65535 to 0..255; Pillow clips grey and cuts colours off."""
    flags = cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if pixels is None:
        raise DecodeError('a PNG file that cannot be decoded')
    pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if pixels.ndim == 3:
        blue_first = {3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGBA}
        pixels = cv2.cvtColor(pixels, blue_first[pixels.shape[-1]])
    return Image.fromarray(pixels)
