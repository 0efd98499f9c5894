"""Runs that are killed at any moment go on as if nothing had been, bit for bit."""

import os
import random
import signal
import subprocess
import sys
import time
from functools import partial

import pytest

from tests.torture.trainings import (
    STEPS,
    Training,
    contents,
    differences,
    newest,
    writing,
)

KILLS = 50
# Kills of a run before it may come to its end.
KILLS_A_RUN = 5
RANDOM, START, WRITE, EVALUATION, END = (
    'kill -9 at a random moment',
    'kill -9 while starting',
    'kill -9 inside a checkpoint write',
    'kill -9 inside an evaluation',
    'kill -9 in the final test and results',
)
# As often as they stand here.
KINDS = (RANDOM, WRITE, START, EVALUATION, RANDOM, WRITE, END, RANDOM, START, WRITE)


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """What an uninterrupted run leaves, its seconds, and those until its first step."""
    workdir = tmp_path_factory.mktemp('whole')
    Training(tmp_path_factory.mktemp('compiles')).finish()
    training = Training(workdir)
    assert training.wait_for_line('step 2/')
    until_step = time.monotonic() - training.started
    assert training.finish() == 0, training.output
    assert not differences(workdir, contents(workdir))
    return contents(workdir), time.monotonic() - training.started, until_step


def strike(training: Training, kind: str, rng: random.Random, whole) -> bool:
    """Kills a run in a moment of a kind; False where the run had ended before."""
    _, seconds, until_step = whole
    if kind == RANDOM:
        moment = rng.uniform(0, seconds)
    elif kind == START:
        moment = rng.uniform(0, until_step)
    elif kind == WRITE:
        for _ in range(rng.randint(1, 3)):
            training.wait_for(lambda: not writing(training.workdir))
            training.wait_for(lambda: writing(training.workdir))
        moment = 0
        time.sleep(rng.uniform(0, 0.03))
    elif kind == EVALUATION:
        # The line of the step comes just before the evaluation begins.
        for _ in range(rng.randint(1, 2)):
            training.wait_for_line('step ')
        moment = 0
        time.sleep(rng.uniform(0, 0.3))
    else:
        training.wait_for_line(f'eval at step {STEPS}')
        moment = 0
        time.sleep(rng.uniform(0, 0.5))
    end = training.started + moment
    training.wait_for(lambda: time.monotonic() >= end)
    return training.kill()


@pytest.mark.slow
@pytest.mark.torture
def test_killed_runs_end_as_the_uninterrupted_one(
    whole, tmp_path, ledger, seed, has_time
):
    rng = random.Random(seed)
    left, kinds, lost = [KINDS[n % len(KINDS)] for n in range(KILLS)], [], []
    number, workdir = 0, tmp_path / '0'
    while left and has_time():
        before = newest(workdir)
        training = Training(workdir)
        finished = False
        if len(kinds) < KILLS_A_RUN:
            finished = not strike(training, left[0], rng, whole)
            if not finished:
                kinds.append(left.pop(0))
        else:
            finished = True
        if finished or not left:
            if not finished:
                before, training = newest(workdir), Training(workdir)
            wrong = []
            if training.finish() != 0:
                wrong.append(training.output)
            elif before and f'resuming at step {before} ' not in training.output:
                wrong.append(f'it did not resume at step {before}')
            wrong.append(differences(workdir, whole[0]))
            why = '; '.join(filter(None, wrong))
            for kind in kinds:
                ledger.record('crash', kind, survived=not why, lost=why)
            lost += [why] if why else []
            number, kinds = number + 1, []
            workdir = tmp_path / str(number)
    assert not lost
    assert not left or not has_time()


@pytest.mark.slow
@pytest.mark.torture
def test_signals_save_and_the_run_goes_on(whole, tmp_path, ledger):
    for name, signals in (
        ('SIGTERM', [signal.SIGTERM]),
        ('SIGHUP, the end of the terminal', [signal.SIGHUP]),
        ('SIGINT, twice', [signal.SIGINT, signal.SIGINT]),
    ):
        workdir = tmp_path / name
        # Long enough that it cannot end by itself.
        training = Training(workdir, num_train_steps=30_000, train_epochs=1000)
        assert training.wait_for(partial(newest, workdir))
        for number in signals:
            training.process.send_signal(number)
            training.wait_for_line('saving after this step')
        status = training.finish()
        lost = []
        if len(signals) == 1 and (status or 'resume with:' not in training.output):
            lost.append(f'status {status}: {training.output}')
        if len(signals) == 2 and status != -signal.SIGINT:
            lost.append(f'status {status}')
        before = newest(workdir)
        again = Training(workdir, num_train_steps=before + 1, train_epochs=1000)
        if again.finish() or f'resuming at step {before} ' not in again.output:
            lost.append(again.output)
        ledger.record('crash', name, survived=not lost, lost='; '.join(lost))
        assert not lost


@pytest.mark.slow
@pytest.mark.torture
def test_a_run_outlives_its_parent_and_whoever_reads_its_output(
    whole, tmp_path, ledger
):
    def orphaned(workdir):
        shell = Training(workdir, prefix=['sh', '-c', '"$@"; true', 'sh'])
        assert shell.wait_for_line('step 2/')
        # The shell alone: the run stays behind, and its output is read no more.
        shell.deaf = True
        shell.process.kill()
        shell.process.wait()

    def unread(workdir):
        training = Training(workdir)
        assert training.wait_for_line('config')
        training.deaf = True

    for name, start in (('parent death', orphaned), ('closed stdout', unread)):
        workdir = tmp_path / name
        start(workdir)
        end = time.monotonic() + 240
        while not (workdir / 'results.json').exists() and time.monotonic() < end:
            time.sleep(0.1)
        why = differences(workdir, whole[0])
        ledger.record('crash', name, survived=not why, lost=why)
        assert not why


LOUD = """
import os, sys
from slimjax.command_line import outlive_readers
outlive_readers()
while not os.path.exists(sys.argv[1]):
    print('x' * 1000)
    print('x' * 1000, file=sys.stderr)
open(sys.argv[1] + '.done', 'w').close()
"""


@pytest.mark.parametrize('closed', [False, True])
def test_a_command_goes_on_where_nobody_reads_what_it_prints(tmp_path, closed):
    flag = tmp_path / 'flag'
    command = [sys.executable, '-c', LOUD, flag]
    if closed:
        command = ['sh', '-c', 'exec "$@" >&- 2>&-', 'sh', *command]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        if not closed:
            assert process.stdout.read(1) == b'x'
        process.stdout.close()
        time.sleep(0.2)
        flag.touch()
        assert process.wait(60) == 0
    assert os.path.exists(f'{flag}.done')
