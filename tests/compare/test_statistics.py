"""Intervals and bounds, against tables of Student's t and Holm's procedure by hand."""

import numpy as np
import pytest

from slimjax.compare.statistics import t_interval, upper_bounds

# Quantiles of Student's t with two degrees of freedom, as printed in any table.
T_975, T_95 = 4.302653, 2.919986


def three(mean, error):
    """Three values of this mean, whose standard error is `error`."""
    return [mean - error * np.sqrt(3), mean, mean + error * np.sqrt(3)]


def test_the_interval_is_that_of_the_table():
    low, high = t_interval(three(2.0, 0.5))
    assert (low, high) == pytest.approx((2 - T_975 * 0.5, 2 + T_975 * 0.5), rel=1e-6)


def test_an_interval_holds_the_true_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    samples = rng.normal(1.0, 2.0, (4000, 4))
    held = [low < 1.0 < high for low, high in map(t_interval, samples)]
    assert np.mean(held) == pytest.approx(0.95, abs=0.012)


def test_one_width_has_the_plain_one_sided_bound():
    (bound,) = upper_bounds({'1.0': three(0.1, 0.2)}, margin=1.0).values()
    assert bound.upper == pytest.approx(0.1 + T_95 * 0.2, rel=1e-6)
    assert bound.below


def test_the_clearest_width_has_the_strictest_bound_and_the_last_the_plain_one():
    samples = {'a': three(-9.0, 0.1), 'b': three(-3.0, 0.1), 'c': three(0.0, 0.1)}
    bounds = upper_bounds(samples, margin=1.0)
    # 1 - 0.05 / 3, by the closed form of two degrees of freedom.
    p = 2 * (1 - 0.05 / 3) - 1
    strictest = p * np.sqrt(2 / (1 - p**2))
    assert bounds['a'].upper == pytest.approx(-9 + 0.1 * strictest, rel=1e-6)
    assert bounds['c'].upper == pytest.approx(0.1 * T_95, rel=1e-6)
    assert bounds['a'].upper + 9 > bounds['b'].upper + 3 > bounds['c'].upper
    assert all(bound.below for bound in bounds.values())


def test_behind_a_width_that_fails_none_passes():
    # Alone each would pass, since its plain bound is below 1.
    samples = {'a': three(0.0, 0.3), 'b': three(0.0, 0.3)}
    assert all(upper_bounds({'a': samples['a']}, 1.0)['a'].below for _ in samples)
    bounds = upper_bounds(samples, 1.0).values()
    assert not any(bound.below for bound in bounds)
    # What is reported says the same.
    assert min(bound.upper for bound in bounds) >= 1


def test_few_are_wrongly_found_below_when_all_are_at_the_margin():
    rng = np.random.default_rng(1)
    wrong = 0
    for _ in range(1500):
        samples = {name: rng.normal(1.0, 1.0, 5).tolist() for name in 'abc'}
        wrong += any(bound.below for bound in upper_bounds(samples, 1.0).values())
    assert wrong / 1500 < 0.05 + 0.015


@pytest.mark.parametrize(('mean', 'below'), [(0.2, True), (0.3, False), (0.4, False)])
def test_seeds_that_agree_exactly_are_judged_by_their_mean(mean, below):
    bound = upper_bounds({'1.0': [mean] * 3}, margin=0.3)['1.0']
    assert (bound.upper, bound.below) == (pytest.approx(mean), below)


def test_seeds_that_agree_to_the_image_have_the_spread_of_rounding():
    error = 0.3 / np.sqrt(12) / np.sqrt(3)
    low, high = t_interval([-0.3] * 3, resolution=0.3)
    assert (low, high) == pytest.approx((-0.3 - T_975 * error, -0.3 + T_975 * error))
    (bound,) = upper_bounds({'1.0': [-0.1] * 3}, 0.0, resolution=0.3).values()
    assert bound.upper == pytest.approx(-0.1 + T_95 * error)
    assert not bound.below
    # Where they differ by more, nothing is added to their spread.
    assert t_interval(three(2, 1), resolution=0.3) == t_interval(three(2, 1))


def test_one_seed_has_no_interval():
    with pytest.raises(ValueError, match='1 seed has no spread'):
        t_interval([0.5])
