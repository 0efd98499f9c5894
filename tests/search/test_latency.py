"""The latency of networks that nobody compiled."""

import collections
import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.interpolate import RegularGridInterpolator

import slimjax
from slimjax.search import latency
from slimjax.search.latency import Latency, interpolated
from slimjax.search.space import search_space

SHAPE = (8, 8, 3)


@pytest.fixture(scope='module')
def supernet():
    model = slimjax.create_model(
        'resnet14',
        num_classes=4,
        widths=(0.25, 1.0),
        norm='shared_affine',
        base_features=4,
        stage_sizes=(1,),
        small_images=True,
    )
    variables = jax.jit(model.init)(jax.random.key(0), jnp.ones((1, *SHAPE)))
    return model, variables, search_space(model, SHAPE)


@pytest.mark.slow
def test_the_whole_network_takes_what_was_measured_and_is_timed_once(
    supernet, tmp_path, monkeypatch
):
    said, path = [], tmp_path / 'times.json'
    model, variables, space = supernet
    first = Latency(model, variables, space, SHAPE, path, said.append)
    assert len(said) == 1
    (times,) = json.loads(path.read_text()).values()
    assert first(space.whole) == pytest.approx(times['the whole network, 8x8x3'])
    counts = space.random(np.random.default_rng(0), 20)
    assert (first(counts) > 0).all()

    def measured(wanted):
        raise AssertionError('timed again')

    monkeypatch.setattr(latency, '_measured', measured)
    again = Latency(model, variables, space, SHAPE, path, said.append)
    np.testing.assert_array_equal(again(counts), first(counts))
    assert len(said) == 1
    # One network or many.
    assert again(counts[3]) == again(counts)[3]


def test_depthwise_layers_are_timed_at_several_widths(tmp_path, monkeypatch):
    model = slimjax.create_model(
        'mobilenet_v1', num_classes=4, widths=(0.25, 1.0), norm='shared_affine'
    )
    space, wanted = search_space(model, (32, 32, 3)), {}
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.ones((1, 32, 32, 3)))

    def kept(path, kind, layers, whole, *_):
        wanted.update(layers)
        return dict.fromkeys([*layers, whole], 1.0)

    monkeypatch.setattr(latency, '_kept', kept)
    Latency(model, variables, space, (32, 32, 3), tmp_path / 'times.json')
    counts = collections.defaultdict(set)
    for call, _, outputs in wanted.values():
        if call.depthwise:
            counts[call.shape, call.layer.strides].add(outputs)
    assert {32} < counts[(1, 16, 16, 32), 1]
    assert min(map(len, counts.values())) > 1


def test_layers_that_are_not_known_are_refused(supernet, tmp_path):
    model, variables, space = supernet
    fewer = (space.multiply_adds[0][:-1], *space.multiply_adds[1:])
    other = dataclasses.replace(space, multiply_adds=fewer)
    with pytest.raises(ValueError, match='only these are timed'):
        Latency(model, variables, other, SHAPE, tmp_path / 'times.json')


def test_interpolation_is_bilinear():
    rng = np.random.default_rng(0)
    ins, outs, times = [3, 9, 24], [8, 16], rng.random((3, 2))
    points = np.stack([rng.integers(3, 25, 50), rng.integers(8, 17, 50)], -1)
    expected = RegularGridInterpolator((ins, outs), times)(points)
    found = interpolated(ins, outs, times, points[:, 0], points[:, 1])
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    # Of a depthwise layer only one number is known.
    np.testing.assert_allclose(
        interpolated([1], outs, times[:1], points[:, 0], points[:, 1]),
        np.interp(points[:, 1], outs, times[0]),
    )
