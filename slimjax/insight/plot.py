"""Accuracy against multiply-adds, as a picture."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any


def plot_accuracy(
    results: Mapping[str, Any], path: str | pathlib.Path, *, title: str = ''
) -> None:
    """Draws the top-1 accuracy of every width against its multiply-adds.

    Args:
        results: `{'widths': {'0.25': {'macs': ..., 'top1': ...}}}`, top-1 as fraction.
        path: a PNG file, written whole or not at all.
        title: stands above the plot.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError(
            "a plot needs matplotlib: pip install 'slimjax[demo]'"
        ) from None
    points = sorted(
        (values['macs'] / 1e6, 100 * values['top1'], width)
        for width, values in results['widths'].items()
    )
    macs, accuracies, _ = zip(*points, strict=True)
    figure = Figure(figsize=(7, 4.5), dpi=120, layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot(macs, accuracies, 'o-', color='#0b6e99', linewidth=2, markersize=8)
    for x, y, width in points:
        axes.annotate(
            f'{width}x\n{y:.1f} %',
            (x, y),
            xytext=(0, 11),
            textcoords='offset points',
            ha='center',
            fontsize=9,
        )
    spread = max(accuracies) - min(accuracies) or 1
    axes.set_ylim(min(accuracies) - 0.2 * spread, max(accuracies) + 0.4 * spread)
    if max(macs) > 5 * min(macs):
        axes.set_xscale('log')
        axes.set_xlim(min(macs) / 1.5, max(macs) * 1.5)
    axes.set_xticks(macs, [f'{value:.3g}' for value in macs])
    axes.minorticks_off()
    axes.set_xlabel('million multiply-adds an image')
    axes.set_ylabel('top-1 accuracy, %')
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.spines[['top', 'right']].set_visible(False)
    path = pathlib.Path(path)
    temporary = path.with_name(f'{path.name}.tmp')
    figure.savefig(temporary, format='png')
    os.replace(temporary, path)
