"""Sliced layers against flax's own with copied slices."""

import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slimjax.layers import SlimConv, SlimDense
from slimjax.models import create_model
from slimjax.variables import apply_train, split_variables
from slimjax.width import ChannelTable

KEY = jax.random.key(0)


def images(channels, size=6, dtype=jnp.float32):
    return jax.random.normal(jax.random.key(1), (2, size, size, channels), dtype)


def value_and_gradients(layer, params, inputs):
    """Output, and the gradients of a sum over it, in one compiled program."""

    def loss(params, inputs):
        outputs = layer({'params': params}, inputs)
        return jnp.sin(outputs).sum(), outputs

    gradient = jax.grad(loss, argnums=(0, 1), has_aux=True)
    (of_params, of_inputs), outputs = jax.jit(gradient)(params, inputs)
    return outputs, of_inputs, of_params


@pytest.mark.parametrize(
    'options',
    [
        {},
        {'strides': 2, 'use_bias': False},
        {'padding': 0},
        {'padding': (2, 1), 'strides': (1, 2)},
        {'padding': ((0, 1), (2, 0)), 'kernel_dilation': 2},
    ],
)
@pytest.mark.parametrize('kind', ['dense', 'depthwise'])
def test_a_sliced_convolution_is_flaxs_own_with_the_slice(kind, options):
    active = 2
    with jax.enable_x64(True):
        groups = 8 if kind == 'depthwise' else 1
        layer = SlimConv(
            8, (3, 3), feature_group_count=groups, param_dtype=jnp.float64, **options
        )
        params = layer.init(KEY, images(8, dtype=jnp.float64))['params']
        name = 'depthwise_kernel' if kind == 'depthwise' else 'kernel'
        assert set(params) == ({name, 'bias'} if layer.use_bias else {name})

        def cut(params):
            narrow = {'kernel': params[name][:, :, :active, :active]}
            if layer.use_bias:
                narrow['bias'] = params['bias'][:active]
            return narrow

        pads = {
            'padding': options.get('padding', 1),
            'feature_group_count': active if kind == 'depthwise' else 1,
        }
        reference = nn.Conv(active, (3, 3), **{**options, **pads})
        inputs = images(active, dtype=jnp.float64)
        apply = functools.partial(layer.apply, width=active / 8)
        *found, gradient = value_and_gradients(apply, params, inputs)
        *expected, narrow = value_and_gradients(reference.apply, cut(params), inputs)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12),
            (*found, cut(gradient)),
            (*expected, narrow),
        )


def test_the_gradient_of_unused_channels_is_exactly_zero():
    layer = SlimConv(8, (3, 3))
    variables = layer.init(KEY, images(8))

    def loss(variables):
        return jnp.square(layer.apply(variables, images(2), width=0.25)).sum()

    gradient = np.array(jax.grad(loss)(variables)['params']['kernel'])
    assert np.all(gradient[:, :, :2, :2] != 0)
    gradient[:, :, :2, :2] = 0
    assert not gradient.any()


def test_a_grouped_convolution_slims_each_group_by_itself():
    layer = SlimConv(12, 1, feature_group_count=3)
    variables = layer.init(KEY, images(6))
    params = variables['params']
    inputs = images(3)
    parts = []
    for group in range(3):
        kernel = params['kernel'][:, :, :1, 4 * group : 4 * group + 2]
        bias = params['bias'][4 * group : 4 * group + 2]
        parts.append(
            nn.Conv(2, (1, 1)).apply(
                {'params': {'kernel': kernel, 'bias': bias}},
                inputs[..., group : group + 1],
            )
        )
    np.testing.assert_allclose(
        layer.apply(variables, inputs, width=0.5),
        jnp.concatenate(parts, axis=-1),
        rtol=1e-5,
        atol=1e-6,
    )


def test_a_depthwise_convolution_follows_its_input_at_any_width():
    layer = SlimConv(8, 3, feature_group_count=8, widths=(0.5, 2.0))
    variables = layer.init(KEY, images(16))
    assert variables['params']['depthwise_kernel'].shape == (3, 3, 1, 16)
    for channels in (3, 4, 16):
        assert layer.apply(variables, images(channels)).shape[-1] == channels
    with pytest.raises(ValueError, match='needs 17 channels'):
        layer.apply(variables, images(17))


def test_in_splits_slices_each_part_of_a_concatenation():
    layer = SlimConv(4, 1, use_bias=False, in_splits=(4, 8))
    variables = layer.init(KEY, images(12))
    kernel = variables['params']['kernel']
    first, second = images(2), images(4)
    expected = sum(
        nn.Conv(2, (1, 1), use_bias=False).apply({'params': {'kernel': part}}, inputs)
        for part, inputs in (
            (kernel[:, :, :2, :2], first),
            (kernel[:, :, 4:8, :2], second),
        )
    )
    found = layer.apply(variables, jnp.concatenate([first, second], axis=-1), width=0.5)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match=r'are \(2, 4\) channels.*the input has 5'):
        layer.apply(variables, images(5), width=0.5)
    # The splits state the inputs, so that any width may initialise.
    narrow = layer.init(KEY, images(6), width=0.5)
    jax.tree.map(np.testing.assert_array_equal, variables, narrow)
    with pytest.raises(ValueError, match=r'in_splits=\(4, 4\) goes with one group'):
        SlimConv(8, 3, feature_group_count=8, in_splits=(4, 4)).init(KEY, images(8))


def test_in_splits_of_a_dense_layer_slices_each_part():
    layer = SlimDense(3, in_splits=(4, 2), slim_output=False)
    inputs = jax.random.normal(KEY, (2, 5, 3))
    variables = layer.init(KEY, inputs, width=0.5)
    params = variables['params']
    assert params['kernel'].shape == (6, 3)
    np.testing.assert_allclose(
        layer.apply(variables, inputs, width=0.5),
        inputs @ params['kernel'][jnp.array([0, 1, 4])] + params['bias'][None, None],
        rtol=1e-5,
        atol=1e-6,
    )


def test_a_dense_layer_is_sliced_on_both_sides():
    layer = SlimDense(8)
    inputs = jax.random.normal(KEY, (3, 16))
    variables = layer.init(KEY, inputs)
    params = variables['params']
    np.testing.assert_allclose(
        layer.apply(variables, inputs[:, :8], width=0.5),
        inputs[:, :8] @ params['kernel'][:8, :4] + params['bias'][:4][None],
        rtol=1e-5,
        atol=1e-6,
    )


def test_slim_output_false_keeps_all_outputs():
    layer = SlimDense(10, slim_output=False, widths=(0.25,))
    variables = layer.init(KEY, jnp.ones((1, 4)))
    assert layer.apply(variables, jnp.ones((1, 2)), width=0.25).shape == (1, 10)


def test_stated_inputs_let_any_width_initialise_the_same():
    layer = SlimConv(8, 3, in_features=6)
    wide = layer.init(KEY, images(6), width=1.0)
    narrow = layer.init(KEY, images(3), width=0.5)
    jax.tree.map(np.testing.assert_array_equal, wide, narrow)


def test_inputs_that_are_not_stated_are_read_off_the_widest_only():
    layer = SlimConv(8, 3)
    with pytest.raises(ValueError, match=r'initialise at width 1\.0'):
        layer.init(KEY, images(3), width=0.5)


@pytest.mark.parametrize(
    ('layer', 'channels', 'message'),
    [
        (SlimConv(6, 3, feature_group_count=3), 4, '4 input channels.*3 groups'),
        (SlimConv(4, 3, feature_group_count=3), 3, '4 output channels.*3 groups'),
        (SlimConv(4, 3, padding='SAME'), 3, "padding='SAME'"),
        (SlimConv(4, 3, conv_form='fast'), 3, "conv_form='fast'"),
    ],
)
def test_impossible_layers_say_why(layer, channels, message):
    with pytest.raises(ValueError, match=message):
        layer.init(KEY, images(channels))


@pytest.mark.parametrize(
    ('channels', 'width', 'message'),
    [(8, 2.0, 'needs 16 channels'), (9, 1.0, 'got 9 input channels')],
)
def test_what_the_kernel_is_too_small_for_is_refused(channels, width, message):
    layer = SlimConv(8, 3)
    variables = layer.init(KEY, images(8))
    with pytest.raises(ValueError, match=message):
        layer.apply(variables, images(channels), width=width)


def test_the_stored_kernel_has_the_size_of_the_widest():
    wide = SlimConv(8, 3, widths=(0.5, 2.0)).init(KEY, images(3))
    assert wide['params']['kernel'].shape == (3, 3, 3, 16)
    narrow = SlimConv(8, 3, widths=(0.25,)).init(KEY, images(3))
    assert narrow['params']['kernel'].shape == (3, 3, 3, 2)


def test_a_channel_table_states_the_outputs_by_path():
    table = ChannelTable('small', (('conv', 3),))

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x, *, width):
            return SlimConv(8, 3, widths=(table, 1.0)[:1], name='conv')(x, width=width)

    variables = Net().init(KEY, images(3), width=table)
    assert variables['params']['conv']['kernel'].shape == (3, 3, 3, 3)


def test_types_of_computation_and_parameters():
    layer = SlimConv(8, 3, dtype=jnp.bfloat16)
    variables = layer.init(KEY, images(3))
    assert variables['params']['kernel'].dtype == jnp.float32
    assert layer.apply(variables, images(3)).dtype == jnp.bfloat16
    with jax.enable_x64(True):
        double = SlimConv(8, 3, param_dtype=jnp.float64)
        inputs = images(3, dtype=jnp.float64)
        assert double.apply(double.init(KEY, inputs), inputs).dtype == jnp.float64


def test_layers_that_are_jitted_leave_no_calls_in_a_program():
    model = create_model(
        'resnet14', widths=(0.5, 1.0), stage_sizes=(1,), base_features=4, num_classes=3
    )
    variables = jax.eval_shape(model.init, KEY, images(3, size=32))

    def loss(variables):
        params, stats = split_variables(variables)
        logits, _ = apply_train(model, params, stats, images(3, size=32), width=0.5)
        return jnp.sin(logits).sum()

    program = jax.jit(jax.grad(loss)).lower(variables).as_text()
    functions = set(re.findall(r'func.func .*@(\w+)\(', program))
    assert 'main' in functions
    # A call's gradient is compiled apart from what is around it, and so worse.
    for name in ('convolve', 'normalize', '_parts_moments', '_blended'):
        assert not any(own.startswith(name) for own in functions), functions
