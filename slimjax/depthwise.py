"""Depthwise convolutions as sums of shifted products, for the CPU.

One tap of the kernel contributes the images, shifted, times one weight a channel. What
automatic differentiation makes of that sum is many times slower than the sum, so both
gradients are written out here.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax

from slimjax.dtypes import at_least_float32
from slimjax.taps import (
    Pads,
    Pair,
    merged,
    offsets,
    output_size,
    padded,
    spread_back,
    view,
)


# Traced once a shape: the convolution and its gradient each call it.
@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
@partial(jax.jit, static_argnums=(2, 3, 4), inline=True)
def shifted_products(
    inputs: Array, kernel: Array, strides: Pair, padding: Pads, dilation: Pair
) -> Array:
    """Convolves each channel of images with its own kernel.

    Takes reverse-mode derivatives, of any order, but no forward-mode ones.

    Args:
        inputs: images, `[batch, height, width, channels]`.
        kernel: `[kernel height, kernel width, 1, channels]`.
        strides: step in pixels, (vertical, horizontal).
        padding: zeros added (before, after) each spatial axis.
        dilation: distance of the kernel's taps in pixels.

    Returns:
        `[batch, new height, new width, channels]`.

    Example:
        >>> images, kernel = jnp.ones((1, 3, 3, 2)), jnp.ones((3, 3, 1, 2))
        >>> pads = ((1, 1), (1, 1))
        >>> shifted_products(images, kernel, (1, 1), pads, (1, 1))[0, :, :, 0].tolist()
        [[4.0, 6.0, 4.0], [6.0, 9.0, 6.0], [4.0, 6.0, 4.0]]
    """
    images, taps = padded(inputs, padding), kernel.shape[:2]
    size = output_size(images, taps, strides, dilation)
    shape = (images.shape[0], *size, images.shape[-1])
    weights = _weights(kernel, size[1], strides)
    total = None
    for offset, weight in zip(offsets(taps, dilation), weights, strict=True):
        product = view(images, offset, size, strides) * weight
        total = product if total is None else total + product
    return total.reshape(shape)


def _forward(inputs, kernel, strides, padding, dilation):
    outputs = shifted_products(inputs, kernel, strides, padding, dilation)
    return outputs, (inputs, kernel)


@partial(jax.jit, static_argnums=(0, 1, 2), inline=True)
def _backward(strides, padding, dilation, residuals, gradient):
    inputs, kernel = residuals
    weights = _weights(kernel, -(-inputs.shape[2] // strides[1]), (1, 1))
    of_inputs = spread_back(
        (gradient,),
        lambda tap, part: part * weights[tap],
        taps=kernel.shape[:2],
        shape=inputs.shape,
        strides=strides,
        padding=padding,
        dilation=dilation,
    )
    of_kernel = _kernel_gradient(gradient, kernel, inputs, strides, padding, dilation)
    return of_inputs, of_kernel


shifted_products.defvjp(_forward, _backward)


def _kernel_gradient(gradient, kernel, inputs, strides, padding, dilation) -> Array:
    """For each tap a sum over examples and pixels.

    Examples are added up first, one after another, so that the sums stay in the cache:
    reductions over the whole array, one for each tap, take 5 to 10 times as long.
    """
    size = gradient.shape[1:3]
    wide = at_least_float32(kernel.dtype)
    taps = offsets(kernel.shape[:2], dilation)

    def add(sums, example):
        image, cotangent = (leaf[None].astype(wide) for leaf in example)
        cotangent = merged(cotangent, strides)
        added = [
            total + view(image, offset, size, strides) * cotangent
            for total, offset in zip(sums, taps, strict=True)
        ]
        return added, None

    zeros = jnp.zeros_like(merged(gradient[:1], strides), wide)
    sums, _ = lax.scan(add, [zeros] * len(taps), (padded(inputs, padding), gradient))
    pixels = (size[0] * size[1], kernel.shape[-1])
    totals = jnp.stack([total.reshape(pixels).sum(0) for total in sums])
    return totals.reshape(kernel.shape).astype(kernel.dtype)


def _weights(kernel: Array, width: int, strides: Pair) -> list[Array]:
    """The weights of each tap, in the layout of its view, which is `width` wide."""
    channels = kernel.shape[-1]
    weights = list(kernel.reshape(-1, channels))
    if strides[1] > 1:
        return [weight.reshape(1, 1, 1, channels) for weight in weights]
    return [
        jnp.broadcast_to(weight[None], (width, channels)).reshape(1, 1, -1)
        for weight in weights
    ]
