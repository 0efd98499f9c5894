"""Augmentation that runs on the device, on whole batches of uint8 images.

Each image draws its own numbers from the step's key and its position in the batch of
all devices, so that nothing depends on how the batch is spread.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, UInt8

from slimjax.dtypes import at_least_float32

# Weights of red, green and blue in the brightness that people see (ITU-R 601).
_GREY = (0.299, 0.587, 0.114)
# Principal components of ImageNet's colours (Krizhevsky et al., 2012).
_EIGENVALUES = (0.2175, 0.0188, 0.0045)
_EIGENVECTORS = (
    (-0.5675, 0.7192, 0.4009),
    (-0.5808, -0.0045, -0.8140),
    (-0.5836, -0.6948, 0.4203),
)
_LIGHTING_STD = 0.1


def augment(
    images: UInt8[Array, 'batch height width channels'],
    *,
    key: Array,
    positions: Int[Array, ' batch'],
    jitter: float,
    lighting: str,
    mean: Sequence[float],
    std: Sequence[float],
    dtype: Any = jnp.float32,
) -> Float[Array, 'batch height width channels']:
    """Returns training images with jittered colours, normalised.

    Args:
        images: values in 0..255.
        key: of the step.
        positions: each image's place in the batch of all devices.
        jitter: strength of `color_jitter`; 0 for none.
        lighting: `'none'`, or a form of `lighting_noise`.
        mean: subtracted from pixels in 0..1, one for each channel.
        std: divided by.
        dtype: of the result.

    Example:
        >>> images = jnp.zeros((2, 4, 4, 3), jnp.uint8)
        >>> augment(images, key=jax.random.key(0), positions=jnp.arange(2), jitter=0.4,
        ...         lighting='none', mean=(0, 0, 0), std=(1, 1, 1)).shape
        (2, 4, 4, 3)
    """
    if not jitter and lighting == 'none':
        return normalize(images, mean, std, dtype)
    order_key, image_key = jax.random.split(key)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(image_key, positions)
    jitter_keys, lighting_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
    values = images.astype(jnp.float32)
    if jitter:
        values = color_jitter(values, order_key, jitter_keys, jitter)
    if lighting != 'none':
        values = lighting_noise(values, lighting_keys, lighting)
    return normalize(values, mean, std, dtype)


def normalize(
    images: Array, mean: Sequence[float], std: Sequence[float], dtype: Any = jnp.float32
) -> Float[Array, 'batch height width channels']:
    """Returns `(images / 255 - mean) / std`, computed in float32 or wider.

    Example:
        >>> normalize(jnp.full((1, 1, 1, 1), 255, jnp.uint8), (0.5,), (0.5,)).item()
        1.0
    """
    wide = at_least_float32(dtype)
    scale, offset = (
        jnp.asarray(values, wide).reshape(1, 1, 1, -1) for values in (std, mean)
    )
    return ((images.astype(wide) / 255 - offset) / scale).astype(dtype)


def color_jitter(
    images: Float[Array, 'batch height width 3'],
    order_key: Array,
    keys: Array,
    strength: float,
) -> Float[Array, 'batch height width 3']:
    """Changes brightness, contrast and saturation, as torchvision's ColorJitter.

    Each factor is uniform in `1 ± strength` for each image. The order of the three is
    drawn once a step, not once an image: drawing it for each would compute all six.

    Args:
        images: values in 0..255.
        order_key: decides the order.
        keys: one for each image.
        strength: in [0, 1).

    Returns:
        Values in 0..255, clipped after each change and not rounded.
    """
    low, high = 1 - strength, 1 + strength
    factors = jax.vmap(
        lambda key: jax.random.uniform(key, (3,), minval=low, maxval=high)
    )(keys)
    # As three planes: a TPU pads the last axis of what a conditional takes to 128, and
    # the three colours of 128 images of 224 px would fill 3 GiB instead of 0.1.
    planes = jnp.moveaxis(images, -1, 0)
    changes = tuple(
        lambda values, change=change, column=column: jnp.clip(
            change(values, factors[:, column].reshape(1, -1, 1, 1)), 0, 255
        )
        for column, change in enumerate((_brightness, _contrast, _saturation))
    )

    def in_order(order):
        def apply(values):
            for index in order:
                values = changes[index](values)
            return values

        return apply

    orders = [in_order(order) for order in itertools.permutations(range(3))]
    chosen = jax.random.randint(order_key, (), 0, len(orders))
    return jnp.moveaxis(lax.switch(chosen, orders, planes), 0, -1)


def _grey(values):
    """The brightness in whole levels, as Pillow stores it; colours come first."""
    weights = jnp.asarray(_GREY, values.dtype).reshape(3, 1, 1, 1)
    return jnp.round((values * weights).sum(0, keepdims=True))


def _brightness(values, factor):
    return values * factor


def _contrast(values, factor):
    mean = jnp.floor(_grey(values).mean((2, 3), keepdims=True) + 0.5)
    return values * factor + mean * (1 - factor)


def _saturation(values, factor):
    return values * factor + _grey(values) * (1 - factor)


def lighting_noise(
    images: Float[Array, 'batch height width 3'], keys: Array, form: str
) -> Float[Array, 'batch height width 3']:
    """Adds noise along the principal components of ImageNet's colours.

    Args:
        images: values in 0..255.
        keys: one for each image.
        form: `'intended'` scales the noise to 0..255; `'published'` does what the
            published code does: it adds noise meant for 0..1 to levels of 0..255 and
            cuts off the fraction, which lowers a channel by one level in half of the
            cases and does nothing in the other half.

    Returns:
        Values in 0..255.

    Raises:
        ValueError: another form.
    """
    if form not in ('published', 'intended'):
        raise ValueError(f"lighting={form!r}; allowed: 'none', 'published', 'intended'")
    alpha = _LIGHTING_STD * jax.vmap(lambda key: jax.random.normal(key, (3,)))(keys)
    components = jnp.asarray(_EIGENVECTORS) * jnp.asarray(_EIGENVALUES)[None]
    noise = (alpha @ components.T).reshape(-1, 1, 1, 3)
    if form == 'intended':
        return jnp.clip(images + 255 * noise, 0, 255)
    return jnp.floor(jnp.clip(jnp.floor(images) + noise, 0, 255))
