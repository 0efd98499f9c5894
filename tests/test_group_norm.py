"""GroupNorm of every width."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slimjax.group_norm import SwitchableGroupNorm

COUNTS = {0.25: 12, 0.5: 32, 1.0: 64}


def variables_of(layer):
    variables = layer.init(jax.random.key(0), jnp.ones((1, 2, 2, 64)))
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: rng.standard_normal(leaf.shape, np.float32), variables
    )


@pytest.mark.parametrize(('width', 'groups'), [(0.25, 3), (0.5, 2), (1.0, 4)])
def test_a_width_is_a_group_norm_of_its_own(width, groups):
    layer = SwitchableGroupNorm((0.25, 0.5, 1.0), COUNTS)
    variables = variables_of(layer)
    assert list(variables) == ['params']
    own = variables['params'][str(width)]
    images = np.random.default_rng(1).standard_normal(
        (3, 4, 4, COUNTS[width]), np.float32
    )
    found = layer.apply(variables, images, width=width, train=True)
    with jax.numpy_rank_promotion('allow'):
        expected = nn.GroupNorm(groups, epsilon=1e-5).apply({'params': own}, images)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    # By itself, and in evaluation, an image gives the same.
    alone = layer.apply(variables, images[:1], width=width)
    np.testing.assert_allclose(alone, found[:1], atol=1e-5)


def test_another_number_of_channels_is_refused():
    layer = SwitchableGroupNorm((0.25, 0.5, 1.0), COUNTS)
    variables = variables_of(layer)
    with pytest.raises(ValueError, match=r'32 channels at width 0.5, .*input has 64'):
        layer.apply(variables, jnp.ones((1, 2, 2, 64)), width=0.5)
    with pytest.raises(ValueError, match='no masked channels'):
        layer.apply(variables, jnp.ones((1, 2, 2, 64)), channels=jnp.array(3))
