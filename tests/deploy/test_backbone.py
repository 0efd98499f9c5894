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
from tests.deploy.networks import drawn, write_bundle

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


def test_nothing_of_the_heads_is_in_it(detector):
    model, variables = detector
    backbone, own = backbone_of(model, variables)
    images = jax.ShapeDtypeStruct((1, *IMAGE), jnp.float32)
    needed = jax.eval_shape(backbone.init, jax.random.key(0), images)
    assert jax.tree.structure(own) == jax.tree.structure(dict(needed))
    everything = jax.eval_shape(lambda: init_variables(model, jax.random.key(0)))
    assert len(jax.tree.leaves(own)) < len(jax.tree.leaves(everything))
