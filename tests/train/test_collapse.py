"""The paper's Figure 2 on digits: with shared statistics, evaluation collapses."""

import pytest

from slimjax.train.loop import train
from slimjax.train.metrics import read_metrics
from tests.train.runs import tiny_config


def validation(tmp_path, norm):
    config = tiny_config(
        norm=norm,
        widths=(0.25, 0.5, 0.75, 1.0),
        train_epochs=8,
        num_train_steps=0,
        batch_size=64,
        eval_steps=0,
        eval_epochs=8,
        checkpoint_steps=0,
        log_steps=10,
    )
    config.model_fields.update(base_features=8, stage_sizes=(1, 1, 1, 1))
    train(config, tmp_path / norm, say=[].append)
    lines = read_metrics(tmp_path / norm / 'metrics.jsonl')
    last = {name: value for line in lines for name, value in line.items()}
    widths = ('0.25', '0.5', '0.75', '1.0')
    return (
        [1 - last[f'eval/top1/{width}'] for width in widths],
        [1 - last[f'train/top1/{width}'] for width in widths],
    )


@pytest.mark.slow
def test_shared_norm_collapses_at_evaluation_and_switchable_norm_does_not(tmp_path):
    shared, shared_training = validation(tmp_path, 'shared')
    private, private_training = validation(tmp_path, 'private')
    # Both train; only one of them can be used.
    assert max(shared_training) < 0.35
    assert max(private_training) < 0.35
    assert max(private) < 0.3
    worse = sum(s > 3 * max(p, 0.02) for s, p in zip(shared, private, strict=True))
    assert worse >= 2, (shared, private)
