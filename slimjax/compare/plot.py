"""Regret of every arm and width, with intervals, as a picture."""

import pathlib
from collections.abc import Mapping
from typing import Any

from slimjax.compare.metric import metric_title, scored
from slimjax.insight.plot import new_figure, save_png
from slimjax.insight.plot_naive import width_color


def plot_regret(
    results: Mapping[str, Any], path: str | pathlib.Path, title: str = ''
) -> None:
    """Draws the regret of each arm at each width against the individual networks.

    Args:
        results: what `comparison_results` returns.
        path: a PNG file, written whole or not at all.
        title: stands above the plot.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: nothing is compared with the individual networks.

    Example:
        >>> import tempfile
        >>> regret = {'slimmable_sum': {'1.0': {'mean': 0.1, 'ci95': [-0.2, 0.4]}}}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, 'regret.png')
        ...     plot_regret({'regret': regret, 'margin': 0.3}, path)
    """
    regret = results['regret']
    if not regret:
        raise ValueError(f'{path}: there is no arm whose regret could be drawn')
    widths = list(next(iter(regret.values())))
    step = 1 / (len(widths) + 1)
    figure = new_figure((7, 0.8 + 0.62 * len(regret)), dpi=110)
    axes = figure.add_subplot()
    for number, width in enumerate(widths):
        means = [of[width]['mean'] for of in regret.values()]
        ends = [of[width]['ci95'] for of in regret.values()]
        below = [mean - low for mean, (low, _) in zip(means, ends, strict=True)]
        above = [high - mean for mean, (_, high) in zip(means, ends, strict=True)]
        axes.errorbar(
            means,
            [row + (number + 1) * step - 0.5 for row in range(len(regret))],
            xerr=[below, above],
            fmt='o',
            markersize=4.5,
            linewidth=1.6,
            color=width_color(number, len(widths)),
            label=width,
        )
    axes.axvline(0, color='#555555', linewidth=0.9)
    axes.axvline(
        results['margin'],
        color='#d1495b',
        linewidth=0.9,
        linestyle='--',
        label='margin',
    )
    for row in range(1, len(regret)):
        axes.axhline(row - 0.5, color='#dddddd', linewidth=0.6)
    axes.set_yticks(range(len(regret)), list(regret))
    axes.set_ylim(len(regret) - 0.5, -0.5)
    axes.tick_params(axis='y', length=0)
    measured = metric_title(scored(results))
    axes.set_xlabel(f'regret in points of {measured}, 95 % interval (positive: worse)')
    axes.grid(axis='x', alpha=0.25, linewidth=0.6)
    axes.spines[['top', 'right', 'left']].set_visible(False)
    axes.legend(
        frameon=False,
        fontsize=8.5,
        title='width',
        loc='center left',
        bbox_to_anchor=(1, 0.5),
    )
    axes.set_title(title, fontsize=11)
    save_png(figure, pathlib.Path(path))
