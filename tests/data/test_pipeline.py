"""Order, augmentation and counts are the same however the reading is shared."""

import hashlib
import logging
import re

import numpy as np
import pytest
from PIL import Image

from slimjax.data.pipeline import (
    Augmentation,
    BadImagesError,
    Format,
    Reading,
    eval_batches,
    fingerprint,
    train_batches,
)
from slimjax.data.resize import crop_box
from slimjax.data.sources import load_source, sample

GREY = Format(12, 1)
CROP = Augmentation(crop_scale=(0.3, 1.0))


def digits(split='train'):
    return load_source('digits', split)


def read(count, start=0, **reading):
    batches = train_batches(
        digits(),
        GREY,
        batch_size=32,
        seed=3,
        start_step=start,
        augmentation=CROP,
        reading=Reading(**reading),
    )
    found = [next(batches) for _ in range(count)]
    batches.close()
    return found


def hashes(batches):
    return [
        hashlib.md5(b['image'].tobytes() + b['label'].tobytes()).hexdigest()
        for b in batches
    ]


@pytest.mark.parametrize(
    'reading', [{'num_threads': 1}, {'num_workers': 1}, {'num_workers': 2}]
)
def test_readers_do_not_change_the_stream(reading):
    expected = hashes(read(6))
    assert hashes(read(6, **reading)) == expected
    assert hashes(read(2, start=4, **reading)) == expected[4:]


@pytest.mark.slow
def test_four_workers_do_not_change_the_stream():
    assert hashes(read(9, num_workers=4)) == hashes(read(9))


@pytest.mark.parametrize('processes', [2, 4])
def test_processes_share_the_batches_of_one(processes):
    alone = read(3)
    parts = [
        read(3, process_index=p, process_count=processes) for p in range(processes)
    ]
    joined = [
        {key: np.concatenate([part[i][key] for part in parts]) for key in alone[0]}
        for i in range(3)
    ]
    assert hashes(joined) == hashes(alone)


def test_an_epoch_has_every_example_once_and_the_next_another_order():
    source = digits('validation')
    batches = train_batches(
        source, GREY, batch_size=240, augmentation=Augmentation((), flip=False)
    )
    first, second = next(batches), next(batches)
    batches.close()

    def images(batch):
        return sorted(image.tobytes() for image in batch['image'])

    assert images(first) == images(second)
    assert first['label'].tolist() != second['label'].tolist()


@pytest.mark.parametrize('processes', [1, 2, 4])
def test_evaluation_has_every_example_once(processes):
    source = digits('test')
    labels, count = [], 0
    for process in range(processes):
        batches = eval_batches(
            source,
            GREY,
            batch_size=112,
            resize=12,
            reading=Reading(process, processes),
        )
        for batch in batches:
            assert batch['image'].shape == (112 // processes, 12, 12, 1)
            labels += batch['label'][batch['mask'] > 0].tolist()
            count += 1
        batches.close()
    assert count == 4 * processes
    assert sorted(labels) == sorted(source[i].label for i in range(360))


@pytest.fixture
def broken_folder(tmp_path):
    """Twenty images in two classes, three of which are broken."""
    for split in ('train', 'val'):
        for index in range(20):
            folder = tmp_path / split / ('cat' if index % 2 else 'dog')
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f'{index:02}.jpg'
            Image.new('RGB', (20, 20), (10 * index, 0, 0)).save(path)
            if index in (3, 8, 15):
                path.write_bytes(path.read_bytes()[: 40 * (index - 3)])
    return tmp_path


def test_broken_training_images_are_replaced_counted_and_named(broken_folder, caplog):
    source = load_source('folder', 'train', str(broken_folder))
    found = []
    for workers in (0, 1):
        with caplog.at_level(logging.WARNING):
            batches = train_batches(
                source,
                Format(16),
                batch_size=20,
                reading=Reading(num_workers=workers),
                bad_image_limit=3,
            )
            found.append([next(batches) for _ in range(3)])
            named = ' '.join(sorted(batches.bad_images.values()))
            assert re.findall(r'\d+\.jpg', named) == ['03.jpg', '15.jpg', '08.jpg']
            batches.close()
    assert hashes(found[0]) == hashes(found[1])
    assert '08.jpg' in caplog.text


def test_too_many_broken_images_stop_the_run(broken_folder):
    source = load_source('folder', 'train', str(broken_folder))
    batches = train_batches(source, Format(16), batch_size=20, bad_image_limit=2)
    with pytest.raises(BadImagesError, match='bad_image_limit=2 is allowed'):
        [next(batches) for _ in range(3)]
    batches.close()


def test_broken_images_are_left_out_of_the_evaluation(broken_folder):
    source = load_source('folder', 'validation', str(broken_folder))
    batches = eval_batches(
        source, Format(16), batch_size=8, resize=16, bad_image_limit=3
    )
    assert sum(batch['mask'].sum() for batch in batches) == 17
    assert len(batches.bad_images) == 3
    batches.close()


def test_the_fingerprint_tells_data_sets_and_seeds_apart():
    source = digits()
    assert fingerprint(source, 0) == fingerprint(source, 0)
    others = [fingerprint(source, 1), fingerprint(sample(source, 100), 0)]
    assert fingerprint(source, 0) not in others


def test_grains_order_is_the_one_that_checkpoints_were_made_with():
    from slimjax.data.pipeline import _shuffled

    order = _shuffled(1000, 7)
    assert [int(order[i]) for i in range(8)] == GOLDEN_ORDER


GOLDEN_ORDER = [668, 84, 161, 284, 451, 460, 985, 877]


def test_random_crops_have_the_asked_areas_and_ratios():
    rng = np.random.default_rng(0)
    boxes = np.array([crop_box((300, 400), CROP, rng) for _ in range(500)])
    top, left, height, width = boxes.T
    assert np.all((top >= 0) & (left >= 0))
    assert np.all((top + height <= 300) & (left + width <= 400))
    area, ratio = height * width / 120_000, width / height
    assert 0.29 < area.min() < 0.4
    assert area.max() < 1.01
    assert 0.74 < ratio.min() < ratio.max() < 1.35
