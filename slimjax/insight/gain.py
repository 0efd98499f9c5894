"""What sharing weights gains or costs each width (the paper's Table 3).

Both networks see the same images, so that the interval is of the difference image by
image, by Agresti and Min (2005, Statistics in Medicine 24): where few images differ,
the normal one is too short. It tells how sure the difference of these two networks is,
not how much another seed would change it.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

# Standard deviations to either side of a mean that hold 95 % of a normal distribution.
_DEVIATIONS = 1.96


class Gain(NamedTuple):
    """Accuracies of a width, trained alone and with others, as fractions.

    Attributes:
        individual: of the network that has only this width.
        shared: of this width of the slimmable network.
        gain: what sharing adds.
        low, high: the interval of the gain that holds the true one with 95 % certainty.
    """

    individual: float
    shared: float
    gain: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """`'better'` or `'worse'` with sharing beyond the interval, or `'equal'`."""
        if self.low > 0:
            return 'better'
        return 'worse' if self.high < 0 else 'equal'


def gain(individual: np.ndarray, shared: np.ndarray) -> Gain:
    """Returns what sharing gains on the same images.

    Args:
        individual: `[images]`, whether the network trained alone is right.
        shared: likewise, the slimmable network at that width.

    Raises:
        ValueError: not as many of each, or none.

    Example:
        >>> alone, shared = np.array([True, False]), np.array([True, True])
        >>> gain(alone, shared).gain
        0.5
    """
    if len(individual) != len(shared) or not len(shared):
        raise ValueError(
            f'{len(individual)} and {len(shared)} images: the same ones are compared'
        )
    each = shared.astype(int) - individual.astype(int)
    # As if there were two images more, half a one in each cell of the 2 x 2 table.
    count, net, differing = len(each) + 2, each.sum(), np.abs(each).sum() + 1
    centre = net / count
    margin = _DEVIATIONS * np.sqrt(differing - net**2 / count) / count
    return Gain(
        float(individual.mean()),
        float(shared.mean()),
        float(each.mean()),
        float(centre - margin),
        float(centre + margin),
    )


def gain_rows(gains: Mapping[str, Gain]) -> list[tuple[str, ...]]:
    """Returns a table of gains by width, in per cent; its first row are the titles.

    Example:
        >>> for row in gain_rows({'0.5': Gain(0.9, 0.95, 0.05, 0.02, 0.08)}):
        ...     print(*row, sep=', ')
        width, individual, shared, gain, 95 %, with sharing
        0.5, 90.00, 95.00, +5.00, +2.00 to +8.00, better
    """
    rows = [('width', 'individual', 'shared', 'gain', '95 %', 'with sharing')]
    for name, own in gains.items():
        rows.append(
            (
                name,
                f'{100 * own.individual:.2f}',
                f'{100 * own.shared:.2f}',
                f'{100 * own.gain:+.2f}',
                f'{100 * own.low:+.2f} to {100 * own.high:+.2f}',
                own.verdict,
            )
        )
    return rows
