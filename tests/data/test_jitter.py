"""Colour jitter and lighting as a whole, against Pillow and numpy."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance

from slimjax.data import augment as module
from slimjax.data.augment import augment, color_jitter, lighting_noise
from tests.data.files import picture

IMAGES = np.stack([picture(12, 10, seed) for seed in range(6)])
ENHANCERS = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)


@pytest.mark.parametrize('change', range(3))
def test_each_change_is_within_a_level_of_pillow(change):
    ours = (module._brightness, module._contrast, module._saturation)[change]
    planes = jnp.moveaxis(jnp.asarray(IMAGES, jnp.float32), -1, 0)
    for factor in (0.6, 0.83, 1.0, 1.21, 1.4):
        factors = jnp.full((1, 6, 1, 1), factor)
        found = np.moveaxis(np.clip(ours(planes, factors), 0, 255), 0, -1)
        for image, own in zip(IMAGES, found, strict=True):
            enhanced = ENHANCERS[change](Image.fromarray(image)).enhance(factor)
            assert np.abs(own - np.asarray(enhanced)).max() < 1.001


@pytest.mark.parametrize('step', range(12))
def test_jitter_is_pillows_enhancers_in_some_order(step):
    order_key, *keys = jax.random.split(jax.random.key(step), 7)
    keys = jnp.stack(keys)
    found = np.asarray(color_jitter(IMAGES.astype(np.float32), order_key, keys, 0.4))
    factors = np.stack(
        [jax.random.uniform(key, (3,), minval=0.6, maxval=1.4) for key in keys]
    )
    errors = {}
    for order in itertools.permutations(range(3)):
        errors[order] = 0
        for image, own, factor in zip(IMAGES, found, factors, strict=True):
            image = Image.fromarray(image)
            for change in order:
                image = ENHANCERS[change](image).enhance(float(factor[change]))
            errors[order] = max(errors[order], np.abs(own - np.asarray(image)).max())
    # Pillow cuts off a fraction after each of the three, which later ones may enlarge.
    assert min(errors.values()) < 4
    assert found.min() >= 0
    assert found.max() <= 255


def options(**changed):
    none = {'jitter': 0.0, 'lighting': 'none', 'mean': (0.0,) * 3, 'std': (1.0,) * 3}
    return none | changed


def test_nothing_is_drawn_where_nothing_is_augmented():
    def run(images, key):
        return augment(images, key=key, positions=jnp.arange(6), **options())

    program = str(jax.make_jaxpr(run)(IMAGES, jax.random.key(0)))
    assert 'random' not in program
    assert 'cond' not in program
    np.testing.assert_allclose(run(IMAGES, jax.random.key(0)), IMAGES / 255, rtol=1e-6)


@pytest.mark.parametrize('lighting', ['published', 'intended'])
def test_devices_augment_as_one_would(lighting):
    both = options(jitter=0.4, lighting=lighting)

    def run(images, positions, key):
        return augment(images, key=key, positions=positions, **both)

    images, key = IMAGES[:4], jax.random.key(5)
    alone = jax.jit(run)(images, jnp.arange(4), key)
    spread = jax.pmap(run, in_axes=(0, 0, None))(
        images.reshape(2, 2, *images.shape[1:]), jnp.arange(4).reshape(2, 2), key
    )
    np.testing.assert_allclose(
        np.asarray(spread).reshape(alone.shape), alone, atol=1e-6
    )


@pytest.mark.parametrize('form', ['published', 'intended'])
def test_lighting_is_what_numpy_computes(form):
    keys = jax.random.split(jax.random.key(0), 6)
    alpha = 0.1 * np.stack([jax.random.normal(key, (3,)) for key in keys])
    values = np.array([0.2175, 0.0188, 0.0045])
    vectors = np.array(
        [
            [-0.5675, 0.7192, 0.4009],
            [-0.5808, -0.0045, -0.8140],
            [-0.5836, -0.6948, 0.4203],
        ]
    )
    noise = ((vectors * alpha[:, None]) * values).sum(-1)[:, None, None]
    if form == 'published':
        # As the published code: added to levels of 0..255, cut off as uint8.
        expected = np.trunc(np.clip(IMAGES + noise, 0, 255))
    else:
        expected = np.clip(IMAGES + 255 * noise, 0, 255)
    found = lighting_noise(IMAGES.astype(np.float32), keys, form)
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_the_dtype_of_the_network_is_what_comes_out():
    found = augment(
        IMAGES,
        key=jax.random.key(0),
        positions=jnp.arange(6),
        dtype=jnp.bfloat16,
        **options(jitter=0.2),
    )
    assert found.dtype == jnp.bfloat16
