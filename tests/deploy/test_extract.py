"""One width, taken out, is the same network."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slimjax
from tests.emitters import AS_USERS_HAVE_IT

IMAGE = (32, 32, 3)


def trained(model):
    """The model's variables, as different from one another as after training."""
    images = jax.ShapeDtypeStruct((1, *IMAGE), jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    drawn = np.random.default_rng(0)

    def values(leaf):
        if leaf.ndim == 1:
            return drawn.uniform(0.5, 1.5, leaf.shape)
        return drawn.normal(size=leaf.shape) / np.sqrt(np.prod(leaf.shape[:-1]))

    return jax.tree.map(lambda leaf: values(leaf).astype(leaf.dtype), shapes)


@pytest.mark.parametrize(
    ('name', 'width', 'fields'),
    [
        pytest.param('resnet14', 0.5, {}, marks=pytest.mark.slow),
        pytest.param(
            *('resnet14', 0.25, {'norm': 'shared_affine'}), marks=pytest.mark.slow
        ),
        ('resnet14', 0.25, {'norm': 'shared'}),
        pytest.param('mobilenet_v2', 0.5, {}, marks=pytest.mark.slow),
        pytest.param('shufflenet', 1.0, {}, marks=pytest.mark.slow),
        ('autoslim_mobilenet_v1', '1', {}),
    ],
)
def test_a_width_taken_out_gives_the_same_logits_bit_for_bit(name, width, fields):
    model = slimjax.create_model(name, num_classes=10, **fields)
    variables = trained(model)
    narrow, own = slimjax.extract(model, variables, width, image_shape=IMAGE)
    images = jax.random.normal(jax.random.key(1), (2, *IMAGE))
    wide, alone = (
        jax.jit(partial(network.apply, width=width), compiler_options=AS_USERS_HAVE_IT)(
            held, images
        )
        for network, held in ((model, variables), (narrow, own))
    )
    assert np.isfinite(alone).all()
    np.testing.assert_array_equal(wide, alone)
    size, whole = (
        sum(leaf.size for leaf in jax.tree.leaves(tree['params']))
        for tree in (own, variables)
    )
    assert size < whole


def test_a_width_or_layer_that_is_not_known_is_named():
    class Mixed(nn.Module):
        widths: tuple = (0.5, 1.0)

        @nn.compact
        def __call__(self, images, *, width=None, train=False):
            return nn.Dense(3, name='head')(slimjax.SlimDense(4)(images, width=width))

    images = jnp.ones((1, *IMAGE))
    variables = Mixed().init(jax.random.key(0), images)
    with pytest.raises(ValueError, match='head'):
        slimjax.extract(Mixed(), variables, 1.0, image_shape=IMAGE)
    with pytest.raises(ValueError, match=r'0\.3'):
        slimjax.extract(Mixed(), variables, 0.3, image_shape=IMAGE)
