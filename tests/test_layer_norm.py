"""The sliced LayerNorm, and parameters of a module's own."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slimjax as sj
from tests.own_models import as_users_have_it

KEY = jax.random.key(0)


def tokens(channels, dtype=jnp.float32):
    drawn = jax.random.normal(jax.random.key(1), (2, 5, channels), dtype)
    return 3 * drawn + 2


@pytest.mark.parametrize('use_bias', [True, False])
def test_a_sliced_layer_norm_is_flaxs_own_with_the_slice(use_bias):
    with jax.enable_x64(True):
        layer = sj.SlimLayerNorm(param_dtype=jnp.float64, use_bias=use_bias)
        plain = nn.LayerNorm(
            use_bias=use_bias, use_fast_variance=False, param_dtype=jnp.float64
        )
        params = layer.init(KEY, tokens(8, jnp.float64))['params']
        assert set(params) == ({'scale', 'bias'} if use_bias else {'scale'})
        params = jax.tree.map(lambda leaf: leaf + np.arange(8) / 8, params)
        inputs = tokens(3, jnp.float64)

        def value(apply, params, inputs):
            outputs = apply({'params': params}, inputs)
            return jnp.sin(outputs).sum(), outputs

        gradient = jax.grad(value, argnums=(1, 2), has_aux=True)
        (of_params, of_inputs), outputs = gradient(layer.apply, params, inputs)
        narrow = jax.tree.map(lambda leaf: leaf[:3], params)
        with as_users_have_it():
            (of_narrow, of_same), expected = gradient(plain.apply, narrow, inputs)
        cut = jax.tree.map(lambda leaf: leaf[:3], of_params)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12),
            (outputs, of_inputs, cut),
            (expected, of_same, of_narrow),
        )
        for leaf in of_params.values():
            assert not np.any(leaf[3:])


def test_moments_are_not_taken_in_half_precision():
    layer = sj.SlimLayerNorm()
    inputs = (tokens(64) + 100).astype(jnp.bfloat16)
    variables = layer.init(KEY, inputs)
    outputs = layer.apply(variables, inputs)
    assert outputs.dtype == jnp.bfloat16
    expected = layer.apply(variables, inputs.astype(jnp.float32))
    assert expected.dtype == jnp.float32
    np.testing.assert_allclose(outputs.astype(jnp.float32), expected, rtol=1 / 128)
    single = sj.SlimLayerNorm(dtype=jnp.bfloat16)
    assert single.apply(variables, tokens(64)).dtype == jnp.bfloat16


def test_any_width_initialises_where_the_channels_are_stated():
    with pytest.raises(ValueError, match=r'width 0\.5: initialise at width 1\.0'):
        sj.SlimLayerNorm().init(KEY, tokens(4), width=0.5)
    layer = sj.SlimLayerNorm(in_features=8)
    narrow = layer.init(KEY, tokens(4), width=0.5)
    jax.tree.map(np.testing.assert_array_equal, narrow, layer.init(KEY, tokens(8)))
    assert layer.apply(narrow, tokens(8)).shape == (2, 5, 8)


def test_more_channels_than_are_stored_are_refused():
    layer = sj.SlimLayerNorm()
    variables = layer.init(KEY, tokens(8))
    message = r'scale of the shape \(8,\) cannot give \(9,\); initialise at the widest'
    with pytest.raises(ValueError, match=message):
        layer.apply(variables, tokens(9))


def test_a_parameter_of_ones_own_keeps_its_other_axes():
    class Position(nn.Module):
        @nn.compact
        def __call__(self, x):
            normal = nn.initializers.normal()
            return sj.slim_param(self, 'position', normal, x.shape[1:])

    variables = Position().init(KEY, tokens(8))
    whole = variables['params']['position']
    assert whole.shape == (5, 8)
    cut = Position().apply(variables, tokens(3))
    np.testing.assert_array_equal(cut, whole[:, :3])
    with pytest.raises(ValueError, match=r'\(5, 8\) cannot give \(4, 8\)'):
        Position().apply(variables, tokens(8)[:, :4])
