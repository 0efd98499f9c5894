"""The studies as tables, for the terminal and for a page of Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from slimjax.insight.table import format_count, markdown


def study_lines(results: Mapping[str, Any], name: str) -> list[str]:
    """Returns the lines of a study's tables: ours, and what was published.

    A difference is from the first arm, with half of its 95 % interval; it is bold where
    the interval leaves out 0.

    Args:
        results: what `ablation_results` returns.
        name: of the study.
    """
    study = results['studies'][name]
    reference = study['top1'][study['reference']]
    rows = [('arm', *reference, 'training MACs')]
    for arm, top1 in study['top1'].items():
        apart = study['difference'].get(arm, {})
        cells = [_cell(top1.get(width), apart.get(width)) for width in reference]
        cost = format_count(study['costs'][arm]['training_macs'])
        rows.append((arm, *cells, cost))
    lines = markdown(rows).splitlines()
    published = study['published']
    if published is None:
        return [*lines, '', 'Published: none.']
    widths = _widths(published['top1'])
    told = [('published', *widths)]
    for arm, top1 in published['top1'].items():
        told.append((arm, *(_number(top1.get(width)) for width in widths)))
    return [
        *lines,
        '',
        f'Published ({published["what"]}):',
        '',
        *markdown(told).splitlines(),
    ]


def cosine_lines(results: Mapping[str, Any]) -> list[str]:
    """Returns a table of the gradients' cosines by pair of widths, mean over layers.

    Args:
        results: what `ablation_results` returns; with no cosines, there is no table.

    Example:
        >>> layers = {'1.0/0.5': {'stem': [0.9, 0.5]}}
        >>> results = {'cosines': {'epochs': [1.0, 2.0], 'layers': layers}}
        >>> print(*cosine_lines(results), sep='\\n')
        | widths      | epoch 1 | epoch 2 |
        | ----------- | ------: | ------: |
        | 1.0 and 0.5 |    0.90 |    0.50 |
    """
    cosines = results['cosines']
    if not cosines:
        return []
    count = len(cosines['epochs'])
    shown = sorted({0, count // 4, count // 2, 3 * count // 4, count - 1})
    rows = [('widths', *(f'epoch {cosines["epochs"][each]:.0f}' for each in shown))]
    for pair, layers in cosines['layers'].items():
        means = np.mean(list(layers.values()), 0)
        cells = [f'{means[each]:.2f}' for each in shown]
        rows.append((pair.replace('/', ' and '), *cells))
    return markdown(rows).splitlines()


def _widths(top1: Mapping[str, Mapping[str, float]]) -> Sequence[str]:
    return sorted({width for of in top1.values() for width in of}, key=float)[::-1]


def _cell(top1: Sequence[float] | None, apart: Mapping[str, Any] | None) -> str:
    if top1 is None:
        return '-'
    text = f'{100 * np.mean(top1):.2f}'
    if apart is None:
        return text
    low, high = apart['ci95']
    # What rounds to zero has no sign.
    mean, half = round(apart['mean'], 2) + 0.0, (high - low) / 2
    told = f'{mean:+.2f} ± {half:.2f}'
    return f'{text} ({f"**{told}**" if low > 0 or high < 0 else told})'


def _number(value: float | None) -> str:
    return '-' if value is None else f'{value:.1f}'
