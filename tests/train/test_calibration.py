"""The images on which a run calibrates."""

import jax
import numpy as np
import pytest

from slimjax.train.calibration import RunCalibration
from slimjax.train.runs import make_run
from tests.train.runs import tiny_config


class Reader(list):
    """Batches that were read."""

    def close(self):
        pass


def test_a_broken_image_does_not_count_as_a_black_one(monkeypatch):
    run = make_run(tiny_config())
    variables = jax.jit(run.model.clone(axis_name=None).init)(
        jax.random.key(0), np.ones((1, 8, 8, 1), np.float32)
    )
    images = np.random.default_rng(0).integers(1, 256, (16, 8, 8, 1), np.uint8)
    mask = np.ones(16, np.float32)
    mask[[0, 5, 9]] = 0
    black = np.where(mask[:, None, None, None] > 0, images, 0)
    images[mask == 0] = images[1]

    def statistics(batch):
        monkeypatch.setattr(run, 'eval_reader', lambda source: Reader([batch]))
        return calibration.anew(variables['params'])

    calibration = RunCalibration(run)
    found = statistics({'image': black, 'mask': mask})
    expected = statistics({'image': images, 'mask': np.ones_like(mask)})
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    with pytest.raises(ValueError, match='none of the 16 training images of a batch'):
        statistics({'image': black, 'mask': np.zeros_like(mask)})


@pytest.mark.parametrize(
    ('changes', 'count'),
    [
        ({}, 1080),  # 9 batches of 120, of 1,197 images.
        ({'calibration_examples': 100}, 120),
        ({'calibration_examples': 10_000}, 1080),
        ({'calibration_transform': 'train', 'batch_size': 1100}, 1100),
    ],
)
def test_batches_are_whole_and_enough(changes, count):
    assert RunCalibration(make_run(tiny_config(**changes))).count() == count
