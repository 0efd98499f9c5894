"""The command that exports a run: its manifest is what others rely on."""

import json

import numpy as np
import pytest

import slimjax.deploy
from slimjax.train.checkpoint import Checkpoints
from slimjax.train.parallel import replicated
from slimjax.train.run import Run
from slimjax.variables import split_variables
from tests.commands import run_command
from tests.deploy.networks import drawn
from tests.train.runs import tiny_config


def export(*flags):
    return run_command('scripts/export.py', *flags)


@pytest.mark.slow
def test_the_accuracy_of_a_bundle_is_that_of_the_run(tmp_path):
    pytest.importorskip('onnxruntime', reason="needs the extra 'onnx'")
    run = Run(tiny_config())
    params, stats = split_variables(
        drawn(run.model.clone(axis_name=None), run.image_shape)
    )
    with Checkpoints(tmp_path / 'run' / 'checkpoints') as checkpoints:
        checkpoints.save_weights(params, stats, run.meta)
        checkpoints.wait()
    flags = f'--workdir={tmp_path / "run"}', f'--output={tmp_path / "bundle"}'
    done = export(*flags, '--to=onnx', '--repeats=3')
    assert done.returncode == 0, done.stderr
    assert 'top-1 %' in done.stdout
    manifest = json.loads(tmp_path.joinpath('bundle', 'manifest.json').read_text())
    expected = run.evaluate(*replicated((params, stats)), 'test')
    found = {name: own['top1'] for name, own in manifest['widths'].items()}
    assert found == {name: pytest.approx(own['top1']) for name, own in expected.items()}
    assert manifest['class_names'] == list('0123456789')
    assert manifest['preprocessing']['mean'] == [0.305]
    images = np.ones((1, *run.image_shape), np.float32)
    runtime = slimjax.deploy.load(tmp_path / 'bundle')
    assert runtime.infer(images, 0.5).shape == (1, 10)
    again = export(*flags, '--to=onnx', '--split=none')
    assert again.returncode == 1
    assert again.stderr.startswith('export: ')
    assert 'exists' in again.stderr
