"""The forms of a convolution agree."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slimjax.convolution import convolve

# (kernel size, image size, strides, padding, dilation)
DEPTHWISE = [
    ((3, 3), (7, 6), (1, 1), ((1, 1), (1, 1)), (1, 1)),
    ((3, 3), (7, 6), (2, 2), ((1, 1), (1, 1)), (1, 1)),
    ((3, 3), (8, 8), (2, 2), ((1, 1), (1, 1)), (1, 1)),
    ((3, 3), (8, 9), (2, 1), ((0, 2), (1, 0)), (1, 2)),
    ((5, 2), (9, 5), (3, 2), ((2, 2), (0, 0)), (1, 1)),
    ((1, 1), (5, 5), (2, 2), ((0, 0), (0, 0)), (1, 1)),
    ((3, 3), (2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1)),
]
POINTWISE = [
    ((1, 1), (7, 6), (1, 1), ((0, 0), (0, 0)), (1, 1)),
    ((1, 1), (7, 6), (2, 3), ((0, 0), (0, 0)), (1, 1)),
    ((1, 1), (7, 6), (1, 2), ((1, 0), (0, 0)), (1, 1)),
]
DENSE = [
    ((3, 3), (7, 6), (1, 1), ((1, 1), (1, 1)), (1, 1)),
    ((3, 3), (7, 6), (2, 2), ((1, 1), (1, 1)), (1, 1)),
    ((3, 3), (8, 9), (2, 1), ((0, 2), (1, 0)), (1, 2)),
    ((7, 7), (12, 12), (2, 2), ((3, 3), (3, 3)), (1, 1)),
]
# Of so many pixels that the gradient of the kernel is computed tap by tap.
LARGE = [
    ((3, 3), (80, 70), (1, 1), ((1, 1), (1, 1)), (1, 1)),
    ((3, 2), (81, 70), (2, 1), ((0, 2), (1, 0)), (1, 2)),
]
# (inputs, outputs, groups): of so few inputs as to be gathered, of more, in groups.
CHANNELS = [(2, 4, 1), (5, 4, 1), (12, 6, 3)]


@pytest.mark.parametrize(
    ('channels', 'taps', 'size', 'strides', 'padding', 'dilation'),
    [((5, 5, 5), *case) for case in DEPTHWISE]
    + [((5, 4, 1), *case) for case in POINTWISE]
    + [(channels, *case) for channels in CHANNELS for case in DENSE]
    + [((5, 4, 1), *case) for case in LARGE],
)
def test_products_are_the_convolution_forward_and_backward(
    channels, taps, size, strides, padding, dilation
):
    def gradient(loss, images, kernel):
        return jax.grad(loss, argnums=(0, 1), has_aux=True)(images, kernel)

    layer = {'strides': strides, 'padding': padding, 'dilation': dilation}
    assert_forms_agree(gradient, channels, taps, size, layer)


@pytest.mark.parametrize(
    ('channels', 'taps', 'size', 'strides', 'padding', 'dilation'),
    [
        ((5, 5, 5), *DEPTHWISE[1]),
        ((5, 4, 1), *POINTWISE[1]),
        ((5, 4, 1), *DENSE[1]),
        ((5, 4, 1), *LARGE[1]),
    ],
)
def test_products_take_derivatives_of_derivatives(
    channels, taps, size, strides, padding, dilation
):
    def second(loss, images, kernel):
        def steepness(images, kernel):
            slopes, _ = jax.grad(loss, argnums=(0, 1), has_aux=True)(images, kernel)
            return sum((slope**2).sum() for slope in slopes)

        return jax.grad(steepness, argnums=(0, 1))(images, kernel)

    layer = {'strides': strides, 'padding': padding, 'dilation': dilation}
    assert_forms_agree(second, channels, taps, size, layer)


def assert_forms_agree(derivatives, channels, taps, size, layer):
    """Holds what is made of a convolution and a loss to be one for both its forms."""
    inputs, outputs, groups = channels
    with jax.enable_x64(True):
        key, other = jax.random.split(jax.random.key(0))
        images = jax.random.normal(key, (2, *size, inputs), jnp.float64)
        shape = (*taps, inputs // groups, outputs)
        kernel = jax.random.normal(other, shape, jnp.float64)

        def found(form):
            def loss(images, kernel):
                outputs = convolve(images, kernel, **layer, groups=groups, form=form)
                return (jnp.sin(outputs) ** 2).sum(), outputs

            return jax.jit(functools.partial(derivatives, loss))(images, kernel)

        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12),
            found('plain'),
            found('products'),
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
