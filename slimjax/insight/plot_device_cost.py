"""What each width costs on a device, as a picture."""

import pathlib
from collections.abc import Mapping
from typing import Any

from slimjax.insight.plot import new_figure, save_png
from slimjax.insight.plot_naive import width_color


def plot_device_costs(
    results: Mapping[str, Any], path: str | pathlib.Path, title: str = ''
) -> None:
    """Draws latency, throughput and memory of every width, and energy where known.

    Args:
        results: what `device_costs` returns.
        path: a PNG file, written whole or not at all.
        title: stands above the picture.

    Raises:
        ImportError: matplotlib is not installed.
    """
    widths = results['widths']
    energy = all(own['energy_mj'] is not None for own in widths.values())
    draws = [_latency, _throughput, _memory, *([_energy] if energy else [])]
    figure = new_figure((4 * len(draws), 3.8), dpi=100)
    panels = figure.subplots(1, len(draws))
    colors = [width_color(number, len(widths)) for number in range(len(widths))]
    for panel, draw in zip(panels, draws, strict=True):
        draw(panel, results, colors)
        panel.grid(alpha=0.25, linewidth=0.6)
        panel.set_axisbelow(True)
        panel.spines[['top', 'right']].set_visible(False)
    figure.suptitle(title or results['device'], fontsize=10)
    save_png(figure, pathlib.Path(path))


def _latency(panel, results, colors) -> None:
    medians = [own['latency_ms_p50'] for own in results['widths'].values()]
    slow = [own['latency_ms_p95'] for own in results['widths'].values()]
    above = [late - median for late, median in zip(slow, medians, strict=True)]
    _bars(panel, results, medians, colors, yerr=[[0] * len(above), above])
    number = results['batches'][0]
    panel.set_title(f'latency, batch {number}: median and 95 %', fontsize=10)
    panel.set_ylabel('ms')


def _throughput(panel, results, colors) -> None:
    for (width, own), color in zip(results['widths'].items(), colors, strict=True):
        rates = [each['images_per_s'] for each in own['batches'].values()]
        style = {'marker': 'o', 'markersize': 4, 'linewidth': 1.6}
        panel.plot(results['batches'], rates, label=width, color=color, **style)
    panel.set_xscale('log', base=2)
    panel.set_xticks(results['batches'], list(map(str, results['batches'])))
    panel.set_ylim(0, None)
    panel.set_title('images a second', fontsize=10)
    panel.set_xlabel('images a batch')
    panel.legend(frameon=False, fontsize=8.5, title='width')


def _memory(panel, results, colors) -> None:
    owns = results['widths'].values()
    weights = [own['weight_bytes'] / 2**20 for own in owns]
    _bars(panel, results, weights, colors)
    more = [(own['temporary_bytes'] or 0) / 2**20 for own in owns]
    panel.bar(
        list(results['widths']),
        more,
        bottom=weights,
        color=colors,
        alpha=0.4,
        width=0.6,
    )
    number = results['batches'][0]
    panel.set_title(f'weights, and temporaries (light), batch {number}', fontsize=10)
    panel.set_ylabel('MiB')


def _energy(panel, results, colors) -> None:
    values = [own['energy_mj'] for own in results['widths'].values()]
    _bars(panel, results, values, colors)
    panel.set_title(f'energy: {results["energy"]["source"]}', fontsize=10)
    panel.set_ylabel('mJ an image')


def _bars(panel, results, values, colors, **options) -> None:
    panel.bar(list(results['widths']), values, color=colors, width=0.6, **options)
    panel.set_xlabel('width')
