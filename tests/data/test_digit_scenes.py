"""Scenes of digits: annotated is what is drawn, and no digit stands in two splits."""

import json

import numpy as np
import pytest

from slimjax.data import digit_scenes
from slimjax.data.coco_format.batches import detection_eval_batches
from slimjax.data.coco_format.formats import DetectionFormat
from slimjax.data.coco_format.masks import decode_rle
from slimjax.data.coco_format.source import CocoSource
from slimjax.data.digit_scenes import SIDE, draw_scene, make_digit_scenes, outermost
from slimjax.data.digits.digits_dataset_builder import all_digits
from slimjax.detection.metrics import CocoMetrics

COUNTS = {'train': 8, 'validation': 4}


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    output = tmp_path_factory.mktemp('scenes')
    return make_digit_scenes(output, counts=COUNTS, say=lambda line: None), output


@pytest.fixture(scope='module')
def scenes():
    digits = all_digits()
    return [
        draw_scene(digits.images, digits.target, np.random.default_rng(seed))
        for seed in range(40)
    ]


def test_both_splits_are_read_as_any_set_in_cocos_format(made):
    prepared, output = made
    assert {split: each.images for split, each in prepared.items()} == COUNTS
    for split, count in COUNTS.items():
        source = CocoSource(output, split, keypoints=True)
        assert source.class_names == tuple('0123456789')
        format = DetectionFormat(
            buckets=((SIDE, SIDE),),
            short_side=SIDE,
            long_side=SIDE,
            masks=True,
            keypoints=True,
        )
        (batch,) = detection_eval_batches(source, format, batch_size=count)
        assert batch['keypoints'].shape == (count, 100, 4, 3)
        assert batch['valid'].sum() == prepared[split].objects


def test_what_is_annotated_is_found_by_the_metric(made):
    _, output = made
    path = output / 'annotations' / 'instances_train.json'
    content = json.loads(path.read_text())
    found = [each | {'score': 1} for each in content['annotations']]
    found = [each for each in found if not each['iscrowd']]
    for kind, field in (
        ('bbox', 'bbox'),
        ('segm', 'segmentation'),
        ('keypoints', 'keypoints'),
    ):
        fields = 'image_id', 'category_id', 'score', field
        results = [{name: each[name] for name in fields} for each in found]
        assert CocoMetrics(path)(kind, results)[f'{kind}/AP'] == pytest.approx(1)


def test_the_same_seed_draws_the_same_scenes(made, tmp_path):
    _, output = made
    make_digit_scenes(tmp_path, counts={'train': 2}, say=lambda line: None)
    for index in range(2):
        name = f'images/train/{index:06d}.png'
        assert (tmp_path / name).read_bytes() == (output / name).read_bytes()


def test_what_cannot_be_made_is_refused_before_anything_is_drawn(made, tmp_path):
    with pytest.raises(ValueError, match='counts: train=0; allowed are 1 or more of'):
        make_digit_scenes(tmp_path, counts={'train': 0})
    with pytest.raises(ValueError, match='counts: test=5; .* of train, validation'):
        make_digit_scenes(tmp_path, counts={'test': 5})
    with pytest.raises(FileExistsError, match='train/1.0.0 exists: remove it'):
        make_digit_scenes(made[1])
    assert not list(tmp_path.iterdir())


def test_no_digit_is_in_two_splits(monkeypatch, tmp_path):
    drawn = {}

    def draw(images, labels, rng):
        drawn[len(drawn)] = {image.tobytes() for image in images}
        return digit_scenes.Scene(np.zeros((SIDE, SIDE, 3), np.uint8), [])

    monkeypatch.setattr(digit_scenes, 'draw_scene', draw)
    counts = {'train': 1, 'validation': 1}
    make_digit_scenes(tmp_path, counts=counts, say=lambda line: None)
    assert len(drawn[0]) + len(drawn[1]) == 1797
    assert not drawn[0] & drawn[1]


def test_boxes_areas_and_masks_agree_and_masks_do_not_overlap(scenes):
    for scene in scenes:
        seen = np.zeros((SIDE, SIDE), int)
        for each in scene.annotations:
            mask = decode_rle(each['segmentation'])
            x, y, width, height = each['bbox']
            inside = mask[y : y + height, x : x + width]
            assert mask.sum() == inside.sum() == each['area'] > 0
            assert inside.any(1)[[0, -1]].all()
            assert inside.any(0)[[0, -1]].all()
            seen += mask
        assert seen.max() <= 1


def test_keypoints_are_on_their_digit_where_they_are_visible(scenes):
    hidden = 0
    for scene in scenes:
        for each in scene.annotations:
            mask = decode_rle(each['segmentation'])
            points = np.reshape(each['keypoints'], (-1, 3))
            if each['iscrowd']:
                assert not points.any()
                continue
            for x, y, visibility in points:
                assert mask[y, x] == (visibility == 2)
                hidden += visibility == 1
            top, left, bottom, right = points
            assert top[1] <= min(left[1], right[1], bottom[1])
            assert left[0] <= min(top[0], bottom[0], right[0])
    assert hidden


def test_digits_stand_out_from_their_surface(scenes):
    for scene in scenes:
        ink = np.any([decode_rle(a['segmentation']) for a in scene.annotations], 0)
        assert scene.pixels[ink].mean() > scene.pixels[~ink].mean() + 30


def test_some_scenes_have_crowds_and_digits_overlap(scenes):
    flags = [each['iscrowd'] for scene in scenes for each in scene.annotations]
    assert 1 <= sum(flags) <= len(scenes) // 3
    boxes = [
        np.array([a['bbox'] for a in scene.annotations if not a['iscrowd']])
        for scene in scenes
    ]
    assert any(overlap(found) for found in boxes)


def overlap(boxes):
    low, high = boxes[:, None, :2], boxes[:, None, :2] + boxes[:, None, 2:]
    sides = np.minimum(high, high.swapaxes(0, 1)) - np.maximum(low, low.swapaxes(0, 1))
    return (sides.clip(0).prod(-1) > 0).sum() > len(boxes)


def test_of_several_outermost_points_the_middle_one_counts():
    mask = np.zeros((5, 7), bool)
    mask[1, 1:6] = True
    mask[2:4, 3] = True
    assert outermost(mask) == [(3, 1), (1, 1), (3, 3), (5, 1)]
