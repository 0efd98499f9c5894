"""Costs and scores of all widths as a table for the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from slimjax.insight.memory import format_bytes


def format_count(value: float) -> str:
    """Returns a count for people.

    Example:
        >>> [format_count(n) for n in (950, 4_210_088, 568_740_352, 4_089_184_256)]
        ['950', '4.2 M', '568.7 M', '4.09 G']
    """
    # What would read as 1000.0 belongs to the next unit.
    for size, unit, digits in ((1e9, 'G', 2), (1e6, 'M', 1), (1e3, 'k', 1)):
        if value >= 0.99995 * size:
            return f'{value / size:.{digits}f} {unit}'
    return f'{value:.0f}'


def _percent(value: float) -> str:
    return f'{100 * value:.2f}'


# What a column is called, and how its values are shown.
_COLUMNS = {
    'params': ('params', format_count),
    'macs': ('MACs', format_count),
    'top1': ('top-1 %', _percent),
    'top5': ('top-5 %', _percent),
    'loss': ('loss', '{:.4f}'.format),
    'bbox/AP': ('box AP %', _percent),
    'segm/AP': ('mask AP %', _percent),
    'keypoints/AP': ('keypoint AP %', _percent),
    'latency_ms': ('ms an image', '{:.3f}'.format),
    'latency_ms_p50': ('p50 ms', '{:.3f}'.format),
    'latency_ms_p95': ('p95 ms', '{:.3f}'.format),
    'images_per_s': ('images/s', '{:,.0f}'.format),
    'weight_bytes': ('weights', format_bytes),
    'temporary_bytes': ('temporaries', format_bytes),
    'energy_mj': ('mJ an image', '{:.3f}'.format),
}


def results_table(results: Mapping[str, Any]) -> str:
    """Returns a line for each width, widest first, with the columns that are known.

    Args:
        results: `{'widths': {'0.25': {...}, ...}}`, where a width has any of `params`
            and `macs` (counts), `top1`, `top5` and `bbox/AP` (fractions), `loss`,
            `latency_ms` (milliseconds an image), and of what `device_costs` measures;
            others are not shown.

    Example:
        >>> print(results_table({'widths': {'0.5': {'macs': 5e6, 'top1': 0.5}}}))
        width   MACs  top-1 %
          0.5  5.0 M    50.00
    """
    cells = _cells(results)
    sizes = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return '\n'.join(
        '  '.join(cell.rjust(size) for cell, size in zip(row, sizes, strict=True))
        for row in cells
    )


def results_markdown(results: Mapping[str, Any]) -> str:
    """Returns what `results_table` does, in Markdown.

    Example:
        >>> print(results_markdown({'widths': {'0.5': {'macs': 5e6, 'top1': 0.5}}}))
        | width |  MACs | top-1 % |
        | ----- | ----: | ------: |
        | 0.5   | 5.0 M |   50.00 |
    """
    return markdown(_cells(results))


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Returns a table in Markdown that is one on a terminal too.

    Args:
        rows: cells of text; the first row are the titles. All columns but the first are
            flush right.

    Example:
        >>> print(markdown([('width', 'gain', 'n'), ('0.5', '+1.11', '5')]))
        | width |  gain |  n |
        | ----- | ----: | -: |
        | 0.5   | +1.11 |  5 |
    """
    # Of a column of one letter, the rule would be no rule.
    sizes = [max(2, *map(len, column)) for column in zip(*rows, strict=True)]
    rule = ['-' * sizes[0], *('-' * (size - 1) + ':' for size in sizes[1:])]

    def line(row):
        cells = [row[0].ljust(sizes[0]), *map(str.rjust, row[1:], sizes[1:])]
        return f'| {" | ".join(cells)} |'

    return '\n'.join(map(line, (rows[0], rule, *rows[1:])))


def _cells(results: Mapping[str, Any]) -> list[list[str]]:
    rows = sorted(results['widths'].items(), key=_size, reverse=True)
    columns = [
        column
        for column in _COLUMNS
        if any(values.get(column) is not None for _, values in rows)
    ]
    cells = [['width', *(_COLUMNS[column][0] for column in columns)]]
    return cells + [
        [width, *(_cell(values.get(column), column) for column in columns)]
        for width, values in rows
    ]


def _cell(value: float | None, column: str) -> str:
    return '-' if value is None else _COLUMNS[column][1](value)


def _size(row: tuple[str, Mapping[str, Any]]) -> tuple[float, float]:
    """What a width is ordered by: its cost, and its number where it has one."""
    width, values = row
    try:
        multiplier = float(width)
    except ValueError:
        multiplier = 0.0
    return values.get('macs') or 0, multiplier


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Returns a line for each row, whose cells stand under one another.

    Example:
        >>> aligned([('stem', '16'), ('block1/conv', '32')])
        ['stem         16', 'block1/conv  32']
    """
    sizes = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        '  '.join(cell.ljust(n) for cell, n in zip(row, sizes, strict=True)).rstrip()
        for row in rows
    ]
