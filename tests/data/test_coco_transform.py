"""Boxes, masks and keypoints go with the pixels that they mark."""

import numpy as np
import pytest

from slimjax.data.coco_format.formats import DetectionFormat, resized_size
from slimjax.data.coco_format.masks import CROP, crop_mask, pack
from slimjax.data.coco_format.source import DetectionExample
from slimjax.data.coco_format.transform import prepare_example, prepare_image
from slimjax.data.decode import decode
from tests.data.coco_files import rectangle
from tests.data.files import encoded

PLAIN = DetectionFormat(
    buckets=((96, 96),), mean=(0, 0, 0), std=(1, 1, 1), masks=True, keypoints=True
)
BOX = (12, 8, 30, 20)  # x1, y1, x2, y2 in an image of 40 x 60 pixels


def example(boxes=(BOX,), crowd=None, keypoints=None):
    """White boxes in a black image; each mask is the upper left half of its box."""
    pixels = np.zeros((40, 60, 3), np.uint8)
    for x1, y1, x2, y2 in np.array(boxes, int):
        pixels[y1:y2, x1:x2] = 255
    crops = [
        crop_mask(rectangle(x1, y1, (x2 - x1) / 2, y2 - y1), (x1, y1, x2, y2))
        for x1, y1, x2, y2 in boxes
    ]
    points = np.zeros((len(boxes), 2, 3), np.float32)
    if keypoints is not None:
        points[0] = keypoints
    return DetectionExample(
        encoded(pixels),
        'white',
        5,
        np.array(boxes, np.float32),
        np.arange(1, len(boxes) + 1),
        np.zeros(len(boxes), bool) if crowd is None else np.array(crowd),
        pack(np.array(crops)),
        points,
    )


def prepare(given, *, mirror=None, short_side=40, bucket=(96, 96), format=PLAIN):
    return prepare_example(given, format, bucket, short_side, mirror)


@pytest.mark.parametrize('mirror', [None, (1, 0)])
@pytest.mark.parametrize('short_side', [20, 40, 60])
def test_a_box_frames_what_it_framed_before(mirror, short_side):
    found = prepare(example(), mirror=mirror, short_side=short_side)
    height, width = found['image_size']
    bright = found['image'][:height, :width].mean(-1) > 127
    rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
    framed = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    np.testing.assert_allclose(found['boxes'][0], framed, atol=0.51)
    scale = short_side / 40
    sides = found['boxes'][0, 2:] - found['boxes'][0, :2]
    np.testing.assert_allclose(sides, [18 * scale, 12 * scale], rtol=1e-6)


def test_a_mirrored_mask_covers_the_other_half():
    found = prepare(example())['masks'][0]
    assert found[:, : CROP // 2].all()
    assert not found[:, CROP // 2 :].any()
    np.testing.assert_array_equal(
        prepare(example(), mirror=(1, 0))['masks'][0], found[:, ::-1]
    )


def test_mirrored_keypoints_change_sides_and_names():
    given = example(keypoints=[[12, 8, 2], [29, 19, 1]])
    plain = prepare(given, short_side=60)['keypoints'][0]
    np.testing.assert_allclose(plain, [[18, 12, 2], [43.5, 28.5, 1]])
    mirrored = prepare(given, short_side=60, mirror=(1, 0))['keypoints'][0]
    np.testing.assert_allclose(mirrored, [[90 - 43.5, 28.5, 1], [90 - 18, 12, 2]])


def test_keypoints_not_labelled_or_outside_are_zeros():
    given = example(keypoints=[[12, 8, 0], [61, 19, 2]])
    for mirror in (None, (1, 0)):
        assert not prepare(given, mirror=mirror)['keypoints'].any()


def test_the_middle_of_pixels_stays_in_the_middle():
    given = example(keypoints=[[0, 0, 2], [59, 39, 2]])
    format = PLAIN._replace(keypoint_offset=0.5)
    points = prepare(given, mirror=(0, 1), format=format)['keypoints'][0, :, :2]
    np.testing.assert_allclose(points, [[59.5, 0.5], [0.5, 39.5]])


def test_padding_is_zero_after_normalising():
    format = PLAIN._replace(mean=(10, 20, 30), std=(2, 4, 5))
    image = prepare(example(), format=format)['image']
    assert image.dtype == np.float32
    np.testing.assert_array_equal(image[0, 0], [-5, -5, -6])
    np.testing.assert_allclose(image[10, 15], [122.5, 58.75, 45])
    assert not image[40:].any()
    assert not image[:, 60:].any()
    blue_first = prepare(example(), format=format._replace(bgr=True))['image']
    np.testing.assert_array_equal(blue_first, image[..., ::-1])


def test_rows_behind_the_last_object_are_empty():
    found = prepare(example([BOX, (0, 0, 4, 4)], crowd=[False, True]))
    assert found['valid'].sum() == 2
    assert found['valid'][:2].all()
    assert found['crowd'].tolist() == [False, True] + [False] * 98
    assert found['labels'].tolist() == [1, 2] + [0] * 98
    assert not found['boxes'][2:].any()
    assert (found['boxes'].shape, found['boxes'].dtype) == ((100, 4), np.float32)
    assert (found['masks'].shape, found['masks'].dtype) == ((100, CROP, CROP), np.uint8)
    assert found['keypoints'].shape == (100, 2, 3)
    assert found['original_size'].tolist() == [40, 60]


def test_of_too_many_objects_the_largest_stay_in_their_order_crowds_last():
    boxes = [(0, 0, 3, 3), (0, 0, 60, 40), (0, 0, 9, 9), (0, 0, 5, 5)]
    given = example(boxes, crowd=[False, True, False, False])
    found = prepare(given, format=PLAIN._replace(max_boxes=2))
    assert found['labels'].tolist() == [3, 4]
    assert prepare(given, format=PLAIN._replace(max_boxes=4))['valid'].all()


def test_boxes_narrower_than_asked_are_left_out():
    given = example([(0, 0, 0.5, 9), BOX])
    assert prepare(given)['valid'].sum() == 2
    found = prepare(given, format=PLAIN._replace(min_box_side=1))
    assert found['labels'][:2].tolist() == [2, 0]


def test_an_image_alone_is_prepared_as_an_annotated_one():
    given = example()
    pixels = decode(given.image, given.name)
    found = prepare_image(pixels, PLAIN._replace(short_side=50))
    expected = prepare(given, short_side=50)
    for name in ('image', 'image_size', 'original_size', 'mask'):
        np.testing.assert_array_equal(found[name], expected[name])
    with pytest.raises(ValueError, match='none holds an image of 40 x 60 pixels'):
        prepare_image(pixels, PLAIN._replace(short_side=90))


def detectron2_size(height, width, size, max_size):
    """Detectron2's ResizeShortestEdge, as it reads: two steps, then rounding."""
    scale = size / min(height, width)
    if height < width:
        new_height, new_width = size, scale * width
    else:
        new_height, new_width = scale * height, size
    if max(new_height, new_width) > max_size:
        scale = max_size / max(new_height, new_width)
        new_height, new_width = new_height * scale, new_width * scale
    return int(new_height + 0.5), int(new_width + 0.5)


def test_sizes_are_those_of_detectron2():
    rng = np.random.default_rng(0)
    for height, width in rng.integers(50, 1000, (500, 2)).tolist():
        assert resized_size(height, width, 800, 1333) == detectron2_size(
            height, width, 800, 1333
        )
