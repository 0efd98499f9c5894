"""Errors of a run against epochs, read from its `metrics.jsonl`."""

from collections.abc import Iterable, Mapping, Sequence

Lines = Sequence[Mapping[str, float]]
# (epoch, error), errors as fractions
Points = list[tuple[float, float]]


def error_curves(lines: Lines, prefix: str, widths: Iterable[str]) -> dict[str, Points]:
    """Returns the errors of each width that was scored.

    Args:
        lines: of the file.
        prefix: `'train'`, `'eval'`, or what else was written before `/top1/WIDTH`.
        widths: their names.

    Raises:
        ValueError: scores stand there, but nothing tells how long an epoch is.

    Example:
        >>> lines = [{'step': 4, 'train/epoch': 2.0, 'train/top1/1.0': 0.75}]
        >>> error_curves(lines, 'train', ['1.0', '0.5'])
        {'1.0': [(2.0, 0.25)]}
    """
    names = {width: f'{prefix}/top1/{width}' for width in widths}
    scored = {
        width: [(line['step'], 1 - line[name]) for line in lines if name in line]
        for width, name in names.items()
    }
    if not any(scored.values()):
        return {}
    epochs = epochs_a_step(lines)
    return {
        width: [(step * epochs, error) for step, error in points]
        for width, points in scored.items()
        if points
    }


def epochs_a_step(lines: Lines) -> float:
    """Returns which part of an epoch a step is.

    Raises:
        ValueError: no line tells.

    Example:
        >>> epochs_a_step([{'step': 4, 'train/epoch': 2.0}])
        0.5
    """
    for line in lines:
        if 'train/epoch' in line:
            return line['train/epoch'] / line['step']
    raise ValueError('no training step was logged')
