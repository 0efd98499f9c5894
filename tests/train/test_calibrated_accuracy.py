"""Calibrated statistics are as good as those that training keeps."""

import shutil

import pytest

from slimjax import commands
from slimjax.config_file import load_config
from slimjax.train.loop import train
from tests.commands import ROOT

SAY = [].append
SPLITS = ('validation', 'test')


def accuracies(config, workdir):
    """Top-1 of each width in percent, of all images that are not trained on."""
    right, count = {}, 0
    for split in SPLITS:
        widths = commands.evaluate_workdir(config, workdir, split, say=SAY)['widths']
        count += next(iter(widths.values()))['count']
        for name, scores in widths.items():
            right[name] = right.get(name, 0) + scores['top1'] * scores['count']
    assert count == 600
    return {name: 100 * value / count for name, value in right.items()}


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_calibration_reproduces_the_accuracy_of_the_statistics_of_training(tmp_path):
    config = load_config(str(ROOT / 'configs' / 'digits.py'))
    train(config, tmp_path / 'run', say=SAY)
    own = accuracies(config, tmp_path / 'run')
    for method in ('pooled', 'sequential'):
        config.calibration = method
        output = commands.calibrate_workdir(config, tmp_path / 'run', say=SAY)
        found = accuracies(config, output)
        shutil.rmtree(output)
        for name, value in own.items():
            # 0.3 points are one image of 600, and a little.
            assert abs(found[name] - value) <= 0.3, (method, found, own)
