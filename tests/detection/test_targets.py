"""What masks and keypoints are learnt from, and how keypoints are read, by loops."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slimjax.detection.postprocess import decode_keypoints
from slimjax.detection.settings import settings
from slimjax.detection.targets import keypoint_targets, mask_targets

SIDE = 28
SHAPE = (120, 150)


def plain_target(mask, box, shift, legacy):
    """A bin is the mean of a whole mask, as many samples as the box is larger."""
    x1, y1, x2, y2 = np.float64(box)
    width, height = x2 - x1 + legacy, y2 - y1 + legacy
    # What has the index 0 lies at 0.5.
    x1, y1 = x1 + shift - 0.5, y1 + shift - 0.5
    down, along = (int(np.ceil(side / SIDE)) for side in (height, width))
    result = np.zeros((SIDE, SIDE))
    for row in range(SIDE):
        for column in range(SIDE):
            for i in range(down):
                for j in range(along):
                    y = y1 + (row + (i + 0.5) / down) * height / SIDE
                    x = x1 + (column + (j + 0.5) / along) * width / SIDE
                    result[row, column] += bilinear(mask, y, x) / (down * along)
    return result


def bilinear(mask, y, x):
    y, x = min(max(y, 0), mask.shape[0] - 1), min(max(x, 0), mask.shape[1] - 1)
    top, left = int(y), int(x)
    bottom = min(top + 1, mask.shape[0] - 1)
    right = min(left + 1, mask.shape[1] - 1)
    y, x = y - top, x - left
    upper = mask[top, left] * (1 - x) + mask[top, right] * x
    lower = mask[bottom, left] * (1 - x) + mask[bottom, right] * x
    return upper * (1 - y) + lower * y


# As torchvision reads masks, where they are, and in boxes that end at their last pixel.
@pytest.mark.parametrize(('shift', 'legacy'), [(0.5, False), (0.0, False), (0.0, True)])
def test_mask_targets_are_those_of_the_whole_mask(shift, legacy):
    rng = np.random.default_rng(0)
    mask = np.zeros(SHAPE, np.float32)
    truth = np.float32([20, 8, 132, 120])
    # It reaches the lower border of the image, where samples move to the last row.
    crop = (rng.uniform(size=(112, 112)) < 0.5).astype(np.float32)
    mask[8:120, 20:132] = crop
    boxes = np.float32(
        [
            [20, 8, 132, 120],
            [3.3, 5.5, 90.2, 70.1],
            [50, 60, 61, 75],
            [100, 90, 150, 120],
        ]
    )
    targets = jax.jit(
        functools.partial(
            mask_targets, size=SIDE, style='soft', shift=shift, legacy=legacy
        )
    )(
        jnp.array(crop[None]),
        jnp.array(truth[None]),
        jnp.zeros(len(boxes), jnp.int32),
        jnp.array(boxes),
        jnp.array(SHAPE, jnp.int32),
    )
    for found, box in zip(targets, boxes, strict=True):
        plain = plain_target(mask, box, shift, legacy)
        np.testing.assert_allclose(found, plain, atol=2e-4)


def resized_crop(mask, box):
    """Whole pixels of the mask, cut out and resized without antialiasing, to 0 or 1."""
    x1, y1, x2, y2 = (int(each) for each in box)
    own = mask[y1 : y2 + 1, x1 : x2 + 1]
    rows, columns = ((np.arange(SIDE) + 0.5) * side / SIDE - 0.5 for side in own.shape)
    result = [[bilinear(own, row, column) for column in columns] for row in rows]
    return np.array(result) >= 0.5


def test_mask_targets_of_2018_are_resized_crops():
    rng = np.random.default_rng(1)
    # Blocks, of which hardly any sample is a half.
    mask = np.kron(rng.uniform(size=(20, 25)) < 0.5, np.ones((6, 6))).astype(np.float32)
    crop, truth = mask[6:118, 18:130], np.float32([18, 6, 130, 118])
    boxes = np.float32(
        [
            [18, 6, 129, 117],
            [20.3, 7.5, 90.2, 70.1],
            [50.9, 60.2, 61.1, 75.9],
            [70.4, 80, 70.6, 80.1],
        ]
    )
    found = mask_targets(
        jnp.array(crop[None]),
        jnp.array(truth[None]),
        jnp.zeros(len(boxes), jnp.int32),
        jnp.array(boxes),
        jnp.array(SHAPE, jnp.int32),
        SIDE,
        style='crop',
        legacy=True,
    )
    for target, box in zip(found, boxes, strict=True):
        np.testing.assert_array_equal(target, resized_crop(mask, box))


def test_a_coarser_crop_of_a_smooth_mask_changes_little():
    rows, columns = np.mgrid[:112, :112]
    disc = (np.hypot(rows - 55.5, columns - 55.5) < 50).astype(np.float32)
    truth = np.float32([[10, 20, 66, 104]])
    boxes = jnp.array([[12.0, 18, 70, 100]])
    targets = mask_targets(
        jnp.array(disc[None]),
        jnp.array(truth),
        jnp.zeros(1, jnp.int32),
        boxes,
        jnp.array(SHAPE, jnp.int32),
        SIDE,
        style='soft',
    )[0]
    # The ellipse itself, at the middle of each bin.
    y = 18 + (np.arange(SIDE) + 0.5) * 82 / SIDE
    x = 12 + (np.arange(SIDE) + 0.5) * 58 / SIDE
    distance = np.hypot((y - 62)[:, None] / 84, (x - 38)[None] / 56)
    inside = distance < 50 / 112
    overlap = (inside & (targets > 0.5)).sum() / (inside | (targets > 0.5)).sum()
    assert overlap > 0.97


@pytest.mark.parametrize('preset', ['published', 'detectron1', 'tiny'])
@pytest.mark.parametrize('size', [20, 28, 56])
def test_all_of_a_box_is_mask_where_the_truth_is_a_rectangle(preset, size):
    options = settings(preset, 'mask_rcnn')
    truth = np.float32([[10, 20, 10 + size, 20 + size]])
    box = truth - np.float32([0, 0, 1, 1]) * options.legacy
    found = mask_targets(
        jnp.ones((1, 112, 112)),
        jnp.array(truth),
        jnp.zeros(1, jnp.int32),
        jnp.array(box),
        jnp.array(SHAPE, jnp.int32),
        SIDE,
        style=options.mask_targets,
        shift=options.mask_target_shift,
        legacy=options.legacy,
    )
    np.testing.assert_allclose(found, 1, atol=1e-6)


def test_keypoints_lie_in_cells_and_count_if_labelled_and_inside():
    box = jnp.array([[10.0, 20.0, 66.0, 76.0]])
    points = jnp.array(
        [
            [
                [10.0, 20.0, 2.0],  # The upper left corner.
                [66.0, 76.0, 1.0],  # The lower right one belongs to the last cell.
                [12.5, 21.0, 2.0],
                [9.9, 30.0, 2.0],  # Outside.
                [30.0, 30.0, 0.0],  # Not labelled.
            ]
        ]
    )
    cells, counts = keypoint_targets(points, box, 56)
    assert counts.tolist() == [[True, True, True, False, False]]
    assert cells[0, :3].tolist() == [0, 56 * 56 - 1, 56 + 2]


def test_a_keypoint_on_the_last_edge_of_a_legacy_box_is_in_its_last_cell():
    point = jnp.array([[[66.0, 76.0, 2.0]]])
    box = jnp.array([[10.0, 20.0, 65.0, 75.0]])
    cells, counts = keypoint_targets(point, box, 56, legacy=True)
    assert counts.tolist() == [[True]]
    assert cells.tolist() == [[56 * 56 - 1]]


def cubic(distance):
    distance = abs(distance)
    if distance <= 1:
        return 1.25 * distance**3 - 2.25 * distance**2 + 1
    return -0.75 * (distance**3 - 5 * distance**2 + 8 * distance - 4)


def enlarged(values, length):
    """Cubic convolution of the first axis with a = -0.75, the border repeated."""
    rows = []
    for pixel in range(length):
        place = (pixel + 0.5) * len(values) / length - 0.5
        low = int(np.floor(place))
        row = 0.0
        for tap in range(low - 1, low + 3):
            row += cubic(place - tap) * values[min(max(tap, 0), len(values) - 1)]
        rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize('score', ['logit', 'probability'])
def test_keypoints_are_the_largest_of_the_enlarged_map(score):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3, 14, 14, 4)).astype(np.float32)
    # Larger than a block, smaller than the map, and narrower than a pixel.
    boxes = np.float32([[5, 7, 105.5, 77.2], [30, 30, 41.1, 38], [9, 9, 9.4, 60]])
    found = jax.jit(functools.partial(decode_keypoints, score=score))(
        jnp.array(logits), jnp.array(boxes)
    )
    for number, (x1, y1, x2, y2) in enumerate(np.float64(boxes)):
        width, height = max(x2 - x1, 1), max(y2 - y1, 1)
        across, down = int(np.ceil(width)), int(np.ceil(height))
        large = enlarged(logits[number].astype(np.float64), down)
        large = enlarged(large.swapaxes(0, 1), across).swapaxes(0, 1)
        for point in range(4):
            own = large[..., point]
            row, column = np.unravel_index(own.argmax(), own.shape)
            x, y, value = np.float64(found[number, point])
            np.testing.assert_allclose(
                x, x1 + (column + 0.5) * width / across, atol=1e-3
            )
            np.testing.assert_allclose(y, y1 + (row + 0.5) * height / down, atol=1e-3)
            expected = own.max()
            if score == 'probability':
                expected = np.exp(expected) / np.exp(logits[number, ..., point]).sum()
            np.testing.assert_allclose(value, expected, rtol=1e-4)
