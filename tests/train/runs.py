"""Short runs of the digits network, in this process and in others."""

from slimjax.config_file import load_config
from tests.commands import ROOT, run_command

TINY = str(ROOT / 'tests' / 'train' / 'tiny.py')


def tiny_config(**changes):
    """Returns the tiny config with `changes`."""
    config = load_config(TINY)
    for name, value in changes.items():
        config[name] = value
    return config


def command(workdir, *flags, config=TINY, **changes):
    """Returns the arguments of Python for a run, by default a tiny one."""
    return [
        '-m',
        'slimjax.main',
        f'--config={config}',
        f'--workdir={workdir}',
        *(f'--config.{name}={value}' for name, value in changes.items()),
        *flags,
    ]


def run(workdir, *flags, devices=1, check=True, **changes):
    """Runs a tiny run to its end; returns what it printed."""
    arguments = command(workdir, *flags, **changes)
    done = run_command(*arguments, devices=devices, timeout=240)
    if check:
        assert done.returncode == 0, done.stdout + done.stderr
    return done
