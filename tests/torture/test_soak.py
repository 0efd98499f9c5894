"""A long run is as light at its end as near its start."""

import os
import pathlib
import threading

import numpy as np
import pytest

from slimjax.train.checkpoint import Checkpoints, load_variables
from tests.torture.damaging import state
from tests.torture.trainings import Training, newest

STEPS, LOG, SAVES = 20_000, 200, 1000
# Lines before these steps are of a process that still grows into its buffers.
SETTLED = STEPS // 4
# The fit of memory over the rest of the run may rise by this share of it.
GROWTH = 0.02
# tensorstore 0.1.86 never frees some 300 bytes of each spec that it writes as JSON, and
# orbax asks it for one of each array, and for a few more of each save.
KIB_A_SAVE = 10
COMPILED = 'Finished XLA compilation'


def open_files(process='self') -> int:
    return len(list(pathlib.Path(f'/proc/{process}/fd').iterdir()))


def threads_and_kib(process: int) -> tuple[int, int]:
    lines = pathlib.Path(f'/proc/{process}/status').read_text().splitlines()
    fields = dict(line.split(':', 1) for line in lines)
    return int(fields['Threads']), int(fields['VmRSS'].split()[0])


def held_after_saves(folder, count):
    """Open files, threads and KiB of memory after each save of a small state."""
    held = []
    with Checkpoints(folder) as checkpoints:
        for step in range(1, count + 1):
            checkpoints.save(state(step), {}, -abs(step - 11))
            checkpoints.wait()
            kib = threads_and_kib(os.getpid())[1]
            held.append((open_files(), threading.active_count(), kib))
    # The best one, and the two newest.
    kept = {path.name for path in folder.iterdir()}
    assert kept == {'11', str(count - 1), str(count)}
    return np.array(held)


def test_saves_with_rotation_leave_no_threads_files_or_folders(tmp_path):
    held = held_after_saves(tmp_path / 'checkpoints', 30)
    # The first ones start what is kept.
    assert list(held[10, :2]) == list(held[-1, :2]), held


def test_a_score_that_is_no_number_is_the_worst(tmp_path):
    with Checkpoints(tmp_path / 'checkpoints') as checkpoints:
        for step, score in enumerate((float('nan'), -0.5, -0.1, -0.3), start=1):
            checkpoints.save(state(step), {}, score)
            checkpoints.wait()
        assert checkpoints.best == 3
        assert load_variables(tmp_path).meta['step'] == 3


@pytest.mark.slow
@pytest.mark.torture
def test_a_thousand_saves_cost_what_tensorstore_keeps(tmp_path, ledger):
    held = held_after_saves(tmp_path / 'checkpoints', SAVES + 100)
    growth = (held[-1, 2] - held[99, 2]) / SAVES
    figures = (
        f'{SAVES:,} saves: memory {held[99, 2] / 1024:.0f} MiB, {growth:+.1f} KiB '
        f'each; {held[-1, 0]} files, {held[-1, 1]} threads'
    )
    print(figures)
    lost = []
    for kind, flat in (
        ('file handles', held[-1, 0] == held[10, 0]),
        ('threads', held[-1, 1] == held[10, 1]),
        ('host memory', growth < KIB_A_SAVE),
    ):
        fault = f'{SAVES:,} saves: {kind}'
        ledger.record('soak', fault, bool(flat), '' if flat else figures)
        lost += [] if flat else [kind]
    assert not lost, figures


@pytest.mark.slow
@pytest.mark.torture
def test_twenty_thousand_steps_hold_no_more(tmp_path, ledger, has_time, monkeypatch):
    monkeypatch.setenv('JAX_LOG_COMPILES', '1')
    training = Training(
        tmp_path,
        num_train_steps=STEPS,
        train_epochs=1000,
        log_steps=LOG,
        checkpoint_steps=STEPS,
        eval_steps=1000,
    )
    samples, step = [], 0
    while step < STEPS and has_time():
        step += LOG
        assert training.wait_for_line(f'step {step}/', 600), training.output
        if step < STEPS:
            process = training.process.pid
            compilations = training.output.count(COMPILED)
            samples.append(
                (step, *threads_and_kib(process), open_files(process), compilations)
            )
    if step < STEPS:
        training.kill()
    else:
        assert training.finish() == 0, training.output
    settled = np.array([sample for sample in samples if sample[0] >= SETTLED])
    steps, threads, memory, files, compilations = settled.T
    slope, start = np.polyfit(steps - steps[0], memory, 1)
    growth = slope * (steps[-1] - steps[0]) / start
    figures = (
        f'{step} steps: memory {start / 1024:.0f} MiB, {growth:+.1%}; {threads.max()} '
        f'threads, {files.max()} files, {compilations[-1]} compilations'
    )
    print(figures)
    lost = []
    for kind, flat in (
        ('host memory', growth < GROWTH),
        ('threads', np.median(threads[-10:]) <= np.median(threads[:10])),
        ('file handles', np.median(files[-10:]) <= np.median(files[:10])),
        ('compilations', compilations[0] > 0 and compilations[0] == compilations[-1]),
    ):
        fault = f'{step:,} steps: {kind}'
        ledger.record('soak', fault, bool(flat), '' if flat else figures)
        lost += [] if flat else [kind]
    assert not lost, figures
    assert step < STEPS or newest(tmp_path) == STEPS
