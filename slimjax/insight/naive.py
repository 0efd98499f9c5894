"""The paper's Figure 2: norms that all widths share, against switchable ones.

With shared BatchNorm the network trains as well, since a training pass normalises by
its batch; but the running statistics mix those of all widths, and at evaluation they
are right for none. A third curve tells that it is the statistics and not the weights:
the same weights, with the statistics of each width computed anew.
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping

import ml_collections

from slimjax import commands
from slimjax.insight.curves import Points, error_curves
from slimjax.train.loop import Measure, flat
from slimjax.train.metrics import read_metrics
from slimjax.train.run import Run

# Norm modes, and the folders of their runs.
ARMS = ('shared', 'private')
# What is evaluated; the second is the first arm's weights, calibrated.
CURVES = ('shared', 'calibrated', 'private')


@dataclasses.dataclass(frozen=True)
class NaiveCurves:
    """Errors against epochs.

    Attributes:
        train: of each arm in `ARMS`, `(epoch, training error of the widest)`.
        evaluation: of each curve in `CURVES`, for each width's name, widest first,
            `(epoch, validation error)`. Errors are fractions.
    """

    train: Mapping[str, Points]
    evaluation: Mapping[str, Mapping[str, Points]]

    def lines(self) -> list[str]:
        """Returns a table of the last validation errors, in per cent.

        Example:
            >>> curves = {name: {'1.0': [(1.0, 0.25)]} for name in CURVES}
            >>> print(*NaiveCurves({}, curves).lines(), sep='\\n')
            validation error, %  width 1.0
            shared                   25.00
            calibrated               25.00
            private                  25.00
        """
        names = list(self.evaluation[CURVES[0]])
        title = 'validation error, %' + ''.join(
            f'{"width " + name:>11}' for name in names
        )
        rows = [
            f'{curve:19}' + ''.join(f'{100 * of[name][-1][1]:11.2f}' for name in names)
            for curve, of in self.evaluation.items()
        ]
        return [title, *rows]


def train_naive(
    config: ml_collections.ConfigDict,
    workdir: str | pathlib.Path,
    *,
    say: Callable[[str], None] = print,
    should_stop: Callable[[], bool] = lambda: False,
) -> NaiveCurves | None:
    """Trains a network with shared and with switchable norms, or goes on with it.

    Args:
        config: a complete config, whose `norm` is not looked at.
        workdir: gets the runs `shared` and `private`, each a workdir by itself.
        say: prints a line for a person.
        should_stop: as in `slimjax.train.loop.train`.

    Returns:
        The curves, or None if a run was stopped: called again, it goes on.

    Raises:
        ValueError: a config that cannot run, or a workdir that holds another run.
    """
    for norm in ARMS:
        own = ml_collections.ConfigDict(config)
        own.norm = norm
        say(f'{norm} norms, in {pathlib.Path(workdir, norm)}:')
        results = commands.train_workdir(
            own,
            pathlib.Path(workdir, norm),
            say=say,
            measure=_calibrated(own, say) if norm == 'shared' else None,
            should_stop=should_stop,
        )
        if results is None:
            return None
    return read_curves(workdir)


def _calibrated(config: ml_collections.ConfigDict, say) -> Measure:
    """Scores the weights with statistics that are each width's own."""
    config = ml_collections.ConfigDict(config)
    config.norm = 'shared_affine'
    run = Run(config)

    def measure(step, state):
        stats = run.calibration.anew(state.params)
        results = run.evaluate(state.params, stats, 'validation')
        say(f'calibrated at step {step}: {run.results_line(results)}')
        return flat('calibrated', results)

    return measure


def read_curves(workdir: str | pathlib.Path) -> NaiveCurves:
    """Returns the curves of a workdir that `train_naive` filled, finished or not.

    Raises:
        ValueError: an arm was not evaluated yet.
    """
    lines = {
        arm: read_metrics(pathlib.Path(workdir, arm, 'metrics.jsonl')) for arm in ARMS
    }
    steps = {arm: _steps_per_epoch(of, arm, workdir) for arm, of in lines.items()}
    names = [
        name.rpartition('/')[2]
        for line in lines['shared']
        for name in line
        if name.startswith('eval/top1/')
    ]
    widths = sorted(dict.fromkeys(names), key=_multiplier, reverse=True)
    sources = {
        'shared': ('shared', 'eval'),
        'calibrated': ('shared', 'calibrated'),
        'private': ('private', 'eval'),
    }
    curves = {
        curve: error_curves(lines[arm], prefix, widths, steps[arm])
        for curve, (arm, prefix) in sources.items()
    }
    if not widths or any(list(of) != widths for of in curves.values()):
        raise ValueError(f'{workdir}: the runs {" and ".join(ARMS)} were not evaluated')
    train = {
        arm: error_curves(lines[arm], 'train', widths[:1], steps[arm]) for arm in ARMS
    }
    return NaiveCurves({arm: of[widths[0]] for arm, of in train.items()}, curves)


def _multiplier(name: str) -> float:
    """By what names of widths are ordered; channel tables stay in their order."""
    return float(name) if '.' in name else 0.0


def _steps_per_epoch(lines, arm: str, workdir) -> float:
    for line in lines:
        if 'train/epoch' in line:
            return line['step'] / line['train/epoch']
    raise ValueError(f'{pathlib.Path(workdir, arm)} holds no run that was logged')
