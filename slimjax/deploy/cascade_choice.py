"""Choosing a cascade: which widths, and how sure a narrow one has to be."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from slimjax.deploy.cascade import Cascade, probabilities
from slimjax.deploy.confidence import calibration_error, fit_temperature

# A further stage has to pay for all before it.
_MOST_STAGES = 3
_THRESHOLDS = 101


class Split(NamedTuple):
    """What every width says of images.

    Attributes:
        logits: `[images, classes]` of each width's name, widest first.
        labels: `[images]`.
    """

    logits: Mapping[str, np.ndarray]
    labels: np.ndarray


class Score(NamedTuple):
    """What a cascade is worth.

    Attributes:
        top1: share of right answers.
        macs: multiply-adds of an image in the mean, all stages it went through.
        stages: share of images that each stage answers.
    """

    top1: float
    macs: float
    stages: tuple[float, ...]


def temperatures(split: Split) -> dict[str, float]:
    """Returns the fitted temperature of each width; see `fit_temperature`."""
    return {
        name: fit_temperature(logits, split.labels)
        for name, logits in split.logits.items()
    }


def score(split: Split, cascade: Cascade, macs: Mapping[str, int]) -> Score:
    """Returns what a cascade is worth on images.

    Args:
        split: the images.
        cascade: of widths in it.
        macs: of each width, for an image.

    Example:
        >>> wide = np.array([[9.0, 0.0], [0.0, 9.0]])
        >>> logits = {'1.0': wide, '0.5': np.array([[9.0, 0.0], [0.1, 0.0]])}
        >>> cascade = Cascade(('0.5', '1.0'), 0.9, {'0.5': 1.0, '1.0': 1.0})
        >>> score(Split(logits, np.array([0, 1])), cascade, {'0.5': 10, '1.0': 40})
        Score(top1=1.0, macs=30.0, stages=(0.5, 0.5))
    """
    views = [_view(split, name, cascade.temperatures[name]) for name in cascade.widths]
    return _score(views, cascade.threshold, [macs[name] for name in cascade.widths])


class _View(NamedTuple):
    """What one width says: how sure it is of each answer, and which are right."""

    confidence: np.ndarray
    right: np.ndarray


def _view(split: Split, name: str, temperature: float) -> _View:
    said = probabilities(split.logits[name], temperature)
    return _View(said.max(-1), said.argmax(-1) == split.labels)


def _score(views: Sequence[_View], threshold: float, macs: Sequence[int]) -> Score:
    count = len(views[0].right)
    left, right, spent, stages = np.ones(count, bool), 0, 0, []
    for number, (view, own) in enumerate(zip(views, macs, strict=True)):
        spent += own * left.sum()
        last = number == len(views) - 1
        stands = left & (last | (view.confidence >= threshold))
        right += view.right[stands].sum()
        stages.append(float(stands.sum() / count))
        left &= ~stands
    return Score(float(right / count), float(spent / count), tuple(stages))


def curve(
    split: Split, cascade: Cascade, macs: Mapping[str, int]
) -> list[dict[str, float]]:
    """Returns what a cascade is worth at other thresholds.

    Args:
        split: the images.
        cascade: whose threshold varies.
        macs: of each width.

    Returns:
        `{'threshold', 'top1', 'macs'}` each, from the lowest threshold.
    """
    views = [_view(split, name, cascade.temperatures[name]) for name in cascade.widths]
    costs, points = [macs[name] for name in cascade.widths], []
    for threshold in _thresholds(views):
        found = _score(views, threshold, costs)
        points.append({'threshold': threshold, 'top1': found.top1, 'macs': found.macs})
    return points


def choose(
    validation: Split, macs: Mapping[str, int], *, tolerance: float = 0.0
) -> Cascade:
    """Returns the cascade that computes least, and is about as right as the widest.

    All pairs and triples of widths that end at the widest are compared, with a
    hundred thresholds each.

    Args:
        validation: images that serve no other purpose: neither training nor the test.
        macs: of each width, for an image.
        tolerance: how much of the widest's accuracy may be lost on them, as a part of
            all images.

    Raises:
        ValueError: fewer than two widths, or a tolerance outside 0 to 1.
    """
    names = list(validation.logits)
    if len(names) < 2:
        raise ValueError(f'widths {", ".join(names)}: a cascade takes two')
    if not 0 <= tolerance <= 1:
        raise ValueError(f'tolerance={tolerance}: a part between 0 and 1 is expected')
    fitted = temperatures(validation)
    views = {name: _view(validation, name, fitted[name]) for name in names}
    enough = views[names[0]].right.mean() - tolerance
    found = []
    for count in range(1, _MOST_STAGES):
        for narrower in itertools.combinations(names[:0:-1], count):
            chain = (*narrower, names[0])
            own = [views[name] for name in chain]
            for threshold in _thresholds(own):
                worth = _score(own, threshold, [macs[name] for name in chain])
                # The last one of each chain asks the widest about every image.
                if worth.top1 >= enough:
                    found.append((worth.macs, -worth.top1, -threshold, chain))
    _, _, threshold, chain = min(found)
    return Cascade(chain, -threshold, {name: fitted[name] for name in chain})


def _thresholds(views: Sequence[_View]) -> list[float]:
    """Where a cascade changes, from that which asks only the first width to 1."""
    sure = np.concatenate([view.confidence for view in views[:-1]])
    shares = np.linspace(0, 1, _THRESHOLDS - 1)
    found = np.quantile(sure, shares, method='nearest')
    return sorted({*found.astype(float).tolist(), 1.0})


def calibration(
    validation: Split, test: Split, macs: Mapping[str, int]
) -> dict[str, dict[str, Any]]:
    """Returns how far each width may be believed.

    Args:
        validation: images that temperatures are fitted to.
        test: images that are measured on.
        macs: of each width.

    Returns:
        `{name: {'macs', 'top1', 'temperature', 'calibration_error': as it is,
        'calibration_error_scaled': after the division by the temperature}}`.
    """
    found = {}
    for name, temperature in temperatures(validation).items():
        plain, scaled = _view(test, name, 1.0), _view(test, name, temperature)
        found[name] = {
            'macs': macs[name],
            'top1': float(plain.right.mean()),
            'temperature': temperature,
            'calibration_error': calibration_error(*plain),
            'calibration_error_scaled': calibration_error(*scaled),
        }
    return found
