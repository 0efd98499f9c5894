"""Two processes of two devices each train, are killed, resume and evaluate."""

import pathlib
import socket
import time

import numpy as np
import pytest

from slimjax.train.checkpoint import Checkpoints
from slimjax.train.metrics import read_metrics
from tests.commands import Started
from tests.train.runs import command, run

# Sums of several processes are rounded in another order; a small step keeps what comes
# of that small.
RATE = 1e-4


def newest(workdir):
    with Checkpoints(workdir / 'checkpoints') as checkpoints:
        return checkpoints.load(checkpoints.newest)


def start_both(workdir, second=None, **changes):
    """Starts two processes; `second` are further changes for the second alone."""
    with socket.socket() as probe:
        probe.bind(('localhost', 0))
        port = probe.getsockname()[1]
    return [
        Started(
            *command(
                workdir,
                f'--coordinator=localhost:{port}',
                '--processes=2',
                f'--process={index}',
                **{'norm_batch': 'global', 'learning_rate': RATE, **changes},
                **(second or {} if index else {}),
            ),
            devices=2,
        )
        for index in (0, 1)
    ]


def finish(processes):
    try:
        ended = [process.end(timeout=240) for process in processes]
    finally:
        for process in processes:
            process.kill()
    outputs = [each.stdout + each.stderr for each in ended]
    for each, output in zip(ended, outputs, strict=True):
        assert each.returncode == 0, output
    return outputs


@pytest.mark.timeout(580)
def test_two_processes_do_what_one_does_and_survive_a_kill(tmp_path):
    together, alone = tmp_path / 'together', tmp_path / 'alone'
    processes = start_both(together)
    deadline = time.monotonic() + 240
    while not (together / 'checkpoints' / '2').is_dir():
        assert time.monotonic() < deadline
        assert all(process.runs for process in processes)
        time.sleep(0.05)
    for process in processes:
        process.kill()
        process.end(timeout=60)
    outputs = finish(start_both(together))
    assert 'process 1 of 2' in outputs[0]
    assert not outputs[1].strip() or 'step' not in outputs[1]
    run(alone, devices=4, norm_batch='global', learning_rate=RATE)
    found, expected = newest(together), newest(alone)
    assert found.meta['step'] == expected.meta['step']
    for name in ('0.5', '1.0'):
        np.testing.assert_allclose(
            found.stats[f'batch_stats_{name}']['stem']['norm']['mean'],
            expected.stats[f'batch_stats_{name}']['stem']['norm']['mean'],
            rtol=1e-3,
            atol=1e-5,
        )
    lines = [read_metrics(pathlib.Path(d, 'metrics.jsonl')) for d in (together, alone)]
    assert [line['step'] for line in lines[0]] == [line['step'] for line in lines[1]]


@pytest.mark.slow
@pytest.mark.timeout(580)
def test_two_processes_train_and_calibrate_any_width_as_one_does(tmp_path):
    together, alone = tmp_path / 'together', tmp_path / 'alone'
    universal = {
        'widths': (0.5, 0.75, 1.0),
        'sandwich': 3,
        'width_grid': 0.25,
        'norm': 'shared_affine',
        'distill': True,
    }
    outputs = finish(start_both(together, **universal))
    assert '3 widths will be trained, 4 programs are compiled' in outputs[0]
    run(alone, devices=4, norm_batch='global', learning_rate=RATE, **universal)
    found, expected = newest(together), newest(alone)
    assert set(found.stats) == {f'batch_stats_{w}' for w in universal['widths']}
    # The one between the ends is calibrated, on the images of both processes.
    for collection, norms in expected.stats.items():
        for leaf in ('mean', 'var'):
            np.testing.assert_allclose(
                found.stats[collection]['stem']['norm'][leaf],
                norms['stem']['norm'][leaf],
                rtol=1e-3,
                atol=1e-5,
            )
    lines = [read_metrics(pathlib.Path(d, 'metrics.jsonl')) for d in (together, alone)]
    assert [line['step'] for line in lines[0]] == [line['step'] for line in lines[1]]
