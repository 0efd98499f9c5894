"""Errors of a run against epochs, read from its `metrics.jsonl`."""

from collections.abc import Iterable, Mapping, Sequence

Lines = Sequence[Mapping[str, float]]
# (epoch, error), errors as fractions
Points = list[tuple[float, float]]


def error_curves(
    lines: Lines, prefix: str, widths: Iterable[str], steps_per_epoch: float
) -> dict[str, Points]:
    """Returns the errors of each width that was scored.

    Args:
        lines: of the file.
        prefix: `'train'`, `'eval'`, or what else was written before `/top1/WIDTH`.
        widths: their names.
        steps_per_epoch: may be a fraction.

    Example:
        >>> error_curves([{'step': 4, 'train/top1/1.0': 0.75}], 'train', ['1.0'], 2)
        {'1.0': [(2.0, 0.25)]}
    """
    scored = {
        width: [
            (line['step'] / steps_per_epoch, 1 - line[f'{prefix}/top1/{width}'])
            for line in lines
            if f'{prefix}/top1/{width}' in line
        ]
        for width in widths
    }
    return {width: points for width, points in scored.items() if points}
