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

_SERVER = multiprocessing.get_context('forkserver')
_SERVER.set_forkserver_preload(
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
    with tempfile.NamedTemporaryFile() as out, tempfile.NamedTemporaryFile() as err:
        arguments = [str(argument) for argument in arguments]
        process = _SERVER.Process(
            target=_run, args=(arguments, environment(devices), out.name, err.name)
        )
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(arguments, timeout)
        return subprocess.CompletedProcess(
            arguments, process.exitcode, out.read().decode(), err.read().decode()
        )


def _run(arguments, variables, out, err):
    for path, descriptor in ((out, 1), (err, 2)):
        opened = os.open(path, os.O_WRONLY | os.O_APPEND)
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
