"""Which learning rates a network is trained at, and which of them counts."""

from collections.abc import Mapping

from slimjax.evaluate import Results

# By protocol, factors of the config's learning rate; the same for every arm.
PROTOCOLS = {'paper': (1.0,), 'tuned': (0.5, 1.0, 2.0)}


def chosen(trials: Mapping[float, Results | None]) -> float:
    """Returns the factor whose network is best on validation data.

    By the mean top-1 of its widths; of equals, by their mean loss; then the factor
    nearest to what the config says.

    Args:
        trials: by factor, validation results by width; None where training diverged.

    Raises:
        ValueError: all diverged.

    Example:
        >>> chosen({0.5: {'1.0': {'top1': 0.9, 'loss': 0.3}},
        ...         1.0: {'1.0': {'top1': 0.9, 'loss': 0.2}}, 2.0: None})
        1.0
    """

    def mean(factor: float, score: str) -> float:
        values = [scores[score] for scores in trials[factor].values()]
        return sum(values) / len(values)

    finite = [factor for factor, results in trials.items() if results is not None]
    if not finite:
        factors = ', '.join(f'{factor:g}' for factor in trials)
        raise ValueError(
            f'training diverged at {factors} times config.learning_rate: lower it, or '
            'set config.clip_norm'
        )
    if len(finite) == 1:
        # Nothing to choose, nor to score: a detector has no top-1.
        return finite[0]
    return max(
        finite,
        key=lambda factor: (
            mean(factor, 'top1'),
            -mean(factor, 'loss'),
            -abs(factor - 1),
        ),
    )
