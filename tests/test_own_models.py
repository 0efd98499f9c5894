"""The networks of docs/own_models.md against plain Flax ones that are as narrow."""

import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

import slimjax as sj
from tests.own_models import as_users_have_it, own_models
from tests.slow import slow_but


class ConvNeXtBlock(nn.Module):
    channels: int
    hidden: int

    @nn.compact
    def __call__(self, x):
        c = self.channels
        y = nn.Conv(c, (7, 7), padding=3, feature_group_count=c)(x)
        y = nn.LayerNorm(use_fast_variance=False)(y)
        y = nn.gelu(nn.Dense(self.hidden)(y))
        y = nn.Dense(c)(y)
        return x + y * self.param('layer_scale', nn.initializers.ones, (1, 1, 1, c))


class ConvNeXt(nn.Module):
    width: float

    @nn.compact
    def __call__(self, images):
        c, hidden = int(32 * self.width), int(128 * self.width)
        x = nn.Conv(c, (4, 4), strides=4, padding=0)(images)
        for _ in range(2):
            x = ConvNeXtBlock(c, hidden)(x)
        return nn.Dense(3)(nn.LayerNorm(use_fast_variance=False)(x.mean((1, 2))))


class Attention(nn.Module):
    channels: int
    heads: int

    @nn.compact
    def __call__(self, x):
        def heads(name):
            return nn.Dense(8 * self.heads, name=name)(x).reshape(*x.shape[:2], -1, 8)

        query, key, value = map(heads, ('query', 'key', 'value'))
        weights = jnp.einsum('bqhd,bkhd->bhqk', query, key) / np.sqrt(8)
        y = jnp.einsum('bhqk,bkhd->bqhd', jax.nn.softmax(weights), value)
        return nn.Dense(self.channels, name='out')(y.reshape(*x.shape[:2], -1))


class ViTBlock(nn.Module):
    channels: int
    heads: int
    hidden: int

    @nn.compact
    def __call__(self, x):
        y = nn.LayerNorm(use_fast_variance=False)(x)
        x = x + Attention(self.channels, self.heads)(y)
        y = nn.LayerNorm(use_fast_variance=False)(x)
        y = nn.gelu(nn.Dense(self.hidden)(y))
        return x + nn.Dense(self.channels)(y)


class ViT(nn.Module):
    width: float
    heads: int

    @nn.compact
    def __call__(self, images):
        c, hidden = int(32 * self.width), int(128 * self.width)
        x = nn.Conv(c, (4, 4), strides=4, padding=0)(images)
        x = x.reshape(x.shape[0], -1, c)
        x = x + self.param('position', nn.initializers.ones, (1, x.shape[1], c))
        for _ in range(2):
            x = ViTBlock(c, self.heads, hidden)(x)
        return nn.Dense(3)(nn.LayerNorm(use_fast_variance=False)(x).mean(1))


class ResidualBlock(nn.Module):
    channels: int
    strides: int

    @nn.compact
    def __call__(self, x):
        conv = functools.partial(nn.Conv, self.channels, use_bias=False)
        norm = functools.partial(
            nn.BatchNorm,
            use_running_average=False,
            momentum=0.9,
            use_fast_variance=False,
        )
        y = conv(kernel_size=(3, 3), strides=self.strides, padding=1)(x)
        y = conv(kernel_size=(3, 3), padding=1)(nn.relu(norm()(y)))
        y = norm()(y)
        if self.strides > 1:
            x = norm()(conv(kernel_size=(1, 1), strides=self.strides)(x))
        return nn.relu(x + y)


class CNN(nn.Module):
    width: float

    @nn.compact
    def __call__(self, images):
        x = nn.Conv(int(16 * self.width), (3, 3), padding=1)(images)
        for features, strides in ((16, 1), (32, 2)):
            x = ResidualBlock(int(features * self.width), strides)(x)
        return nn.Dense(3)(x.mean((1, 2)))


def images_of(dtype):
    return jax.random.normal(jax.random.key(1), (4, 16, 16, 3), dtype)


def plain_tree(tree, shapes):
    """Slimmable variables under Flax's own names, cut to the shapes of `shapes`."""
    renamed = {}
    for path, leaf in flatten_dict(tree).items():
        path = [re.sub('^(?:Slim|Switchable)', '', name) for name in path]
        path = [name.replace('depthwise_', '') for name in path if name != 'affine']
        renamed[tuple(path)] = leaf
    needed = flatten_dict(shapes)
    assert set(renamed) == set(needed)
    cut = {
        path: renamed[path][tuple(map(slice, leaf.shape))]
        for path, leaf in needed.items()
    }
    assert all(leaf.shape == needed[path].shape for path, leaf in cut.items())
    return unflatten_dict(cut)


def compared(model, plain, variables, width, dtype, *, tolerance, train=False):
    """Asserts that logits and all gradients of the two networks are the same."""
    images = images_of(dtype)
    with as_users_have_it():
        shapes = jax.eval_shape(plain.init, jax.random.key(0), images)
    collection = f'batch_stats_{width}'
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), variables['params'])
    rest = {} if not train else {collection: variables[collection]}
    changed = [collection] if train else []

    def loss(apply, params, rest, changed, **keywords):
        logits, found = apply(
            {'params': params, **rest}, images, mutable=changed, **keywords
        )
        return jnp.sin(logits).sum(), (logits, found)

    @jax.jit
    def slim(params):
        apply = functools.partial(loss, model.apply, width=width, train=train)
        return jax.grad(apply, has_aux=True)(params, rest, changed)

    gradient, (logits, found) = slim(params)
    cut = plain_tree(params, shapes['params'])
    plain_rest, plain_changed = {}, []
    if train:
        stats = plain_tree(variables[collection], shapes['batch_stats'])
        plain_rest, plain_changed = {'batch_stats': stats}, ['batch_stats']

    @jax.jit
    def narrow(params):
        apply = functools.partial(loss, plain.apply)
        return jax.grad(apply, has_aux=True)(params, plain_rest, plain_changed)

    with as_users_have_it():
        expected, (plain_logits, plain_found) = narrow(cut)
    close = functools.partial(
        np.testing.assert_allclose, rtol=tolerance, atol=tolerance
    )
    close(logits, plain_logits)
    cut = plain_tree(gradient, expected)
    jax.tree.map(close, cut, expected)
    # Whatever a width does not use, it does not move.
    moved, moved_inside = (
        sum(np.count_nonzero(leaf) for leaf in jax.tree.leaves(tree))
        for tree in (gradient, cut)
    )
    assert moved == moved_inside
    return found, plain_found


@pytest.mark.parametrize('width', slow_but([0.25, 0.4, 1.0], 0.25))
def test_a_narrow_convnext_is_a_plain_one_with_the_slices(width):
    module = own_models()
    with jax.enable_x64(True):
        compared(
            module.ConvNeXt(),
            ConvNeXt(width),
            module.convnext,
            width,
            jnp.float64,
            tolerance=1e-9,
        )


@pytest.mark.parametrize(('width', 'heads'), [(0.25, 1), (0.4, 2), (1.0, 4)])
def test_a_narrow_vit_is_a_plain_one_with_whole_heads(width, heads):
    module = own_models()
    with jax.enable_x64(True):
        compared(
            module.ViT(),
            ViT(width, heads),
            module.vit,
            width,
            jnp.float64,
            tolerance=1e-9,
        )


@pytest.mark.parametrize('width', [0.25, 0.4375, 1.0])
def test_a_narrow_cnn_in_training_is_a_plain_one_with_the_slices(width):
    module = own_models()
    found, expected = compared(
        module.CNN(),
        CNN(width),
        module.cnn,
        width,
        jnp.float32,
        tolerance=2e-4,
        train=True,
    )
    found = flatten_dict(found[f'batch_stats_{width}'])
    expected = flatten_dict(expected['batch_stats'])
    for own, other in zip(found.items(), expected.items(), strict=True):
        if own[0][-1] == 'mean':
            np.testing.assert_allclose(own[1], other[1], rtol=1e-4, atol=1e-5)


def test_all_networks_learn_at_every_width_that_is_trained():
    module = own_models()
    for name in ('vit', 'convnext', 'cnn'):
        losses = getattr(module, f'{name}_losses')
        for width in (0.25, 1.0):
            assert losses[-1][width] < losses[0][width], name
        assert losses[-1][1.0] < losses[0][1.0] / 2, name


@pytest.mark.parametrize('name', ['vit', 'convnext', 'cnn'])
def test_any_width_of_the_range_runs(name):
    module = own_models()
    variables = getattr(module, name)
    model = {'vit': module.ViT, 'convnext': module.ConvNeXt, 'cnn': module.CNN}[name]()
    widths = (0.25, 0.3, 0.45, 0.6, 0.77, 0.9, 1.0)
    if name == 'cnn':
        images = [images_of(jnp.float32)]
        new = [width for width in widths if width not in model.widths]
        variables = sj.calibrate(model, variables, images, new)
        model = module.CNN(widths=(*model.widths, *new))
    for width in widths:
        logits = jax.jit(functools.partial(model.apply, width=width))(
            variables, images_of(jnp.float32)
        )
        assert logits.shape == (4, 3)
        assert np.isfinite(logits).all()


def test_heads_stay_whole_and_grow_with_the_width():
    whole_heads = own_models().whole_heads
    for heads in (1, 3, 4, 12):
        counts = [whole_heads(8 * heads, n / 1000) for n in range(1, 1501)]
        assert counts[0] == 8
        assert counts[999] == 8 * heads
        assert all(count % 8 == 0 for count in counts)
        assert counts == sorted(counts)


@pytest.mark.parametrize('name', ['vit', 'convnext', 'cnn'])
def test_a_width_of_it_can_be_taken_out(name):
    module = own_models()
    variables = getattr(module, name)
    model = {'vit': module.ViT, 'convnext': module.ConvNeXt, 'cnn': module.CNN}[name]()
    narrow, own = sj.extract(model, variables, 0.5, image_shape=(16, 16, 3))
    images = images_of(jnp.float32)
    wide, alone = (
        jax.jit(functools.partial(network.apply, width=0.5))(held, images)
        for network, held in ((model, variables), (narrow, own))
    )
    np.testing.assert_array_equal(wide, alone)
    assert len(jax.tree.leaves(own)) <= len(jax.tree.leaves(variables))
    assert sum(x.size for x in jax.tree.leaves(own['params'])) < sum(
        x.size for x in jax.tree.leaves(variables['params'])
    )
