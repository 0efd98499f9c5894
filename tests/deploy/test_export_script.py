"""The command that exports a run: its manifest is what others rely on."""

import json

import numpy as np
import pytest

import slimjax.deploy
from slimjax.deploy.manifest import MANIFEST
from slimjax.train.checkpoint import Checkpoints
from slimjax.train.parallel import replicated
from slimjax.train.run import Run
from slimjax.variables import split_variables
from tests.commands import run_command
from tests.deploy.networks import drawn
from tests.train.runs import tiny_config


def export(*flags):
    return run_command('scripts/export.py', *flags)


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """A run of a network that was not trained, its weights and its workdir."""
    pytest.importorskip('onnxruntime', reason="needs the extra 'onnx'")
    run, workdir = Run(tiny_config()), tmp_path_factory.mktemp('run')
    params, stats = split_variables(
        drawn(run.model.clone(axis_name=None), run.image_shape)
    )
    with Checkpoints(workdir / 'checkpoints') as checkpoints:
        checkpoints.save_weights(params, stats, run.meta)
        checkpoints.wait()
    return run, (params, stats), workdir


def accuracy(widths):
    return {name: own['top1'] for name, own in widths.items()}


@pytest.mark.slow
def test_the_accuracy_of_a_bundle_is_that_of_the_run(run, tmp_path):
    run, weights, workdir = run
    flags = f'--workdir={workdir}', f'--output={tmp_path / "bundle"}'
    done = export(*flags, '--to=onnx', '--repeats=3')
    assert done.returncode == 0, done.stderr
    assert 'top-1 %' in done.stdout
    manifest = json.loads(tmp_path.joinpath('bundle', MANIFEST).read_text())
    expected = accuracy(run.evaluate(*replicated(weights), 'test'))
    assert accuracy(manifest['widths']) == pytest.approx(expected)
    assert manifest['class_names'] == list('0123456789')
    assert manifest['preprocessing']['mean'] == [0.305]
    images = np.ones((1, *run.image_shape), np.float32)
    runtime = slimjax.deploy.load(tmp_path / 'bundle')
    assert runtime.infer(images, 0.5).shape == (1, 10)
    again = export(*flags, '--to=onnx', '--split=none')
    assert again.returncode == 1
    assert again.stderr.startswith('export: ')
    assert 'exists' in again.stderr


@pytest.mark.slow
def test_integers_take_their_ranges_from_images_of_the_run(run, tmp_path):
    run, weights, workdir = run
    flags = f'--workdir={workdir}', f'--output={tmp_path / "bundle"}'
    done = export(*flags, '--to=onnx', '--storage=w8a8', '--repeats=3')
    assert done.returncode == 0, done.stderr
    manifest = json.loads(tmp_path.joinpath('bundle', MANIFEST).read_text())
    expected = accuracy(run.evaluate(*replicated(weights), 'test'))
    assert accuracy(manifest['widths']) == pytest.approx(expected, abs=0.1)
    assert all(own['max_abs_diff'] > 0 for own in manifest['widths'].values())
    refused = export(*flags, '--to=stablehlo', '--storage=w8a8', '--split=none')
    assert refused.returncode == 1
    assert 'allowed for stablehlo are float32' in refused.stderr
