"""Whether in-place distillation does what it should, while it runs.

That no gradient reaches the teacher, that it is not asked in evaluation mode or on
other images, and that labels and their smoothing are for the widest alone, holds by the
way the step is built. What is left shows in the metrics.
"""

import math
from collections.abc import Mapping

# Training accuracies of one interval differ by chance by so much.
_MARGIN = 0.02


def teaching_lines(
    scalars: Mapping[str, float], widest: str, classes: int
) -> list[str]:
    """Returns what a person should be warned of.

    Args:
        scalars: of a log line: `train/loss/WIDTH` and `train/top1/WIDTH`.
        widest: name of the width that teaches.
        classes: number of classes.

    Example:
        >>> scalars = {'train/top1/1.0': 0.3, 'train/loss/1.0': 1.9,
        ...            'train/top1/0.5': 0.4, 'train/loss/0.5': 2.4}
        >>> for line in teaching_lines(scalars, '1.0', 10):
        ...     print(line)
        warning: width 0.5 (40.0 %) is better than its teacher, 1.0 (30.0 %)
        warning: width 0.5 has the loss of guessing (2.4, ln 10 = 2.303); 1.0 has 1.9
    """
    top1, losses = (
        {
            name.removeprefix(prefix): value
            for name, value in scalars.items()
            if name.startswith(prefix)
        }
        for prefix in ('train/top1/', 'train/loss/')
    )
    lines = [
        f'warning: width {name} ({100 * value:.1f} %) is better than its teacher, '
        f'{widest} ({100 * top1[widest]:.1f} %)'
        for name, value in top1.items()
        if value > top1[widest] + _MARGIN
    ]
    guessing = math.log(classes)
    if losses[widest] < 0.9 * guessing:
        lines += [
            f'warning: width {name} has the loss of guessing ({value:.4g}, '
            f'ln {classes} = {guessing:.4g}); {widest} has {losses[widest]:.4g}'
            for name, value in losses.items()
            if value >= guessing
        ]
    return lines
