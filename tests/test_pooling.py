"""The forms of a max-pool agree."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slimjax.pooling import max_pool


@pytest.mark.parametrize('padding', [0, 1])
@pytest.mark.parametrize('size', [(8, 8), (7, 9), (3, 4)])
def test_views_have_the_maxima_and_gradients_of_windows(size, padding):
    # Whole numbers, half of them 0 as behind a ReLU: most windows have several maxima.
    images = jax.random.randint(jax.random.key(0), (2, *size, 5), -3, 3)
    images = jax.nn.relu(images.astype(jnp.float32))

    @functools.partial(jax.jit, static_argnames='form')
    @functools.partial(jax.grad, has_aux=True)
    def gradient(images, form):
        outputs = max_pool(images, padding, form=form)
        weights = jnp.arange(1.0, 1 + outputs.size).reshape(outputs.shape)
        return (weights * outputs).sum(), outputs

    plain, products = (gradient(images, form=form) for form in ('plain', 'products'))
    jax.tree.map(np.testing.assert_array_equal, plain, products)
