"""One cell of a comparison: a network, trained with one seed on one fold, and tested.

It is trained by `slimjax.train`, as `python -m slimjax.main` trains: each trial is an
ordinary workdir, which goes on where it was interrupted. What came out is kept in
`record.json` beside the trials, and is not computed again.
"""

import contextlib
import gc
import json
import pathlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import ml_collections

from slimjax.benchmark.device import device_name
from slimjax.channel_file import channels_text, load_channels
from slimjax.commands import write_json
from slimjax.compare.cost import forward_macs, training_macs
from slimjax.compare.metric import kept_metrics, metric_of
from slimjax.compare.network import Network
from slimjax.compare.protocol import chosen
from slimjax.compare.tables import drawn_tables, searched_tables
from slimjax.evaluate import Results
from slimjax.train.loop import NonFiniteLossError, train
from slimjax.train.report import git_commit, jsonable
from slimjax.train.resume import changed_fields
from slimjax.train.run import Run
from slimjax.train.runs import final_split, make_run
from slimjax.width import ChannelTable, width_name

Record = dict[str, Any]
# More than are drawn for a seed of the comparison.
_RANDOM_SEEDS = 1000


class Cell:
    """A network with its seed and fold, and where it is kept.

    Args:
        network: what is trained.
        seed: added to the config's.
        fold: which of `folds`.
        folds: 0 for the splits that the data set has.
        factors: of the learning rate, one trial each.
        workdir: of the whole comparison.
    """

    def __init__(
        self,
        network: Network,
        seed: int,
        fold: int,
        folds: int,
        factors: Sequence[float],
        workdir: pathlib.Path,
    ):
        self.network, self.factors = network, tuple(factors)
        self.place = f'seed{seed}' + (f'_fold{fold}' if folds else '')
        self.folder = workdir / self.place / network.key
        self._config = ml_collections.ConfigDict(network.config)
        self._config.seed += seed
        self._config.folds, self._config.fold = folds, fold

        def beside(other: Network) -> Cell:
            return Cell(other, seed, fold, folds, factors, workdir)

        self._teacher = network.teacher and beside(network.teacher)
        self._start = network.start and beside(network.start)
        self._supernet = network.tables and beside(network.tables.supernet)

    def config(self, factor: float) -> ml_collections.ConfigDict:
        """Returns the config of a trial, whose sources must have been trained."""
        own = ml_collections.ConfigDict(self._config)
        own.learning_rate *= factor
        if self._teacher is not None:
            own.teacher = str(self._teacher.best().resolve())
        if self._start is not None:
            own.init_from = str(self._start.best().resolve())
        if self._supernet is not None:
            own.channels = self._tables.read_text()
        return own

    def best(self) -> pathlib.Path:
        """Returns the workdir of the trial that counts, of a finished cell."""
        return self.trial(self.record()['factor'])

    def trial(self, factor: float) -> pathlib.Path:
        """Returns the workdir of a trial."""
        return self.folder / f'rate_{factor:g}'

    def run(self) -> Run:
        """Returns the run of the first trial, as far as it is known before training.

        It has no teacher and no start yet, and tables that are drawn.

        Raises:
            ValueError: a config that cannot run.
        """
        own = ml_collections.ConfigDict(self._config)
        own.learning_rate *= self.factors[0]
        if self._supernet is not None:
            own.channels = channels_text(self._drawn_tables(0))
        return make_run(own)

    def record(self) -> Record | None:
        """Returns what came out, or None if the cell is not finished.

        Raises:
            ValueError: the record is of another comparison.
        """
        try:
            record = json.loads((self.folder / 'record.json').read_text())
        except FileNotFoundError:
            return None
        own = jsonable(self._config)
        own |= {name: record['config'][name] for name in ('teacher', 'channels')}
        if f'test_{metric_of(self._config)}' in record:
            # Which score is reported changes nothing of the training.
            own['best_metric'] = record['config']['best_metric']
        own['learning_rate'] *= record['factor']
        changed = changed_fields(own, record['config'])
        # A run may be made longer; a finished network of fewer steps is another one.
        told = {
            'num_train_steps': (record['config'], own['num_train_steps']),
            'factors': (record, list(self.factors)),
            'widths': (record, list(self.network.widths)),
        }
        changed += [
            f'{name}: {known[name]} there, {now} now'
            for name, (known, now) in told.items()
            if known[name] != now
        ]
        if changed:
            raise ValueError(
                f'{self.folder} holds another comparison ({"; ".join(changed)}): take '
                'another --workdir'
            )
        return record

    def check(self) -> None:
        """Checks that the cell can run, and that a finished one has the same images.

        Raises:
            ValueError: a config that cannot run, or a record of other images.
        """
        run, record = self.run(), self.record()
        if self._start is None:
            run.check_from_scratch()
        known = record and record.get('data')  # Earlier ones do not tell.
        if known and known != run.fingerprint:
            raise ValueError(
                f'{self.folder} was trained on other images than those of '
                f'config.data_dir={run.config.data_dir!r}: take another --workdir'
            )

    def train(self, should_stop: Callable[[], bool]) -> Record | None:
        """Trains every trial, tests the one that is best on validation data.

        The test split is read once, by that trial alone.

        Returns:
            The record, or None if it was stopped: called again, it goes on.

        Raises:
            ValueError: training diverged in all trials, or a workdir that holds
                another run.
        """
        if self._supernet is not None:
            self._find_tables()
        trials, only = {}, len(self.factors) == 1 and self.network.reported
        for factor in self.factors:
            try:
                trials[factor] = self._train(factor, should_stop, test=only)
            except NonFiniteLossError:
                trials[factor] = None
            else:
                if trials[factor] is None:
                    return None
        best = chosen(trials)
        results = trials[best] if self.network.reported else {}
        if self.network.reported and not only:
            results = self._train(best, should_stop, test=True)
        run = make_run(self.config(best))
        model = run.model.clone(axis_name=None)
        macs = {
            width_name(width): each
            for width, each in forward_macs(model, run.image_shape).items()
        }
        record = {
            'config': jsonable(run.config),
            'factors': list(self.factors),
            'widths': list(self.network.widths),
            'factor': best,
            'test_images': len(run.source(final_split(run.config))),
            **{
                f'test_{metric}': {
                    width: results[name][metric] for name, width in self._names(results)
                }
                for metric in kept_metrics(run.config)
            },
            'macs': {width: macs[name] for name, width in self._names(macs)},
            'steps': run.total_steps,
            'training_macs': self._training_macs(run),
            'seconds': _seconds(self.trial(best)) + _seconds(self.folder),
            'git_commit': git_commit(),
            'machine': device_name(),
            'data': run.fingerprint,
        }
        write_json(self.folder / 'record.json', record)
        return record

    def _names(self, results: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """What the network calls a width, and what the comparison calls it."""
        names = self.network.widths
        if self._supernet is not None:
            names = tuple(table.name for table in load_channels(self._tables))
        known = zip(names, self.network.widths, strict=True)
        return ((name, width) for name, width in known if name in results)

    @property
    def _tables(self) -> pathlib.Path:
        return self.folder / 'channels.json'

    def _drawn_tables(self, seed: int) -> tuple[ChannelTable, ...]:
        return drawn_tables(self._supernet.run(), self._budgets, seed)

    @property
    def _budgets(self) -> list[int]:
        """Of random controls, what the search found: a little less than it might."""
        how = self.network.tables
        found = self._supernet.folder.with_name('all') / 'channels.json'
        if how.drawn is not None and found.exists():
            return [table.macs for table in load_channels(found)]
        return list(how.budgets)

    def _find_tables(self) -> None:
        """Writes the channel tables, unless they stand there.

        Raises:
            ValueError: those that do are for other widths.
        """
        drawn, seed = self.network.tables.drawn, self._config.seed
        budgets = self._budgets
        if self._tables.exists():
            known = json.loads(self._tables.read_text())['budgets']
            if known != budgets:
                raise ValueError(
                    f'{self._tables} is for the multiply-adds {known}, and {budgets} '
                    f'are wanted: remove {self.folder}, or take another --workdir'
                )
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        if drawn is not None:
            tables = self._drawn_tables(_RANDOM_SEEDS * seed + drawn)
        else:
            with open(self.folder / 'search.txt', 'a') as log, _timed(self.folder):
                tables = searched_tables(
                    self._supernet.best(),
                    budgets,
                    seed,
                    say=lambda line: print(line, file=log, flush=True),
                )
        written = json.loads(channels_text(tables))
        write_json(self._tables, {'budgets': budgets, **written})

    def macs(self) -> int:
        """Returns the multiply-adds of all trials."""
        return len(self.factors) * self._training_macs(self.run())

    def _training_macs(self, run: Run) -> int:
        teacher = 0
        if self._teacher is not None:
            other = self._teacher.run()
            model = other.model.clone(axis_name=None)
            teacher = max(forward_macs(model, run.image_shape).values())
        return training_macs(run, teacher)

    def _train(self, factor: float, should_stop, *, test: bool) -> Results | None:
        workdir = self.trial(factor)
        workdir.mkdir(parents=True, exist_ok=True)
        config, watch = self.config(factor), {}
        if self.network.watch is not None:
            run = make_run(config)
            watch['measure'] = self.network.watch(run)
            watch['measure_steps'] = round(run.clock.steps_per_epoch)
        with open(workdir / 'log.txt', 'a') as log, _timed(workdir):
            try:
                return train(
                    config,
                    workdir,
                    should_stop=should_stop,
                    test=test,
                    say=lambda line: print(line, file=log, flush=True),
                    **watch,
                )
            except NonFiniteLossError as error:
                print(error, file=log)
                raise
            finally:
                # Hundreds of networks follow one another in one process.
                jax.clear_caches()
                gc.collect()


@contextlib.contextmanager
def _timed(folder: pathlib.Path) -> Iterator[None]:
    """Adds the wall time of what is done to that of a folder."""
    before, started = _seconds(folder), time.monotonic()
    try:
        yield
    finally:
        seconds = before + time.monotonic() - started
        write_json(folder / 'seconds.json', {'seconds': seconds})


def _seconds(folder: pathlib.Path) -> float:
    """The wall time that it took so far, less what a killed process lost."""
    path = folder / 'seconds.json'
    return json.loads(path.read_text())['seconds'] if path.exists() else 0.0
