"""Image files that claim to be huge, and such that are nearly right."""

import random
import struct

import numpy as np
from PIL import Image

from tests.data.files import encoded, jpeg, picture, png_header


def bmp_header(width: int, height: int) -> bytes:
    size = struct.pack('<IiiHHIIiiII', 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    return b'BM' + struct.pack('<IHHI', 54, 0, 0, 54) + size


def huge_jpeg(side: int) -> bytes:
    data = bytearray(jpeg())
    start = data.index(b'\xff\xc0') + 5
    data[start : start + 4] = struct.pack('>HH', side, side)
    return bytes(data)


def huge_webp(side: int) -> bytes:
    data = bytearray(encoded(picture(8, 8), 'WEBP', lossless=True))
    start = data.index(b'VP8L') + 9
    bits = int.from_bytes(data[start : start + 4], 'little') >> 28 << 28
    bits |= (side - 1) << 14 | (side - 1)
    data[start : start + 4] = bits.to_bytes(4, 'little')
    return bytes(data)


BOMBS = {
    'PNG of 60,000 x 60,000 px': png_header(60_000, 60_000),
    'BMP of 60,000 x 60,000 px': bmp_header(60_000, 60_000),
    'JPEG of 65,000 x 65,000 px': huge_jpeg(65_000),
    'WebP of 16,383 x 16,383 px': huge_webp(16_383),
}


def mutated(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.randint(1, 8)):
        place = rng.randrange(len(changed))
        kind = rng.randrange(4)
        if kind == 0:
            changed[place] ^= 1 << rng.randrange(8)
        elif kind == 1:
            changed[place : place + 4] = rng.randbytes(4)
        elif kind == 2:
            del changed[place : place + rng.randint(1, 64)]
        else:
            changed[place:place] = rng.randbytes(rng.randint(1, 16))
        if not changed:
            break
    return bytes(changed)


def one_of_every_kind() -> dict[str, bytes]:
    image = Image.fromarray(picture(24, 20))
    return {
        'JPEG': encoded(image, 'JPEG'),
        'progressive JPEG': encoded(image, 'JPEG', progressive=True),
        'CMYK JPEG': encoded(image.convert('CMYK'), 'JPEG'),
        'PNG': encoded(image),
        'palette PNG': encoded(image.convert('P')),
        '16-bit PNG': encoded(np.arange(400, dtype=np.uint16).reshape(20, 20)),
        'WebP': encoded(image, 'WEBP'),
        'BMP': encoded(image, 'BMP'),
    }
