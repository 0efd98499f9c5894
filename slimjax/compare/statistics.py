"""What few seeds can tell: intervals of a mean, and bounds that hold for all widths."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

LEVEL = 0.95


def t_interval(values: Sequence[float], level: float = LEVEL) -> tuple[float, float]:
    """Returns the two-sided interval of a mean, by Student's t.

    Args:
        values: one for each seed, two or more.
        level: how often such an interval holds the true mean.

    Raises:
        ValueError: fewer than two values, whose spread is not known.

    Example:
        >>> low, high = t_interval([1.0, 2.0, 3.0])
        >>> round(low, 3), round(high, 3)
        (-0.484, 4.484)
    """
    half = _quantile(values, (1 + level) / 2)
    return float(np.mean(values) - half), float(np.mean(values) + half)


@dataclasses.dataclass(frozen=True)
class Bound:
    """An upper bound of one width's mean, where a bound is asked of all widths.

    Attributes:
        upper: the one-sided bound, at the level that Holm's procedure gives this width.
        below: whether it, and that of each width tested before it, is below the margin.
    """

    upper: float
    below: bool


def upper_bounds(
    samples: Mapping[str, Sequence[float]], margin: float, level: float = LEVEL
) -> dict[str, Bound]:
    """Returns one-sided upper bounds of several means, by Holm's procedure (1979).

    The clearest is tested first, at `1 - (1 - level) / widths`, the next at
    `1 - (1 - level) / (widths - 1)`, and so on to the first that fails: so the chance
    that any width is wrongly found below the margin is at most `1 - level`.

    Args:
        samples: of each width, one value for each seed, two or more.
        margin: what the means are compared with.
        level: of all bounds together.

    Raises:
        ValueError: a width has fewer than two values.

    Example:
        >>> bounds = upper_bounds({'0.5': [0.1, 0.2, 0.3], '1.0': [0.9, 1.0, 1.1]}, 1.0)
        >>> {width: bound.below for width, bound in bounds.items()}
        {'0.5': True, '1.0': False}
    """
    ranked = sorted(samples, key=lambda name: _p_value(samples[name], margin))
    bounds, holds = {}, True
    for done, name in enumerate(ranked):
        own = 1 - (1 - level) / (len(ranked) - done)
        upper = float(np.mean(samples[name])) + _quantile(samples[name], own)
        holds = holds and upper < margin
        bounds[name] = Bound(upper, holds)
    return {name: bounds[name] for name in samples}


def _quantile(values: Sequence[float], level: float) -> float:
    """The t quantile, in units of the values: how far the mean may be off."""
    if len(values) < 2:
        raise ValueError(f'{len(values)} seed has no spread: 2 or more are needed')
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    return float(stats.t.ppf(level, len(values) - 1) * error)


def _p_value(values: Sequence[float], margin: float) -> float:
    """How likely a mean this far below the margin is, were the true one at it."""
    distance = np.mean(values) - margin
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    if error == 0:
        return float(distance >= 0)
    return float(stats.t.cdf(distance / error, len(values) - 1))
