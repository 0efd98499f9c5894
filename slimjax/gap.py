"""How far two sets of BatchNorm statistics are apart."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from flax.traverse_util import flatten_dict

from slimjax.variables import stats_collections
from slimjax.width import Width, width_name


class Gap(NamedTuple):
    """How far two sets of statistics of one width are apart, over all channels.

    Attributes:
        mean: root mean square of the differences of means, in standard deviations.
        var: root mean square of the differences of variances, in variances.
        largest: the largest difference of either.
    """

    mean: float
    var: float
    largest: float

    def line(self) -> str:
        """Returns it for a person.

        Example:
            >>> Gap(0.004, 0.01, 0.05).line()
            'means 0.400 % of a standard deviation, variances 1.000 %, at most 5.000 %'
        """
        return (
            f'means {100 * self.mean:.3f} % of a standard deviation, variances '
            f'{100 * self.var:.3f} %, at most {100 * self.largest:.3f} %'
        )


def statistics_gap(
    variables: Mapping[str, Any],
    others: Mapping[str, Any],
    width: Width,
    *,
    epsilon: float = 1e-5,
) -> Gap:
    """Returns how far apart the statistics of `width` are in two trees of variables.

    Args:
        variables: of a model.
        others: of the same model; the difference is measured in their deviations.
        width: one that both have.
        epsilon: added to the variances, as the norms do.

    Raises:
        ValueError: the variables have no statistics of `width`.

    Example:
        >>> one, other = (
        ...     {'batch_stats_0.5': {'mean': np.array([m]), 'var': np.array([1.0])}}
        ...     for m in (0.1, 0.0))
        >>> round(statistics_gap(one, other, 0.5).mean, 4)
        0.1
    """
    names = stats_collections(others, width)
    if not names or names != stats_collections(variables, width):
        raise ValueError(
            f'the variables have no statistics of width {width_name(width)}'
        )
    ours, theirs = (
        flatten_dict({name: tree[name] for name in names})
        for tree in (variables, others)
    )
    means, variances = [], []
    for path in theirs:
        if path[-1] != 'mean':
            continue
        var_path = (*path[:-1], 'var')
        scale = np.float64(theirs[var_path]) + epsilon
        step = np.float64(ours[path]) - np.float64(theirs[path])
        means.append(step / np.sqrt(scale))
        step = np.float64(ours[var_path]) - np.float64(theirs[var_path])
        variances.append(step / scale)
    means, variances = np.concatenate(means), np.concatenate(variances)
    return Gap(
        float(np.sqrt(np.square(means).mean())),
        float(np.sqrt(np.square(variances).mean())),
        float(max(np.abs(means).max(), np.abs(variances).max())),
    )
