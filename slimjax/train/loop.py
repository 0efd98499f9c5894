"""The training loop: evaluate, save, only then advance."""

import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import ml_collections
import numpy as np

from slimjax.evaluate import Results
from slimjax.train import report
from slimjax.train.checkpoint import Checkpoints
from slimjax.train.fine_tune import fine_tuned
from slimjax.train.finite import NonFiniteLossError, check_finite, first_broken
from slimjax.train.metrics import JsonLines, TensorBoard, Writer, read_metrics
from slimjax.train.parallel import prefetched, replicated
from slimjax.train.resume import check_resumable
from slimjax.train.run import Run
from slimjax.train.runs import final_split, make_run
from slimjax.train.state import Average, TrainState, zero_sums
from slimjax.train.teacher import Teacher
from slimjax.train.teaching import teaching_lines
from slimjax.train.workdir import opened
from slimjax.width import widest as widest_of
from slimjax.width import width_name

# What is asked for scalars of a state at each evaluation.
Measure = Callable[[int, TrainState], Mapping[str, float]]


def train(
    config: ml_collections.ConfigDict,
    workdir: str | pathlib.Path,
    *,
    overridden: tuple[str, ...] = (),
    writer: Writer | None = None,
    measure: Measure | None = None,
    measure_steps: int | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    test: bool = True,
    say: Callable[[str], None] = print,
) -> Results | None:
    """Trains a slimmable network, or goes on where an interrupted run stopped.

    Args:
        config: a complete config, see `slimjax.config_fields`.
        workdir: holds `checkpoints/` and `metrics.jsonl`; made if missing.
        overridden: fields that the command line changed, marked in what is printed.
        writer: gets all scalars too, such as a clu `MetricWriter`.
        measure: `measure(step, state)` returns further scalars, a function of the state
            alone; they are written beside the others.
        measure_steps: between two measurements; None for one at each evaluation.
        should_stop: asked after each step; True saves the state and returns.
        test: whether the test split is read at the end; a later call may still do so.
        say: prints a line for a person.

    Returns:
        Test results of the best checkpoint by width, those of validation where there
        is no test, or None if the run was stopped.

    Raises:
        ValueError: a config that cannot run, before anything is compiled, or a workdir
            that holds another run, or in which one is running.
        NonFiniteLossError: the training diverged.
    """
    if jax.process_index():
        say = report.silent  # One process of many speaks.
    run = make_run(config)
    teacher = Teacher(run) if config.teacher else None
    for line in report.start_lines(run, overridden):
        say(line)
    workdir = pathlib.Path(workdir)
    with opened(workdir, say) as checkpoints:
        state, start = _first_state(run, checkpoints, say)
        writers = _writers(run.config, workdir, start, writer, say)
        meta = {**run.meta, 'overridden': list(overridden)}
        finished = _advance(
            run,
            teacher,
            state,
            start,
            checkpoints,
            meta,
            writers,
            measure,
            measure_steps or run.eval_steps,
            should_stop,
            say,
        )
        if not finished:
            return None
        if not test or final_split(config) != 'test':
            return _validated(run, checkpoints, workdir)
        return _test(run, checkpoints, workdir, writers, say)


def _first_state(run: Run, checkpoints: Checkpoints, say) -> tuple[TrainState, int]:
    """The state to start from: the newest checkpoint's, another run's, or a new one."""
    step = checkpoints.newest
    if step is None and not run.config.init_from:
        run.check_from_scratch()
    state = run.new_state()
    if step is not None:
        check_resumable(run, checkpoints.meta(step))
        state = checkpoints.restore(step, state)
        say(f'resuming at step {step} of {run.total_steps}')
    elif run.config.init_from:
        state = fine_tuned(state, run, say)
    return replicated(state), step or 0


def _writers(config, workdir: pathlib.Path, start: int, writer, say) -> list[Writer]:
    if jax.process_index():
        return []
    path = workdir / 'metrics.jsonl'
    if start and not read_metrics(path):
        say(f'{path} has lost its lines: those of the steps to {start} will be missing')
    writers = [JsonLines(path, start)]
    if config.tensorboard:
        writers.append(TensorBoard(workdir / 'tensorboard', start))
    return writers + ([writer] if writer else [])


def _advance(
    run: Run,
    teacher: Teacher | None,
    state: TrainState,
    start: int,
    checkpoints: Checkpoints,
    meta: Mapping[str, Any],
    writers: list[Writer],
    measure: Measure | None,
    measure_steps: int,
    should_stop: Callable[[], bool],
    say: Callable[[str], None],
) -> bool:
    """Runs the steps from `start`; returns whether it came to the end."""
    if start >= run.total_steps:
        return True
    train_step = run.train_step(state, start, say)
    if teacher is not None:
        train_step = teacher.step(train_step)
    progress = report.Progress(
        run.total_steps, run.config.batch_size, run.clock.steps_per_epoch
    )
    pending = _Pending(run, writers, progress, say)
    reader = run.train_reader(start)
    batches = prefetched(reader)
    saved = start
    try:
        for step in range(start + 1, run.total_steps + 1):
            before = time.monotonic()
            batch = next(batches)
            progress.waited(time.monotonic() - before)
            if jax.process_count() > 1:
                batch['stop'] = np.full(jax.local_device_count(), should_stop())
            state, metrics = train_step(step - 1, state, batch)
            stop = pending.push(step, metrics)
            if jax.process_count() == 1:
                stop = should_stop()
            last = step == run.total_steps
            if step % run.log_steps == 0 or last:
                pending.log(step, state.sums)
                state = state.replace(sums=replicated(zero_sums(run.metric_names)))
            evaluated = step % run.eval_steps == 0 or last
            measured = measure and (step % measure_steps == 0 or last)
            if evaluated or measured or stop or step % run.checkpoint_steps == 0:
                pending.flush()
                score = None
                if evaluated:
                    state, score = _validate(run, state, step, writers, say)
                scalars = measure(step, state) if measured else {}
                for each in writers if scalars else ():
                    each.write_scalars(step, scalars)
                for each in writers:
                    each.flush()
                check_finite(state, step)
                checkpoints.save(state, meta, score)
                saved = step
                progress.skip()
            if stop and not last:
                checkpoints.wait()
                say(f'stopped at step {step}; saved')
                return False
    except NonFiniteLossError as error:
        kept = (
            f'the checkpoint of step {saved} is kept' if saved else 'nothing is saved'
        )
        raise NonFiniteLossError(f'{error}; {kept}') from None
    finally:
        reader.close()
    checkpoints.wait()
    return True


class _Pending:
    """Reads the metrics of a step once the next one is under way."""

    def __init__(self, run: Run, writers, progress: report.Progress, say):
        self._run, self._writers, self._say = run, writers, say
        self._progress = progress
        self._metrics, self._sums = None, None
        self._skipped = 0

    def push(self, step: int, metrics: Mapping[str, Any]) -> bool:
        """Takes the metrics of `step`; returns whether to stop, by those before."""
        stop = self._read()
        self._metrics = (step, metrics)
        return stop

    def log(self, step: int, sums: Mapping[str, Any]) -> None:
        """Takes the sums that the log line of `step` will show."""
        self._sums = (step, sums)

    def flush(self) -> None:
        """Waits for all that was taken."""
        self._read()

    def _check(self, step: int, broken: str | None) -> None:
        """Stops at what is broken, or says that the step was skipped."""
        limit = self._run.config.skip_nonfinite
        self._skipped = self._skipped + 1 if broken else 0
        if self._skipped > limit:
            row = f', after {limit} steps that were skipped' if limit else ''
            raise NonFiniteLossError(f'step {step}: {broken}{row}')
        if broken:
            self._say(
                f'step {step}: {broken}; the step is skipped, {self._skipped} in a row '
                f'of skip_nonfinite={limit}'
            )

    def _read(self) -> bool:
        stop = False
        if self._metrics is not None:
            step, metrics = self._metrics
            metrics = jax.device_get(metrics)
            self._metrics = None
            self._check(step, first_broken(metrics))
            stop = bool(metrics.get('stop', False))
        if self._sums is not None:
            step, sums = self._sums
            self._sums = None
            sums = jax.device_get(sums)
            scalars = {
                # Of a log interval all of whose steps were skipped, 0.
                f'train/{name}': float(value) / max(float(sums['count']), 1.0)
                for name, value in sums.items()
                if name != 'count'
            }
            scalars['train/learning_rate'] = float(self._run.schedule(step - 1))
            scalars['train/epoch'] = step / self._run.clock.steps_per_epoch
            for writer in self._writers:
                writer.write_scalars(step, scalars)
            self._say(self._progress.line(step, scalars))
            if self._run.config.distill:
                widest = width_name(widest_of(self._run.model.widths))
                classes = self._run.config.num_classes
                for line in teaching_lines(scalars, widest, classes):
                    self._say(line)
        return stop


def _validate(run: Run, state: TrainState, step: int, writers, say):
    """Evaluates a state; returns it, calibrated where needed, and its score."""
    state = run.calibration.completed(state)
    results = {'eval': run.evaluate(state.params, state.stats, 'validation')}
    scored = results['eval']
    if state.average is not None:
        stats = run.calibration.averaged(state.average.params, state.average.stats)
        state = state.replace(average=Average(state.average.params, stats))
        scored = run.evaluate(state.average.params, stats, 'validation')
        results['ema'] = scored
    for prefix, result in results.items():
        for writer in writers:
            writer.write_scalars(step, flat(prefix, result))
        say(f'{prefix} at step {step}: {run.results_line(result)}')
    return state, run.score(scored)


def _validated(run: Run, checkpoints: Checkpoints, workdir: pathlib.Path) -> Results:
    """The validation results by which the best checkpoint was chosen."""
    checkpoints.wait()
    prefix = 'ema' if run.config.ema_decay else 'eval'
    lines = read_metrics(workdir / 'metrics.jsonl')
    of_best = [line for line in lines if line['step'] == checkpoints.best]
    known = list(filter(None, (unflat(prefix, line) for line in of_best)))
    return known[0] if known else _results_of_best(run, checkpoints, 'validation')


def _test(run: Run, checkpoints: Checkpoints, workdir, writers, say) -> Results:
    """Evaluates the best checkpoint on the test split, once in the life of a run."""
    path = workdir / 'metrics.jsonl'
    # A run that was extended has the line of its shorter life too.
    known = [
        line
        for line in read_metrics(path)
        if 'test/best_step' in line and line['step'] == run.total_steps
    ]
    if known:
        results = unflat('test', known[-1])
        step = int(known[-1]['test/best_step'])
    else:
        checkpoints.wait()
        step = checkpoints.best
        results = _results_of_best(run, checkpoints, 'test')
        for writer in writers:
            writer.write_scalars(
                run.total_steps, {**flat('test', results), 'test/best_step': step}
            )
            writer.flush()
    say(f'test with the best checkpoint, of step {step}: {run.results_line(results)}')
    return results


def _results_of_best(run: Run, checkpoints: Checkpoints, split: str) -> Results:
    best = checkpoints.load(checkpoints.best, average=bool(run.config.ema_decay))
    params, stats = replicated((best.params, best.stats))
    # As metrics.jsonl keeps them, from which a run that is told again has them.
    return unflat(split, flat(split, run.evaluate(params, stats, split)))


def unflat(prefix: str, scalars: Mapping[str, float]) -> Results:
    """Returns the results that `flat` wrote.

    Example:
        >>> unflat('test', {'test/top1/0.5': 0.9, 'test/best_step': 3, 'step': 3})
        {'0.5': {'top1': 0.9}}
    """
    results = {}
    for name, value in scalars.items():
        first, _, rest = name.partition('/')
        score, _, width = rest.rpartition('/')
        if first == prefix and score:
            results.setdefault(width, {})[score] = value
    return results


def flat(prefix: str, results: Results) -> dict[str, float]:
    """Returns results under the names that metrics files use.

    Example:
        >>> flat('eval', {'0.5': {'top1': 0.9, 'count': 10}})
        {'eval/top1/0.5': 0.9}
    """
    return {
        f'{prefix}/{score}/{width}': value
        for width, scores in results.items()
        for score, value in scores.items()
        if score != 'count'
    }
