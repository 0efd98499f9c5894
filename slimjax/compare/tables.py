"""Channel tables for the budgets of the widths: searched (AutoSlim), or drawn.

A table has the name of the width whose multiply-adds it may take.
"""

import dataclasses
import pathlib
import tempfile
from collections.abc import Callable, Mapping

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
    budgets: Mapping[str, int],
    seed: int,
    say: Callable[[str], None],
) -> tuple[ChannelTable, ...]:
    """Returns what a greedy search over a trained supernet finds, widest first.

    Interrupted and called again, it goes on where it was.

    Args:
        supernet: its workdir.
        budgets: by name, the most multiply-adds.
        seed: of the search.
        say: prints a line for a person.

    Raises:
        ValueError: a network, data or budgets that cannot be searched with.
    """
    targets = ','.join(f'{macs / 1e3!r}k' for macs in budgets.values())
    with tempfile.TemporaryDirectory() as folder:
        output = pathlib.Path(folder, 'channels.json')
        search_workdir(supernet, targets, output, Settings(seed=seed), say=say)
        found = load_channels(output)
    names = sorted(budgets, key=budgets.get, reverse=True)
    return tuple(
        dataclasses.replace(table, name=name)
        for table, name in zip(found, names, strict=True)
    )


def drawn_tables(
    supernet: Run, budgets: Mapping[str, int], seed: int
) -> tuple[ChannelTable, ...]:
    """Returns tables drawn at random from what a search chooses among, widest first.

    Args:
        supernet: whose layers they are; it need not be trained.
        budgets: by name, the multiply-adds, of which a table takes 99 % or more.
        seed: decides.

    Raises:
        ValueError: nothing fits a budget.
    """
    space = search_space(supernet.model.clone(axis_name=None), supernet.image_shape)
    rng = np.random.default_rng(seed)
    return widest_first(
        [
            space.table(
                draw(space, rng, space.macs, (1 - _TOLERANCE) * macs, macs), name
            )
            for name, macs in budgets.items()
        ]
    )
