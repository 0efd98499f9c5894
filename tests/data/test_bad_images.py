import numpy as np
import pytest

from slimjax.data.pipeline import (
    BadImagesError,
    Format,
    Reading,
    eval_batches,
    train_batches,
)
from tests.data.files import Files, jpeg

GOOD = [jpeg(seed, 24, 32) for seed in range(12)]
FORMAT = Format(16)


def with_broken(*indices):
    broken = [b'', b'garbage', GOOD[0][:200], GOOD[0][:-100]]
    return Files(
        [broken[i % 4] if i in indices else file for i, file in enumerate(GOOD)]
    )


def training(source, limit, **options):
    return train_batches(source, FORMAT, batch_size=4, bad_image_limit=limit, **options)


def read(batches, steps):
    try:
        found = [next(batches) for _ in range(steps)]
    finally:
        batches.close()
    return {k: np.concatenate([batch[k] for batch in found]) for k in found[0]}


@pytest.mark.parametrize('workers', [0, 2])
def test_a_broken_image_is_replaced_by_the_next_one(workers):
    reading = Reading(num_workers=workers)
    batches = training(with_broken(3, 4, 11), 3, reading=reading)
    found = read(batches, 9)
    assert set(batches.bad_images) == {3, 4, 11}
    # As if the file behind stood in the place: the same draws, hence the same crops.
    files = list(GOOD)
    files[3] = files[4] = files[5]
    files[11] = files[0]
    expected = read(training(Files(files), 0), 9)
    np.testing.assert_array_equal(found['image'], expected['image'])
    assert 'bad' not in found


def test_the_label_is_that_of_the_image_that_is_shown():
    labels = read(training(with_broken(3), 1), 3)['label']
    # 12 examples with 4 of each class, of which the one at 3 becomes that at 4.
    assert np.bincount(labels).tolist() == [3, 5, 4]


def test_each_broken_file_is_named_in_the_log_once(caplog):
    read(training(with_broken(1, 2), 2), 12)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert any('file 1: not an image' in line and '2 allowed' in line for line in lines)
    assert any('file 2: ' in line for line in lines)


@pytest.mark.parametrize('workers', [0, 1])
def test_too_many_broken_images_stop_the_run(workers):
    reading = Reading(num_workers=workers)
    batches = training(with_broken(1, 5, 8), 2, reading=reading)
    with pytest.raises(BadImagesError, match=r'3 images .* bad_image_limit=2') as error:
        read(batches, 3)
    for index in (1, 5, 8):
        assert f'file {index}: ' in str(error.value)


def test_a_source_without_any_readable_image_is_an_error():
    batches = training(Files([b'', b'x']), 50)
    with pytest.raises(BadImagesError, match='none of 2 images'):
        read(batches, 1)


class Vanished(Files):
    def __getitem__(self, index):
        if index == 5:
            raise FileNotFoundError(2, 'No such file', 'cat.jpg')
        return super().__getitem__(index)


def test_a_file_that_vanished_counts_as_broken(caplog):
    batches = training(Vanished(GOOD), 1)
    read(batches, 3)
    assert list(batches.bad_images) == [5]
    assert 'cat.jpg' in caplog.text


def evaluating(source, limit, **options):
    return eval_batches(
        source, FORMAT, batch_size=8, resize=18, bad_image_limit=limit, **options
    )


@pytest.mark.parametrize('workers', [0, 1])
def test_a_broken_image_is_masked_out_of_an_evaluation(workers, caplog):
    batches = evaluating(with_broken(2, 9), 2, reading=Reading(num_workers=workers))
    found = read(batches, 2)
    expected = np.ones(16)
    expected[[2, 9, 12, 13, 14, 15]] = 0
    np.testing.assert_array_equal(found['mask'], expected)
    assert not found['image'][expected == 0].any()
    assert 'file 2: ' in caplog.text
    assert 'file 9: ' in caplog.text


def test_too_many_broken_images_stop_an_evaluation():
    with pytest.raises(BadImagesError, match='2 images cannot be read'):
        read(evaluating(with_broken(2, 9), 1), 2)
