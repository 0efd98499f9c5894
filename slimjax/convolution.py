"""The arithmetic of a convolution, in the form that suits the platform.

XLA runs a depthwise convolution on the CPU 5 to 30 times slower than the same sum as
shifted multiply-adds, and the gradient of a 1x1 convolution slower than that of a
matrix product; on a TPU the sum needs five times the memory. So the form is chosen
here, once, per platform.
"""

from typing import Literal

import jax
from jax import Array, lax

Form = Literal['auto', 'plain', 'products']
FORMS = ('auto', 'plain', 'products')


def convolve(
    inputs: Array,
    kernel: Array,
    *,
    strides: tuple[int, int],
    padding: tuple[tuple[int, int], tuple[int, int]],
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
    form: Form = 'auto',
) -> Array:
    """Convolves images with a kernel.

    Args:
        inputs: images, `[batch, height, width, in]`.
        kernel: `[kernel height, kernel width, in / groups, out]`.
        strides: step in pixels, (vertical, horizontal).
        padding: zeros added (before, after) each spatial axis.
        dilation: distance of the kernel's taps in pixels.
        groups: number of independent parts into which the channels fall.
        form: `'plain'` is XLA's convolution; `'products'` sums shifted products where
            the convolution is depthwise, and multiplies matrices where it is 1x1;
            `'auto'` is `'products'` on the CPU, `'plain'` elsewhere.

    Returns:
        `[batch, new height, new width, out]`.

    Example:
        >>> import jax.numpy as jnp
        >>> images, kernel = jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 1, 2))
        >>> convolve(images, kernel, strides=(1, 1), padding=((1, 1), (1, 1)),
        ...          groups=2).shape
        (1, 4, 4, 2)
    """
    if form not in FORMS:
        raise ValueError(f'conv_form={form!r}; allowed are {", ".join(FORMS)}')
    depthwise = groups == inputs.shape[-1] == kernel.shape[-1] > 1
    pointwise = kernel.shape[:2] == (1, 1) and groups == 1 and not any(sum(padding, ()))
    if form == 'auto':
        form = 'products' if jax.default_backend() == 'cpu' else 'plain'
    if depthwise and form == 'products':
        return _shifted_sum(inputs, kernel, strides, padding, dilation)
    if pointwise and form == 'products':
        return inputs[:, :: strides[0], :: strides[1]] @ kernel[0, 0]
    return lax.conv_general_dilated(
        inputs,
        kernel,
        strides,
        padding,
        rhs_dilation=dilation,
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
        feature_group_count=groups,
    )


def _shifted_sum(inputs, kernel, strides, padding, dilation):
    """A depthwise convolution as one multiply-add for each tap of the kernel."""
    zero = jax.numpy.zeros((), inputs.dtype)
    pad = ((0, 0, 0), *((low, high, 0) for low, high in padding), (0, 0, 0))
    padded = lax.pad(inputs, zero, pad)
    taps = kernel.shape[:2]
    size = [
        max(
            (padded.shape[axis + 1] - (taps[axis] - 1) * dilation[axis] - 1)
            // strides[axis]
            + 1,
            0,
        )
        for axis in (0, 1)
    ]
    total = None
    for row in range(taps[0]):
        for column in range(taps[1]):
            top, left = row * dilation[0], column * dilation[1]
            shifted = padded[
                :,
                top : top + size[0] * strides[0] : strides[0],
                left : left + size[1] * strides[1] : strides[1],
            ]
            product = shifted * kernel[row, column, 0].reshape(1, 1, 1, -1)
            total = product if total is None else total + product
    return total
