"""Batches of one bucket are a function of seed and step; evaluation meets all once."""

import time

import numpy as np
import pytest

from slimjax.data.coco_format.batches import (
    detection_eval_batches,
    detection_fingerprint,
    detection_train_batches,
)
from slimjax.data.coco_format.formats import (
    DetectionAugmentation,
    DetectionFormat,
    choose_buckets,
)
from slimjax.data.coco_format.order import BucketOrder
from slimjax.data.coco_format.prepare import prepare_coco
from slimjax.data.coco_format.source import CocoSource, trainable
from slimjax.data.stream import Reading
from tests.data.coco_files import SIZES, write

FORMAT = DetectionFormat(
    buckets=((32, 48), (48, 32)), short_side=32, long_side=48, max_boxes=4, masks=True
)
JITTER = DetectionAugmentation((24, 28, 32))


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp('coco')
    prepare_coco(**write(folder), output=folder / 'out', say=lambda line: None)
    return folder / 'out'


@pytest.fixture(scope='module')
def source(data_dir):
    return CocoSource(data_dir, 'train')


def read(source, steps, batch_size=2, **options):
    batches = detection_train_batches(
        source, FORMAT, batch_size=batch_size, augmentation=JITTER, **options
    )
    try:
        return [next(batches) for _ in range(steps)]
    finally:
        batches.close()


def assert_equal(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for name in other:
            np.testing.assert_array_equal(one[name], other[name], name)


def test_a_batch_is_what_the_model_expects(source):
    shapes = {
        'image': ((2, 32, 48, 3), np.float32),
        'image_size': ((2, 2), np.int32),
        'original_size': ((2, 2), np.int32),
        'image_id': ((2,), np.int32),
        'mask': ((2,), np.float32),
        'boxes': ((2, 4, 4), np.float32),
        'labels': ((2, 4), np.int32),
        'crowd': ((2, 4), np.bool_),
        'valid': ((2, 4), np.bool_),
        'masks': ((2, 4, 112, 112), np.uint8),
    }
    for batch in read(source, 2):
        turned = batch['image'].shape[1:3] == (48, 32)
        expected = shapes | ({'image': ((2, 48, 32, 3), np.float32)} if turned else {})
        assert {k: (v.shape, v.dtype) for k, v in batch.items()} == expected


def test_the_stream_is_the_same_for_any_number_of_threads(source):
    expected = read(source, 6, reading=Reading(num_threads=1))
    assert_equal(read(source, 6, reading=Reading(num_threads=4)), expected)


@pytest.mark.slow
def test_the_stream_is_the_same_for_reader_processes(source):
    assert_equal(read(source, 6, reading=Reading(num_workers=2)), read(source, 6))


@pytest.mark.parametrize('step', [1, 5])
def test_the_stream_goes_on_from_any_step(source, step):
    assert_equal(read(source, 2, start_step=step), read(source, step + 2)[step:])


def test_processes_share_each_batch_and_its_bucket(source):
    parts = [read(source, 4, 4, reading=Reading(process, 2)) for process in (0, 1)]
    joined = [
        {name: np.concatenate([a[name], b[name]]) for name in a}
        for a, b in zip(*parts, strict=True)
    ]
    assert_equal(joined, read(source, 4, 4))


def test_seeds_and_epochs_draw_anew(source):
    one, other = (read(source, 4, seed=seed) for seed in (0, 1))
    assert any(
        (a['image'] != b['image']).any()
        for a, b in zip(one, other, strict=True)
        if a['image'].shape == b['image'].shape
    )
    sides = {int(b['image_size'].min()) for b in one + other}
    assert sides == {24, 28, 32}


@pytest.mark.parametrize('batch_size', [1, 2, 4])
def test_evaluation_meets_every_image_once(source, batch_size):
    batches = list(detection_eval_batches(source, FORMAT, batch_size=batch_size))
    met = np.concatenate([b['image_id'][b['mask'] == 1] for b in batches])
    assert sorted(met.tolist()) == list(SIZES)
    for batch in batches:
        assert len(batch['mask']) == batch_size
        assert not batch['valid'][batch['mask'] == 0].any()
        for size, id, mask in zip(
            batch['original_size'].tolist(),
            batch['image_id'],
            batch['mask'],
            strict=True,
        ):
            assert not mask or tuple(size) == SIZES[int(id)]


def test_evaluation_is_shared_between_processes(source):
    met = [
        batch['image_id'][batch['mask'] == 1]
        for process in (0, 1)
        for batch in detection_eval_batches(
            source, FORMAT, batch_size=4, reading=Reading(process, 2)
        )
    ]
    assert sorted(np.concatenate(met).tolist()) == list(SIZES)


def test_too_many_boxes_are_an_error_or_a_logged_truncation(source, caplog):
    format = FORMAT._replace(max_boxes=2)
    message = 'max_boxes=2: 1 of 5 images have more objects, image 3 3 of them'
    with pytest.raises(ValueError, match=message):
        detection_train_batches(source, format, batch_size=2)
    # Of an evaluation, what was found is compared with the annotations.
    batches = list(detection_eval_batches(source, format, batch_size=1))
    assert max(batch['valid'].sum() for batch in batches) == 2
    format = format._replace(too_many='truncate')
    detection_train_batches(source, format, batch_size=2).close()
    assert message in caplog.text


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (
            {'buckets': ((32, 48),)},
            r'buckets=\(\(32, 48\),\): image 7 of 60 x 40 pixels',
        ),
        ({'buckets': ()}, r'buckets=\(\)'),
        ({'max_boxes': 0}, 'max_boxes=0; allowed is 1 or more'),
        ({'mean': (0.5,)}, r'mean=\(0.5,\); allowed are 3 numbers'),
        ({'std': (1, 0, 1)}, r'std=\(1, 0, 1\)'),
        ({'too_many': 'drop'}, "too_many='drop'; allowed are error, truncate"),
        ({'keypoints': True}, "keypoints=True: the category 'toothbrush'"),
    ],
)
def test_what_cannot_be_read_is_refused_at_once(source, change, message):
    with pytest.raises(ValueError, match=message):
        detection_train_batches(source, FORMAT._replace(**change), batch_size=2)


def test_keypoints_come_with_the_categories_that_have_them(data_dir):
    people = trainable(CocoSource(data_dir, 'train', keypoints=True), min_keypoints=1)
    format = FORMAT._replace(keypoints=True, masks=False)
    batches = detection_train_batches(people, format, batch_size=2)
    batch = next(batches)
    batches.close()
    assert batch['keypoints'].shape == (2, 4, 3, 3)
    assert (batch['keypoints'][..., 2].max(-1) == [[2, 0, 0, 0]] * 2).all()


def test_keypoints_whose_sides_differ_between_categories_are_not_mirrored(data_dir):
    people = CocoSource(data_dir, 'train', keypoints=True)
    (person,) = people.categories
    hands = person._replace(keypoints=('left_hand', 'right_hand', 'nose'))
    people.categories = (person, hands)
    format = FORMAT._replace(keypoints=True)
    with pytest.raises(ValueError, match='sides of keypoints differ .*flip=False'):
        detection_train_batches(people, format, batch_size=2)
    detection_train_batches(
        people, format, batch_size=2, augmentation=DetectionAugmentation(flip=False)
    ).close()


@pytest.mark.parametrize(
    ('names', 'expected'),
    [
        (('nose', 'Left_Eye', 'Right_Eye'), (0, 2, 1)),
        (('L_Eye', 'R_Eye', 'ear.l', 'ear.r'), (1, 0, 3, 2)),
        (('leftHand', 'rightHand', 'left_foot'), (1, 0, 2)),
        (('head', 'tail', 'collar'), (0, 1, 2)),
    ],
)
def test_sides_are_read_off_the_names(data_dir, names, expected):
    people = CocoSource(data_dir, 'train', keypoints=True)
    people.categories = (people.categories[0]._replace(keypoints=names),)
    assert people.mirrored_keypoints == expected


def test_the_smallest_bucket_that_holds_an_image_is_its_own(source):
    square = FORMAT._replace(buckets=((48, 48), (32, 48), (40, 32)))
    found = choose_buckets(source, square, (24, 32)).tolist()
    # 40 x 60, 60 x 40, 30 x 50, 64 x 48 and 50 x 50 pixels, the short side 32.
    assert found == [1, 0, 1, 0, 2]


def test_the_fingerprint_tells_other_data(source):
    reference = detection_fingerprint(source, 0)
    assert detection_fingerprint(source.subset(range(5)), 0) == reference
    assert detection_fingerprint(source, 1) != reference
    assert detection_fingerprint(source.subset([0, 1, 3, 2, 4]), 0) != reference
    assert detection_fingerprint(source.subset([0, 1, 2, 3]), 0) != reference


def grouped_stream(buckets, batch_size, seed, epochs):
    """Detectron2's grouping by aspect ratio, as a loop over a shuffled stream."""
    waiting, batches = {}, []
    for epoch in range(epochs):
        for image in np.random.default_rng([seed, epoch]).permutation(len(buckets)):
            group = waiting.setdefault(int(buckets[image]), [])
            group.append(int(image))
            if len(group) == batch_size:
                batches.append(list(group))
                group.clear()
    return batches


@pytest.mark.parametrize(
    ('counts', 'batch_size'),
    [((13, 5), 4), ((1, 9, 4), 3), ((3,), 8), ((8, 8), 8), ((40, 1), 6)],
)
def test_the_order_is_that_of_a_grouped_stream(counts, batch_size):
    buckets = np.repeat(np.arange(len(counts)), counts)
    buckets = np.random.default_rng(9).permutation(buckets)
    expected = grouped_stream(buckets, batch_size, seed=3, epochs=30)
    assert len(expected) > 5
    order = BucketOrder(buckets, batch_size, seed=3)
    found = [
        [order(step * batch_size + row) for row in range(batch_size)]
        for step in range(len(expected))
    ]
    assert found == expected


def test_the_order_is_the_one_that_checkpoints_were_made_with():
    order = BucketOrder(np.arange(10) % 3 // 2, 2, seed=7)
    golden = [0, 7, 1, 3, 8, 2, 6, 4, 9, 9, 5, 8]
    assert [order(place) for place in range(12)] == golden


def test_a_late_step_costs_one_epoch():
    buckets = (np.arange(120_000) % 4 == 0).astype(np.int64)
    start = time.monotonic()
    BucketOrder(buckets, 16, seed=0)(10**9)
    assert time.monotonic() - start < 2
