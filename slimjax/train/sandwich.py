"""Which widths a step of a universally slimmable network trains (US-Nets, section 3).

The sandwich rule: the widest, the narrowest, and some between them that are drawn anew
for each step, as a function of the seed and the step alone.
"""

import dataclasses
from collections.abc import Iterable

import numpy as np

from slimjax.models.grid import WidthGrid


@dataclasses.dataclass(frozen=True)
class Sandwich:
    """The sandwich rule over the distinct networks of a range.

    No network is drawn twice for a step, nor the widest or the narrowest, which are
    trained in any case.

    Attributes:
        grid: the networks.
        count: how many a step trains, the widest and the narrowest among them.
        seed: of the drawing.

    Raises:
        ValueError: more networks a step than there are, or fewer than two.

    Example:
        >>> rule = Sandwich(WidthGrid((0.25, 0.5, 0.75, 1.0), (0.25,) * 4), 3, seed=0)
        >>> widths = rule.widths(step=7)
        >>> widths == rule.widths(step=7), len(widths), widths[0], widths[-1]
        (True, 3, 1.0, 0.25)
    """

    grid: WidthGrid
    count: int
    seed: int

    def __post_init__(self):
        found = len(self.grid.widths)
        if not 2 <= self.count <= found:
            raise ValueError(
                f'sandwich={self.count}: a step trains the widest, the narrowest and '
                f'some between them, so 2 to {found}, the distinct networks there are'
            )

    @property
    def widest(self) -> float:
        return self.grid.widths[-1]

    @property
    def narrowest(self) -> float:
        return self.grid.widths[0]

    def widths(self, step: int) -> tuple[float, ...]:
        """Returns the widths that the step trains, widest first.

        Args:
            step: number of steps done before it.
        """
        inner = self.grid.widths[1:-1]
        shares = np.array(self.grid.shares[1:-1])
        # Random access by step, the same on every machine.
        draws = np.random.Generator(np.random.Philox(key=[self.seed, step]))
        drawn = set()
        while len(drawn) < self.count - 2:
            ends = np.cumsum(shares)
            index = np.searchsorted(ends, draws.random() * ends[-1], side='right')
            drawn.add(inner[index])
            shares[index] = 0
        return (self.widest, *sorted(drawn, reverse=True), self.narrowest)

    def all_widths(self, steps: Iterable[int]) -> tuple[float, ...]:
        """Returns every width that any of `steps` trains, widest first."""
        found = {self.widest, self.narrowest}
        for step in steps:
            found |= set(self.widths(step))
            if len(found) == len(self.grid.widths):
                break
        return tuple(sorted(found, reverse=True))
