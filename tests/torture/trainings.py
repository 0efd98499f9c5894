"""Trainings of the digits that are watched, killed and compared."""

import json
import pathlib
import queue
import signal
import subprocess
import sys
import threading
import time
from functools import partial

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from slimjax.train.checkpoint import Checkpoints
from tests.torture.ledger import ROOT, children_environment
from tests.train.runs import command

CACHE = ROOT / '.cache' / 'torture' / 'jax'
STEPS = 12
# Of the workdir of a run that came to its end.
FILES = {'checkpoints', 'lock', 'metrics.jsonl', 'results.json'}


class Training:
    """A run in a process of its own, whose lines can be waited for.

    Args:
        workdir: of the run.
        changes: of the tiny config.
        prefix: a command that starts it.
    """

    def __init__(self, workdir, *flags, prefix=(), **changes):
        self.workdir = pathlib.Path(workdir)
        self.started = time.monotonic()
        changes = {'num_train_steps': STEPS, **changes}
        self.process = subprocess.Popen(
            [*prefix, sys.executable, *command(workdir, *flags, **changes)],
            env=children_environment(CACHE),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            # These tests may run under nohup; what they start does not.
            preexec_fn=partial(signal.signal, signal.SIGHUP, signal.SIG_DFL),
        )
        self.lines: list[str] = []
        # Set, its output is closed after the next line.
        self.deaf = False
        self._queue: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line)
            self._queue.put(line)
            if self.deaf:
                self.process.stdout.close()
                return

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    @property
    def output(self) -> str:
        return ''.join(self.lines)

    def wait_for_line(self, text: str, timeout: float = 240) -> bool:
        """Waits for a line with `text` in it; False where the run ended before."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            try:
                if text in self._queue.get(timeout=0.02):
                    return True
            except queue.Empty:
                if not self.running and self._queue.empty():
                    return False
        self.kill()
        raise TimeoutError(f'no {text!r} in {timeout} s:\n{self.output}')

    def wait_for(self, condition, timeout: float = 240) -> bool:
        """Waits for a condition, looked at often; False where the run ended before."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if condition():
                return True
            if not self.running:
                return False
            time.sleep(0.0005)
        self.kill()
        raise TimeoutError(f'{condition} in {timeout} s:\n{self.output}')

    def finish(self, timeout: float = 300) -> int:
        """Waits for its end; returns the exit status."""
        try:
            self.process.wait(timeout)
        finally:
            self.process.kill()
            self._reader.join(10)
        return self.process.returncode

    def kill(self) -> bool:
        """Kills it; whether it was still running."""
        self.process.kill()
        self.process.wait()
        self._reader.join(10)
        return self.process.returncode == -9


def writing(workdir: pathlib.Path) -> bool:
    """Whether a checkpoint is being written."""
    return any(workdir.glob('checkpoints/*tmp*'))


def newest(workdir: pathlib.Path) -> int | None:
    """The step of the newest checkpoint that stands under its final name."""
    found = [int(p.name) for p in workdir.glob('checkpoints/*') if p.name.isdigit()]
    return max(found, default=None)


def contents(workdir: pathlib.Path) -> dict:
    """All that a run leaves, to be compared byte for byte."""
    with Checkpoints(workdir / 'checkpoints') as checkpoints:
        step, best = checkpoints.newest, checkpoints.best
    path = workdir / 'checkpoints' / str(step)
    names = ['params', 'stats', 'training']
    parts = ocp.load_checkpointables(path, dict.fromkeys(names))
    arrays = {
        jax.tree_util.keystr(key): np.asarray(leaf).tobytes()
        for key, leaf in jax.tree_util.tree_leaves_with_path(parts)
    }
    return {
        'newest': step,
        'best': best,
        'arrays': arrays,
        'metrics': (workdir / 'metrics.jsonl').read_text(),
        'results': json.loads((workdir / 'results.json').read_text()),
    }


def differences(workdir: pathlib.Path, expected: dict) -> str:
    """What of a finished run is not as it should be; '' where all is."""
    wrong = [name for name, own in contents(workdir).items() if own != expected[name]]
    for left in ('*tmp*', '*.deleted'):
        wrong += [path.name for path in workdir.rglob(left)]
    wrong += sorted({path.name for path in workdir.iterdir()} ^ FILES)
    return ', '.join(wrong)
