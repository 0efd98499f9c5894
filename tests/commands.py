"""Python and its commands in processes of their own.

Commands need not import everything anew: they are forked from a server, one of each
worker of the tests, that has imported it; it asked for no devices, so that each finds
its own.
"""

import multiprocessing
import os
import pathlib
import runpy
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parents[1]

SERVER = multiprocessing.get_context('forkserver')
SERVER.set_forkserver_preload(
    [
        'ml_collections.config_flags',
        'slimjax.commands',
        'slimjax.command_line',
        'slimjax.detection',
    ]
)


def environment(devices=1):
    """Returns an environment with so many CPU devices."""
    count = '--xla_force_host_platform_device_count='
    flags = os.environ['XLA_FLAGS'].replace(f'{count}4', f'{count}{devices}')
    return {**os.environ, 'XLA_FLAGS': flags}


def run_python(*arguments, timeout, **variables):
    """Runs Python to its end, with changed environment variables; None removes one."""
    changed = {**environment(), **variables}
    return subprocess.run(
        [sys.executable, *arguments],
        env={name: value for name, value in changed.items() if value is not None},
        capture_output=True,
        text=True,
        timeout=timeout,
        cwd=ROOT,
        check=False,
    )


def run_command(*arguments, devices=1, timeout=200):
    """Runs `-m MODULE` or a script with arguments to its end, as `subprocess.run` does.

    Its environment is that of the tests, with so many devices. What happens while an
    interpreter starts and ends is no part of it: `run_python` is.
    """
    return Started(*arguments, devices=devices).end(timeout)


class Started:
    """A command that `run_command` would run to its end."""

    def __init__(self, *arguments, devices=1):
        self._arguments = [str(argument) for argument in arguments]
        self._folder = tempfile.TemporaryDirectory()
        self._printed = [pathlib.Path(self._folder.name, f'{n}') for n in (1, 2)]
        self._process = SERVER.Process(
            target=_run, args=(self._arguments, environment(devices), *self._printed)
        )
        self._process.start()

    @property
    def runs(self):
        return self._process.exitcode is None

    def kill(self):
        """As `kill -9` does."""
        self._process.kill()

    def end(self, timeout):
        """Waits for it; returns what `subprocess.run` would."""
        self._process.join(timeout)
        if self.runs:
            self.kill()
            raise subprocess.TimeoutExpired(self._arguments, timeout)
        with self._folder:
            printed = [path.read_text() for path in self._printed]
        return subprocess.CompletedProcess(
            self._arguments, self._process.exitcode, *printed
        )


def _run(arguments, variables, out, err):
    for path, descriptor in ((out, 1), (err, 2)):
        opened = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.dup2(opened, descriptor)
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(ROOT)
    if arguments[0] == '-m':
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name='__main__', alter_sys=True)
    else:
        sys.argv = arguments
        sys.path.insert(0, os.path.dirname(arguments[0]))
        runpy.run_path(arguments[0], run_name='__main__')
