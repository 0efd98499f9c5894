"""A masked pass computes what the sliced network does, and zeros behind it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict
from hypothesis import given, settings
from hypothesis import strategies as st

import slimjax
from slimjax.insight.cost import width_costs
from slimjax.layers import SlimConv, SlimDense
from slimjax.masking import CHANNELS
from slimjax.search.space import search_space
from slimjax.width import ChannelTable
from tests.slow import slow_but


@functools.cache
def network(name, form):
    """A supernet, narrow so that it compiles fast, and the networks in it."""
    fields = {
        'resnet14': {'base_features': 8, 'widths': (0.5, 1)},
        'shufflenet': {'widths': (0.25, 0.5)},
        'mobilenet_v1': {'widths': (0.15, 0.25)},
        'mobilenet_v2': {'widths': (0.25, 0.5), 'slim_tail': True},
        'mnasnet': {'widths': (0.25, 0.5), 'slim_tail': True},
        # Whose tail is whole at every width, with statistics of its own.
        'mobilenet_v2, whole tail': {
            'widths': (0.25, 0.5),
            'private_tail_stats': True,
        },
    }
    model = slimjax.create_model(
        name.partition(',')[0],
        num_classes=5,
        norm='shared_affine',
        small_images=True,
        conv_form=form,
        dtype=jnp.float64,
        param_dtype=jnp.float64,
        **fields[name],
    )
    space = search_space(model, (16, 16, 3))
    return model.clone(widths=(max(model.widths),)), space


def filled(shapes, seed):
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        if path[-1].key == 'mean':
            return np.zeros(leaf.shape)
        if path[-1].key in ('var', 'scale'):
            return np.ones(leaf.shape)
        return rng.normal(size=leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1]))

    return jax.tree_util.tree_map_with_path(draw, shapes)


@functools.cache
def masked_pass(name, form):
    """Compiled once: the numbers of channels are arguments."""
    model, _ = network(name, form)

    def run(params, images, channels):
        variables = {'params': params, CHANNELS: channels}
        return model.apply(variables, images, train=True)

    return jax.jit(run)


# Plain convolutions compile faster; a search on a CPU computes with products.
NETWORKS = (
    ('resnet14', 'plain'),
    ('shufflenet', 'plain'),
    ('mobilenet_v1', 'plain'),
    ('mobilenet_v2', 'plain'),
    ('mnasnet', 'plain'),
    ('mobilenet_v2, whole tail', 'plain'),
    ('resnet14', 'products'),
    ('mobilenet_v1', 'products'),
)


@pytest.mark.parametrize(('name', 'form'), slow_but(NETWORKS, NETWORKS[0]))
@settings(max_examples=3, derandomize=True)
@given(data=st.data())
def test_any_network_masked_is_the_network_sliced(name, form, data):
    with jax.enable_x64(True):
        check_masked_is_sliced(name, form, data)


def check_masked_is_sliced(name, form, data):
    model, space = network(name, form)
    removed = [data.draw(st.integers(0, v.most_removed)) for v in space.variables]
    drawn = space.table(space.whole - removed * space.chunks, 'drawn')
    whole = space.table(space.whole, 'whole')
    images = jax.random.normal(jax.random.key(1), (4, 16, 16, 3), jnp.float64)
    sliced = model.clone(widths=(whole, drawn))
    shapes = jax.eval_shape(
        functools.partial(sliced.init, width='whole'), jax.random.key(0), images
    )
    variables = filled(shapes, 0)
    options = {'width': 'drawn', 'train': True, 'mutable': ['batch_stats_drawn']}
    expected, _ = jax.jit(functools.partial(sliced.apply, **options))(variables, images)
    counts = {tuple(path.split('/')): jnp.array(n) for path, n in drawn.channels}
    found = masked_pass(name, form)(variables['params'], images, unflatten_dict(counts))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    # What the space says of costs is what the sliced network has.
    cost = width_costs(sliced, (16, 16, 3), widths=[drawn])[drawn]
    own = space.whole - removed * space.chunks
    assert (cost.macs, cost.params) == (space.macs(own), space.params(own))


@pytest.mark.parametrize('groups', [1, 3])
def test_layers_are_zero_behind_what_is_switched_on(groups):
    layer = SlimConv(12, 3, widths=(0.5, 1.0), feature_group_count=groups)
    inputs = jax.random.normal(jax.random.key(0), (2, 5, 5, 12))
    variables = layer.init(jax.random.key(1), inputs)
    variables['params']['bias'] = jnp.arange(12.0)
    narrow = layer.apply(variables, inputs[..., :6], width=0.5)
    masked = jax.jit(layer.apply)(
        variables, inputs.at[..., 6:].set(0), channels=(jnp.array(6), jnp.array(6))
    )
    np.testing.assert_allclose(masked[..., :6], narrow, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(masked[..., 6:], 0)


def test_a_dense_layer_is_zero_behind_what_is_switched_on():
    layer = SlimDense(6)
    outputs, _ = layer.init_with_output(
        jax.random.key(0), jnp.ones((2, 4)), channels=(jnp.array(4), jnp.array(2))
    )
    assert (outputs[:, :2] != 0).all()
    np.testing.assert_array_equal(outputs[:, 2:], 0)


def test_a_table_that_parts_a_residual_connection_is_refused():
    model = slimjax.create_model('resnet14', stage_sizes=(2,), num_classes=2)
    paths = [f'block{b}/conv{c}' for b in (1, 2) for c in (1, 2, 3)]
    counts = {f'stage1_{path}/conv': 8 for path in paths}
    counts |= {'stem/conv': 8, 'stage1_block1/shortcut/conv': 8}
    counts['stage1_block2/conv3/conv'] = 16
    table = ChannelTable('odd', tuple(counts.items()))
    with pytest.raises(ValueError, match='stage1_block2: its residual connection adds'):
        jax.eval_shape(
            model.clone(widths=(table,)).init,
            jax.random.key(0),
            jnp.ones((1, 32, 32, 3)),
        )
