"""Whole runs on disks that fill up, are damaged, or belong to another run."""

import random
import shutil
import subprocess

import pytest

from tests.torture.damaging import damage, files_of, fill
from tests.torture.trainings import Training, contents, differences, newest


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    workdir = tmp_path_factory.mktemp('whole')
    training = Training(workdir)
    assert training.finish() == 0, training.output
    return workdir


@pytest.mark.slow
@pytest.mark.torture
def test_a_full_disk_stops_a_run_that_goes_on_when_there_is_space(
    whole, small, ledger, seed, has_time
):
    rng, expected = random.Random(seed), contents(whole)
    # Where it fails: at the start, at the first line, in the first checkpoints.
    for left in (0, 4096, 8192, *(rng.randrange(16_384, 400_000) for _ in range(5))):
        if not has_time():
            break
        workdir = small / 'run'
        filling = fill(small, left)
        training = Training(workdir)
        status, before = training.finish(), newest(workdir)
        last = training.output.rstrip().rpartition('\n')[2]
        lost = []
        if status and not last.startswith('slimjax: '):
            lost.append(training.output)
        filling.unlink()
        again = Training(workdir)
        if again.finish():
            lost.append(again.output)
        elif before and f'resuming at step {before} ' not in again.output:
            lost.append(f'it did not resume at step {before}')
        lost.append(differences(workdir, expected))
        why = '; '.join(filter(None, lost))
        ledger.record('storage', 'disk full', survived=not why, lost=why)
        assert not why
        shutil.rmtree(workdir)


@pytest.mark.slow
@pytest.mark.torture
def test_what_should_not_be_trained_in_is_refused_in_one_line(whole, tmp_path, ledger):
    workdir = shutil.copytree(whole, tmp_path / 'run')
    running = Training(tmp_path / 'busy', num_train_steps=30_000, train_epochs=1000)
    assert running.wait_for_line('step 2/')
    for fault, where, changes, message in (
        (
            'a workdir of another config',
            workdir,
            {'learning_rate': 0.7},
            'learning_rate: 0.05 there, 0.7 now',
        ),
        (
            'a workdir of another model',
            workdir,
            {'model': 'resnet26'},
            "model: 'resnet14' there, 'resnet26' now",
        ),
        ('two runs in one workdir', running.workdir, {}, 'is in use by process'),
    ):
        refused = Training(where, **changes)
        status = refused.finish()
        last = refused.output.rstrip().rpartition('\n')[2]
        right = status == 1 and message in last and 'Traceback' not in refused.output
        ledger.record('storage', fault, right, '' if right else refused.output)
        assert right
    assert running.running
    running.kill()
    again = Training(running.workdir, num_train_steps=4, train_epochs=1000)
    released = again.finish() == 0
    ledger.record('storage', 'the holder of the lock killed', released, again.output)
    assert released


@pytest.mark.slow
@pytest.mark.torture
def test_damage_before_a_restart_does_not_change_how_a_run_ends(
    whole, tmp_path, ledger, seed
):
    rng, expected = random.Random(seed), contents(whole)
    for fault in ('a bit flipped', 'metrics file of 0 bytes'):
        workdir = tmp_path / fault
        assert Training(workdir, num_train_steps=8).finish() == 0
        if fault == 'a bit flipped':
            damage(files_of(workdir, 8)[-1], fault, rng)
            steps = (6, 8)
        else:
            (workdir / 'metrics.jsonl').write_bytes(b'')
            steps = (8,)
        again = Training(workdir)
        lost = [] if again.finish() == 0 else [again.output]
        if not any(f'resuming at step {step} ' in again.output for step in steps):
            lost.append(again.output)
        for name, own in contents(workdir).items():
            if own != expected[name] and name != 'metrics':
                lost.append(name)
        ledger.record('storage', f'restart after {fault}', not lost, '; '.join(lost))
        assert not lost


@pytest.mark.slow
@pytest.mark.torture
def test_a_read_only_workdir_is_refused_in_one_line_and_evaluated(whole, small, ledger):
    shutil.copytree(whole, small, dirs_exist_ok=True)
    subprocess.run(['mount', '-o', 'remount,ro', small], check=True)
    refused, evaluated = Training(small), Training(small, '--mode=eval')
    right = refused.finish() == 1 and 'Read-only file system' in refused.lines[-1]
    right = right and evaluated.finish() == 0
    ledger.record('storage', 'read-only workdir', right, refused.output)
    assert right, refused.output + evaluated.output
