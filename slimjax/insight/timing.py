"""Times of things that take turns: what else the machine does hits all alike."""

import collections
import time
from collections.abc import Callable, Hashable, Mapping
from typing import NamedTuple

import numpy as np
from scipy.stats import quantile_test

_WARM_UPS = 3


class Estimate(NamedTuple):
    """A median and the interval that holds the true one with 95 % certainty."""

    median: float
    low: float
    high: float


def estimate(values: np.ndarray) -> Estimate:
    """Returns the median of `values` and its interval, by order statistics.

    Of fewer than 6 values no interval of 95 % exists; it is then all they span.

    Example:
        >>> estimate(np.arange(21.0))
        Estimate(median=10.0, low=5.0, high=15.0)
    """
    interval = quantile_test(values, p=0.5).confidence_interval(0.95)
    # Where there is none, its ends are NaN, which these two pass over.
    low = np.fmax(interval.low, values.min())
    high = np.fmin(interval.high, values.max())
    return Estimate(float(np.median(values)), float(low), float(high))


def interleaved(
    runs: Mapping[Hashable, Callable[[], object]], repeats: int
) -> dict[Hashable, np.ndarray]:
    """Runs each of `runs` in turn, again and again, each time another one first.

    So none always has what one other left behind in the caches.

    Args:
        runs: functions that return when their work is done.
        repeats: timed runs of each, after 3 that are not.

    Returns:
        The milliseconds of each run, `[repeats]`; the same position of each array was
        measured at nearly the same time, so that ratios are taken run by run.

    Raises:
        ValueError: not a single run.

    Example:
        >>> interleaved({'nothing': lambda: None}, 5)['nothing'].shape
        (5,)
    """
    if repeats < 1:
        raise ValueError(f'repeats={repeats}: at least 1 is needed')
    milliseconds, names = {name: [] for name in runs}, collections.deque(runs)
    for _ in range(_WARM_UPS + repeats):
        for name in names:
            start = time.perf_counter()
            runs[name]()
            milliseconds[name].append(1000 * (time.perf_counter() - start))
        names.rotate(-1)
    return {name: np.array(each[_WARM_UPS:]) for name, each in milliseconds.items()}
