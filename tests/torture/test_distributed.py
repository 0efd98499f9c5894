"""Two processes: one is lost, they differ, or the next run has other devices."""

import signal
import time

import numpy as np
import pytest

from slimjax.train.agreement import check_same
from tests.train.runs import run
from tests.train.test_processes import RATE, finish, newest, start_both

# Seconds within which a process ends that has lost the other.
BOUND = 60
LONG = {'train_epochs': 1000, 'eval_steps': 0}


def wait_for(folder, processes):
    deadline = time.monotonic() + 400
    while not folder.is_dir():
        assert time.monotonic() < deadline
        assert all(process.poll() is None for process in processes)
        time.sleep(0.05)


def end_all(processes):
    for process in processes:
        process.kill()
        process.communicate()


def test_processes_that_differ_are_named():
    same = {'config.seed': 0, 'version of jax': '0.10.2'}
    check_same([same, dict(same)])
    other = {**same, 'version of jax': '0.12.0'}
    with pytest.raises(
        ValueError, match='process 2 of 3 has version of jax=0.12.0; process 0 has 0.10'
    ):
        check_same([same, same, other])


@pytest.mark.slow
@pytest.mark.torture
@pytest.mark.parametrize('victim', [0, 1])
def test_the_other_process_ends_in_time_and_a_restart_resumes(victim, tmp_path, ledger):
    workdir = tmp_path / 'run'
    processes = start_both(workdir, num_train_steps=10**6, **LONG)
    try:
        wait_for(workdir / 'checkpoints' / '4', processes)
        processes[victim].send_signal(signal.SIGKILL)
        killed = time.monotonic()
        text = processes[1 - victim].communicate(timeout=BOUND)[0]
        assert time.monotonic() - killed < BOUND
    finally:
        end_all(processes)
    step = newest(workdir).meta['step']
    told = 'run the same command again on all hosts' in text
    # The service of jax may be faster than the step to notice.
    told |= 'another task died' in text
    outputs = finish(start_both(workdir, num_train_steps=step + 2, **LONG))
    resumed = f'resuming at step {step} of {step + 2}' in outputs[0]
    fault = f'kill -9 of process {victim} of 2 in a step'
    ledger.record('distributed', fault, told and resumed, lost=text[-300:])
    assert told, text
    assert resumed, outputs[0]


@pytest.mark.slow
@pytest.mark.torture
def test_processes_of_different_configs_are_refused_at_the_start(tmp_path, ledger):
    workdir = tmp_path / 'run'
    texts = []
    processes = start_both(workdir, second={'seed': 1})
    try:
        texts = [process.communicate(timeout=300)[0] for process in processes]
    finally:
        end_all(processes)
    refused = all('config.seed=1; process 0 has 0' in text for text in texts)
    refused &= not workdir.exists()
    ledger.record('distributed', 'processes of different configs', refused)
    assert refused, texts


@pytest.mark.slow
@pytest.mark.torture
def test_a_run_goes_on_with_other_processes_and_devices(tmp_path, ledger):
    moved, alone = tmp_path / 'moved', tmp_path / 'alone'
    common = {'norm_batch': 'global', 'learning_rate': RATE, **LONG}
    finish(start_both(moved, num_train_steps=2, **LONG))
    run(moved, devices=1, num_train_steps=4, **common)
    run(moved, devices=4, num_train_steps=6, **common)
    finish(start_both(moved, num_train_steps=8, **LONG))
    run(alone, devices=4, num_train_steps=8, **common)
    found, expected = newest(moved), newest(alone)
    assert found.meta['step'] == expected.meta['step'] == 8
    for name in ('0.5', '1.0'):
        np.testing.assert_allclose(
            found.stats[f'batch_stats_{name}']['stem']['norm']['mean'],
            expected.stats[f'batch_stats_{name}']['stem']['norm']['mean'],
            rtol=1e-3,
            atol=1e-5,
        )
    for fault in ('2x2 to 1x1', '1x1 to 1x4', '1x4 to 2x2'):
        ledger.record('distributed', f'resumed from {fault} devices', True)
