"""The paper's Figure 2 on digits: shared statistics collapse, and are calibrated.

The third curve of the figure: the same weights, with statistics of each width's own.
"""

import pytest

from slimjax import commands
from slimjax.train.loop import train
from slimjax.train.metrics import read_metrics
from tests.train.runs import tiny_config

WIDTHS = (0.25, 0.5, 0.75, 1.0)
NAMES = tuple(map(str, WIDTHS))
SAY = [].append


def config_of(norm, seed):
    config = tiny_config(
        norm=norm,
        seed=seed,
        widths=WIDTHS,
        train_epochs=8,
        num_train_steps=0,
        batch_size=64,
        eval_steps=0,
        eval_epochs=8,
        checkpoint_steps=0,
        log_steps=10,
    )
    config.model_fields.update(base_features=8, stage_sizes=(1, 1, 1, 1))
    return config


def errors(workdir, prefix):
    lines = read_metrics(workdir / 'metrics.jsonl')
    last = {name: value for line in lines for name, value in line.items()}
    return [1 - last[f'{prefix}/top1/{width}'] for width in NAMES]


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize('seed', [0, 1, 2])
def test_shared_norm_collapses_at_evaluation_and_is_mended_by_calibration(
    tmp_path, seed
):
    for norm in ('shared', 'private'):
        train(config_of(norm, seed), tmp_path / norm, say=SAY)
        # Both train; only one of them can be used.
        assert max(errors(tmp_path / norm, 'train')) < 0.35
    shared = errors(tmp_path / 'shared', 'eval')
    private = errors(tmp_path / 'private', 'eval')
    assert max(private) < 0.3
    worse = sum(s > 3 * max(p, 0.02) for s, p in zip(shared, private, strict=True))
    assert worse >= 2, (shared, private)
    # 17 norms, whose scale and bias the widths go on sharing.
    own = config_of('shared_affine', seed)
    output = commands.calibrate_workdir(own, tmp_path / 'shared', say=SAY)
    widths = commands.evaluate_workdir(own, output, say=SAY)['widths']
    calibrated = [1 - widths[name]['top1'] for name in NAMES]
    for mended, switchable in zip(calibrated, private, strict=True):
        assert mended <= switchable + 0.03, (shared, calibrated, private)
