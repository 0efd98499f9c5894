"""Bundles that compute in 8-bit integers stay near to JAX, or are not written."""

import functools
import json

import jax
import numpy as np
import pytest

import slimjax.deploy
from slimjax.deploy.bundle import export_bundle
from slimjax.deploy.manifest import MANIFEST
from tests.deploy.networks import IMAGE, pictures, tiny

RUNTIMES = {'onnx': 'onnxruntime', 'litert': 'ai_edge_quantizer'}
KINDS = pytest.mark.parametrize('kind', list(RUNTIMES))


@functools.cache
def network(widths=(0.5, 1.0)):
    return tiny(widths=widths, stage_sizes=(1,))


@functools.cache
def calibration():
    """Images, of which one is strong."""
    found = pictures(20)
    found[3] *= 40
    return found


def export(output, kind, images, network):
    pytest.importorskip(RUNTIMES[kind], reason=f'needs the extra {kind!r}')
    return export_bundle(
        output,
        *network,
        to=kind,
        storage='w8a8',
        calibration=images,
        image_shape=IMAGE,
        repeats=3,
    )


@pytest.fixture(scope='module')
def bundles(tmp_path_factory):
    """A bundle of each kind, made when it is asked for."""

    @functools.cache
    def made(kind):
        output = tmp_path_factory.mktemp('made') / kind
        export(output, kind, calibration(), network())
        return output

    return made


@KINDS
def test_integers_are_near_to_jax_even_where_logits_are_large(bundles, kind):
    folder, (model, variables) = bundles(kind), network()
    runtime = slimjax.deploy.load(folder)
    manifest = json.loads(folder.joinpath(MANIFEST).read_text())
    assert manifest['storage'] == 'w8a8'
    for width in model.widths:
        apply = jax.jit(functools.partial(model.apply, width=width))
        expected = np.asarray(apply(variables, calibration()))
        found = runtime.infer(calibration(), width)
        size = np.abs(expected).max()
        assert size > 2 * np.abs(np.delete(expected, 3, 0)).max()
        assert 0 < np.abs(found - expected).max() < 0.05 * size
        assert (found.argmax(-1) == expected.argmax(-1)).mean() > 0.8
        own = manifest['widths'][slimjax.width_name(width)]
        assert 0 < own['max_abs_diff'] < 0.05 * own['max_abs_logit']


@KINDS
def test_a_network_that_loses_too_much_is_not_written(tmp_path, kind):
    """Of integers that span one huge image, the others are left next to nothing."""
    images = pictures(33)
    images[32] *= 1000
    with pytest.raises(ValueError, match='8 bits are too few'):
        export(tmp_path / 'new', kind, images, network((1.0,)))
    assert not list(tmp_path.iterdir())
