"""Which widths a step of a universally slimmable network trains (US-Nets, section 3).

The sandwich rule: the widest, the narrowest, and some between them that are drawn anew
for each step, as a function of the seed and the step alone.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from slimjax.models.common import SlimmableClassifier
from slimjax.models.grid import WidthGrid, width_grid
from slimjax.norm import SHARED_STATS


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


def make_sandwich(
    config: Mapping[str, Any],
    model: SlimmableClassifier,
    image_shape: tuple[int, int, int],
) -> Sandwich | None:
    """Returns the rule of a config; None where every step trains all widths.

    Args:
        config: complete: `sandwich`, `width_grid`, `max_programs`, `seed` and `model`.
        model: what it describes, under no mapped axis.
        image_shape: height and width in pixels, and channels.

    Raises:
        ValueError: names the field, before anything is compiled.

    Example:
        >>> import slimjax
        >>> fields = {'norm': 'shared_affine', 'stage_sizes': (1,)}
        >>> model = slimjax.create_model('resnet14', widths=(0.5, 1.0), **fields)
        >>> config = {'sandwich': 3, 'width_grid': 0.25, 'max_programs': 256, 'seed': 0}
        >>> make_sandwich(config, model, (32, 32, 3)).grid.widths
        (0.5, 0.75, 1.0)
    """
    if not config['sandwich']:
        return None
    if SHARED_STATS in model.stats_collections():
        raise ValueError(
            f'config.model_fields: with sandwich={config["sandwich"]}, the statistics '
            f"of {config['model']}'s tail cannot be right for all widths; set "
            'model_fields.private_tail_stats=True'
        )
    try:
        grid = width_grid(model, image_shape, config['width_grid'])
        if len(grid.widths) > config['max_programs']:
            raise ValueError(
                f'max_programs={config["max_programs"]}: {len(grid.widths)} distinct '
                f'networks are more; allow them, or take a coarser width_grid than '
                f'{config["width_grid"]}, such as 0.03125'
            )
        return Sandwich(grid, config['sandwich'], config['seed'])
    except ValueError as error:
        raise ValueError(f'config.{error}') from None
