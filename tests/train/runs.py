"""Short runs of the digits network, in this process and in others."""

import os
import pathlib
import subprocess
import sys

from slimjax.config_file import load_config

ROOT = pathlib.Path(__file__).parents[2]
TINY = str(ROOT / 'tests' / 'train' / 'tiny.py')


def tiny_config(**changes):
    """Returns the tiny config with `changes`."""
    config = load_config(TINY)
    for name, value in changes.items():
        config[name] = value
    return config


def command(workdir, *flags, **changes):
    """Returns the command line of a tiny run."""
    return [
        sys.executable,
        '-m',
        'slimjax.main',
        f'--config={TINY}',
        f'--workdir={workdir}',
        *(f'--config.{name}={value}' for name, value in changes.items()),
        *flags,
    ]


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


def run(workdir, *flags, devices=1, check=True, **changes):
    """Runs a tiny run to its end; returns what it printed."""
    done = subprocess.run(
        command(workdir, *flags, **changes),
        env=environment(devices),
        capture_output=True,
        text=True,
        timeout=240,
        cwd=ROOT,
        check=False,
    )
    if check:
        assert done.returncode == 0, done.stdout + done.stderr
    return done
