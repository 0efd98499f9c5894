"""A long run is as light at its end as near its start."""

import os
import pathlib
import shutil
import threading

import numpy as np
import pytest

from slimjax.train.checkpoint import Checkpoints
from tests.torture.damaging import state
from tests.torture.trainings import Training, newest

STEPS, LOG, SAVE = 20_000, 200, 20
# Lines before these steps are of a process that still grows into its buffers.
SETTLED = STEPS // 4
# The fit of memory over the rest of the run may rise by this share of it.
GROWTH = 0.02
COMPILED = 'Finished XLA compilation'


def open_files(process='self') -> int:
    return len(list(pathlib.Path(f'/proc/{process}/fd').iterdir()))


def threads_and_kib(process: int) -> tuple[int, int]:
    lines = pathlib.Path(f'/proc/{process}/status').read_text().splitlines()
    fields = dict(line.split(':', 1) for line in lines)
    return int(fields['Threads']), int(fields['VmRSS'].split()[0])


def test_saves_with_rotation_leave_no_threads_files_or_folders(tmp_path):
    seen = []
    with Checkpoints(tmp_path / 'checkpoints') as checkpoints:
        for step in range(1, 31):
            checkpoints.save(state(step), {}, -abs(step - 11))
            checkpoints.wait()
            seen.append((open_files(), threading.active_count()))
    # The first ones start what is kept.
    assert seen[10] == seen[29], seen
    kept = {path.name for path in (tmp_path / 'checkpoints').iterdir()}
    assert kept == {'11', '29', '30'}


@pytest.mark.slow
@pytest.mark.torture
def test_twenty_thousand_steps_and_a_thousand_saves_hold_no_more(
    tmp_path, ledger, has_time, monkeypatch
):
    monkeypatch.setenv('JAX_LOG_COMPILES', '1')
    training = Training(
        tmp_path,
        num_train_steps=STEPS,
        train_epochs=1000,
        log_steps=LOG,
        checkpoint_steps=SAVE,
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
        f'{step} steps, {step // SAVE} saves: memory {start / 1024:.0f} MiB, '
        f'{growth:+.1%}; {threads.max()} threads, {files.max()} files, '
        f'{compilations[-1]} compilations'
    )
    print(figures)
    lost = []
    for kind, flat in (
        ('host memory', growth < GROWTH),
        # Sampled at any moment, a save may be under way.
        ('threads', np.median(threads[-10:]) <= np.median(threads[:10])),
        ('file handles', np.median(files[-10:]) <= np.median(files[:10])),
        ('compilations', compilations[0] > 0 and compilations[0] == compilations[-1]),
        ('rotation', len(os.listdir(tmp_path / 'checkpoints')) <= 4),
    ):
        fault = f'{step:,} steps, {step // SAVE:,} saves: {kind}'
        ledger.record('soak', fault, bool(flat), '' if flat else figures)
        lost += [] if flat else [kind]
    assert not lost, figures
    assert newest(tmp_path) > STEPS - 2 * SAVE or not has_time()
    shutil.rmtree(tmp_path / 'checkpoints')
