"""Switchable BatchNorm against PyTorch's formulas, and across devices."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slimjax.norm import SwitchableBatchNorm, stats_collection
from slimjax.train.parallel import AXIS

KEY = jax.random.key(0)
WIDTHS = (0.5, 1.0)


def inputs(batch=8, channels=4, dtype=jnp.float32):
    values = jax.random.normal(jax.random.key(1), (batch, 3, 3, channels), dtype)
    return 3 * values + jnp.arange(channels, dtype=dtype).reshape(1, 1, 1, -1)


def train(layer, variables, values, width=1.0):
    collection = 'batch_stats' if layer.mode == 'shared' else stats_collection(width)
    return layer.apply(variables, values, width=width, train=True, mutable=[collection])


def test_training_normalises_by_the_batch_and_keeps_unbiased_running_variance():
    layer, values = SwitchableBatchNorm(WIDTHS), inputs()
    variables = layer.init(KEY, values)
    outputs, changed = train(layer, variables, values)
    numbers = np.asarray(values, np.float64)
    mean, var = numbers.mean((0, 1, 2)), numbers.var((0, 1, 2))
    np.testing.assert_allclose(
        outputs, (numbers - mean) / np.sqrt(var + 1e-5), rtol=1e-4, atol=1e-5
    )
    stats = changed['batch_stats_1.0']
    count = values[..., 0].size
    np.testing.assert_allclose(stats['mean'], 0.1 * mean, rtol=1e-5)
    np.testing.assert_allclose(
        stats['var'], 0.9 + 0.1 * var * count / (count - 1), rtol=1e-5
    )


@pytest.mark.parametrize('offset', [0, 1000])
def test_output_and_gradients_are_those_of_flax(offset):
    with jax.enable_x64(True):
        wide = jnp.float64
        layer = SwitchableBatchNorm((1.0,), param_dtype=wide)
        reference = nn.BatchNorm(
            use_running_average=False,
            use_fast_variance=False,
            force_float32_reductions=False,
            param_dtype=wide,
        )
        values = inputs(dtype=wide) + offset
        scale, bias = jnp.array([2.0, 0.5, -1.0, 3.0]), jnp.arange(4.0)

        def own(values, scale, bias):
            variables = layer.init(KEY, values)
            params = {'1.0': {'scale': scale, 'bias': bias}}
            return train(layer, {**variables, 'params': params}, values)[0]

        def flax(values, scale, bias):
            variables = reference.init(KEY, values)
            params = {'scale': scale, 'bias': bias}
            variables = {**variables, 'params': params}
            return reference.apply(variables, values, mutable=['batch_stats'])[0]

        def found(apply):
            def loss(*arguments):
                outputs = apply(*arguments)
                return jnp.sin(outputs).sum(), outputs

            return jax.grad(loss, (0, 1, 2), has_aux=True)(values, scale, bias)

        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11),
            found(own),
            found(flax),
        )


@pytest.mark.parametrize('mode', ['private', 'shared_affine', 'shared'])
@pytest.mark.parametrize('groups', [1, 2])
def test_a_narrow_pass_is_flaxs_own_on_its_part_of_the_variables(mode, groups):
    with jax.enable_x64(True):
        layer = SwitchableBatchNorm(
            WIDTHS, mode=mode, groups=groups, param_dtype=jnp.float64
        )
        values = inputs(channels=8, dtype=jnp.float64)
        variables = layer.init(KEY, values)
        drawn = np.random.default_rng(0)
        variables = jax.tree.map(
            lambda leaf: drawn.uniform(1, 2, leaf.shape), variables
        )
        params, stats = variables['params'], dict(variables)
        del stats['params']
        # The first channels of each group are those that are active.
        active = {1: [0, 1, 2, 3], 2: [0, 1, 4, 5]}[groups]
        part = (lambda leaf: leaf[np.array(active)]) if mode != 'private' else np.array
        own = '0.5' if mode == 'private' else 'affine'
        collection = 'batch_stats' if mode == 'shared' else 'batch_stats_0.5'
        statistics = part if mode == 'shared' else np.array
        reference = nn.BatchNorm(
            momentum=0.9,
            param_dtype=jnp.float64,
            use_fast_variance=False,
            force_float32_reductions=False,
        )
        values = values[..., :4]

        def loss(params, values):
            variables = {'params': params, **stats}
            outputs, changed = train(layer, variables, values, 0.5)
            evaluated = layer.apply(variables, values, width=0.5)
            return jnp.sin(outputs).sum(), (outputs, evaluated, changed)

        def narrow_loss(params, values):
            variables = {
                'params': params,
                'batch_stats': jax.tree.map(statistics, stats[collection]),
            }
            outputs, changed = reference.apply(
                variables, values, use_running_average=False, mutable=['batch_stats']
            )
            evaluated = reference.apply(variables, values, use_running_average=True)
            return jnp.sin(outputs).sum(), (outputs, evaluated, changed)

        gradient_of = functools.partial(jax.grad, argnums=(0, 1), has_aux=True)
        gradient, (*found, changed) = jax.jit(gradient_of(loss))(params, values)
        narrow_gradient, (*expected, narrow_changed) = jax.jit(
            gradient_of(narrow_loss)
        )(jax.tree.map(part, params[own]), values)

    close = functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-11)
    jax.tree.map(close, found, expected)
    of_params, of_values = jax.device_get(gradient)
    of_own = jax.tree.map(part, of_params.pop(own))
    jax.tree.map(close, (of_own, of_values), jax.device_get(narrow_gradient))
    # What other widths own gets no gradient.
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(of_params))
    assert list(changed) == [collection]
    changed = jax.device_get(changed)
    mean = statistics(changed[collection]['mean'])
    close(mean, jax.device_get(narrow_changed)['batch_stats']['mean'])
    if mode == 'shared':
        others = np.delete(np.arange(8), active)
        for name, leaf in changed['batch_stats'].items():
            np.testing.assert_array_equal(leaf[others], stats[collection][name][others])


def test_evaluation_uses_the_running_statistics_of_its_width():
    layer, values = SwitchableBatchNorm(WIDTHS), inputs(channels=4)
    variables = dict(layer.init(KEY, values))
    variables['batch_stats_0.5'] = {'mean': jnp.full(2, 5.0), 'var': jnp.full(2, 4.0)}
    found = layer.apply(variables, values[..., :2], width=0.5)
    np.testing.assert_allclose(found, (values[..., :2] - 5) / 2, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ('mode', 'collections', 'params'),
    [
        ('private', ['batch_stats_0.5', 'batch_stats_1.0'], ['0.5', '1.0']),
        ('shared_affine', ['batch_stats_0.5', 'batch_stats_1.0'], ['affine']),
        ('shared', ['batch_stats'], ['affine']),
    ],
)
def test_modes_share_what_they_say(mode, collections, params):
    layer = SwitchableBatchNorm(WIDTHS, mode=mode)
    variables = layer.init(KEY, inputs())
    assert sorted(set(variables) - {'params'}) == collections
    assert sorted(variables['params']) == params
    for width in WIDTHS:
        values = inputs(channels=int(4 * width))
        _, changed = train(layer, variables, values, width)
        assert len(changed) == 1


def test_shared_statistics_of_a_narrow_pass_leave_the_other_channels_alone():
    layer = SwitchableBatchNorm(WIDTHS, mode='shared')
    variables = layer.init(KEY, inputs())
    _, changed = train(layer, variables, inputs(channels=2), width=0.5)
    mean = changed['batch_stats']['mean']
    assert np.all(mean[:2] != 0)
    assert not mean[2:].any()


@pytest.mark.parametrize(
    ('norm_batch', 'groups'), [('device', 4), (2, 4), (4, 2), ('global', 1), (1, 8)]
)
def test_groups_are_the_same_on_four_devices_as_on_one(norm_batch, groups):
    values = inputs(batch=8)
    size = 8 // groups
    alone = SwitchableBatchNorm(WIDTHS, norm_batch=size)
    spread = SwitchableBatchNorm(WIDTHS, norm_batch=norm_batch, axis_name=AXIS)
    variables = alone.init(KEY, values)
    weights = jax.random.normal(jax.random.key(2), values.shape)

    def loss(values, weights, layer):
        outputs, changed = train(layer, variables, values)
        return (outputs * weights).sum(), (outputs, changed)

    def on_device(values, weights):
        gradient, (outputs, changed) = jax.grad(loss, has_aux=True)(
            values, weights, spread
        )
        return gradient, outputs, jax.lax.pmean(changed, AXIS)

    expected, (outputs, changed) = jax.grad(loss, has_aux=True)(values, weights, alone)
    parts = [x.reshape(4, 2, *x.shape[1:]) for x in (values, weights)]
    found = jax.pmap(on_device, axis_name=AXIS, out_axes=(0, 0, None))(*parts)
    for result, reference in zip(found[:2], (expected, outputs), strict=True):
        np.testing.assert_allclose(
            np.asarray(result).reshape(reference.shape), reference, rtol=1e-3, atol=1e-4
        )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        found[2],
        changed,
    )


@pytest.mark.parametrize('norm_batch', [3, 5, 16, 0, 'all'])
def test_a_group_that_does_not_divide_the_batch_is_refused(norm_batch):
    layer = SwitchableBatchNorm(WIDTHS, norm_batch=norm_batch)
    with pytest.raises(ValueError, match='norm_batch='):
        train(layer, SwitchableBatchNorm(WIDTHS).init(KEY, inputs()), inputs())


def test_a_collection_that_is_not_mutable_is_named():
    layer = SwitchableBatchNorm(WIDTHS)
    variables = layer.init(KEY, inputs())
    with pytest.raises(ValueError, match=r"mutable=\['batch_stats_1.0'\]"):
        layer.apply(variables, inputs(), train=True)


def test_wrong_channels_and_wrong_widths_are_refused():
    layer = SwitchableBatchNorm(WIDTHS)
    variables = layer.init(KEY, inputs())
    with pytest.raises(ValueError, match=r'2 channels at width 0\.5.*its input has 3'):
        layer.apply(variables, inputs(channels=3), width=0.5)
    with pytest.raises(ValueError, match=r'0\.7 is not one of the widths'):
        layer.apply(variables, inputs(), width=0.7)
    with pytest.raises(ValueError, match=r'initialise at width 1\.0'):
        layer.init(KEY, inputs(channels=2), width=0.5)


def test_statistics_are_float32_under_bfloat16_and_follow_float64():
    layer = SwitchableBatchNorm(WIDTHS, dtype=jnp.bfloat16)
    values = inputs().astype(jnp.bfloat16)
    variables = layer.init(KEY, values)
    outputs, changed = train(layer, variables, values)
    assert outputs.dtype == jnp.bfloat16
    assert changed['batch_stats_1.0']['var'].dtype == jnp.float32
    with jax.enable_x64(True):
        layer = SwitchableBatchNorm(WIDTHS, param_dtype=jnp.float64)
        values = inputs(dtype=jnp.float64)
        outputs, changed = train(layer, layer.init(KEY, values), values)
        assert outputs.dtype == jnp.float64
        assert changed['batch_stats_1.0']['var'].dtype == jnp.float64
