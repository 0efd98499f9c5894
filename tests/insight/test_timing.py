"""Medians with intervals, of things that take turns."""

import numpy as np
import pytest
from scipy.stats import binom

from slimjax.insight.timing import estimate, interleaved


def test_the_interval_holds_the_true_median_in_95_of_100_cases():
    drawn = np.random.default_rng(0).exponential(size=(2000, 20))
    found = [estimate(values) for values in drawn]
    held = sum(each.low <= np.log(2) <= each.high for each in found)
    # Order statistics come in steps: the interval of 20 values holds it a bit oftener.
    assert binom.ppf(0.001, 2000, 0.95) <= held <= 0.98 * 2000
    assert all(each.low <= each.median <= each.high for each in found)


def test_of_few_values_the_interval_is_all_they_span():
    assert estimate(np.array([3.0, 1.0, 2.0])) == (2.0, 1.0, 3.0)


def test_runs_take_turns():
    order = []
    times = interleaved(
        {name: lambda name=name: order.append(name) for name in 'ab'}, 2
    )
    assert ''.join(order) == 'abbaabbaab'
    assert {name: len(each) for name, each in times.items()} == {'a': 2, 'b': 2}
    with pytest.raises(ValueError, match='repeats=0'):
        interleaved({}, 0)
