"""Pools over 3x3 windows at every second pixel, as the networks here have them."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax

from slimjax.convolution import Form, resolve_form
from slimjax.taps import offsets, output_size, padded, spread_back, view

_WINDOW, _STRIDES = (3, 3), (2, 2)


def max_pool(images: Array, padding: int, *, form: Form = 'auto') -> Array:
    """Returns the maxima of 3x3 windows at every second pixel.

    Where several pixels of a window are the largest, the first gets the gradient.

    Args:
        images: `[batch, height, width, channels]`, floating point.
        padding: pixels of no account added on all sides.
        form: as in `slimjax.convolution.convolve`; `'products'`, here comparisons of
            shifted views, has a gradient many times faster on the CPU.

    Returns:
        `[batch, new height, new width, channels]`.

    Example:
        >>> images = jnp.arange(16.0).reshape(1, 4, 4, 1)
        >>> max_pool(images, padding=1)[0, :, :, 0].tolist()
        [[5.0, 7.0], [13.0, 15.0]]
    """
    pads = ((padding, padding),) * 2
    if resolve_form(form) == 'plain':
        return nn.max_pool(images, _WINDOW, _STRIDES, pads)
    return _maxima(images, pads)


def average_pool(images: Array, count_padding: bool) -> Array:
    """Returns the means of 3x3 windows at every second pixel, padded by one.

    Args:
        images: `[batch, height, width, channels]`.
        count_padding: whether the padding counts as zeros, which darkens the border.

    Example:
        >>> average_pool(jnp.ones((1, 2, 2, 1)), count_padding=False).tolist()
        [[[[1.0]]]]
    """

    def sums(of):
        pad = ((0, 0), (1, 1), (1, 1), (0, 0))
        return lax.reduce_window(of, 0.0, lax.add, (1, 3, 3, 1), (1, 2, 2, 1), pad)

    if count_padding:
        return sums(images) / 9
    return sums(images) / sums(jnp.ones((1, *images.shape[1:3], 1), images.dtype))


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _maxima(images, pads):
    views, shape = _views(images, pads)
    return _largest(views).reshape(shape)


def _forward(images, pads):
    return _maxima(images, pads), images


def _backward(pads, images, gradient):
    views, shape = _views(images, pads)
    largest = _largest(views)
    # Numbered from the last tap on, so that the first of equals stays.
    first = jnp.full(largest.shape, -1, jnp.int8)
    for tap in reversed(range(len(views))):
        first = jnp.where(views[tap] == largest, jnp.int8(tap), first)
    of_images = spread_back(
        (gradient, first.reshape(shape)),
        lambda tap, part, tap_of: jnp.where(tap_of == tap, part, 0),
        taps=_WINDOW,
        shape=images.shape,
        strides=_STRIDES,
        padding=pads,
        dilation=(1, 1),
    )
    return (of_images,)


_maxima.defvjp(_forward, _backward)


def _views(images, pads):
    """The images as each tap of the windows sees them, and the pool's shape."""
    wide = padded(images, pads, -jnp.inf)
    size = output_size(wide, _WINDOW, _STRIDES, (1, 1))
    views = [view(wide, offset, size, _STRIDES) for offset in offsets(_WINDOW, (1, 1))]
    return views, (images.shape[0], *size, images.shape[-1])


def _largest(views):
    largest = views[0]
    for each in views[1:]:
        largest = jnp.maximum(largest, each)
    return largest
