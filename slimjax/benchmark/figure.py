"""The figures of a benchmark as a table and a picture."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from slimjax.insight import table
from slimjax.insight.memory import format_bytes
from slimjax.insight.plot import save_png

Results = Mapping[str, Any]


def lines(results: Results) -> list[str]:
    """Returns what a person reads of one network's results."""
    widths = ', '.join(
        f'{width}: {value:,.1f}'
        for width, value in results['individual_step_ms'].items()
    )
    found = [
        f'{results["model"]}, {results["batch"]} images a device of {results["size"]} '
        f'px, {results["dtype"]}, on {results["device"]}',
        f'step of all widths  {_between(results, "slimmable_step_ms")} ms, '
        f'{_rate(results["images_per_s"])} images/s',
        f'widths alone        {widths} ms',
        f'ratio to their sum  {_between(results, "ratio_to_sum", 3)}',
    ]
    if 'torch_step_ms' in results:
        best = min(results['torch_variants_ms'], key=results['torch_variants_ms'].get)
        found += [
            f'PyTorch, {best}  {_between(results, "torch_step_ms")} ms',
            f'ratio to PyTorch    {_between(results, "ratio_to_torch", 3)}',
        ]
    if 'individual_ratio_to_torch' in results:
        ratios = results['individual_ratio_to_torch'].items()
        each = ', '.join(f'{width}: {value:.3f}' for width, value in ratios)
        found.append(f'widths to PyTorch   {each}')
    found += [
        f'temporary memory    {format_bytes(results["temp_bytes"])}, '
        f'{results["ratio_memory"]:.3f} x the widest alone, '
        f'{results["ratio_memory_less_gradient"]:.3f} x without the summed gradient '
        f'({format_bytes(results["parameter_bytes"])})',
        f'compile time        {results["compile_s"]:.1f} s, '
        f'{results["ratio_compile"]:.2f} x the sum of the widths alone',
    ]
    if 'tflops' in results:
        found.append(
            f'arithmetic          {results["tflops"]:.3f} TFLOP/s, '
            f"{100 * results['share_of_matrix_tflops']:.0f} % of a matrix product's "
            f'{results["matrix_tflops"]:.3f}'
        )
    if 'nms_ms' in results:
        found += [
            f'suppression alone   {_between(results, "nms_ms", 2)} ms',
            f'RoIAlign alone      {_between(results, "roi_align_ms", 2)} ms, with its '
            f'gradient {_between(results, "roi_align_gradient_ms", 2)} ms',
        ]
    found.append(f'dispatch            {_between(results, "dispatch_ms", 2)} ms a step')
    if 'peak_bytes' in results:
        found.append(
            f'measured peak       {format_bytes(results["peak_bytes"])}, widest alone '
            f'{format_bytes(results["peak_bytes_widest"])}'
        )
    return found + _inference_lines(results)


def _rate(value: float, digits: int = 1) -> str:
    """Images a second; of less than one, two figures, as none would be left."""
    return f'{value:,.{digits}f}' if value >= 1 else f'{value:.2g}'


def _inference_lines(results: Results) -> list[str]:
    spread = results['spread']['inference_ratio']
    found = ['inference, ms a batch (and x a narrow network)']
    for width, batches in results['inference'].items():
        each = ', '.join(
            f'{name.replace("_", " ")}: {value["ms"]:.2f} ({value["ratio"]:.2f} x, '
            f'95 %: {spread[width][name][0]:.2f} to {spread[width][name][1]:.2f}), '
            f'{_rate(1000 * _images(name) / value["ms"], digits=0)} images/s'
            for name, value in batches.items()
        )
        found.append(
            f'  {width:>5}  {results["macs"][width] / 1e6:8,.0f} MMACs  {each}'
        )
    return found


def _images(batch: str) -> int:
    return int(batch.removeprefix('batch_'))


def _between(results: Results, name: str, digits: int = 1) -> str:
    low, high = results['spread'][name]
    return (
        f'{results[name]:,.{digits}f} (95 %: {low:,.{digits}f} to {high:,.{digits}f})'
    )


def markdown(every: Sequence[Results]) -> str:
    """Returns the table of several networks' results, in Markdown."""
    rows = [
        (
            'network',
            'step, ms',
            '/ sum of the widths',
            '/ PyTorch',
            'memory / widest (less gradient)',
            'compile / sum',
            'images/s',
        )
    ]
    for results in every:
        rival = 'not run'
        if 'ratio_to_torch' in results:
            rival = f'{results["ratio_to_torch"]:.2f}'
        setting = f'{results["batch"]} x {results["size"]} px, {results["dtype"]}'
        less = results['ratio_memory_less_gradient']
        rows.append(
            (
                f'{results["model"]}, {setting}',
                f'{results["slimmable_step_ms"]:,.1f}',
                f'{results["ratio_to_sum"]:.3f}',
                rival,
                f'{results["ratio_memory"]:.3f} ({less:.3f})',
                f'{results["ratio_compile"]:.2f}',
                _rate(results['images_per_s']),
            )
        )
    return table.markdown(rows)


def plot(every: Sequence[Results], path: str | pathlib.Path) -> None:
    """Draws step times against the sum of the widths' own, and latency against MACs.

    Args:
        every: results of one network each.
        path: a PNG file, written whole or not at all.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.2 * len(every), 7), dpi=130, layout='constrained')
    grid = figure.subplots(2, len(every), squeeze=False)
    for column, results in enumerate(every):
        _draw_steps(grid[0, column], results, colormaps['viridis'])
        _draw_inference(grid[1, column], results)
    figure.suptitle(f'{every[0]["device"]}, {every[0]["date"]}', fontsize=9)
    save_png(figure, pathlib.Path(path))


def _draw_steps(axes, results: Results, colors) -> None:
    alone = results['individual_step_ms']
    bars = ['each width\nalone', 'slimmable']
    bottom = 0.0
    for number, (width, value) in enumerate(alone.items()):
        color = colors(0.15 + 0.7 * number / max(len(alone) - 1, 1))
        axes.bar(bars[0], value, bottom=bottom, color=color, width=0.6)
        axes.text(
            bars[0],
            bottom + value / 2,
            f'{width}: {value:,.0f}',
            ha='center',
            va='center',
            color='white' if number < len(alone) - 1 else 'black',
        )
        bottom += value
    _bar(axes, bars[1], results, 'slimmable_step_ms', '#d1495b')
    if 'torch_step_ms' in results:
        _bar(axes, 'PyTorch', results, 'torch_step_ms', '#9a9a9a')
    axes.set_title(
        f'{results["model"]}, {results["batch"]} x {results["size"]} px, '
        f'{results["dtype"]}',
        fontsize=10,
    )
    axes.set_ylabel('training step, ms')
    axes.margins(y=0.12)
    axes.spines[['top', 'right']].set_visible(False)


def _bar(axes, label: str, results: Results, name: str, color: str) -> None:
    value, (low, high) = results[name], results['spread'][name]
    axes.bar(label, value, color=color, width=0.6)
    error = [[max(value - low, 0)], [max(high - value, 0)]]
    axes.errorbar(label, value, yerr=error, color='black', capsize=4, linewidth=1)
    axes.annotate(
        f'{value:,.0f}', (label, high), (0, 3), textcoords='offset points', ha='center'
    )


def _draw_inference(axes, results: Results) -> None:
    macs = [results['macs'][width] / 1e6 for width in results['inference']]
    batches = list(next(iter(results['inference'].values())))
    for batch, color in zip(batches, ('#0b6e99', '#6a994e'), strict=False):
        images = _images(batch)
        for field, style, label in (
            ('ms', 'o-', 'slimmable'),
            ('narrow_ms', 'x--', 'a network of this width'),
        ):
            times = [
                each[batch][field] / images for each in results['inference'].values()
            ]
            axes.plot(macs, times, style, color=color, label=f'{label}, batch {images}')
    axes.set_xlabel('million multiply-adds an image')
    axes.set_ylabel('inference, ms an image')
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8)
    axes.spines[['top', 'right']].set_visible(False)
