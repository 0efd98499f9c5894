"""Short runs of the digits network, in this process and in others."""

import os
import pathlib
import subprocess
import sys

from slimjax.main import load_config

ROOT = pathlib.Path(__file__).parents[2]
# Compiles in seconds: two widths of a small network on images of 8 px.
TINY = {
    'image_size': 8,
    'eval_resize': 8,
    'widths': (0.5, 1.0),
    'batch_size': 32,
    'num_train_steps': 6,
    'train_epochs': 1,
    'checkpoint_steps': 2,
    'checkpoint_epochs': 0,
    'eval_steps': 3,
    'eval_epochs': 0,
    'log_steps': 2,
    'log_epochs': 0,
    'warmup_epochs': 0,
}
TINY_FIELDS = {'base_features': 4}


def tiny_config(**changes):
    """Returns the digits config, made small, with `changes`."""
    config = load_config(str(ROOT / 'configs' / 'digits.py'))
    for name, value in {**TINY, **changes}.items():
        config[name] = value
    config.model_fields.update(TINY_FIELDS)
    return config


def command(workdir, *flags, **changes):
    """Returns the command line of a tiny run."""
    fields = {**TINY, **changes}
    return [
        sys.executable,
        '-m',
        'slimjax.main',
        f'--config={ROOT / "configs" / "digits.py"}',
        f'--workdir={workdir}',
        '--config.model_fields.base_features=4',
        *(f'--config.{name}={value}' for name, value in fields.items()),
        *flags,
    ]


def environment(devices=1):
    """Returns an environment with so many CPU devices."""
    count = '--xla_force_host_platform_device_count='
    flags = os.environ['XLA_FLAGS'].replace(f'{count}4', f'{count}{devices}')
    return {**os.environ, 'XLA_FLAGS': flags}


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
