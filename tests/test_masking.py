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
from slimjax.layers import SlimConv, SlimDense
from slimjax.masking import CHANNELS
from slimjax.width import ChannelTable


def layers(name):
    """`(paths, largest number, unit)` of what may change by itself."""
    _, shapes, _ = network(name)
    counts = {
        '/'.join(path[1:-1]): leaf.shape[-1]
        for path, leaf in leaves_of(shapes)
        if path[0] == 'params' and path[-1] == 'kernel' and 'conv' in path
    }
    tied = {}
    for path in counts:
        tied.setdefault(together(name, path), []).append(path)
    unit = 3 if name == 'shufflenet' else 1
    return [(paths, counts[paths[0]], unit) for paths in tied.values()]


def together(name, path):
    """What layers with equal numbers of channels have in common."""
    block, layer = path.split('/')[0], path.split('/')[-2]
    if name == 'resnet14' and layer in ('shortcut', 'conv3'):
        return block.split('_')[0]
    if name == 'mobilenet_v2' and layer == 'project':
        stages = (1, 2, 4, 7, 11, 14, 17)
        return max(first for first in stages if first <= int(block[len('block') :]))
    return path


def leaves_of(tree):
    return [
        (tuple(entry.key for entry in path), leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    ]


@functools.cache
def network(name):
    fields = {'resnet14': {'base_features': 8}}.get(name, {})
    width = {'shufflenet': 0.5, 'mobilenet_v2': 0.35, 'mobilenet_v1': 0.25}.get(name, 1)
    model = slimjax.create_model(
        name,
        num_classes=5,
        widths=(width,),
        norm='shared_affine',
        small_images=True,
        conv_form='plain',  # Compiles faster.
        dtype=jnp.float64,
        param_dtype=jnp.float64,
        **fields,
    )
    if name == 'mobilenet_v2':
        model = model.clone(slim_tail=True)
    images = jnp.ones((1, 16, 16, 3))
    return model, jax.eval_shape(model.init, jax.random.key(0), images), images


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
def masked_pass(name):
    """Compiled once: the numbers of channels are arguments."""
    model = network(name)[0]

    def run(variables, images, channels):
        variables = {**variables, CHANNELS: channels}
        return model.apply(variables, images, train=True)

    return jax.jit(run)


def shufflenet_counts(data, name):
    """Expanded channels are what a stage has more than its input."""
    _, shapes, _ = network(name)
    full = {
        '/'.join(path[1:-1]): leaf.shape[-1]
        for path, leaf in leaves_of(shapes)
        if path[-1] == 'kernel' and 'conv' in path
    }
    drawn = {}
    for path, most in full.items():
        if path.startswith('stem'):
            drawn[path] = data.draw(st.integers(1, most))
    total = 3 * min(drawn.values())
    drawn = {path: total // 3 for path in drawn}
    for path, most in full.items():
        if path.startswith('stem') or path.split('/')[1] == 'expand':
            continue
        if path.split('/')[1] == 'squeeze':
            drawn[path] = 3 * data.draw(st.integers(1, most // 3))
        else:  # squeeze0 to squeeze2
            own = path.replace('squeeze1', 'squeeze0').replace('squeeze2', 'squeeze0')
            drawn[path] = drawn.get(own) or data.draw(st.integers(1, most))
    for stage in (1, 2, 3):
        first = f'stage{stage}_block1/expand/conv'
        drawn[first] = 3 * data.draw(st.integers(1, full[first] // 3))
        total += drawn[first]
        for path in full:
            if path.startswith(f'stage{stage}_') and path.endswith('expand/conv'):
                drawn.setdefault(path, total)
    return full, drawn


def random_counts(data, name):
    if name == 'shufflenet':
        return shufflenet_counts(data, name)
    full, drawn = {}, {}
    for paths, most, unit in layers(name):
        count = unit * data.draw(st.integers(1, most // unit))
        for path in paths:
            full[path], drawn[path] = most, count
    return full, drawn


@pytest.mark.parametrize(
    'name',
    [
        'resnet14',
        'shufflenet',
        pytest.param('mobilenet_v1', marks=pytest.mark.slow),
        pytest.param('mobilenet_v2', marks=pytest.mark.slow),
    ],
)
@settings(max_examples=3, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_network_masked_is_the_network_sliced(name, data):
    with jax.enable_x64(True):
        check_masked_is_sliced(name, *random_counts(data, name))


def check_masked_is_sliced(name, full, drawn):
    model, shapes, _ = network(name)
    variables = filled(shapes, 0)
    images = jax.random.normal(jax.random.key(1), (4, 16, 16, 3), jnp.float64)
    # Ordered by size, of which the drawn one must not have more.
    tables = [
        ChannelTable(key, tuple(counts.items()), macs)
        for key, counts, macs in (('whole', full, 2), ('drawn', drawn, 1))
    ]
    sliced = model.clone(widths=tuple(tables))
    own = jax.eval_shape(
        functools.partial(sliced.init, width='whole'), jax.random.key(0), images
    )
    stats = filled({k: v for k, v in own.items() if k != 'params'}, 0)
    expected, _ = sliced.apply(
        {'params': variables['params'], **stats},
        images,
        width='drawn',
        train=True,
        mutable=['batch_stats_drawn'],
    )
    counts = {tuple(path.split('/')): jnp.array(n) for path, n in drawn.items()}
    found = masked_pass(name)(variables, images, unflatten_dict(counts))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


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
