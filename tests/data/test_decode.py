"""Images of every kind are decoded rightly, or refused with their name."""

import io

import numpy as np
import pytest
from PIL import Image

from slimjax.data import decode as module
from slimjax.data.decode import DecodeError, decode
from slimjax.data.resize import center_crop, resize_smoothly


def photo(size=(40, 30), mode='RGB'):
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    pixels = np.stack([3 * x, 4 * y, 2 * (x + y)], axis=-1).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode)


def encoded(image, format='JPEG', **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize('mode', ['RGB', 'L', 'CMYK'])
def test_jpegs_of_all_colour_spaces_are_as_pillow_has_them(mode):
    data = encoded(photo(mode=mode), quality=95)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert('RGB'))
    assert np.abs(decode(data, 'x').astype(int) - expected).max() <= 1


@pytest.mark.parametrize('mode', ['RGB', 'L', 'P', 'RGBA', 'LA', '1'])
def test_pngs_of_all_modes(mode):
    image = photo().convert(mode)
    found = decode(encoded(image, 'PNG'), 'x')
    assert found.shape == (30, 40, 3)
    np.testing.assert_array_equal(found, np.asarray(image.convert('RGB')))


def test_sixteen_bits_are_scaled_not_clipped():
    levels = np.array([[0, 257, 32896, 65535]], np.uint16)
    data = encoded(Image.fromarray(levels), 'PNG')
    assert decode(data, 'x', channels=1).ravel().tolist() == [0, 1, 128, 255]


def test_transparency_is_composed_on_white():
    image = Image.new('RGBA', (2, 2), (10, 20, 30, 0))
    assert decode(encoded(image, 'PNG'), 'x').min() == 255


def test_exif_rotation_is_followed_or_not():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(photo(), exif=exif.tobytes())
    assert decode(data, 'x').shape == (40, 30, 3)
    assert decode(data, 'x', exif_rotation=False).shape == (30, 40, 3)


@pytest.mark.parametrize('format', ['JPEG', 'PNG'])
@pytest.mark.parametrize('broken', ['empty', 'cut', 'no image', 'head only'])
def test_broken_files_are_refused_by_name(format, broken):
    data = encoded(photo((200, 200)), format)
    data = {
        'empty': b'',
        'cut': data[: len(data) // 2],
        'no image': b'this is no image',
        'head only': data[:20],
    }[broken]
    with pytest.raises(DecodeError, match=r'^cat\.jpg: .'):
        decode(data, 'cat.jpg')


def test_a_decode_bomb_is_refused_before_it_is_unpacked(monkeypatch):
    monkeypatch.setattr(module, 'MAX_PIXELS', 100)
    with pytest.raises(
        DecodeError, match=r'bomb.png: 40 x 30 px are more than the 100'
    ):
        decode(encoded(photo(), 'PNG'), 'bomb.png')


@pytest.mark.parametrize('size', [(40, 30), (30, 47), (20, 20), (9, 61)])
def test_center_crop_is_resize_and_center_crop_of_torchvision(size):
    image = photo(size)
    width, height = size
    if width < height:
        resized = image.resize((20, int(20 * height / width)), Image.BILINEAR)
    else:
        resized = image.resize((int(20 * width / height), 20), Image.BILINEAR)
    top, left = (round((side - 16) / 2.0) for side in (resized.height, resized.width))
    expected = resized.crop((left, top, left + 16, top + 16))
    found = center_crop(np.asarray(image), 16, 20)
    np.testing.assert_array_equal(found, np.asarray(expected))


def test_a_grey_or_small_image_is_cropped_too():
    assert center_crop(np.ones((8, 8, 1), np.uint8), 12, 8).sum() == 64


def test_the_smooth_resize_has_no_aliasing():
    y, x = np.mgrid[:448, :448] - 224
    plate = (127.5 * (1 + np.cos(np.pi * (x**2 + y**2) / 448))).astype(np.uint8)
    image = np.repeat(plate[..., None], 3, axis=-1)
    edge = resize_smoothly(image, 112)[:20, :20]
    reference = np.asarray(Image.fromarray(image).resize((112, 112), Image.BILINEAR))
    assert edge.std() < 4
    assert np.abs(resize_smoothly(image, 112).astype(int) - reference).mean() < 2.5
