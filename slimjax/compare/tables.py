"""Channel tables for the budgets of the widths: searched (AutoSlim), or drawn.

Tables are named '1', '2', ... from the smallest: one may not be called as a width is.
"""

import pathlib
import tempfile
from collections.abc import Callable, Sequence

import numpy as np

from slimjax.channel_file import load_channels
from slimjax.search.command import search_workdir
from slimjax.search.draw import draw
from slimjax.search.run import Settings
from slimjax.search.space import search_space
from slimjax.train.run import Run
from slimjax.width import ChannelTable, widest_first

# How far below its budget a table may be drawn.
_TOLERANCE = 0.01


def searched_tables(
    supernet: str | pathlib.Path,
    budgets: Sequence[int],
    seed: int,
    say: Callable[[str], None],
) -> tuple[ChannelTable, ...]:
    """Returns what a greedy search over a trained supernet finds, widest first.

    Interrupted and called again, it goes on where it was.

    Args:
        supernet: its workdir.
        budgets: the most multiply-adds, of each table.
        seed: of the search.
        say: prints a line for a person.

    Raises:
        ValueError: a network, data or budgets that cannot be searched with.
    """
    targets = ','.join(f'{macs / 1e3!r}k' for macs in budgets)
    with tempfile.TemporaryDirectory() as folder:
        output = pathlib.Path(folder, 'channels.json')
        search_workdir(supernet, targets, output, Settings(seed=seed), say=say)
        return load_channels(output)


def drawn_tables(
    supernet: Run, budgets: Sequence[int], seed: int
) -> tuple[ChannelTable, ...]:
    """Returns tables drawn at random from what a search chooses among, widest first.

    Args:
        supernet: whose layers they are; it need not be trained.
        budgets: multiply-adds, of which a table takes 99 % or more.
        seed: decides.

    Raises:
        ValueError: nothing fits a budget.
    """
    space = search_space(supernet.model.clone(axis_name=None), supernet.image_shape)
    rng = np.random.default_rng(seed)
    return widest_first(
        [
            space.table(
                draw(space, rng, space.macs, (1 - _TOLERANCE) * macs, macs),
                str(number),
            )
            for number, macs in enumerate(sorted(budgets), start=1)
        ]
    )
