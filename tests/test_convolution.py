"""The forms of a convolution agree."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slimjax.convolution import convolve


@pytest.mark.parametrize(
    ('kind', 'size', 'strides', 'dilation'),
    [
        *itertools.product(['depthwise'], [(7, 6)], [(1, 1), (2, 1)], [(1, 1), (2, 1)]),
        *itertools.product(['pointwise'], [(7, 6)], [(1, 1), (2, 1)], [(1, 1)]),
    ],
)
def test_products_are_the_convolution(kind, size, strides, dilation):
    groups, shape, padding = {
        'depthwise': (5, (3, 3, 1, 5), ((1, 1), (2, 1))),
        'pointwise': (1, (1, 1, 5, 4), ((0, 0), (0, 0))),
    }[kind]
    with jax.enable_x64(True):
        key, other = jax.random.split(jax.random.key(0))
        images = jax.random.normal(key, (2, *size, 5), jnp.float64)
        kernel = jax.random.normal(other, shape, jnp.float64)

        def loss(images, kernel, form):
            outputs = convolve(
                images,
                kernel,
                strides=strides,
                padding=padding,
                dilation=dilation,
                groups=groups,
                form=form,
            )
            return (jnp.sin(outputs) ** 2).sum(), outputs

        gradient = jax.grad(loss, argnums=(0, 1), has_aux=True)
        plain, products = (
            gradient(images, kernel, form) for form in ('plain', 'products')
        )
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12),
            plain,
            products,
        )


def test_an_unknown_form_is_refused():
    with pytest.raises(ValueError, match='auto, plain, products'):
        convolve(
            jnp.ones((1, 4, 4, 1)),
            jnp.ones((1, 1, 1, 1)),
            strides=(1, 1),
            padding=((0, 0), (0, 0)),
            form='fast',
        )
