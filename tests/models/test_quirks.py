"""Oddities of the published code that have a field, and what the field changes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slimjax.models import create_model
from slimjax.norm import SwitchableBatchNorm
from slimjax.pooling import average_pool

IMAGES = jnp.ones((1, 32, 32, 3))


def initial(model, *path):
    """One parameter before training; the compiler drops all others."""

    def leaf(key):
        return functools.reduce(dict.get, path, model.init(key, IMAGES)['params'])

    return np.asarray(jax.jit(leaf)(jax.random.key(0)))


@pytest.mark.parametrize(('own_fan', 'outputs'), [(False, 256), (True, 1)])
def test_depthwise_kernels_start_by_the_fan_out_of_all_channels_or_of_one(
    own_fan, outputs
):
    model = create_model('mobilenet_v1', widths=(0.25,), depthwise_own_fan=own_fan)
    kernel = initial(model, 'block13', 'depthwise', 'conv', 'depthwise_kernel')
    assert kernel.shape == (3, 3, 1, 256)
    std = (2 / (9 * outputs)) ** 0.5
    assert kernel.std() == pytest.approx(std, rel=5 / (2 * kernel.size) ** 0.5)


@pytest.mark.parametrize(
    ('name', 'path'),
    [
        ('resnet14', ('stage2_block1', 'conv3')),
        ('mobilenet_v2', ('block3', 'project')),
        ('mnasnet', ('block4', 'project')),
        ('shufflenet', ('stage1_block2', 'expand')),
    ],
)
@pytest.mark.parametrize('zero', [False, True])
def test_residual_branches_start_at_one_or_at_zero(name, path, zero):
    model = create_model(name, widths=(1.0,), zero_init_residual=zero)
    scale = initial(model, *path, 'norm', '1.0', 'scale')
    assert set(scale.tolist()) == {0.0 if zero else 1.0}


@pytest.mark.parametrize('unbiased', [True, False])
def test_the_running_variance_is_the_unbiased_one_or_that_of_the_batch(unbiased):
    layer = SwitchableBatchNorm((1.0,), unbiased=unbiased)
    values = jax.random.normal(jax.random.key(0), (5, 2, 1, 3))
    variables = layer.init(jax.random.key(1), values)
    _, changed = layer.apply(variables, values, train=True, mutable=['batch_stats_1.0'])
    expected = 0.9 + 0.1 * np.var(values, (0, 1, 2), ddof=int(unbiased))
    found = changed['batch_stats_1.0']['var']
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(('pad', 'side'), [(False, 4), (True, 5)])
def test_the_max_pool_of_shufflenet_is_padded_only_where_asked(pad, side):
    model = create_model('shufflenet', widths=(0.5,), pad_max_pool=pad)
    images = jax.ShapeDtypeStruct((1, 36, 36, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    run = functools.partial(model.apply, features=True)
    assert jax.eval_shape(run, variables, images)['stage1'].shape[1] == side


@pytest.mark.parametrize(('count_padding', 'corner'), [(True, 4 / 9), (False, 1.0)])
def test_average_pools_count_their_padding_or_do_not(count_padding, corner):
    pooled = average_pool(jnp.ones((1, 5, 5, 1)), count_padding)
    np.testing.assert_allclose(pooled[0, 0, 0, 0], corner, rtol=1e-6)
    np.testing.assert_allclose(pooled[0, 1, 1, 0], 1.0, rtol=1e-6)
