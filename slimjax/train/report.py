"""What a person reads when a run starts, while it goes on and when it stops."""

import functools
import importlib.metadata
import json
import pathlib
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

import jax

from slimjax.config_fields import FIELDS
from slimjax.evaluate import Results
from slimjax.insight.memory import format_bytes
from slimjax.insight.table import results_table
from slimjax.train.network import network_costs
from slimjax.train.state import TrainState
from slimjax.version import __version__
from slimjax.width import widest_first, width_name

if TYPE_CHECKING:
    from slimjax.train.run import Run

_PACKAGES = (
    'jax',
    'jaxlib',
    'flax',
    'optax',
    'orbax-checkpoint',
    'grain',
    'tensorflow-datasets',
    'numpy',
)


def say(line: str) -> None:
    """Prints a line at once, into a file or a pipe too."""
    print(line, flush=True)


def silent(_: str) -> None:
    """Prints nothing, where something that prints a line is asked for."""


def versions() -> dict[str, str]:
    """Returns the versions of all that decides the numbers of a run.

    Example:
        >>> 'jax' in versions()
        True
    """
    found = {'slimjax': __version__, 'python': platform.python_version()}
    for name in _PACKAGES:
        found[name] = importlib.metadata.version(name)
    return found


@functools.cache
def git_commit() -> str:
    """Returns the commit of slimjax's checkout, or '' outside of one.

    It is read once: what a process runs is not what was committed since.
    """
    here = pathlib.Path(__file__).parent
    try:
        run = subprocess.run(
            ['git', '-C', str(here), 'rev-parse', 'HEAD'],
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return ''
    return run.stdout.strip()


def config_lines(
    config: Mapping[str, Any], overridden: Sequence[str] = ()
) -> list[str]:
    """Returns a config as lines; what the command line changed is marked by `*`.

    Example:
        >>> config_lines({'seed': 1, 'pad': 0}, overridden=['seed'])
        ['  pad = 0', '* seed = 1']
    """
    return [
        f'{"*" if name in overridden else " "} {name} = {_plain(config[name])}'
        for name in FIELDS
        if name in config
    ]


def _plain(value: Any) -> str:
    return repr(value.to_dict() if hasattr(value, 'to_dict') else value)


def jsonable(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a config as JSON keeps it: tuples become lists.

    Example:
        >>> jsonable({'widths': (0.5, 1.0)})
        {'widths': [0.5, 1.0]}
    """
    plain = config.to_dict() if hasattr(config, 'to_dict') else dict(config)
    return json.loads(json.dumps(plain))


def devices_line() -> str:
    """Returns how many devices of which kind a run has."""
    devices = jax.devices()
    return (
        f'{len(devices)} x {devices[0].device_kind} ({devices[0].platform}), '
        f'process {jax.process_index() + 1} of {jax.process_count()}'
    )


def start_lines(run: 'Run', overridden: Sequence[str] = ()) -> list[str]:
    """Returns what is printed at the start of a run."""
    config, clock = run.config, run.clock
    costs = network_costs(run.model.clone(axis_name=None), run.image_shape)
    marked = ' (* = changed on the command line)' if overridden else ''
    return [
        f'config{marked}:',
        *config_lines(config, overridden),
        'versions: ' + ', '.join(f'{k} {v}' for k, v in versions().items()),
        f'devices: {devices_line()}',
        f'batch: {config.batch_size} = {jax.device_count()} devices x '
        f'{config.accumulate_steps} parts x '
        f'{config.batch_size // jax.device_count() // config.accumulate_steps} '
        f'examples; {clock.examples} examples are {clock.steps_per_epoch:.2f} steps an '
        f'epoch; {run.total_steps} steps in all',
        results_table(costs),
        f'stored: {costs["stored_params"]:,} parameters serve all widths',
        *_widths_lines(run),
    ]


def _widths_lines(run: 'Run') -> list[str]:
    """What a step trains of the widths, and what they learn from."""
    names = [width_name(width) for width in widest_first(run.model.widths)]
    lines = []
    if run.sandwich is not None:
        drawn = run.sandwich.count - 2
        lines = [
            run.sandwich.grid.line(),
            f'a step trains {names[0]}, {names[-1]} and {drawn} drawn between them',
        ]
    if run.config.teacher:
        lines.append(f'{run.config.teacher} teaches every width, which see no label')
    elif len(names) > 1:
        lines.append(
            f'width {names[0]} teaches the others, which see no label'
            if run.config.distill
            else 'every width learns from the labels'
        )
    return lines


def accuracy_line(title: str, score: str, results: Results) -> str:
    """Returns a score of all widths in one line, in percent.

    Example:
        >>> accuracy_line('top-1', 'top1', {'0.5': {'top1': 0.9}, '1.0': {'top1': 1.0}})
        'top-1 0.5: 90.00 %  1.0: 100.00 %'
    """
    return f'{title} ' + '  '.join(
        f'{width}: {100 * scores[score]:.2f} %' for width, scores in results.items()
    )


def memory_line(temporaries: int | None, state: TrainState, summed: Any = ()) -> str:
    """Returns what memory a training step needs on each device.

    Args:
        temporaries: bytes of its compiled program, or of the largest of several.
        state: what it is called with.
        summed: gradients that lie beside it between several programs.

    Example:
        >>> import numpy as np
        >>> memory_line(2048, {'params': np.zeros(256, np.float32)})
        'memory a device: state 1.0 KiB, step 2.0 KiB of temporaries'
    """
    needed = 'unknown' if temporaries is None else format_bytes(temporaries)
    held = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    beside = sum(leaf.nbytes for leaf in jax.tree.leaves(summed))
    between = f'summed gradients {format_bytes(beside)}, ' if beside else ''
    return (
        f'memory a device: state {format_bytes(held)}, {between}step {needed} of '
        'temporaries'
    )


class Bar:
    """A bar for what takes minutes before a run begins.

    On a terminal it is drawn over itself; elsewhere each eighth is a line.

    Args:
        say: prints a line for a person.
        stream: what may be a terminal; None for the standard output.

    Example:
        >>> bar = Bar(print)
        >>> bar(1, 2, 'width 1.0')
        compiling [########        ] 1/2, width 1.0
    """

    def __init__(self, say: Callable[[str], None], stream: TextIO | None = None):
        self._say, self._stream = say, stream or sys.stdout
        self._terminal = say is print and self._stream.isatty()
        self.done = 0

    def __call__(self, done: int, total: int, name: str) -> None:
        """Shows that `done` of `total` things are done, the last one called `name`."""
        shown = 8 * self.done // total
        self.done = done
        filled = 16 * done // total
        line = f'compiling [{"#" * filled:16}] {done}/{total}, {name}'
        if self._terminal:
            end = '\n' if done == total else ''
            self._stream.write(f'\r{line:78}{end}')
            self._stream.flush()
        elif 8 * done // total > shown:
            self._say(line)


class Progress:
    """Measures a run between two log lines.

    Args:
        total: steps of the whole run.
        batch_size: examples a step.
        steps_per_epoch: may be a fraction.
    """

    def __init__(self, total: int, batch_size: int, steps_per_epoch: float):
        self._total, self._batch_size = total, batch_size
        self._steps_per_epoch = steps_per_epoch
        self._waited = 0.0
        self._pause_until_now()
        self._rate = None

    def _pause_until_now(self):
        self._since, self._steps, self._waited = time.monotonic(), 0, 0.0

    def waited(self, seconds: float) -> None:
        """Adds time spent waiting for data in a step."""
        self._steps += 1
        self._waited += seconds

    def skip(self) -> None:
        """Leaves out the time since the last line, such as that of an evaluation."""
        self._pause_until_now()

    def line(self, step: int, scalars: Mapping[str, float]) -> str:
        """Returns the progress line of `step`, and starts the next interval."""
        seconds = max(time.monotonic() - self._since, 1e-9)
        rate = self._steps / seconds
        if rate:
            # The first interval compiles: let later ones outweigh it.
            old = self._rate
            self._rate = rate if old is None or rate > 4 * old else (old + rate) / 2
        losses = '  '.join(
            f'{name.removeprefix("train/loss/")}: {value:.4g}'
            for name, value in scalars.items()
            if name.startswith('train/loss/')
        )
        left = (self._total - step) / self._rate if self._rate else float('nan')
        text = (
            f'epoch {step / self._steps_per_epoch:.2f}  step {step}/{self._total}  '
            f'loss {losses}  {rate * self._batch_size:.0f} images/s  '
            f'data {100 * min(self._waited / seconds, 1):.0f} %  ETA {duration(left)}'
        )
        self._pause_until_now()
        return text


def duration(seconds: float) -> str:
    """Returns a time span for people.

    Example:
        >>> duration(75), duration(3700), duration(90000)
        ('1:15', '1:01:40', '1d 1:00:00')
    """
    if seconds != seconds:
        return '?'
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    clock = f'{hour}:{minute:02}:{second:02}' if hours else f'{minute}:{second:02}'
    return f'{days}d {clock}' if days else clock
