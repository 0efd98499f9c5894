"""The widest width with which one request still makes its deadline."""

import collections
import math
from collections.abc import Iterable, Mapping

from slimjax.deploy.costs import Cost, check_costs

# Of 40 values in no particular order, the next one is among the two largest with a
# chance of 1 in 20. (The largest of 19 would tell the same, but from a single outlier.)
_REMEMBERED = 39


class Deadlines:
    """Forecasts what the next request costs at each width, at most, 19 times in 20.

    The forecast is the second largest cost of the last 39 requests at that width. Where
    there were not as many of late, it is told from the last 39 at any width, by the
    ratio of what the widths cost undisturbed.

    Args:
        costs: of each width, widest first.
        horizon: seconds for which a request tells something.

    Raises:
        ValueError: no widths, or a cost or horizon that is no positive number.

    Example:
        >>> deadlines = Deadlines({'1.0': Cost(8, 9), '0.5': Cost(3, 4)})
        >>> deadlines.widest(10, time=0), deadlines.widest(5, time=0)
        ('1.0', '0.5')
        >>> deadlines.observe('0.5', cost=6, time=0)  # twice what is typical
        >>> deadlines.widest(10, time=0), deadlines.widest(5, time=0)
        ('0.5', None)
    """

    def __init__(self, costs: Mapping[str, Cost], horizon: float = 10.0):
        check_costs(costs)
        if not 0 < horizon < math.inf:
            raise ValueError(f'horizon={horizon}: seconds above 0 are expected')
        self.costs, self.horizon = dict(costs), horizon
        self._own = {name: collections.deque(maxlen=_REMEMBERED) for name in costs}
        self._slowdowns = collections.deque(maxlen=_REMEMBERED)

    def observe(self, width: str, cost: float, time: float) -> None:
        """Takes in what a request cost at a width, at a time in seconds."""
        self._own[width].append((time, cost))
        self._slowdowns.append((time, cost / self.costs[width].typical))

    def expected(self, width: str, time: float) -> float:
        """Returns what a request costs at a width, at most, 19 times in 20."""
        own = self._recent(self._own[width], time)
        if len(own) == _REMEMBERED:
            return _second_largest(own)
        slowdowns = self._recent(self._slowdowns, time)
        cost = self.costs[width]
        return cost.typical * _second_largest(slowdowns) if slowdowns else cost.slow

    def widest(self, left: float, time: float) -> str | None:
        """Returns the widest width that makes it, or None where none does.

        Args:
            left: until the deadline, in the unit of the costs.
            time: in seconds, of the clock that observations have.
        """
        fitting = (name for name in self.costs if self.expected(name, time) <= left)
        return next(fitting, None)

    def _recent(self, seen: Iterable[tuple[float, float]], time: float) -> list[float]:
        return [value for at, value in seen if time - at <= self.horizon]


def _second_largest(values: list[float]) -> float:
    return sorted(values)[-2:][0]
