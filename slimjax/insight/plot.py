"""Accuracy against multiply-adds, as a picture."""

import math
import pathlib
from collections.abc import Mapping
from typing import Any

from slimjax.insight.table import format_count
from slimjax.whole_file import whole_file

Results = Mapping[str, Any]
# (multiply-adds, top-1 in per cent, width)
Points = list[tuple[float, float, str]]

_COLORS = ('#0b6e99', '#d1495b', '#6a994e', '#8d6a9f', '#7a7a7a')
_MARKERS = 'osD^v'
# From this ratio of multiply-adds on, the axis is logarithmic.
_LOG_RATIO = 4
# Labels of one series stand at least this share of the axis apart.
_LABEL_DISTANCE = 0.08


def plot_accuracy(
    results: Results,
    path: str | pathlib.Path,
    title: str = '',
    *,
    label: str = 'slimmable',
    others: Mapping[str, Results] | None = None,
) -> None:
    """Draws the top-1 accuracy of every width against its multiply-adds.

    Args:
        results: `{'widths': {'0.25': {'macs': ..., 'top1': ...}}}`, top-1 as fraction;
            a width that lacks one of the two is left out.
        path: a PNG file, written whole or not at all.
        title: stands above the plot.
        label: what `results` are called where `others` stand beside them.
        others: further results by name, such as those of networks trained alone.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: no width has both values.

    Example:
        >>> import tempfile
        >>> results = {'widths': {'0.5': {'macs': 5e6, 'top1': 0.5}}}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     plot_accuracy(results, pathlib.Path(folder, 'accuracy.png'), 'Digits')
    """
    figure = new_figure((7, 4.5))
    series = {
        name: _points(name, each)
        for name, each in {label: results, **(others or {})}.items()
    }
    axes = figure.add_subplot()
    share = _scale_axes(axes, [point for points in series.values() for point in points])
    for number, (name, points) in enumerate(series.items()):
        color = _COLORS[number % len(_COLORS)]
        axes.plot(
            [macs for macs, _, _ in points],
            [accuracy for _, accuracy, _ in points],
            marker=_MARKERS[number % len(_MARKERS)],
            linestyle='--' if number else '-',
            linewidth=1.8,
            markersize=6,
            color=color,
            label=name,
        )
        rivals = [each for other, each in series.items() if other != name]
        _label_points(axes, points, rivals, share, color)
    axes.set_title(title)
    if others:
        axes.legend(frameon=False, loc='lower right')
    save_png(figure, pathlib.Path(path))


def _points(name: str, results: Results) -> Points:
    points = sorted(
        (values['macs'], 100 * values['top1'], width)
        for width, values in results['widths'].items()
        if values.get('macs') and math.isfinite(values.get('top1', math.nan))
    )
    if not points:
        raise ValueError(
            f'{name}: no width has both macs and top1, so nothing is drawn'
        )
    return points


def _scale_axes(axes, points: Points):
    """Sets up the axes; returns where along the first one a number falls, 0 to 1."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

    macs, accuracies, _ = zip(*points, strict=True)
    low, high = min(macs), max(macs)
    log = high > _LOG_RATIO * low
    if log:
        ratio = (high / low) ** 0.12
        low, high = low / ratio, high * ratio
        axes.set_xscale('log')
        subs = (1, 2, 5) if high / low < 300 else (1,)
        axes.xaxis.set_major_locator(LogLocator(subs=subs))
    else:
        margin = 0.12 * (high - low or high)
        low, high = low - margin, high + margin
        axes.xaxis.set_major_locator(MaxNLocator(7, steps=(1, 2, 5, 10)))
    axes.set_xlim(low, high)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))
    axes.minorticks_off()
    # A network that is right about everything is not spread over the whole height.
    spread = max(max(accuracies) - min(accuracies), 1)
    bottom, top = min(accuracies) - 0.25 * spread, max(accuracies) + 0.3 * spread
    ticks = MaxNLocator(9, steps=(1, 2, 5, 10)).tick_values(bottom, top)
    axes.set_yticks([tick for tick in ticks if max(bottom, 0) <= tick <= min(top, 100)])
    axes.set_ylim(bottom, top)
    axes.set_xlabel('multiply-adds an image')
    axes.set_ylabel('top-1 accuracy, %')
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[['top', 'right']].set_visible(False)

    def share(value: float) -> float:
        if log:
            return math.log(value / low) / math.log(high / low)
        return (value - low) / (high - low)

    return share


def _tick(value: float) -> str:
    number, _, unit = format_count(value).partition(' ')
    return f'{float(number):g} {unit}'.strip()


def _label_points(axes, points: Points, rivals: list[Points], share, color) -> None:
    """Writes width and accuracy at the points, as far as there is room."""
    labelled = []
    # The ends come first: between them stands what there is room for.
    for macs, accuracy, width in [points[-1], *points[:1], *points[-2:0:-1]]:
        beside = [y for each in rivals for _, y, name in each if name == width]
        above = all(accuracy >= other for other in beside)
        below = bool(beside) and all(accuracy < other for other in beside)
        place = share(macs)
        crowded = any(abs(place - other) < _LABEL_DISTANCE for other in labelled)
        if crowded or not (above or below):
            continue
        labelled.append(place)
        times = '\N{MULTIPLICATION SIGN}' if width.replace('.', '').isdigit() else ''
        axes.annotate(
            f'{width}{times}\n{accuracy:.1f} %',
            (macs, accuracy),
            # Aside, as the curve rises to the right.
            xytext=(-8, 6) if above else (8, -6),
            textcoords='offset points',
            ha='center',
            va='bottom' if above else 'top',
            fontsize=8.5,
            color=color,
        )


def new_figure(size: tuple[float, float], dpi: int = 150):
    """Returns an empty Matplotlib figure, which leaves the user's pyplot alone.

    Args:
        size: width and height in inches.
        dpi: pixels an inch.

    Raises:
        ImportError: matplotlib is not installed.

    Example:
        >>> new_figure((4, 3)).axes
        []
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError(
            "a plot needs matplotlib: pip install 'slimjax[demo]'"
        ) from None
    figure = Figure(figsize=size, dpi=dpi, layout='constrained')
    # A canvas of its own: pyplot would choose a backend.
    FigureCanvasAgg(figure)
    return figure


def save_png(figure, path: pathlib.Path) -> None:
    """Writes a Matplotlib figure to a PNG file, whole or not at all."""
    with whole_file(path) as temporary:
        figure.savefig(temporary, format='png')
