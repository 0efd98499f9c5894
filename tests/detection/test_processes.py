"""A detector in two processes of two devices each."""

import pytest

from slimjax.data.digit_scenes import make_digit_scenes
from slimjax.train.metrics import read_metrics
from slimjax.train.report import silent
from tests.detection.run_config import CONFIGS, SHORT, SMALL
from tests.train.runs import run
from tests.train.test_processes import finish, start_both


@pytest.mark.slow
@pytest.mark.timeout(580)
def test_two_processes_train_and_evaluate_as_one_does(tmp_path):
    scenes = tmp_path / 'scenes'
    make_digit_scenes(scenes, counts={'train': 8, 'validation': 5}, say=silent)
    changes = {
        **SHORT,
        **{f'model_fields.{name}': value for name, value in SMALL.items()},
        'config': f'{CONFIGS / "coco_digits.py"}:mask_rcnn',
        'data_dir': scenes,
        'clip_norm': 0.0,
    }
    finish(start_both(tmp_path / 'together', **changes))
    run(tmp_path / 'alone', devices=4, **changes)
    together, alone = (
        read_metrics(tmp_path / name / 'metrics.jsonl')
        for name in ('together', 'alone')
    )
    assert len(together) == len(alone)
    for found, expected in zip(together, alone, strict=True):
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-5)
    assert any('eval/segm/AP/0.5' in line for line in together)
