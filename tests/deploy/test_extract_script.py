"""The command that takes a width out of a run."""

import json

import jax
import numpy as np
import pytest

import slimjax
from slimjax.train.checkpoint import Checkpoints
from slimjax.train.trained import open_network
from slimjax.variables import split_variables
from tests.commands import run_command
from tests.deploy.networks import drawn

SHAPE = (8, 8, 1)


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
    """What a run leaves behind; of its data there is nothing."""
    workdir = tmp_path_factory.mktemp('run')
    fields = {'base_features': 8, 'stage_sizes': (1,), 'small_images': True}
    widths = (0.5, 1.0)
    model = slimjax.create_model('resnet14', num_classes=10, widths=widths, **fields)
    config = {
        'model': 'resnet14',
        'model_fields': fields,
        'widths': widths,
        'num_classes': 10,
        'image_size': 8,
        'image_channels': 1,
        'mean': (0.25,),
        'std': (0.5,),
        'dataset': 'of somebody else',
    }
    meta = {'config': config, 'class_names': list('0123456789'), 'averaged': False}
    with Checkpoints(workdir / 'checkpoints') as checkpoints:
        checkpoints.save_weights(*split_variables(drawn(model, SHAPE)), meta)
        checkpoints.wait()
    results = {'split': 'test', 'widths': {'0.5': {'top1': 0.75}}}
    workdir.joinpath('results.json').write_text(json.dumps(results))
    return workdir


def extract(*flags):
    return run_command('scripts/extract.py', *flags)


def test_a_width_of_a_run_is_a_network_of_its_own(workdir, tmp_path):
    output = tmp_path / 'narrow'
    flags = f'--workdir={workdir}', f'--output={output}', '--width=0.5', '--torch'
    done = extract(*flags)
    assert done.returncode == 0, done.stderr
    narrow, variables = slimjax.from_pretrained(output)
    assert narrow.widths == (0.5,)
    network = open_network(workdir)
    assert network.image_shape == SHAPE
    images = jax.random.normal(jax.random.key(0), (2, *SHAPE))
    wide = jax.jit(lambda v: network.model.apply(v, images, width=0.5))
    np.testing.assert_array_equal(
        jax.jit(lambda v: narrow.apply(v, images))(variables), wide(network.variables)
    )
    of_torch = slimjax.interop.load_torch(output / 'model.pt', narrow)
    jax.tree.map(np.testing.assert_array_equal, of_torch, variables)
    assert '75.00' in output.joinpath('README.md').read_text()
    again = extract(*flags)
    assert again.returncode == 1
    assert 'extract: ' in again.stderr
    assert 'exists' in again.stderr


def test_an_imported_network_has_no_config(tmp_path):
    model = slimjax.create_model('autoslim_mobilenet_v1', num_classes=3)
    variables = drawn(model)
    meta = {
        'model': 'autoslim_mobilenet_v1',
        'widths': ['1', '2', '3'],
        'class_names': ['0', '1', '2'],
    }
    with Checkpoints(tmp_path / 'checkpoints') as checkpoints:
        checkpoints.save_weights(*split_variables(variables), meta)
        checkpoints.wait()
    network = open_network(tmp_path, image_size=96)
    assert network.model == model
    assert network.image_shape == (96, 96, 3)
    assert network.preprocessing is None
