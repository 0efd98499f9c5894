"""Costs and scores of all widths as a table for the terminal."""

from collections.abc import Mapping
from typing import Any


def count(value: float) -> str:
    """Returns a count for people.

    Example:
        >>> count(950), count(4_210_088), count(4_089_184_256)
        ('950', '4.21 M', '4.09 G')
    """
    for size, unit in ((1e9, ' G'), (1e6, ' M'), (1e3, ' k')):
        if value >= size:
            return (
                f'{value / size:#.3g}{unit}'
                if value < 100 * size
                else (f'{value / size:.0f}{unit}')
            )
    return f'{value:.0f}'


def percent(value: float) -> str:
    """Returns a fraction in per cent.

    Example:
        >>> percent(0.9875)
        '98.75'
    """
    return f'{100 * value:.2f}'


# What a column is called, and how its values are shown.
_COLUMNS = {
    'params': ('params', count),
    'macs': ('MACs', count),
    'top1': ('top-1 %', percent),
    'top5': ('top-5 %', percent),
    'loss': ('loss', '{:.4f}'.format),
    'latency_ms': ('ms an image', '{:.3f}'.format),
}


def results_table(results: Mapping[str, Any]) -> str:
    """Returns a line for each width, widest first, with the columns that are known.

    Args:
        results: `{'widths': {'0.25': {'params': ..., 'macs': ..., 'top1': ...}}}`.

    Example:
        >>> print(results_table({'widths': {'0.5': {'macs': 5e6, 'top1': 0.5}}}))
        width    MACs  top-1 %
          0.5  5.00 M    50.00
    """
    rows = sorted(
        results['widths'].items(), key=lambda row: row[1].get('macs', 0), reverse=True
    )
    columns = [name for name in _COLUMNS if any(name in values for _, values in rows)]
    cells = [['width', *(_COLUMNS[name][0] for name in columns)]]
    for width, values in rows:
        shown = [
            _COLUMNS[name][1](values[name]) if name in values else '-'
            for name in columns
        ]
        cells.append([width, *shown])
    sizes = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    return '\n'.join(
        '  '.join(cell.rjust(size) for cell, size in zip(row, sizes, strict=True))
        for row in cells
    )
