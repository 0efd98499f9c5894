"""The paper's Figure 4 as a picture: norms over widths, and disagreement over depth."""

import pathlib
from collections.abc import Sequence

from slimjax.insight.norm_statistics import QUANTITIES, NormStatistics
from slimjax.insight.plot import new_figure, save_png
from slimjax.width import width_name


def plot_norm_statistics(
    found: NormStatistics,
    path: str | pathlib.Path,
    title: str = '',
    *,
    norms: Sequence[str] = (),
    channels: Sequence[int] = tuple(range(8)),
) -> None:
    """Draws what chosen channels hold at every width, and discrepancy against depth.

    Args:
        found: what `norm_statistics` returns.
        path: a PNG file, written whole or not at all.
        title: stands above the picture.
        norms: names of norms, a column each; () for the first and the last.
        channels: their numbers, a line each; where a width has no such channel, its
            line ends.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: there is no such norm, or none of the channels.
    """
    norms = tuple(norms) or (next(iter(found.values)), list(found.values)[-1])
    for name in norms:
        if name not in found.values:
            raise ValueError(
                f'there is no norm {name!r}; there are {", ".join(found.values)}'
            )
        most = max(len(own['mean']) for own in found.values[name].values())
        if not any(0 <= channel < most for channel in channels):
            raise ValueError(
                f'channels {", ".join(map(str, channels))}: {name} has 0 to {most - 1}'
            )
    figure = new_figure((3 * len(norms) + 4, 7), dpi=100)
    panels = figure.subplots(
        len(QUANTITIES),
        len(norms) + 1,
        sharex='col',
        squeeze=False,
        width_ratios=[1] * len(norms) + [1.3],
    )
    for row, quantity in zip(panels, QUANTITIES, strict=True):
        for panel, name in zip(row, norms, strict=False):
            _lines(panel, found, name, quantity, channels)
        row[0].set_ylabel(quantity)
        _depth(row[-1], found, quantity)
    for panel, name in zip(panels[0], norms, strict=False):
        panel.set_title(name, fontsize=10)
    for panel in panels[-1][:-1]:
        panel.set_xlabel('width, a line a channel')
    panels[0][-1].set_title('discrepancy of the widths', fontsize=10)
    panels[-1][-1].set_xlabel('depth, norms from the images')
    for panel in panels.flat:
        panel.grid(alpha=0.25, linewidth=0.6)
        panel.spines[['top', 'right']].set_visible(False)
    figure.suptitle(title)
    save_png(figure, pathlib.Path(path))


def _lines(panel, found: NormStatistics, name: str, quantity: str, channels) -> None:
    from matplotlib import colormaps

    widths = list(reversed(found.values[name]))
    for number, channel in enumerate(channels):
        held = [
            (place, found.values[name][width][quantity][channel])
            for place, width in enumerate(widths)
            if channel < len(found.values[name][width][quantity])
        ]
        if held:
            color = colormaps['tab10'](number % 10)
            panel.plot(*zip(*held, strict=True), marker='.', color=color, linewidth=1.3)
    panel.set_xticks(range(len(widths)), [width_name(width) for width in widths])


def _depth(panel, found: NormStatistics, quantity: str) -> None:
    values = found.discrepancy(quantity)
    panel.plot(
        range(1, len(values) + 1), values, marker='.', color='#0b6e99', linewidth=1.3
    )
    panel.set_ylim(0, None)
    panel.text(
        0.98,
        0.04,
        f'rank correlation {found.depth_correlation(quantity):.2f}',
        transform=panel.transAxes,
        ha='right',
        fontsize=8.5,
    )
