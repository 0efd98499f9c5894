"""What a controller did over time, as a picture."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from slimjax.insight.plot import new_figure, save_png
from slimjax.insight.plot_naive import width_color


class Story(NamedTuple):
    """What happened to requests.

    Attributes:
        time: `[requests]`, seconds.
        cost: `[requests]`, milliseconds.
        width: `[requests]`, its number, 0 for the widest.
        shaded: spans of seconds to be marked.
        legend: what they are.
    """

    time: np.ndarray
    cost: np.ndarray
    width: np.ndarray
    shaded: Sequence[tuple[float, float]] = ()
    legend: str = ''


def plot_stories(
    stories: Mapping[str, Story],
    names: Sequence[str],
    budget: float,
    path: str | pathlib.Path,
    title: str = '',
) -> None:
    """Draws the cost and width of every request, a row a story.

    Args:
        stories: by their headlines.
        names: of the widths, widest first.
        budget: milliseconds.
        path: a PNG file, written whole or not at all.
        title: stands above the picture.

    Raises:
        ImportError: matplotlib is not installed.

    Example:
        >>> import tempfile
        >>> story = Story(np.arange(2.0), np.array([9.0, 2.0]), np.array([0, 1]))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, 'story.png')
        ...     plot_stories({'one': story}, ['1.0', '0.5'], 5.0, path)
    """
    figure = new_figure((11, 2.3 * len(stories) + 0.5), dpi=100)
    panels = figure.subplots(len(stories), 1, squeeze=False)[:, 0]
    for panel, (headline, story) in zip(panels, stories.items(), strict=True):
        for start, end in story.shaded:
            panel.axvspan(start, end, color='#f2e3c6', linewidth=0)
        for number, name in enumerate(names):
            own = story.width == number
            panel.plot(
                story.time[own],
                story.cost[own],
                '.',
                markersize=2,
                color=width_color(number, len(names)),
                label=name,
                rasterized=True,
            )
        panel.axhline(budget, color='#d1495b', linewidth=1.2)
        panel.set_yscale('log')
        panel.yaxis.set_major_formatter('{x:g}')
        panel.yaxis.set_minor_formatter('')
        panel.set_ylabel('ms')
        panel.margins(x=0.01)
        panel.set_title(headline, fontsize=10, loc='left')
        panel.spines[['top', 'right']].set_visible(False)
    panels[-1].set_xlabel('seconds')
    # Every width, also where the first story has none of it.
    figure.legend(
        *panels[0].get_legend_handles_labels(),
        title='width',
        ncols=len(names),
        loc='outside upper right',
        fontsize=8,
        markerscale=5,
        frameon=False,
    )
    figure.suptitle(title, fontsize=10)
    save_png(figure, pathlib.Path(path))
