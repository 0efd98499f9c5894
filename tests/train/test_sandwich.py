"""Which widths a step trains."""

import numpy as np
import pytest

from slimjax.models.grid import WidthGrid
from slimjax.train.sandwich import Sandwich
from tests.statistics import SIGMAS

GRID = WidthGrid((0.25, 0.4, 0.6, 0.8, 1.0), (0.1, 0.2, 0.4, 0.2, 0.1))


def test_a_step_trains_the_widest_the_narrowest_and_others_between():
    rule = Sandwich(GRID, 4, seed=3)
    for step in range(200):
        widths = rule.widths(step)
        assert widths == tuple(sorted(set(widths), reverse=True))
        assert (len(widths), widths[0], widths[-1]) == (4, 1.0, 0.25)


def test_the_widths_are_a_function_of_seed_and_step():
    rule = Sandwich(GRID, 3, seed=3)
    drawn = [rule.widths(step) for step in range(50)]
    assert [Sandwich(GRID, 3, seed=3).widths(step) for step in range(49, -1, -1)] == (
        drawn[::-1]
    )
    assert [Sandwich(GRID, 3, seed=4).widths(step) for step in range(50)] != drawn
    # A run that is resumed in ten years draws the same.
    first = [widths[1] for widths in drawn[:8]]
    assert first == [0.8, 0.6, 0.8, 0.8, 0.8, 0.4, 0.8, 0.4]


def test_networks_are_drawn_as_often_as_widths_are_theirs():
    rule, steps = Sandwich(GRID, 3, seed=0), 4000
    drawn = [rule.widths(step)[1] for step in range(steps)]
    for width, share in ((0.4, 0.25), (0.6, 0.5), (0.8, 0.25)):
        bound = SIGMAS * np.sqrt(share * (1 - share) / steps)
        assert abs(drawn.count(width) / steps - share) < bound


def test_all_widths_are_those_of_the_steps_to_come():
    rule = Sandwich(GRID, 3, seed=0)
    few = rule.all_widths(range(5, 7))
    assert set(few) == {*rule.widths(5), *rule.widths(6)}
    assert rule.all_widths(range(10**9)) == (1.0, 0.8, 0.6, 0.4, 0.25)


@pytest.mark.parametrize('count', [1, 6])
def test_more_widths_than_networks_are_refused(count):
    with pytest.raises(ValueError, match=f'sandwich={count}: .* so 2 to 5'):
        Sandwich(GRID, count, seed=0)
