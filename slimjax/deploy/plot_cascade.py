"""What a cascade is worth, as a picture."""

import pathlib
from collections.abc import Mapping
from typing import Any

from slimjax.insight.plot import new_figure, save_png
from slimjax.insight.table import format_count

_CASCADE, _WIDTHS, _PLAIN = '#d1495b', '#0b6e99', '#b8bec6'


def plot_cascade(
    results: Mapping[str, Any], path: str | pathlib.Path, title: str = ''
) -> None:
    """Draws accuracy against mean multiply-adds, and calibration errors.

    Args:
        results: what `scripts/cascade.py` writes.
        path: a PNG file, written whole or not at all.
        title: stands above the picture.

    Raises:
        ImportError: matplotlib is not installed.
    """
    figure = new_figure((11, 4), dpi=100)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    _accuracy(left, results)
    _calibration(right, results['widths'])
    for panel in (left, right):
        panel.grid(alpha=0.25, linewidth=0.6)
        panel.set_axisbelow(True)
        panel.spines[['top', 'right']].set_visible(False)
    figure.suptitle(title, fontsize=10)
    save_png(figure, pathlib.Path(path))


def _accuracy(panel, results: Mapping[str, Any]) -> None:
    curve = results['curve']
    panel.plot(
        [point['macs'] for point in curve],
        [100 * point['top1'] for point in curve],
        color=_CASCADE,
        linewidth=1.6,
        label='cascade ' + ', '.join(results['cascade']['widths']),
    )
    widths = sorted(results['widths'].items(), key=lambda each: each[1]['macs'])
    panel.plot(
        [own['macs'] for _, own in widths],
        [100 * own['top1'] for _, own in widths],
        'o--',
        color=_WIDTHS,
        label='one width',
    )
    for name, own in widths:
        panel.annotate(
            name,
            (own['macs'], 100 * own['top1']),
            xytext=(0, -13),
            textcoords='offset points',
            ha='center',
            fontsize=8.5,
            color=_WIDTHS,
        )
    chosen = results['test']
    panel.plot(
        chosen['macs'],
        100 * chosen['top1'],
        '*',
        markersize=14,
        color=_CASCADE,
        label='chosen on validation images',
    )
    panel.set_xlim(0, None)
    panel.xaxis.set_major_formatter(lambda value, _: format_count(value))
    panel.margins(y=0.15)
    panel.set_xlabel('mean multiply-adds an image')
    panel.set_ylabel('test top-1 accuracy, %')
    panel.legend(frameon=False, fontsize=8.5, loc='lower right')


def _calibration(panel, widths: Mapping[str, Any]) -> None:
    names = list(widths)
    for shift, key, color, label in (
        (-0.2, 'calibration_error', _PLAIN, 'as it is'),
        (0.2, 'calibration_error_scaled', _WIDTHS, 'with its temperature'),
    ):
        values = [100 * widths[name][key] for name in names]
        places = [place + shift for place in range(len(names))]
        panel.bar(places, values, width=0.38, color=color, label=label)
    labels = [f'{name}\nT = {widths[name]["temperature"]:.2f}' for name in names]
    panel.set_xticks(range(len(names)), labels)
    panel.set_xlabel('width')
    panel.set_ylabel('expected calibration error, %')
    panel.legend(frameon=False, fontsize=8.5)
