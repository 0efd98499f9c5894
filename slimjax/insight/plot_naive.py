"""The paper's Figure 2 as a picture: errors against epochs."""

import pathlib

from slimjax.insight.naive import CURVES, NaiveCurves
from slimjax.insight.plot import new_figure, save_png

TITLES = {
    'shared': 'shared BatchNorm (naive)',
    'calibrated': 'shared, then calibrated',
    'private': 'switchable BatchNorm',
}
_COLORS = {'shared': '#d1495b', 'private': '#0b6e99'}


def plot_naive(curves: NaiveCurves, path: str | pathlib.Path, title: str = '') -> None:
    """Draws the training error of the widest, and validation errors of every width.

    Args:
        curves: what was read.
        path: a PNG file, written whole or not at all.
        title: stands above the plot.

    Raises:
        ImportError: matplotlib is not installed.

    Example:
        >>> import tempfile
        >>> points = [(1.0, 0.5), (2.0, 0.25)]
        >>> curves = NaiveCurves(
        ...     {'shared': points, 'private': points},
        ...     {curve: {'1.0': points} for curve in CURVES},
        ... )
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     plot_naive(curves, pathlib.Path(folder, 'naive.png'), 'Digits')
    """
    figure = new_figure((13, 3.7), dpi=100)
    panels = figure.subplots(1, 1 + len(CURVES), sharex=True, sharey=True)
    for arm, points in curves.train.items():
        _line(panels[0], points, TITLES[arm], _COLORS[arm])
    panels[0].set_title('training, widest', fontsize=10)
    for panel, curve in zip(panels[1:], CURVES, strict=True):
        widths = curves.evaluation[curve]
        for number, (width, points) in enumerate(widths.items()):
            _line(panel, points, width, width_color(number, len(widths)))
        panel.set_title(f'validation: {TITLES[curve]}', fontsize=10)
    for panel in panels:
        panel.set_xlabel('epoch')
        panel.set_ylim(-0.01, 1)
        panel.yaxis.set_major_formatter(lambda error, _: f'{100 * error:g}')
        panel.grid(alpha=0.25, linewidth=0.6)
        panel.spines[['top', 'right']].set_visible(False)
    panels[0].set_ylabel('error, %')
    panels[0].legend(frameon=False, fontsize=8.5)
    panels[-1].legend(frameon=False, fontsize=8.5, title='width')
    figure.suptitle(title)
    save_png(figure, pathlib.Path(path))


def _line(panel, points, label: str, color) -> None:
    epochs, errors = zip(*points, strict=True)
    style = {'linewidth': 1.6, 'marker': '.', 'markersize': 5}
    panel.plot(epochs, errors, label=label, color=color, **style)


def width_color(number: int, count: int):
    """Returns the colour of a width, from dark (the widest) to light.

    Args:
        number: its place, widest first.
        count: how many there are.

    Example:
        >>> width_color(0, 4) != width_color(3, 4)
        True
    """
    from matplotlib import colormaps

    return colormaps['viridis'](0.85 * number / max(count - 1, 1))
