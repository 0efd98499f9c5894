"""An interrupted run equals the uninterrupted one, bit for bit."""

import json
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp

from slimjax.train.checkpoint import Checkpoints, load_variables
from slimjax.train.checkpoint_folder import MIGRATIONS
from slimjax.train.fine_tune import fine_tuned
from slimjax.train.metrics import read_metrics
from slimjax.train.runs import make_run
from tests.commands import ROOT, Started, environment
from tests.train.runs import command, run, tiny_config


def contents(workdir):
    """All arrays of the newest checkpoint, and the metrics file."""
    with Checkpoints(pathlib.Path(workdir) / 'checkpoints') as checkpoints:
        step, best = checkpoints.newest, checkpoints.best
    path = pathlib.Path(workdir, 'checkpoints', str(step))
    parts = ocp.load_checkpointables(
        path, dict.fromkeys(['params', 'stats', 'training'])
    )
    leaves = {
        jax.tree_util.keystr(path): np.asarray(leaf).tobytes()
        for path, leaf in jax.tree_util.tree_leaves_with_path(parts)
    }
    return step, best, leaves, pathlib.Path(workdir, 'metrics.jsonl').read_text()


@pytest.fixture(scope='module')
def uninterrupted(tmp_path_factory):
    workdir = tmp_path_factory.mktemp('whole')
    done = run(workdir, num_train_steps=6)
    return workdir, done.stdout


def start(workdir, *flags, **changes):
    return subprocess.Popen(
        [sys.executable, *command(workdir, *flags, **changes)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
    )


def wait_for_checkpoint(workdir, runs, step):
    folder = pathlib.Path(workdir, 'checkpoints', str(step))
    deadline = time.monotonic() + 200
    while not folder.is_dir() and runs():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize('workers', [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_killed_run_goes_on_as_if_nothing_had_been(uninterrupted, tmp_path, workers):
    process = Started(*command(tmp_path, num_workers=workers))
    wait_for_checkpoint(tmp_path, lambda: process.runs, 2)
    process.kill()
    assert process.end(timeout=60).returncode == -signal.SIGKILL
    done = run(tmp_path, num_workers=workers)
    assert 'resuming at step' in done.stdout
    assert contents(tmp_path) == contents(uninterrupted[0])
    assert not list(tmp_path.rglob('*tmp*'))


@pytest.mark.slow
def test_stopping_early_and_going_on_is_the_same_run(uninterrupted, tmp_path):
    run(tmp_path, num_train_steps=3, eval_steps=3)
    lines = read_metrics(tmp_path / 'metrics.jsonl')
    assert lines[-1]['step'] == 3
    run(tmp_path)
    step, best, leaves, metrics = contents(tmp_path)
    whole = contents(uninterrupted[0])
    assert (step, best, leaves) == whole[:3]
    # The short run logged its own end.
    last = [json.loads(line) for line in metrics.splitlines()][-1]
    assert last == json.loads(whole[3].splitlines()[-1])


def test_a_signal_saves_and_tells_how_to_resume(uninterrupted, tmp_path):
    process = start(tmp_path, num_train_steps=0, train_epochs=500)
    wait_for_checkpoint(tmp_path, lambda: process.poll() is None, 2)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=100)
    assert process.returncode == 0, output
    assert 'saved' in output
    assert 'resume with:' in output
    assert f'--workdir={tmp_path}' in output
    step = int(output.rpartition('stopped at step ')[2].split(';')[0])
    with Checkpoints(tmp_path / 'checkpoints') as checkpoints:
        assert checkpoints.newest == step


def test_a_finished_run_is_only_told_again(uninterrupted):
    workdir, _ = uninterrupted
    before, results = contents(workdir), workdir / 'results.json'
    written = results.read_text()
    # As if it was killed just before it wrote them.
    results.unlink()
    done = run(workdir)
    assert 'test with the best checkpoint' in done.stdout
    assert contents(workdir) == before
    assert results.read_text() == written


def test_another_config_is_refused_with_the_difference(uninterrupted):
    workdir, _ = uninterrupted
    done = run(workdir, check=False, learning_rate=0.7)
    assert done.returncode == 1
    assert 'learning_rate: 0.05 there, 0.7 now' in done.stderr
    assert 'Traceback' not in done.stderr


def test_checkpoints_open_without_code(uninterrupted):
    workdir, _ = uninterrupted
    meta = json.loads(
        (workdir / 'checkpoints' / '6' / 'meta' / 'meta.json').read_text()
    )
    assert meta['format_version'] == 1
    assert meta['class_names'] == list('0123456789')
    assert meta['config']['widths'] == [0.5, 1.0]
    assert 'jax' in meta['versions']
    checkpoint = load_variables(workdir)
    assert set(checkpoint.stats) == {'batch_stats_0.5', 'batch_stats_1.0'}


def test_an_unknown_format_is_refused_and_an_older_one_migrated(
    uninterrupted, tmp_path, monkeypatch
):
    workdir, _ = uninterrupted
    subprocess.run(['cp', '-r', f'{workdir}/checkpoints', tmp_path], check=True)
    for path in tmp_path.rglob('meta.json'):
        meta = json.loads(path.read_text())
        path.write_text(json.dumps({**meta, 'format_version': 0}))
    with pytest.raises(ValueError, match=r'format_version=0; this slimjax reads \[1\]'):
        load_variables(tmp_path)
    monkeypatch.setitem(MIGRATIONS, 0, lambda meta: {**meta, 'format_version': 1})
    assert load_variables(tmp_path).meta['format_version'] == 1


def test_evaluation_of_a_checkpoint_counts_every_example(uninterrupted, tmp_path):
    workdir, _ = uninterrupted
    path = tmp_path / 'test.json'
    run(workdir, '--mode=eval', '--split=test', f'--json={path}', devices=2)
    results = json.loads(path.read_text())
    assert set(results['widths']) == {'0.5', '1.0'}
    logged = read_metrics(workdir / 'metrics.jsonl')[-1]
    for name, scores in results['widths'].items():
        assert scores['count'] == 360
        assert scores['params'] > 0
        assert scores['macs'] > 0
        assert scores['top1'] == pytest.approx(logged[f'test/top1/{name}'], abs=0.006)


@pytest.mark.slow
def test_calibration_makes_a_workdir_with_new_statistics(uninterrupted, tmp_path):
    workdir = tmp_path / 'run'
    shutil.copytree(uninterrupted[0], workdir)
    shutil.copytree(uninterrupted[0], tmp_path / 'few')
    # The groups of the recipe, which do not divide the 120 images of a batch, are not
    # those of the calibration.
    changes = {
        'calibration_examples': 300,
        'calibration': 'sequential',
        'norm_batch': 16,
    }
    done = run(workdir, '--mode=calibrate', **changes)
    # In whole batches of 120.
    assert '2 widths calibrated on 360 training images (sequential)' in done.stdout
    assert 'width 0.5: pooled statistics, and sequential of ' in done.stdout
    before, after = load_variables(workdir), load_variables(workdir / 'calibrated')
    jax.tree.map(np.testing.assert_array_equal, after.params, before.params)
    assert jax.tree.structure(after.stats) == jax.tree.structure(before.stats)
    mean, var = (
        after.stats['batch_stats_0.5']['stem']['norm'][leaf] for leaf in ('mean', 'var')
    )
    # Of six steps, the running ones are still near where they started.
    assert (
        np.abs(var - 1).mean()
        > 2 * np.abs(before.stats['batch_stats_0.5']['stem']['norm']['var'] - 1).mean()
    )
    assert np.isfinite(mean).all()
    done = run(workdir / 'calibrated', '--mode=eval')
    assert 'top-1' in done.stdout
    for flags, message in (
        ((workdir, '--mode=calibrate'), 'exists: remove it'),
        ((workdir / 'calibrated',), 'not a run'),
        ((tmp_path / 'few', '--mode=calibrate'), 'config.eval_batch_size=1200: 1,197'),
    ):
        failed = run(*flags, check=False, eval_batch_size=1200)
        assert failed.returncode == 1
        assert message in failed.stderr


def test_fine_tuning_takes_the_weights_and_says_what_is_new(uninterrupted):
    workdir, _ = uninterrupted
    new = make_run(tiny_config(init_from=str(workdir), widths=(0.25, 0.5, 1.0)))
    lines = []
    state = fine_tuned(new.new_state(), new, lines.append)
    [told] = [line.split('so new:')[1] for line in lines if 'so new:' in line]
    assert 'norm/0.25/scale' in told
    assert 'classifier' not in told
    with Checkpoints(workdir / 'checkpoints') as checkpoints:
        source = checkpoints.load(checkpoints.best)
    found, expected = (
        (each.params['stem']['conv'], each.params['classifier'])
        for each in (state, source)
    )
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_metrics_have_the_promised_names(uninterrupted):
    lines = read_metrics(uninterrupted[0] / 'metrics.jsonl')
    names = set().union(*lines)
    for width in ('0.5', '1.0'):
        assert f'train/loss/{width}' in names
        assert f'eval/top1/{width}' in names
        assert f'test/top1/{width}' in names
    assert sum('test/top1/1.0' in line for line in lines) == 1


def test_the_start_says_what_is_run(uninterrupted):
    _, output = uninterrupted
    for text in (
        '* num_train_steps = 6',
        '  seed = 0',
        'versions: slimjax',
        'devices: 1 x cpu',
        'batch: 32 = 1 devices x 1 parts x 32 examples',
        'memory a device: state',
        'images/s',
        'ETA',
    ):
        assert text in output, output
