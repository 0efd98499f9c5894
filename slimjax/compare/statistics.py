"""What few seeds can tell: intervals of a mean, and bounds that hold for all widths."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

LEVEL = 0.95


def differences(
    ones: Mapping[str, Sequence[float]], others: Mapping[str, Sequence[float]]
) -> dict[str, list[float]]:
    """Returns by how many points scores differ, paired by seed.

    Args:
        ones: fractions of each width, one for each seed.
        others: likewise, of the same seeds; widths that only one has are left out.

    Example:
        >>> differences({'1.0': [0.75, 0.5], '0.5': [0.5, 0.5]}, {'1.0': [0.5, 0.25]})
        {'1.0': [25.0, 25.0]}
    """
    return {
        width: [100 * (one - other) for one, other in zip(ones[width], of, strict=True)]
        for width, of in others.items()
        if width in ones
    }


def described(values: Sequence[float], resolution: float = 0.0) -> dict[str, Any]:
    """Returns `mean`, `ci95` (by t over the seeds) and `per_seed` of some values.

    Example:
        >>> described([1.0, 3.0])['mean']
        2.0
    """
    return {
        'mean': float(np.mean(values)),
        'ci95': list(t_interval(values, resolution=resolution)),
        'per_seed': list(values),
    }


def t_interval(
    values: Sequence[float], level: float = LEVEL, *, resolution: float = 0.0
) -> tuple[float, float]:
    """Returns the two-sided interval of a mean, by Student's t.

    Args:
        values: one for each seed, two or more.
        level: how often such an interval holds the true mean.
        resolution: the step in which values come, such as the points that an image of
            the test is. Seeds that agree to the image do so by chance: their spread
            counts as that of rounding at least, `resolution / sqrt(12)`.

    Raises:
        ValueError: fewer than two values, whose spread is not known.

    Example:
        >>> low, high = t_interval([1.0, 2.0, 3.0])
        >>> round(low, 3), round(high, 3)
        (-0.484, 4.484)
    """
    half = _quantile(values, (1 + level) / 2, resolution)
    return float(np.mean(values) - half), float(np.mean(values) + half)


@dataclasses.dataclass(frozen=True)
class Bound:
    """An upper bound of one width's mean, where a bound is asked of all widths.

    Attributes:
        upper: the one-sided bound, at the level that Holm's procedure gives this width;
            from the first that fails on, at that one's.
        below: whether it, and that of each width tested before it, is below the margin.
    """

    upper: float
    below: bool


def upper_bounds(
    samples: Mapping[str, Sequence[float]],
    margin: float,
    level: float = LEVEL,
    *,
    resolution: float = 0.0,
) -> dict[str, Bound]:
    """Returns one-sided upper bounds of several means, by Holm's procedure (1979).

    The clearest is tested first, at `1 - (1 - level) / widths`, the next at
    `1 - (1 - level) / (widths - 1)`, and so on to the first that fails: so the chance
    that any width is wrongly found below the margin is at most `1 - level`.

    Args:
        samples: of each width, one value for each seed, two or more.
        margin: what the means are compared with.
        level: of all bounds together.
        resolution: as in `t_interval`.

    Raises:
        ValueError: a width has fewer than two values.

    Example:
        >>> bounds = upper_bounds({'0.5': [0.1, 0.2, 0.3], '1.0': [0.9, 1.0, 1.1]}, 1.0)
        >>> {width: bound.below for width, bound in bounds.items()}
        {'0.5': True, '1.0': False}
    """
    ranked = sorted(
        samples, key=lambda name: _p_value(samples[name], margin, resolution)
    )
    bounds, holds, own = {}, True, level
    for done, name in enumerate(ranked):
        if holds:
            own = 1 - (1 - level) / (len(ranked) - done)
        upper = float(np.mean(samples[name])) + _quantile(
            samples[name], own, resolution
        )
        holds = holds and upper < margin
        bounds[name] = Bound(upper, holds)
    return {name: bounds[name] for name in samples}


def _quantile(values: Sequence[float], level: float, resolution: float) -> float:
    """The t quantile, in units of the values: how far the mean may be off."""
    if len(values) < 2:
        raise ValueError(f'{len(values)} seed has no spread: 2 or more are needed')
    error = _standard_error(values, resolution)
    return float(stats.t.ppf(level, len(values) - 1) * error)


def _standard_error(values: Sequence[float], resolution: float) -> float:
    spread = max(np.std(values, ddof=1), resolution / np.sqrt(12))
    return spread / np.sqrt(len(values))


def _p_value(values: Sequence[float], margin: float, resolution: float) -> float:
    """How likely a mean this far below the margin is, were the true one at it."""
    distance = np.mean(values) - margin
    error = _standard_error(values, resolution)
    if error == 0:
        return float(distance >= 0)
    return float(stats.t.cdf(distance / error, len(values) - 1))
