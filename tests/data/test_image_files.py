"""Every kind of image file that people have, and every way in which it can break."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from slimjax.data import decode as module
from slimjax.data.decode import DecodeError, decode
from tests.data.files import encoded, jpeg, picture, png_header


def by_pillow(data, mode='RGB'):
    return np.asarray(Image.open(io.BytesIO(data)).convert(mode))


@pytest.mark.parametrize(
    'options',
    [
        {},
        {'progressive': True},
        {'subsampling': '4:4:4'},
        {'keep_rgb': True},
        {'restart_marker_rows': 1},
    ],
)
def test_a_jpeg_decodes_to_the_pixels_of_pillow(options):
    data = jpeg(**options)
    np.testing.assert_array_equal(decode(data, 'x'), by_pillow(data))


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize(
    'options',
    [
        {'subsampling': '4:4:4'},
        {'subsampling': '4:2:2'},
        {'subsampling': '4:2:0'},
        {'restart_marker_rows': 1},
        {'restart_marker_blocks': 3},
        {'progressive': True},
        {'exif': b'Exif\0\0'},
    ],
)
def test_the_upper_rows_are_those_of_the_whole(options, channels):
    data = jpeg(0, 203, 131, **options)
    whole = decode(data, 'x', channels=channels)
    for count in (1, 8, 17, 100, 186, 187, 203):
        pixels = decode(data, 'x', channels=channels, rows=lambda *_: count)  # noqa: B023
        assert len(pixels) >= count
        np.testing.assert_array_equal(pixels[:count], whole[:count])


def test_the_rest_of_a_jpeg_is_not_decoded():
    seen = []

    def rows(*shape):
        seen.append(shape)
        return 10

    assert len(decode(jpeg(0, 400, 60), 'x', rows=rows)) < 50
    assert seen == [(400, 60)]


def test_a_grey_jpeg_has_upper_rows_too():
    data = encoded(picture(203, 131)[..., 0], 'JPEG')
    whole = decode(data, 'x')
    pixels = decode(data, 'x', rows=lambda *_: 50)
    assert 50 <= len(pixels) < 100
    np.testing.assert_array_equal(pixels[:50], whole[:50])


def test_a_cmyk_jpeg_looks_as_it_should():
    # Pillow writes CMYK as Adobe does, inverted, and marks it so.
    data = encoded(Image.fromarray(picture()).convert('CMYK'), 'JPEG', quality=95)
    assert Image.open(io.BytesIO(data)).mode == 'CMYK'
    assert np.abs(decode(data, 'x').astype(int) - picture()).mean() < 4


@pytest.mark.parametrize('mode', ['RGBA', 'LA', 'P'])
def test_what_is_transparent_is_white(mode):
    if mode == 'P':
        image = Image.new('P', (4, 2), 1)
        image.putpalette([50, 50, 50, 200, 0, 0])
        image.putpixel((0, 0), 0)
        data = encoded(image, transparency=1)
    else:
        image = Image.new('RGBA', (4, 2), (200, 0, 0, 0))
        image.putpixel((0, 0), (50, 50, 50, 255))
        data = encoded(image.convert(mode))
    pixels = decode(data, 'x')
    np.testing.assert_array_equal(pixels[0, 0], [50, 50, 50])
    np.testing.assert_array_equal(pixels[1, 3], [255, 255, 255])


def test_a_half_transparent_pixel_is_mixed_with_white():
    data = encoded(Image.new('RGBA', (1, 1), (0, 0, 0, 128)))
    assert decode(data, 'x')[0, 0, 0] == 127


@pytest.mark.parametrize('colours', [1, 3, 4])
def test_sixteen_bits_of_every_kind_are_scaled(colours):
    values = np.array([[0, 128, 129, 257, 32768, 65535]], np.uint16)
    expected = np.round(values / 257)
    stored = values
    if colours > 1:
        # Blue, green and red, in OpenCV's order; alpha is opaque.
        stored = np.stack([values // 3, values // 2, values], -1)
    if colours == 4:
        alpha = np.full((*values.shape, 1), 65535, np.uint16)
        stored = np.concatenate([stored, alpha], -1)
    pixels = decode(cv2.imencode('.png', stored)[1].tobytes(), 'x')
    np.testing.assert_array_equal(pixels[..., 0], expected)
    if colours > 1:
        np.testing.assert_array_equal(pixels[..., 2], np.round(values // 3 / 257))


@pytest.mark.parametrize('format', ['WEBP', 'BMP', 'PNG'])
def test_other_formats_decode_to_their_pixels(format):
    data = encoded(picture(), format)
    np.testing.assert_array_equal(decode(data, 'x'), by_pillow(data))


@pytest.mark.parametrize('orientation', range(1, 9))
@pytest.mark.parametrize('kind', ['JPEG', 'grey', 'PNG'])
def test_exif_rotation_shows_what_people_see(orientation, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(picture())
    image = image.convert('L') if kind == 'grey' else image
    data = encoded(image, 'PNG' if kind == 'PNG' else 'JPEG', exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert('RGB')
    np.testing.assert_array_equal(decode(data, 'x'), np.asarray(upright))
    np.testing.assert_array_equal(
        decode(data, 'x', exif_rotation=False), by_pillow(data)
    )


def test_the_orientation_may_stand_in_xmp():
    xmp = b'<x xmlns:tiff="t" tiff:Orientation="6"/>'
    assert decode(jpeg(xmp=xmp), 'x').shape == (60, 40, 3)


@pytest.mark.filterwarnings('ignore:Corrupt EXIF data')
def test_a_broken_exif_tag_does_not_break_the_image():
    data = jpeg(exif=b'Exif\0\0MM\0*\xff\xff\xff\xff')
    assert decode(data, 'x').shape == (40, 60, 3)


@pytest.mark.parametrize('format', ['JPEG', 'PNG'])
def test_one_channel_is_the_brightness(format):
    data = encoded(picture(), format)
    pixels = decode(data, 'x', channels=1)
    assert pixels.shape == (40, 60, 1)
    difference = pixels[..., 0].astype(int) - by_pillow(data, 'L')
    assert np.abs(difference).max() <= 1


def no_height(data):
    start = data.index(b'\xff\xc0') + 5
    return data[:start] + b'\0\0' + data[start + 2 :]


@pytest.mark.parametrize(
    ('data', 'message'),
    [
        pytest.param(b'', 'an empty file', id='empty'),
        pytest.param(b'\xff\xd8\xff\xd9', '', id='no header'),
        pytest.param(no_height(jpeg()), '', id='no height'),
        pytest.param(b'no image at all', 'not an image file', id='text'),
        pytest.param(jpeg()[:-200], 'image file is truncated', id='cut jpeg'),
        pytest.param(jpeg()[:-2], 'image file is truncated', id='no end marker'),
        pytest.param(encoded(picture())[:-900], '', id='cut png'),
        pytest.param(
            encoded(np.zeros((9, 9), np.uint16))[:50], 'a PNG', id='cut 16-bit png'
        ),
        pytest.param(jpeg()[:20] + b'\0' * 500, '', id='zeros'),
    ],
)
def test_a_broken_file_is_an_error_that_names_it(data, message):
    with pytest.raises(DecodeError, match=rf'^cat\.jpg: {message}'):
        decode(data, 'cat.jpg')


def test_a_jpeg_with_bytes_behind_its_end_is_read():
    data = jpeg()
    np.testing.assert_array_equal(decode(data + b'\0camera', 'x'), by_pillow(data))


def test_a_jpeg_with_bytes_before_its_end_is_read_in_silence(capfd):
    data = jpeg()[:-2] + b'camera\xff\xd9'
    np.testing.assert_array_equal(decode(data, 'x'), by_pillow(data))
    assert capfd.readouterr() == ('', '')


def test_a_jpeg_that_is_cut_but_has_an_end_is_an_error():
    with pytest.raises(DecodeError, match='^cat'):
        decode(jpeg()[:100] + b'\xff\xd9', 'cat.jpg')


def test_a_huge_jpeg_is_refused_by_its_header(monkeypatch):
    monkeypatch.setattr(module, 'MAX_PIXELS', 2000)
    with pytest.raises(DecodeError, match=r'60 x 40 px are more than the 2000'):
        decode(jpeg(), 'x')


def test_a_bomb_of_a_few_bytes_is_refused_by_its_header(monkeypatch):
    bomb = png_header(200_000, 200_000)
    assert len(bomb) < 100
    with pytest.raises(DecodeError, match=r'^bomb\.png: .*exceeds limit'):
        decode(bomb, 'bomb.png')
    # A program that takes Pillow's limit away keeps ours.
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', None)
    with pytest.raises(DecodeError, match=r'200000 x 200000 px are more than'):
        decode(bomb, 'bomb.png')


def test_lack_of_memory_is_not_taken_for_a_broken_image(monkeypatch):
    def decode_jpeg(*_):
        raise MemoryError

    monkeypatch.setattr(module, '_decode_jpeg', decode_jpeg)
    with pytest.raises(MemoryError):
        decode(jpeg(), 'x')
