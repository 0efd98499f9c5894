"""A whole comparison: every network of every arm, with every seed on every fold."""

import dataclasses
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import ml_collections

from slimjax.compare.arms import make_arms
from slimjax.compare.cell import Cell, Record
from slimjax.compare.network import Network
from slimjax.compare.protocol import PROTOCOLS
from slimjax.data.sources import has_own_test
from slimjax.train.report import duration

_FEWEST_FOLDS = 3


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What is compared, and where its networks are kept.

    Attributes:
        arms: the networks of each, see `make_arms`.
        seeds: how many; the config's and those behind it.
        folds: 0 for the splits that the data set has, or the parts of it, each of which
            is the test split of one network.
        protocol: a name of `PROTOCOLS`.
        workdir: holds a folder for each seed and fold.
    """

    arms: Mapping[str, Sequence[Network]]
    seeds: int
    folds: int
    protocol: str
    workdir: pathlib.Path

    @property
    def networks(self) -> list[Network]:
        """Each network once, those that others learn or start from before them."""
        return with_sources([each for arm in self.arms.values() for each in arm])

    def cells(self, seed: int, fold: int) -> Iterator[Cell]:
        """Yields the cells of one seed and one fold, in the order of training."""
        for network in self.networks:
            yield self.cell(network, seed, fold)

    def cell(self, network: Network, seed: int, fold: int) -> Cell:
        """Returns one cell."""
        factors = PROTOCOLS[self.protocol]
        return Cell(network, seed, fold, self.folds, factors, self.workdir)

    def records(self, network: Network) -> list[list[Record]]:
        """Returns the records of a network by seed and fold, all of them finished."""
        return [
            [self.cell(network, seed, fold).record() for fold in range(self.folds or 1)]
            for seed in range(self.seeds)
        ]


def default_workdir(command: str, config: str) -> pathlib.Path:
    """Returns where the runs of a command are kept if nobody says.

    Example:
        >>> default_workdir('compare', 'configs/cifar10.py:resnet26').as_posix()
        'runs/compare_cifar10_resnet26'
    """
    path, _, recipe = config.partition(':')
    parts = (command, pathlib.Path(path).stem, recipe)
    return pathlib.Path('runs', '_'.join(filter(None, parts)))


def with_sources(networks: Sequence[Network]) -> list[Network]:
    """Returns networks and those that they need, each once, in the order of training.

    Example:
        >>> import ml_collections
        >>> first = Network('individual/1.0', ('1.0',), ml_collections.ConfigDict())
        >>> second = dataclasses.replace(first, key='from_wide/0.5', start=first)
        >>> [network.key for network in with_sources([second, first])]
        ['individual/1.0', 'from_wide/0.5']
    """
    every = [source for network in networks for source in network.sources]
    return list({network.key: network for network in every}.values())


def plan(
    config: ml_collections.ConfigDict,
    workdir: str | pathlib.Path,
    *,
    seeds: int,
    folds: int = 0,
    protocol: str = 'paper',
    arms: Sequence[str] = (),
) -> Comparison:
    """Returns a comparison of arms by their names.

    Args:
        config: complete; its widths are compared.
        workdir: made if missing; what it already holds is not trained again.
        seeds: two or more, for an interval.
        folds: 0, or 3 or more.
        protocol: `'paper'`, all at the config's learning rate, or `'tuned'`.
        arms: those wanted besides the individual networks; () for all.

    Raises:
        ValueError: as of `plan_arms`, or no such arm.
    """
    return plan_arms(
        make_arms(config, arms),
        config,
        workdir,
        seeds=seeds,
        folds=folds,
        protocol=protocol,
    )


def plan_arms(
    arms: Mapping[str, Sequence[Network]],
    config: ml_collections.ConfigDict,
    workdir: str | pathlib.Path,
    *,
    seeds: int,
    folds: int = 0,
    protocol: str = 'paper',
) -> Comparison:
    """Returns a comparison that can run, of which nothing was compiled yet.

    Args:
        arms: the networks of each.
        config: what they were made of.
        workdir: as of `plan`, like all that follows.
        seeds: likewise.
        folds: likewise.
        protocol: likewise.

    Raises:
        ValueError: something that cannot be compared or trained, or a workdir that
            holds another comparison.
    """
    if seeds < 2:
        raise ValueError(
            f'--seeds={seeds}: an interval needs 2 or more (a claim: 5 with --folds=5 '
            'on digits, 8 on CIFAR-10)'
        )
    if folds and folds < _FEWEST_FOLDS:
        raise ValueError(
            f'--folds={folds}: allowed are 0, for the splits of the data set, and '
            f'{_FEWEST_FOLDS} or more: to train, to validate and to test'
        )
    if protocol not in PROTOCOLS:
        allowed = ', '.join(PROTOCOLS)
        raise ValueError(f'--protocol={protocol!r}: allowed are {allowed}')
    if config.folds or config.fold:
        raise ValueError(
            f'config.folds={config.folds}, config.fold={config.fold}: every fold is '
            'compared; set both to 0, and --folds'
        )
    tunes = len(PROTOCOLS[protocol]) > 1
    if config.detector and (folds or tunes):
        raise ValueError(
            f'--folds={folds}, --protocol={protocol}: config.detector='
            f'{config.detector!r} is compared on the splits of its data set, with '
            '--protocol=paper'
        )
    if tunes and not folds and not has_own_test(config.dataset, config.data_dir):
        raise ValueError(
            f'--protocol={protocol}: {config.dataset} has no test split but that for '
            'validation, so that rates would be chosen on what is reported; take '
            '--folds, or --protocol=paper'
        )
    comparison = Comparison(arms, seeds, folds, protocol, pathlib.Path(workdir))
    for fold in range(folds or 1):
        for seed in range(seeds):
            for cell in comparison.cells(seed, fold):
                cell.record()  # Refused if it is of another comparison.
    for cell in comparison.cells(0, 0):
        cell.check()
    return comparison


def train_all(
    comparison: Comparison,
    *,
    say: Callable[[str], None] = print,
    should_stop: Callable[[], bool] = lambda: False,
) -> bool:
    """Trains all that is not trained yet, seed after seed.

    Args:
        comparison: what `plan` returned.
        say: prints a line for a person.
        should_stop: as in `slimjax.train.loop.train`.

    Returns:
        Whether all is trained; otherwise it was stopped, and goes on when called again.

    Raises:
        ValueError: a network diverged, or a workdir that holds another run.
    """
    macs = {cell.network.key: cell.macs() for cell in comparison.cells(0, 0)}
    waiting = [
        cell
        for seed in range(comparison.seeds)
        for fold in range(comparison.folds or 1)
        for cell in comparison.cells(seed, fold)
        if cell.record() is None
    ]
    total = len(macs) * comparison.seeds * (comparison.folds or 1)
    say(f'{total} networks, {total - len(waiting)} of which are trained')
    left = sum(macs[cell.network.key] for cell in waiting)
    done, started = 0, time.monotonic()
    for number, cell in enumerate(waiting, start=total - len(waiting) + 1):
        where = f'[{number}/{total}] {cell.place}/{cell.network.key}'
        try:
            record = cell.train(should_stop)
        except ValueError as error:
            raise ValueError(f'{where}: {error}') from error
        if record is None:
            say(f'{where}: stopped and saved')
            return False
        done += macs[cell.network.key]
        remaining = (time.monotonic() - started) * (left - done) / done
        say(
            f'{where}: {record["steps"]} steps, {duration(record["seconds"])}; ETA '
            f'{duration(remaining)}'
        )
    return True
