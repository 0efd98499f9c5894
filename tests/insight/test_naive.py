"""Figure 2's two runs, made tiny: what is measured, and that they go on."""

import pytest

from slimjax import commands
from slimjax.insight.naive import read_curves, train_naive
from slimjax.insight.plot_naive import plot_naive
from slimjax.train.metrics import read_metrics
from tests.train.runs import tiny_config


def silent(line):
    pass


@pytest.mark.slow
def test_both_runs_are_trained_calibrated_and_go_on_where_they_stopped(tmp_path):
    config = tiny_config(num_train_steps=4, eval_steps=2, log_steps=2)
    asked = []

    def stop():
        asked.append(True)
        return len(asked) == 3

    assert train_naive(config, tmp_path, say=silent, should_stop=stop) is None
    with pytest.raises(ValueError, match='private'):
        read_curves(tmp_path)
    curves = train_naive(config, tmp_path, say=silent)
    assert list(curves.train) == ['shared', 'private']
    for widths in curves.evaluation.values():
        assert list(widths) == ['1.0', '0.5']
        assert [len(points) for points in widths.values()] == [2, 2]
    assert [epoch for epoch, _ in curves.train['shared']] == pytest.approx(
        [2 / (1197 / 32), 4 / (1197 / 32)], rel=0.02
    )
    assert len(curves.lines()) == 4
    plot_naive(curves, tmp_path / 'naive.png')
    assert (tmp_path / 'naive.png').stat().st_size > 10_000

    # The third curve is the naive weights, calibrated as the command does it.
    config.norm = 'shared_affine'
    output = commands.calibrate_workdir(config, tmp_path / 'shared', say=silent)
    widths = commands.evaluate_workdir(config, output, say=silent)['widths']
    lines = read_metrics(tmp_path / 'shared' / 'metrics.jsonl')
    best = next(line['test/best_step'] for line in lines if 'test/best_step' in line)
    own = next(
        line for line in lines if line['step'] == best and 'calibrated/top1/1.0' in line
    )
    for width, scores in widths.items():
        assert own[f'calibrated/top1/{width}'] == pytest.approx(scores['top1'])
        assert own[f'calibrated/loss/{width}'] == pytest.approx(
            scores['loss'], rel=1e-4
        )
    # Only the naive run has it.
    private = read_metrics(tmp_path / 'private' / 'metrics.jsonl')
    assert not any('calibrated/top1/1.0' in line for line in private)
