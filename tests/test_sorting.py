"""Sorted channels: the same function, the important ones in front."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slimjax
from slimjax.sorting import CRITERIA
from tests.crossing import FIELDS, crossing_tables
from tests.slow import slow_but

SHAPE = (32, 32, 3)


def trained(name, width, dtype=jnp.float64, **fields):
    """A network none of whose channels is like another."""
    model = slimjax.create_model(
        name,
        num_classes=5,
        widths=(width,),
        dtype=dtype,
        param_dtype=dtype,
        **fields,
    )
    images = jax.random.normal(jax.random.key(0), (3, *SHAPE), dtype)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        kind = path[-1].key
        fan_in = np.prod(leaf.shape[:-1]) if leaf.ndim > 1 else 100
        values = rng.normal(size=leaf.shape) * np.sqrt(2 / fan_in)
        positive = np.abs(values) + {'var': 0.3, 'scale': 1.0}.get(kind, 0)
        return np.asarray(positive if kind in ('var', 'scale') else values, dtype)

    return model, jax.tree_util.tree_map_with_path(draw, shapes), images


# By 'l1', ordinary networks are sorted in tests/interop.
@pytest.mark.parametrize('by', slow_but(list(CRITERIA), 'bn_scale', 'taylor'))
@pytest.mark.parametrize(
    ('name', 'width'),
    slow_but(
        [
            ('resnet14', 0.25),
            ('mobilenet_v1', 0.25),
            ('mobilenet_v2', 0.35),
            ('shufflenet', 0.5),
        ],
        ('resnet14', 0.25),
    ),
)
def test_the_widest_network_computes_what_it_did(name, width, by):
    with jax.enable_x64(True):
        model, variables, images = trained(name, width)
        batch = {'image': images, 'label': jnp.array([0, 1, 2])}
        after = slimjax.sort_channels(model, variables, by, batch=batch)
        apply = jax.jit(model.apply)
        logits = apply(variables, images)
        assert np.std(logits, 0).min() > 1e-3 * np.abs(logits).max()
        np.testing.assert_allclose(apply(after, images), logits, rtol=1e-9, atol=1e-9)
        moved = jax.tree.map(lambda a, b: bool((a != b).any()), variables, after)
        assert sum(jax.tree.leaves(moved)) > len(jax.tree.leaves(moved)) / 2


def test_channels_of_a_residual_connection_are_sorted_together():
    with jax.enable_x64(True):
        model, variables, _ = trained('resnet14', 0.25, stage_sizes=(2,))
        after = slimjax.sort_channels(model, variables, image_shape=SHAPE)['params']

        def norms(*path):
            kernel = after[path[0]][path[1]]['conv']['kernel']
            return np.abs(kernel).sum((0, 1, 2))

        tied = sum(
            norms(*path)
            for path in (
                ('stage1_block1', 'shortcut'),
                ('stage1_block1', 'conv3'),
                ('stage1_block2', 'conv3'),
            )
        )
        for sums in (tied, norms('stage1_block2', 'conv1')):
            assert (np.diff(sums) <= 1e-12).all()


def norm_of_one_layer(params):
    return params['stage1_block2']['conv1']['norm']['0.25']


def test_scales_of_norms_fall():
    model, variables, _ = trained('resnet14', 0.25, jnp.float32, stage_sizes=(2,))
    after = slimjax.sort_channels(model, variables, 'bn_scale', image_shape=SHAPE)
    scales = np.abs(norm_of_one_layer(after['params'])['scale'])
    assert len(set(scales.tolist())) == len(scales)
    assert (np.diff(scales) < 0).all()


def test_what_a_channel_costs_the_loss_falls():
    with jax.enable_x64(True):
        model, variables, images = trained('resnet14', 0.25, stage_sizes=(2,))
        labels = jnp.array([0, 1, 2])
        batch = {'image': images, 'label': labels}
        after = slimjax.sort_channels(model, variables, 'taylor', batch=batch)
        norm = norm_of_one_layer(after['params'])

        def loss(gates):
            gated = jax.tree.map(lambda leaf: leaf * gates, norm)
            layer = {**after['params']['stage1_block2']['conv1']}
            layer['norm'] = {'0.25': gated}
            block = {**after['params']['stage1_block2'], 'conv1': layer}
            params = {**after['params'], 'stage1_block2': block}
            logits = model.apply({**after, 'params': params}, images)
            return -jax.nn.log_softmax(logits)[jnp.arange(3), labels].mean()

        # By differences, as far as they tell what closing each gate would change.
        channels = len(norm['scale'])
        steps = 1e-5 * jnp.eye(channels)
        losses = jax.jit(jax.vmap(loss))(1 + jnp.concatenate([steps, -steps]))
        changes = (losses[:channels] - losses[channels:]) / 2e-5
        assert np.unique(changes).size > channels / 2
        assert (np.diff(changes**2) <= 1e-9 * np.max(changes**2)).all()


class Head(nn.Module):
    """Maps, with whose channels and pixels something is done, before a flat head."""

    between: Callable

    @nn.compact
    def __call__(self, images):
        maps = nn.relu(nn.Conv(8, (3, 3), name='first')(images))
        maps = self.between(self, maps)
        return nn.Dense(5)(maps.reshape(len(maps), -1))


def gated(module, maps):
    return nn.sigmoid(nn.Conv(1, (1, 1), name='gate')(maps)) * maps


def placed(module, maps):
    place = nn.initializers.normal(1.0)
    return module.param('place', place, (1, *maps.shape[1:3], 1)) + maps


def half(module, maps):
    return maps * jnp.concatenate([jnp.ones(4), jnp.zeros(4)])[None, None, None]


def scattered(module, maps):
    return maps * jnp.zeros(8).at[:4].set(1.0)[None, None, None]


@pytest.mark.parametrize('between', [gated, placed, half, scattered])
def test_own_networks_compute_what_they_did(between):
    model, images = Head(between), jax.random.normal(jax.random.key(0), (3, 8, 8, 3))
    variables = model.init(jax.random.key(1), images)
    after = slimjax.sort_channels(model, variables, image_shape=(8, 8, 3))
    logits = model.apply(variables, images)
    np.testing.assert_allclose(model.apply(after, images), logits, atol=1e-4)
    first = [each['params']['first']['kernel'] for each in (variables, after)]
    # Pixels stay where they are, and channels that are told apart.
    assert (first[0] != first[1]).any() == (between is gated)


def test_colours_and_classes_stay_where_they_are():
    model, variables, _ = trained('resnet14', 0.25, jnp.float32)
    after = slimjax.sort_channels(model, variables, image_shape=SHAPE)['params']
    before = variables['params']
    np.testing.assert_array_equal(
        after['classifier']['bias'], before['classifier']['bias']
    )
    stems = (tree['stem']['conv']['kernel'] for tree in (before, after))
    before, after = (np.sort(stem, axis=-1) for stem in stems)
    np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'by': 'l2'}, "by='l2'; allowed are l1, bn_scale, taylor"),
        ({'by': 'taylor'}, 'needs batch='),
    ],
)
def test_mistakes_are_named(arguments, message):
    model, variables, _ = trained('resnet14', 0.25, jnp.float32)
    with pytest.raises(ValueError, match=message):
        slimjax.sort_channels(model, variables, image_shape=SHAPE, **arguments)


def test_tables_whose_widest_lacks_channels_are_refused():
    model = slimjax.create_model('resnet14', widths=crossing_tables(), **FIELDS)
    message = 'stem/conv has 4 channels at width 1, more than at the widest, 2:'
    with pytest.raises(ValueError, match=message):
        slimjax.sort_channels(model, {}, image_shape=(16, 16, 3))
