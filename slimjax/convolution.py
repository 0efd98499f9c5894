"""The arithmetic of a convolution, in the form that suits the platform.

XLA's convolutions are slow on the CPU in four places, measured in jax 0.10: depthwise
ones, forward and backward (5 to 30 times the time of shifted products); grouped ones
(5 to 15 times that of a matrix product a group); the gradients of all convolutions
inside control flow, where a step runs its narrow widths (up to 30 times); and those
of few input channels, which are matrix products of patches. On a TPU the shifted
products need five times the memory. So the form is chosen here, once, per platform.

Like a norm's arithmetic, a convolution is jitted so that each shape is traced once, and
inlined so that it is compiled as if it were not.
"""

from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array, lax

from slimjax.depthwise import shifted_products
from slimjax.taps import Pads, Pair, offsets, output_size, padded

Form = Literal['auto', 'plain', 'products']
FORMS = ('auto', 'plain', 'products')

# From so many inputs of one output on, gathering them costs more than it saves.
_LARGEST_PATCH = 32
# The channels of XLA's gradient of a kernel are the examples: of so few, with so many
# pixels, it takes up to 5 times as long as matrix products of the pixels, tap by tap.
_FEW_EXAMPLES, _MANY_PIXELS = 2, 2**11
# So many groups are convolved one by one; more would make a long program.
_MOST_GROUPS = 8


@partial(
    jax.jit,
    static_argnames=('strides', 'padding', 'dilation', 'groups', 'form'),
    inline=True,
)
def convolve(
    inputs: Array,
    kernel: Array,
    *,
    strides: Pair,
    padding: Pads,
    dilation: Pair = (1, 1),
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
        form: `'plain'` is XLA's convolution, with derivatives of every kind.
            `'products'` is made for the CPU: sums of shifted products where the
            convolution is depthwise, matrix products where it is 1x1, and gradients
            that are written out; it takes reverse-mode derivatives, of any order, but
            no forward-mode ones (`jax.jvp`, `jax.jacfwd`, `jax.hessian`). `'auto'` is
            `'products'` on the CPU, `'plain'` elsewhere.

    Returns:
        `[batch, new height, new width, out]`.

    Raises:
        ValueError: an unknown form.

    Example:
        >>> images, kernel = jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 1, 2))
        >>> convolve(images, kernel, strides=(1, 1), padding=((1, 1), (1, 1)),
        ...          groups=2).shape
        (1, 4, 4, 2)
    """
    if resolve_form(form) == 'plain':
        return _plain(inputs, kernel, strides, padding, dilation, groups)
    if groups == inputs.shape[-1] == kernel.shape[-1] > 1:
        return shifted_products(inputs, kernel, strides, padding, dilation)
    if groups > _MOST_GROUPS:
        return _plain(inputs, kernel, strides, padding, dilation, groups)
    parts = [
        _dense(*part, strides, padding, dilation)
        for part in zip(
            jnp.split(inputs, groups, -1), jnp.split(kernel, groups, -1), strict=True
        )
    ]
    return parts[0] if groups == 1 else jnp.concatenate(parts, -1)


def resolve_form(form: Form) -> Literal['plain', 'products']:
    """Returns the form itself, or for `'auto'` the one that suits the platform.

    Raises:
        ValueError: an unknown form.
    """
    if form not in FORMS:
        raise ValueError(f'conv_form={form!r}; allowed are {", ".join(FORMS)}')
    if form == 'auto':
        return 'products' if jax.default_backend() == 'cpu' else 'plain'
    return form


def _plain(inputs, kernel, strides, padding, dilation=(1, 1), groups=1, spread=(1, 1)):
    return lax.conv_general_dilated(
        inputs,
        kernel,
        strides,
        padding,
        lhs_dilation=spread,
        rhs_dilation=dilation,
        dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
        feature_group_count=groups,
    )


def _dense(inputs, kernel, strides, padding, dilation):
    taps, features = kernel.shape[0] * kernel.shape[1], kernel.shape[-1]
    images = jax.eval_shape(lambda x: padded(x, padding), inputs)
    size = output_size(images, kernel.shape[:2], strides, dilation)
    if taps == 1 and not any(sum(padding, ())):
        patches = inputs[:, :: strides[0], :: strides[1]]
    elif taps * kernel.shape[2] <= _LARGEST_PATCH or _at_most(
        inputs.shape[0] * size[0] * size[1], features
    ):
        patches = _patches(inputs, kernel, strides, padding, dilation)
    else:
        return _convolved(inputs, kernel, strides, padding, dilation)
    # With one axis for all pixels, the gradient needs no transposed copy of its own.
    batch, height, width, size = patches.shape
    rows = patches.reshape(batch * height * width, size)
    outputs = rows @ kernel.reshape(size, kernel.shape[-1])
    return outputs.reshape(batch, height, width, kernel.shape[-1])


def _at_most(count, limit: int) -> bool:
    """Whether `count` is; no where a program is exported for any number of images."""
    try:
        return count <= limit
    except jax.errors.InconclusiveDimensionOperation:
        return False


def _patches(inputs, kernel, strides, padding, dilation):
    """What each output sees, `[batch, height, width, taps * in]`."""
    images, taps = padded(inputs, padding), kernel.shape[:2]
    height, width = output_size(images, taps, strides, dilation)
    parts = [
        images[
            :,
            top : top + height * strides[0] : strides[0],
            left : left + width * strides[1] : strides[1],
        ]
        for top, left in offsets(taps, dilation)
    ]
    return jnp.concatenate(parts, -1)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _convolved(inputs, kernel, strides, padding, dilation):
    """XLA's convolution, with gradients in the axes' order that its fast code needs.

    It brings others into that order itself, but not inside `lax.cond` and loops.
    """
    return _plain(inputs, kernel, strides, padding, dilation)


def _forward(inputs, kernel, strides, padding, dilation):
    outputs = _convolved(inputs, kernel, strides, padding, dilation)
    return outputs, (inputs, kernel)


def _backward(strides, padding, dilation, residuals, gradient):
    inputs, kernel = residuals
    of_inputs, of_kernel = [], []
    for axis in (0, 1):
        before, size = padding[axis][0], inputs.shape[axis + 1]
        reach = (kernel.shape[axis] - 1) * dilation[axis]
        spread = max((gradient.shape[axis + 1] - 1) * strides[axis] + 1, 0)
        of_inputs.append((reach - before, size + before - spread))
        of_kernel.append((before, spread + reach - size - before))
    flipped = kernel[::-1, ::-1].swapaxes(2, 3)
    new_inputs = _plain(gradient, flipped, (1, 1), of_inputs, dilation, spread=strides)
    batch, height, width, _ = gradient.shape
    if _at_most(batch, _FEW_EXAMPLES) and batch * height * width > _MANY_PIXELS:
        taps = kernel.shape[:2]
        return new_inputs, _by_taps(inputs, gradient, taps, strides, padding, dilation)
    # Each input channel is an image, whose channels are the examples.
    new_kernel = _plain(
        inputs.transpose(3, 1, 2, 0),
        gradient.transpose(1, 2, 0, 3),
        dilation,
        of_kernel,
        strides,
    ).transpose(1, 2, 0, 3)
    return new_inputs, new_kernel


def _by_taps(inputs, gradient, taps, strides, padding, dilation):
    """The gradient of a kernel, a matrix product of all pixels for each tap."""
    rows, images = gradient.reshape(-1, gradient.shape[-1]), padded(inputs, padding)
    spans = [
        (size - 1) * stride + 1
        for size, stride in zip(gradient.shape[1:3], strides, strict=True)
    ]
    sizes = (images.shape[0], *spans, images.shape[-1])

    def product(at):
        seen = lax.dynamic_slice(images, (0, *at, 0), sizes)
        seen = seen[:, :: strides[0], :: strides[1]]
        return seen.reshape(len(rows), -1).T @ rows

    # One after another, or the views of all taps are in memory at once.
    parts = lax.map(product, jnp.array(offsets(taps, dilation)))
    return parts.reshape(*taps, -1, gradient.shape[-1])


_convolved.defvjp(_forward, _backward)
