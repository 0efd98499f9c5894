"""A detector's backbone is taken away as classifiers are: maps instead of logits."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slimjax.deploy
from slimjax.deploy.bundle import export_bundle
from slimjax.deploy.manifest import MANIFEST
from slimjax.detection import backbone_of, create_model, init_variables
from slimjax.train.checkpoint import Checkpoints
from slimjax.train.network import build_model
from slimjax.train.report import jsonable
from slimjax.train.trained import open_network
from slimjax.variables import split_variables
from tests.commands import run_command
from tests.deploy.networks import drawn, write_bundle
from tests.detection.run_config import digits_config

IMAGE = (64, 96, 3)
LEVELS = ['p2', 'p3', 'p4', 'p5', 'p6']
RUNTIMES = {'onnx': 'onnxruntime', 'litert': 'ai_edge_litert'}


@pytest.fixture(scope='module')
def detector():
    fields = {'stage_sizes': (1, 1, 1, 1), 'base_features': 8, 'widths': (0.25, 1.0)}
    model = create_model('faster_rcnn', 'tiny', num_classes=3, **fields)
    return model, drawn(model, IMAGE)


def assert_maps_are_those_of(detector, folder):
    model, variables = detector
    runtime = slimjax.deploy.load(folder)
    images = np.random.default_rng(2).normal(size=(2, *IMAGE)).astype(np.float32)
    for width in model.widths:
        maps = jax.jit(functools.partial(model.apply, width=width, method='maps'))
        found = runtime.infer(images, width)
        assert list(found) == LEVELS
        for each, own in zip(found.values(), maps(variables, images), strict=True):
            size = np.abs(own).max()
            np.testing.assert_allclose(each, own, rtol=0, atol=1e-5 * size)


def weight_bytes(detector):
    return sum(leaf.nbytes for leaf in jax.tree.leaves(backbone_of(*detector)[1]))


def test_onnx_has_the_maps_of_the_detector_and_its_weights_once(detector, tmp_path):
    pytest.importorskip('onnxruntime', reason="needs the extra 'onnx'")
    backbone, variables = backbone_of(*detector)
    maps = jax.eval_shape(backbone.apply, variables, jnp.zeros((1, *IMAGE)))
    outputs = {name: list(each.shape[1:]) for name, each in maps.items()}
    folder = tmp_path / 'bundle'
    write_bundle(folder, backbone, variables, IMAGE, outputs=outputs)
    assert_maps_are_those_of(detector, folder)
    size = folder.joinpath('model.onnx').stat().st_size
    assert size < weight_bytes(detector) + 2 * 2**16


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['onnx', 'stablehlo', 'litert'])
def test_a_bundle_of_a_backbone_is_as_that_of_a_classifier(detector, tmp_path, kind):
    if kind in RUNTIMES:
        pytest.importorskip(RUNTIMES[kind], reason=f'needs the extra {kind!r}')
    folder, network = tmp_path / 'bundle', backbone_of(*detector)
    export_bundle(folder, *network, to=kind, image_shape=IMAGE, repeats=3)
    assert_maps_are_those_of(detector, folder)
    manifest = json.loads(folder.joinpath(MANIFEST).read_text())
    features = detector[0].settings.pyramid_features
    assert manifest['outputs']['p3'] == [8, 12, features]
    own = manifest['widths']
    assert 0 < own['0.25']['macs'] < own['1.0']['macs']
    assert own['0.25']['max_abs_diff'] < 1e-3
    assert own['0.25']['latency_ms_p50'] > 0
    if kind == 'stablehlo':
        size = folder.joinpath('model.safetensors').stat().st_size
        assert size < weight_bytes(detector) + 2**16


@pytest.mark.parametrize('kind', ['onnx', 'litert'])
def test_a_backbone_is_not_computed_in_integers(detector, tmp_path, kind):
    given = {'storage': 'w8a8', 'calibration': np.zeros((1, *IMAGE), np.float32)}
    with pytest.raises(ValueError, match="'w8a8' is not for a detector's backbone"):
        export_bundle(
            tmp_path / 'new',
            *backbone_of(*detector),
            to=kind,
            image_shape=IMAGE,
            **given,
        )


def test_nothing_of_the_heads_is_in_it(detector):
    model, variables = detector
    backbone, own = backbone_of(model, variables)
    images = jax.ShapeDtypeStruct((1, *IMAGE), jnp.float32)
    needed = jax.eval_shape(backbone.init, jax.random.key(0), images)
    assert jax.tree.structure(own) == jax.tree.structure(dict(needed))
    everything = jax.eval_shape(lambda: init_variables(model, jax.random.key(0)))
    assert len(jax.tree.leaves(own)) < len(jax.tree.leaves(everything))


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
    """What a run of a detector leaves behind; of its data there is nothing."""
    workdir = tmp_path_factory.mktemp('run')
    config = digits_config(tmp_path_factory.mktemp('data'), widths=(0.5, 1.0))
    variables = drawn(build_model(config), (64, 64, 3))
    meta = {'config': jsonable(config), 'averaged': False}
    with Checkpoints(workdir / 'checkpoints') as checkpoints:
        checkpoints.save_weights(*split_variables(variables), meta)
        checkpoints.wait()
    return workdir


@pytest.mark.slow
def test_the_backbone_of_a_run_knows_what_images_it_takes(workdir):
    with pytest.raises(ValueError, match='holds a faster_rcnn: a classifier is'):
        open_network(workdir)
    network = open_network(workdir, backbone=True)
    assert network.image_shape == (64, 64, 3)
    assert open_network(workdir, 96, backbone=True).image_shape == (96, 96, 3)
    assert set(network.variables['params']) == {'backbone', 'pyramid'}
    prepared = network.preprocessing
    assert prepared['resize'] == prepared['longest_side'] == 64
    assert all(0 < each < 1 for each in prepared['mean'])
    assert prepared['channel_order'] in ('rgb', 'bgr')


@pytest.mark.slow
def test_the_command_exports_a_detector_s_backbone(workdir, tmp_path):
    pytest.importorskip('onnxruntime', reason="needs the extra 'onnx'")
    folder = tmp_path / 'bundle'
    flags = '--to=onnx', f'--workdir={workdir}', f'--output={folder}', '--repeats=3'
    done = run_command('scripts/export.py', *flags)
    assert done.returncode == 0, done.stderr
    found = slimjax.deploy.load(folder).infer(np.ones((1, 64, 64, 3), np.float32), 0.5)
    assert list(found) == LEVELS
    again = run_command('scripts/export.py', *flags, '--config.data_dir=x')
    assert again.returncode == 1
    assert "'--config.data_dir=x' has no effect" in again.stderr
