"""What is cut out of an image follows the published distributions, or positions."""

import math

import numpy as np
import pytest

from slimjax.data.base import Example
from slimjax.data.pipeline import Augmentation, Format, eval_batches, train_batches
from slimjax.data.resize import crop_box
from tests.recipes import RECIPES, load
from tests.statistics import SIGMAS, assert_mean, distance, distance_bound

SCALES = {'mobile': (0.25, 1.0), 'basic': (0.08, 1.0)}
RATIO = (3 / 4, 4 / 3)


@pytest.mark.parametrize('name', RECIPES)
def test_a_recipe_states_the_published_data(name):
    config, row = load(name), RECIPES[name]
    assert (config.crop_scale, config.crop_ratio) == (SCALES[row.crop], RATIO)
    assert (config.pad, config.flip) == (0, True)
    assert (config.jitter, config.lighting) == (0.4, 'published')
    assert config.mean == (0.485, 0.456, 0.406)
    assert config.std == (0.229, 0.224, 0.225)
    assert (config.image_size, config.eval_resize) == (224, 256)
    assert (config.image_channels, config.num_classes) == (3, 1000)
    assert not config.exif_rotation


def published_boxes(shape, scale, count, rng):
    """torchvision's RandomResizedCrop, and the share of its tries that fit."""
    height, width = shape
    area = height * width * rng.uniform(*scale, (10, count))
    ratio = np.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3), (10, count)))
    widths, heights = np.rint(np.sqrt(area * ratio)), np.rint(np.sqrt(area / ratio))
    fits = (widths <= width) & (heights <= height)
    first = fits.argmax(0), np.arange(count)
    h, w = heights[first], widths[first]
    top = np.floor(rng.random(count) * (height - h + 1))
    left = np.floor(rng.random(count) * (width - w + 1))
    whole_h, whole_w = height, width
    if width / height < RATIO[0]:
        whole_h = round(width / RATIO[0])
    elif width / height > RATIO[1]:
        whole_w = round(height * RATIO[1])
    middle = ((height - whole_h) // 2, (width - whole_w) // 2, whole_h, whole_w)
    boxes = np.stack([top, left, h, w], 1)
    return np.where(fits.any(0)[:, None], boxes, middle), fits.mean()


def crop_boxes(shape, scale, count):
    rng, how = np.random.default_rng(0), Augmentation(scale, RATIO)
    return np.array([crop_box(shape, how, rng) for _ in range(count)], float)


def properties(boxes):
    top, left, height, width = boxes.T
    return {
        'area': height * width,
        'ratio': width / height,
        'top': top,
        'left': left,
        'bottom': top + height,
        'right': left + width,
    }


def assert_same_distribution(boxes, expected):
    for name, values in properties(boxes).items():
        found = distance(values, properties(expected)[name])
        assert found < distance_bound(len(boxes), len(expected)), name


@pytest.mark.parametrize('scale', SCALES.values(), ids=SCALES)
@pytest.mark.parametrize('shape', [(375, 500), (500, 333), (100, 400)])
def test_crops_are_drawn_as_torchvision_draws_them(shape, scale):
    expected, _ = published_boxes(shape, scale, 50_000, np.random.default_rng(1))
    assert_same_distribution(crop_boxes(shape, scale, 5000), expected)


@pytest.mark.parametrize('least', [0.08, 0.25])
def test_area_log_ratio_and_place_are_uniform_where_every_box_fits(least):
    # Up to 3/4 of a square, no box of a ratio of 3/4 to 4/3 is too long for it.
    side, most, limit = 10_000, 0.75, math.log(4 / 3)
    boxes = crop_boxes((side, side), (least, most), 10_000)
    top, left, height, width = boxes.T
    area, ratio = height * width / side**2, np.log(width / height)
    assert_mean(area, (least + most) / 2, (most - least) / math.sqrt(12))
    assert_mean(ratio, 0, 2 * limit / math.sqrt(12))
    for values, low, high in (
        (area, least, most),
        (ratio, -limit, limit),
        (top / (side - height), 0, 1),
        (left / (side - width), 0, 1),
    ):
        found = distance(values, lambda x, low=low, high=high: (x - low) / (high - low))
        assert found < distance_bound(len(boxes))


def test_after_ten_boxes_that_do_not_fit_the_middle_is_taken():
    boxes = crop_boxes((100, 400), SCALES['basic'], 10_000)
    _, fits = published_boxes(
        (100, 400), SCALES['basic'], 50_000, np.random.default_rng(1)
    )
    middle = np.all(boxes == (0, (400 - 133) // 2, 100, 133), axis=1)
    share = (1 - fits) ** 10
    # Nine or eleven tries would take it in 2 of 100 cases more or less often.
    assert SIGMAS * math.sqrt(share * (1 - share) / 10_000) < 0.015
    assert_mean(middle, share, math.sqrt(share * (1 - share)))


class Coordinates:
    """One image a place, whose red is x and whose green is y."""

    class_names = ('a',)

    def __init__(self, height, width, count=1):
        y, x = np.mgrid[:height, :width]
        self._image = np.stack([x, y, 0 * x], -1)
        self._count = count

    def __len__(self):
        return self._count

    def __getitem__(self, index):
        return Example(self._image.astype(np.uint8), 0, f'image {index}')


def boxes_of(images):
    """The boxes that were cut out of an image of `Coordinates`, and who is mirrored."""
    size = images.shape[1]
    # Colours go on linearly but at the edges, where the filters end.
    inner = np.arange(3, size - 3)
    inside = images[:, 3:-3, 3:-3].astype(float)
    across, x = np.polyfit(inner, inside[..., 0].mean(1).T, 1)
    down, y = np.polyfit(inner, inside[..., 1].mean(2).T, 1)
    mirrored = across < 0
    x, across = np.where(mirrored, x + across * (size - 1), x), np.abs(across)
    # Pixel k of `size` shows the image at first + (k + 1/2) * side / size - 1/2.
    top, left = y + 0.5 - down / 2, x + 0.5 - across / 2
    boxes = np.stack([top, left, down * size, across * size], 1)
    return np.rint(boxes), mirrored


@pytest.mark.parametrize('name', ['s_shufflenet', 's_resnet50'])
def test_batches_hold_crops_of_the_published_kind_and_half_are_mirrored(name):
    config = load(name)
    batches = train_batches(
        Coordinates(256, 256, count=500),
        Format(32),
        batch_size=50,
        seed=config.seed,
        augmentation=Augmentation(
            config.crop_scale, config.crop_ratio, config.pad, config.flip
        ),
    )
    images = np.concatenate([next(batches)['image'] for _ in range(40)])
    batches.close()
    boxes, mirrored = boxes_of(images)
    scale = SCALES[RECIPES[name].crop]
    expected, _ = published_boxes((256, 256), scale, 50_000, np.random.default_rng(1))
    assert_same_distribution(boxes, expected)
    assert_mean(mirrored, 0.5, 0.5)
    for values in properties(boxes).values():
        correlation = np.corrcoef(values, mirrored)[0, 1]
        assert abs(correlation) < SIGMAS / math.sqrt(len(boxes))


@pytest.mark.parametrize(
    ('shape', 'top', 'left'),
    [((256, 400), 16, 88), ((256, 401), 16, 88), ((403, 256), 90, 16)],
)
def test_evaluation_takes_the_middle_224_of_a_shorter_side_of_256(shape, top, left):
    source, config = Coordinates(*shape), load('s_resnet50')
    format = Format(config.image_size)
    batches = eval_batches(source, format, batch_size=1, resize=config.eval_resize)
    found = next(batches)['image'][0]
    batches.close()
    expected = source[0].image[top : top + 224, left : left + 224]
    np.testing.assert_array_equal(found, expected)


def test_evaluation_resizes_the_shorter_side_to_256_first():
    y, x = np.mgrid[:512, :800]
    image = np.stack([x * 255 / 799, y * 255 / 511, 0 * x], -1).round().astype(np.uint8)

    class Ramp(Coordinates):
        def __getitem__(self, index):
            return Example(image, 0, 'ramp')

    batches = eval_batches(Ramp(1, 1), Format(224), batch_size=1, resize=256)
    found = next(batches)['image'][0].astype(float)
    batches.close()
    # To 256 x 400, of which rows from 16 and columns from 88 on are kept.
    place = 2 * (np.arange(224) + 0.5) - 0.5
    assert np.abs(found[..., 0] - (place + 2 * 88)[None] * 255 / 799).max() < 1.01
    assert np.abs(found[..., 1] - (place + 2 * 16)[:, None] * 255 / 511).max() < 1.01
