"""Augmentation on the device against Pillow, and independent of sharding."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance

from slimjax.data import augment as module
from slimjax.data.augment import augment, lighting_noise, normalize

IMAGES = np.random.default_rng(0).integers(0, 256, (8, 6, 5, 3), np.uint8)
OPTIONS = {
    'jitter': 0.4,
    'lighting': 'published',
    'mean': (0.5, 0.4, 0.3),
    'std': (0.2, 0.3, 0.4),
}


@pytest.mark.parametrize(
    ('change', 'enhance'),
    [
        (module._brightness, ImageEnhance.Brightness),
        (module._contrast, ImageEnhance.Contrast),
        (module._saturation, ImageEnhance.Color),
    ],
)
@pytest.mark.parametrize('factor', [0.6, 1.0, 1.37])
def test_each_change_is_pillows(change, enhance, factor):
    planes = jnp.moveaxis(jnp.asarray(IMAGES, jnp.float32), -1, 0)
    found = change(planes, jnp.full((1, 8, 1, 1), factor))
    found = np.moveaxis(np.clip(found, 0, 255), 0, -1)
    for image, own in zip(IMAGES, found, strict=True):
        expected = np.asarray(enhance(Image.fromarray(image)).enhance(factor))
        # Pillow rounds grey to whole levels and cuts the fraction of the result off.
        assert np.abs(own - expected).max() < 1.6


def test_augmentation_does_not_depend_on_how_a_batch_is_spread():
    key = jax.random.key(3)
    whole = augment(IMAGES, key=key, positions=jnp.arange(8), **OPTIONS)
    halves = [
        augment(IMAGES[part], key=key, positions=jnp.arange(8)[part], **OPTIONS)
        for part in (slice(0, 4), slice(4, 8))
    ]
    np.testing.assert_array_equal(whole, jnp.concatenate(halves))


def test_augmentation_differs_between_images_and_steps():
    same = np.repeat(IMAGES[:1], 8, axis=0)
    found = [
        np.asarray(
            augment(same, key=jax.random.key(k), positions=jnp.arange(8), **OPTIONS)
        )
        for k in (0, 1)
    ]
    assert len({image.tobytes() for batch in found for image in batch}) == 16


def test_normalisation_is_that_of_torchvision():
    found = normalize(IMAGES, OPTIONS['mean'], OPTIONS['std'])
    expected = (IMAGES / 255 - np.array(OPTIONS['mean'])) / np.array(OPTIONS['std'])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_an_unknown_form_of_lighting_is_refused():
    with pytest.raises(ValueError, match="'published', 'intended'"):
        lighting_noise(
            jnp.zeros((1, 1, 1, 3)), jax.random.split(jax.random.key(0), 1), 'x'
        )
