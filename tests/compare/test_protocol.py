"""Which trial counts."""

import pytest

from slimjax.compare.protocol import chosen


def scores(top1, loss=1.0):
    return {
        '0.5': {'top1': top1 - 0.1, 'loss': loss},
        '1.0': {'top1': top1, 'loss': loss},
    }


def test_the_mean_over_widths_decides():
    uneven = {'0.5': {'top1': 0.2, 'loss': 1.0}, '1.0': {'top1': 1.0, 'loss': 1.0}}
    assert chosen({0.5: scores(0.7), 1.0: uneven, 2.0: scores(0.6)}) == 0.5


def test_of_equals_the_lower_loss_and_then_the_nearest_to_the_config():
    assert chosen({0.5: scores(0.7), 1.0: scores(0.7), 2.0: scores(0.7, 0.5)}) == 2.0
    assert chosen({0.5: scores(0.7), 1.0: scores(0.7), 2.0: scores(0.7)}) == 1.0


def test_what_diverged_is_passed_over_unless_all_did():
    assert chosen({1.0: scores(0.1), 2.0: None}) == 1.0
    with pytest.raises(ValueError, match='diverged at 0.5, 1 times config.learning_r'):
        chosen({0.5: None, 1.0: None})
