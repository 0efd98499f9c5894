import cv2
import numpy as np
import pytest
from PIL import Image

from slimjax.data.resize import (
    _NARROWEST,
    Augmentation,
    center_crop,
    crop_box,
    random_crop,
    resize_smoothly,
)
from tests.data.files import picture


def published(pixels, size, resize):
    """torchvision's Resize and CenterCrop, as its functions read, with Pillow."""
    image = Image.fromarray(pixels)
    width, height = image.size
    if width <= height:
        new = (resize, int(resize * height / width))
    else:
        new = (int(resize * width / height), resize)
    image = image.resize(new, Image.Resampling.BILINEAR)
    left = round((new[0] - size) / 2.0)
    top = round((new[1] - size) / 2.0)
    return np.asarray(image.crop((left, top, left + size, top + size)))


@pytest.mark.parametrize(
    ('height', 'width'), [(375, 500), (500, 333), (300, 300), (100, 97), (224, 500)]
)
def test_evaluation_is_bit_equal_to_the_published_one(height, width):
    pixels = picture(height, width)
    expected = published(pixels, 224, 256)
    np.testing.assert_array_equal(center_crop(pixels, 224, 256), expected)


def test_evaluation_of_grey_images_keeps_their_channel():
    grey = picture()[..., :1]
    cropped = center_crop(grey, 16, 20)
    assert cropped.shape == (16, 16, 1)
    expected = published(grey[..., 0], 16, 20)
    np.testing.assert_array_equal(cropped[..., 0], expected)


def test_an_image_smaller_than_the_crop_is_padded_with_black():
    cropped = center_crop(np.full((10, 10, 3), 9, np.uint8), 15, 10)
    assert cropped.shape == (15, 15, 3)
    np.testing.assert_array_equal(cropped[2:12, 2:12], 9)
    assert cropped.sum() == 9 * 300


@pytest.mark.parametrize('shape', [(1, 60_000), (60_000, 1)])
def test_a_strip_does_not_grow_beyond_bounds(shape):
    pixels = np.full((*shape, 3), 7, np.uint8)
    np.testing.assert_array_equal(center_crop(pixels, 224, 256), 7)


def zone_plate(size):
    y, x = np.mgrid[:size, :size] - size / 2
    wave = np.cos(np.pi * (x**2 + y**2) / size)
    return np.repeat((127.5 + 127.5 * wave).astype(np.uint8)[..., None], 3, -1)


def test_shrinking_does_not_alias():
    plate = zone_plate(896)
    small = resize_smoothly(plate, (224, 224)).astype(float)
    # Waves in the corner are too fine for the small image: it must be flat there.
    assert small[:30, :30].std() < 3
    # Below that limit, in the middle, the wave must stay.
    assert small[90:134, 90:134].std() > 60


@pytest.mark.parametrize('side', [(300, 400), (500, 250), (1000, 1000)])
def test_shrinking_is_near_to_pillows_filter(side):
    pixels = picture(*side)
    expected = Image.fromarray(pixels).resize((96, 96), Image.Resampling.BILINEAR)
    difference = resize_smoothly(pixels, (96, 96)).astype(float) - np.asarray(expected)
    assert np.sqrt(np.mean(difference**2)) < 2


@pytest.mark.parametrize('side', [24, 96])
def test_a_part_of_an_image_is_resized_as_if_it_stood_alone(side):
    pixels = picture(100, 120)
    part = pixels[20:80, 30:110]
    np.testing.assert_array_equal(
        resize_smoothly(part, (side, side)),
        resize_smoothly(part.copy(), (side, side)),
    )


def test_a_gaussian_that_is_left_out_would_have_done_nothing():
    pixels = np.random.default_rng(0).integers(0, 256, (50, 60, 3), np.uint8)
    for sigma in (0.05, 0.2, _NARROWEST):
        blurred = cv2.GaussianBlur(pixels, (3, 3), sigmaX=sigma, sigmaY=sigma)
        np.testing.assert_array_equal(blurred, pixels)


def test_crop_boxes_have_the_stated_area_and_ratio():
    how = Augmentation((0.25, 0.5), (0.8, 1.25))
    rng = np.random.default_rng(0)
    boxes = [crop_box((300, 400), how, rng) for _ in range(500)]
    areas = np.array([h * w / 120_000 for _, _, h, w in boxes])
    ratios = np.array([w / h for _, _, h, w in boxes])
    assert 0.24 < areas.min() < 0.27 < 0.48 < areas.max() < 0.51
    assert 0.79 < ratios.min() < 0.83 < 1.2 < ratios.max() < 1.26
    assert all(
        top >= 0 and left >= 0 and top + height <= 300 and left + width <= 400
        for top, left, height, width in boxes
    )


@pytest.mark.parametrize('shape', [(1, 1), (1, 500), (500, 1), (2, 3)])
def test_an_image_of_any_shape_is_cropped(shape):
    rng = np.random.default_rng(0)
    pixels = np.full((*shape, 3), 5, np.uint8)
    for _ in range(20):
        cropped = random_crop(pixels, 8, Augmentation(), rng)
        np.testing.assert_array_equal(cropped, np.full((8, 8, 3), 5))


@pytest.mark.parametrize('channels', [1, 3])
def test_half_of_the_images_are_mirrored(channels):
    pixels = picture(8, 8)[..., :channels]
    how, rng = Augmentation(crop_scale=()), np.random.default_rng(0)
    crops = [random_crop(pixels, 8, how, rng) for _ in range(400)]
    same = sum(np.array_equal(crop, pixels) for crop in crops)
    mirrored = sum(np.array_equal(crop, pixels[:, ::-1]) for crop in crops)
    assert same + mirrored == 400
    assert 150 < mirrored < 250


def test_padding_moves_the_image_to_every_place():
    pixels = np.full((4, 4, 1), 255, np.uint8)
    how = Augmentation(crop_scale=(), pad=1, flip=False)
    rng = np.random.default_rng(0)
    seen = {random_crop(pixels, 4, how, rng).tobytes() for _ in range(200)}
    assert len(seen) == 9
