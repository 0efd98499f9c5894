"""The colours of training images follow the published distributions."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np

from slimjax.data.augment import augment
from tests.recipes import load
from tests.statistics import SIGMAS, assert_mean, distance, distance_bound

GREY = np.array([0.299, 0.587, 0.114])
PLAIN = {'mean': (0.0,) * 3, 'std': (1.0,) * 3}
STEPS, IMAGES = 600, 16


def tame_image():
    """Greys of 76 to 124, a little coloured: no jitter of 0.4 clips it."""
    grey = np.linspace(76, 124, 8)[:, None, None]
    color = np.resize([1, -1], 8)[None, :, None] * np.array([14, -7, 0])
    return np.rint(grey + color).astype(np.uint8)


@functools.cache
def jittered():
    """A tame and a wild image, jittered alike: 600 steps of 16 such pairs, 0..255."""
    levels = np.array([0, 128, 255], np.uint8)
    wild = np.random.default_rng(0).choice(levels, (8, 8, 3))
    images = np.stack([tame_image()] * IMAGES + [wild] * IMAGES)
    # What an image draws depends on its position: the two of a pair state the same.
    positions = jnp.arange(2 * IMAGES) % IMAGES

    def step(number):
        key = jax.random.fold_in(jax.random.key(load('s_resnet50').seed), number)
        return augment(
            images, key=key, positions=positions, jitter=0.4, lighting='none', **PLAIN
        )

    found = jax.jit(lambda: jax.lax.map(step, jnp.arange(STEPS)))()
    found = 255 * np.asarray(found, np.float64)
    return found[:, :IMAGES], found[:, IMAGES:], wild.astype(float)


def slopes(found, given):
    """Slopes of lines through `found` over `given`, of all images."""
    given = given - given.mean()
    return (found * given).sum((-2, -1)) / (given * given).sum()


@functools.cache
def factors():
    """Brightness, contrast and saturation of each pair: `[steps, images, 3]`.

    Brightness alone moves the mean grey, contrast alone its range beside it, and
    saturation alone the range of colours beside both.
    """
    found, given = jittered()[0], tame_image().astype(float)
    brightness = (found @ GREY).mean((-2, -1)) / (given @ GREY).mean()
    grey = slopes(found @ GREY, given @ GREY)
    color = slopes(found[..., 0] - found[..., 1], given[..., 0] - given[..., 1])
    return np.stack([brightness, grey / brightness, color / grey], -1)


def test_jitter_factors_are_uniform_and_independent():
    values = factors().reshape(-1, 3)
    for column in values.T:
        found = distance(column, lambda x: np.clip((x - 0.6) / 0.8, 0, 1))
        assert found < distance_bound(len(column))
        assert_mean(column, 1, 0.8 / math.sqrt(12))
    # Of the same image, and of neighbours in a batch.
    pairs = np.concatenate([factors(), np.roll(factors(), 1, axis=1)], -1)
    correlations = np.corrcoef(pairs.reshape(-1, 6).T) - np.eye(6)
    assert np.abs(correlations).max() < SIGMAS / math.sqrt(len(values))


def pillows(order, image, factor):
    """Pillow's enhancers in some order, without its rounding of their results."""
    for change in order:
        one = factor[..., change].reshape(*factor.shape[:-1], 1, 1, 1)
        grey = np.rint(image @ GREY)[..., None]
        other = (0, np.floor(grey.mean((-3, -2), keepdims=True) + 0.5), grey)[change]
        image = np.clip(other + one * (image - other), 0, 255)
    return image


def test_the_six_orders_of_jitter_are_equally_frequent():
    _, found, wild = jittered()
    orders = list(itertools.permutations(range(3)))
    # Where it clips, the order shows: only one explains what all images became.
    errors = np.stack(
        [
            np.abs(pillows(order, wild, factors()) - found).mean((1, 2, 3, 4))
            for order in orders
        ]
    )
    best, second = np.sort(errors, 0)[:2]
    assert best.max() < 0.3
    assert (second / best).min() > 5
    counts = np.bincount(errors.argmin(0), minlength=6)
    # Chi-square of 5 degrees of freedom is above 25.7 once in 10,000 times.
    assert ((counts - STEPS / 6) ** 2 / (STEPS / 6)).sum() < 25.7


DRAWS = 20_000
EIGENVALUES = np.diag([0.2175, 0.0188, 0.0045])
EIGENVECTORS = np.array(
    [
        [-0.5675, 0.7192, 0.4009],
        [-0.5808, -0.0045, -0.8140],
        [-0.5836, -0.6948, 0.4203],
    ]
)
COVARIANCE = EIGENVECTORS @ (0.1 * EIGENVALUES) ** 2 @ EIGENVECTORS.T


def lit(levels, count, lighting):
    """Images of a row of grey levels, with lighting noise: `[count, levels, 3]`."""
    row = np.repeat(np.asarray(levels, np.uint8)[None, None, :, None], 3, -1)
    run = jax.jit(
        lambda images, positions: augment(
            images,
            key=jax.random.key(1995),
            positions=positions,
            jitter=0.0,
            lighting=lighting,
            **PLAIN,
        )
    )
    found = run(np.repeat(row, count, 0), jnp.arange(count))
    return 255 * np.asarray(found, np.float64)[:, 0]


def test_published_lighting_takes_one_level_off_half_of_the_channels():
    """The 0.497 that was measured is a half, less the pixels that are black."""
    lowered = 128 - lit([128], DRAWS, 'published')[:, 0]
    np.testing.assert_allclose(lowered, np.rint(lowered), atol=1e-4)
    assert set(np.unique(np.rint(lowered))) == {0, 1}
    for channel in range(3):
        assert_mean(lowered[:, channel], 0.5, 0.5)
    deviations = np.sqrt(np.diag(COVARIANCE))
    for a, b in itertools.combinations(range(3), 2):
        # Two normal numbers of correlation r are both negative in so many cases.
        r = COVARIANCE[a, b] / (deviations[a] * deviations[b])
        share = 1 / 4 + math.asin(r) / (2 * math.pi)
        both = lowered[:, a] * lowered[:, b]
        assert_mean(both, share, math.sqrt(share * (1 - share)))


def test_published_lighting_does_nothing_else():
    found = np.rint(lit(range(256), 200, 'published'))
    lowered = np.arange(256).reshape(1, 256, 1) - found
    assert not lowered[:, 0].any()
    # All other pixels of an image alike.
    np.testing.assert_array_equal(
        lowered[:, 1:], np.broadcast_to(lowered[:, 1:2], (200, 255, 3))
    )


def test_intended_lighting_has_the_covariance_of_the_colours_of_imagenet():
    noise = lit([128], DRAWS, 'intended')[:, 0] - 128
    expected = 255**2 * COVARIANCE
    variances = np.diag(expected)
    for channel in range(3):
        assert_mean(noise[:, channel], 0, math.sqrt(variances[channel]))
    # The variance of a covariance of normal numbers.
    error = np.sqrt((np.outer(variances, variances) + expected**2) / DRAWS)
    assert np.all(np.abs(noise.T @ noise / DRAWS - expected) < SIGMAS * error)
