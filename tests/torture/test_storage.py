"""Disks that fill up, that cannot be written, and that change what they hold."""

import contextlib
import itertools
import os
import pathlib
import random
import shutil
import subprocess
import time

import jax
import numpy as np
import pytest

from slimjax.lock import locked
from slimjax.train.checkpoint import Checkpoints, load_variables
from slimjax.train.integrity import BrokenCheckpointError
from slimjax.train.loop import train
from slimjax.train.metrics import JsonLines, read_metrics
from slimjax.train.resume import changed_fields
from slimjax.train.workdir import opened
from tests.torture.damaging import FAULTS, damage, files_of, fill, state
from tests.torture.trainings import newest
from tests.train.runs import tiny_config


@pytest.fixture(scope='module')
def saved(tmp_path_factory):
    """A workdir of states of steps 1, 2 and 3, the first of which is the best."""
    workdir = tmp_path_factory.mktemp('saved')
    with Checkpoints(workdir / 'checkpoints') as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(state(step), {'config': {'seed': 0}}, 1 / step)
            checkpoints.wait()
    assert {path.name for path in (workdir / 'checkpoints').iterdir()} == set('123')
    return workdir


@pytest.fixture
def copy(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / 'copy')


def resumed(workdir: pathlib.Path) -> tuple[int, list[str]]:
    """The step from which a run would go on, all of whose state is right."""
    said = []
    with opened(workdir, said.append) as checkpoints:
        step = checkpoints.newest
        found = checkpoints.restore(step, state(0))
        jax.tree.map(np.testing.assert_array_equal, found, state(step))
        assert checkpoints.best in (1, 2)
    return step, said


@pytest.mark.parametrize('fault', FAULTS)
def test_a_damaged_newest_checkpoint_is_set_aside_and_named(copy, fault):
    rng = random.Random(0)
    numbers = max(files_of(copy, 3), key=lambda path: path.stat().st_size)
    damage(numbers, fault, rng)
    step, said = resumed(copy)
    assert step == 2
    assert len(said) == 1
    assert said[0].startswith('the checkpoint of step 3 is damaged (')
    assert (copy / 'broken_checkpoints' / '3').is_dir()
    # The run comes to the same step again, and it breaks again.
    with opened(copy, said.append) as checkpoints:
        checkpoints.save(state(3), {}, 0.1)
    damage(files_of(copy, 3)[-1], 'a file missing', rng)
    with contextlib.suppress(BrokenCheckpointError):
        resumed(copy)
    assert resumed(copy)[0] in (2, 3)


def test_what_a_killed_run_was_deleting_is_deleted_and_not_called_damaged(
    copy, monkeypatch
):
    class Killed(BaseException):
        pass

    def delete_half(path, **_):
        (path / 'params' / 'manifest.ocdbt').unlink()
        raise Killed

    with monkeypatch.context() as patched, opened(copy, print) as checkpoints:
        patched.setattr(shutil, 'rmtree', delete_half)
        checkpoints.save(state(4), {}, 0.1)
        with pytest.raises(Killed):
            checkpoints.wait()
    step, said = resumed(copy)
    assert (step, said) == (4, [])
    assert {path.name for path in (copy / 'checkpoints').iterdir()} == set('134')
    assert not (copy / 'broken_checkpoints').exists()


def test_facts_that_changed_are_noticed_as_numbers_are(copy):
    meta = copy / 'checkpoints' / '3' / 'meta' / 'meta.json'
    meta.write_text(meta.read_text().replace('"seed": 0', '"seed": 1'))
    assert 'meta.json was changed' in resumed(copy)[1][0]


def test_a_best_checkpoint_that_was_changed_is_not_evaluated(copy):
    for file in files_of(copy, 1):
        if file.parent.name == 'd':
            damage(file, 'a bit flipped', random.Random(0))
    with pytest.raises(BrokenCheckpointError, match=r'checkpoints/1|numbers of'):
        load_variables(copy)


def test_a_run_without_any_whole_checkpoint_is_left_as_it_is(copy):
    for step in (1, 2, 3):
        damage(
            copy / f'checkpoints/{step}/meta/meta.json',
            'a file emptied',
            random.Random(),
        )
    with pytest.raises(ValueError, match=r'no checkpoint in .* is whole \(1: '):
        resumed(copy)
    assert len(list((copy / 'checkpoints').iterdir())) == 3


def test_reading_a_workdir_leaves_a_checkpoint_that_is_being_written(copy):
    unfinished = copy / 'checkpoints' / '4.orbax-checkpoint-tmp'
    unfinished.mkdir()
    load_variables(copy)
    assert unfinished.is_dir()
    with opened(copy, print) as checkpoints:
        checkpoints.save(state(4), {}, 0.1)
    assert newest(copy) == 4
    assert not unfinished.exists()


def test_the_order_of_checkpoints_is_that_of_steps_whatever_the_clock_says(
    tmp_path, monkeypatch
):
    # Threads that other tests left behind ask for it too.
    now = itertools.chain([2e9, 1e9, 3e9, 5e8, 4e9, 1e8], itertools.repeat(1e9))
    monkeypatch.setattr(time, 'time', lambda: next(now))
    with Checkpoints(tmp_path / 'checkpoints') as checkpoints:
        for step in (1, 2, 3, 4):
            checkpoints.save(state(step), {}, -abs(step - 2))
            checkpoints.wait()
            os.utime(tmp_path / 'checkpoints' / str(step), (1e9 / step, 1e9 / step))
    assert resumed_best(tmp_path) == (4, 2)
    kept = {path.name for path in (tmp_path / 'checkpoints').iterdir()}
    assert kept == {'2', '3', '4'}


def resumed_best(workdir):
    with opened(workdir, print) as checkpoints:
        return checkpoints.newest, checkpoints.best


def test_one_run_at_a_time_holds_a_workdir_and_its_death_releases_it(tmp_path):
    holder = subprocess.Popen(
        ['flock', tmp_path / 'lock', 'sleep', '60'], start_new_session=True
    )

    def refused():
        try:
            with locked(tmp_path):
                return ''
        except ValueError as error:
            return str(error)

    deadline = time.monotonic() + 20
    try:
        while not (message := refused()):
            assert time.monotonic() < deadline
        assert f'{tmp_path} is in use by ' in message
    finally:
        os.killpg(holder.pid, 9)
        holder.wait()
    while refused():
        assert time.monotonic() < deadline
    with locked(tmp_path), pytest.raises(ValueError, match=f'process {os.getpid()} on'):
        train(tiny_config(), tmp_path, say=lambda line: None)


@pytest.mark.parametrize(
    'damaged', [b'', b'{"step": 2, "a":', b'\0\0\0\n', b'\xff\xfe\n', b'7\nnull\n']
)
def test_a_damaged_metrics_file_costs_no_more_than_what_was_damaged(tmp_path, damaged):
    path = tmp_path / 'metrics.jsonl'
    path.write_bytes(b'{"step": 1, "a": 1.0}\n' + damaged)
    assert read_metrics(path) == [{'step': 1, 'a': 1.0}]
    JsonLines(path, resume_step=1).write_scalars(2, {'a': 2.0})
    assert path.read_text() == '{"step": 1, "a": 1.0}\n{"step": 2, "a": 2.0}\n'


def test_a_field_that_there_was_not_yet_counts_as_its_default():
    then = {'seed': 0}
    assert not changed_fields({'seed': 0, 'folds': 0, 'crop_scale': (0.08, 1.0)}, then)
    assert changed_fields({'seed': 0, 'folds': 5}, then) == ['folds: 0 there, 5 now']


def test_a_full_disk_is_said_and_leaves_what_was_saved(small):
    workdir = small / 'run'
    with Checkpoints(workdir / 'checkpoints') as checkpoints:
        checkpoints.save(state(1), {}, 1.0)
    metrics = JsonLines(workdir / 'metrics.jsonl')
    metrics.write_scalars(1, {'a': 1.0})
    filling = fill(small, 8192)
    with (
        pytest.raises(OSError, match='cannot be written: .*those before'),
        Checkpoints(workdir / 'checkpoints') as checkpoints,
    ):
        checkpoints.save(state(2), {}, 1.0)
    shutil.rmtree(workdir / 'checkpoints' / '2.orbax-checkpoint-tmp')
    fill(small, 0)
    with pytest.raises(OSError, match=r'No space left on device: .*metrics\.jsonl'):
        metrics.write_scalars(2, dict.fromkeys(map(str, range(1000)), 1.0))
    filling.unlink()
    assert resumed_best(workdir) == (1, 1)
    assert read_metrics(workdir / 'metrics.jsonl')[0] == {'step': 1, 'a': 1.0}


def test_a_read_only_workdir_can_be_read_and_is_refused_for_training(small, saved):
    shutil.copytree(saved, small, dirs_exist_ok=True)
    subprocess.run(['mount', '-o', 'remount,ro', small], check=True)
    assert load_variables(small).meta['step'] == 1
    with pytest.raises(OSError, match=r'Read-only file system: .*lock'):
        resumed(small)


@pytest.mark.slow
@pytest.mark.torture
def test_any_damaged_file_of_a_checkpoint_is_noticed_or_harmless(
    saved, tmp_path, ledger, seed, has_time
):
    rng = random.Random(seed)
    files = [path.relative_to(saved) for path in files_of(saved, 3)]
    for fault in FAULTS:
        for file in files:
            if not has_time():
                break
            workdir = shutil.copytree(saved, tmp_path / 'copy')
            lost = ''
            if fault == 'a file missing' or (workdir / file).stat().st_size:
                damage(workdir / file, fault, rng)
            try:
                step, said = resumed(workdir)
                if (step, len(said)) not in ((3, 0), (2, 1)):
                    lost = f'{file}: step {step}, {said}'
            except Exception as error:
                lost = f'{file}: {error!r}'
            ledger.record('storage', f'checkpoint: {fault}', not lost, lost)
            assert not lost
            shutil.rmtree(workdir)


@pytest.mark.slow
@pytest.mark.torture
def test_jumps_of_the_clock_change_no_order(tmp_path, monkeypatch, ledger):
    test_the_order_of_checkpoints_is_that_of_steps_whatever_the_clock_says(
        tmp_path, monkeypatch
    )
    ledger.record('storage', 'clock jumps', survived=True)
