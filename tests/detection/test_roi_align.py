"""Both forms of RoIAlign against a plain loop, gradient included."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slimjax.detection.roi_align import assign_levels, roi_align

SHAPES = ((12, 16), (6, 8), (3, 4), (2, 2))
SIZE = 3


def pixel_weights(side, start, length, size):
    """The weight of each pixel in each bin of an axis, by a loop over samples."""
    weights = np.zeros((size, side))
    for bin_ in range(size):
        for sample in range(2):
            place = start + (bin_ + (sample + 0.5) / 2) * length / size
            if place < -1 or place > side:
                continue
            place = min(max(place, 0), side - 1)
            low = int(place)
            weights[bin_, low] += (1 - (place - low)) / 2
            if low + 1 < side:
                weights[bin_, low + 1] += (place - low) / 2
    return weights


def weights_of(box, level, alignment):
    scale = 0.25 / 2**level
    x1, y1, x2, y2 = box
    if alignment == 'legacy':
        x2, y2 = x2 + 1, y2 + 1
    shift = 0.5 if alignment == 'aligned' else 0.0
    x1, y1, x2, y2 = (each * scale - shift for each in (x1, y1, x2, y2))
    width, height = x2 - x1, y2 - y1
    if alignment == 'unaligned':
        width, height = max(width, 1), max(height, 1)
    rows, columns = SHAPES[level]
    return (
        pixel_weights(rows, y1, height, SIZE),
        pixel_weights(columns, x1, width, SIZE),
    )


def example(channels=5):
    rng = np.random.default_rng(0)
    maps = [rng.normal(size=(2, *shape, channels)) for shape in SHAPES]
    # Some reach beyond the image, some are narrower than a pixel of their map.
    corner = rng.uniform(-12, 50, (2, 9, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(0.5, 45, (2, 9, 2))], -1)
    levels = rng.integers(0, 4, (2, 9))
    return (
        [jnp.array(each, jnp.float32) for each in maps],
        jnp.array(boxes, jnp.float32),
        jnp.array(levels, jnp.int32),
    )


@pytest.mark.parametrize('form', ['gather', 'einsum'])
@pytest.mark.parametrize('alignment', ['legacy', 'unaligned', 'aligned'])
def test_features_and_gradient_are_those_of_a_loop(form, alignment):
    maps, boxes, levels = example()
    wanted = np.random.default_rng(1).normal(size=(2, 9, SIZE, SIZE, 5))
    wanted = jnp.array(wanted, jnp.float32)

    @jax.jit
    def both(maps):
        features, back = jax.vjp(
            lambda maps: roi_align(
                maps, boxes, levels, SIZE, alignment=alignment, form=form
            ),
            maps,
        )
        return features, back(wanted)[0]

    features, gradients = both(maps)
    expected = [np.zeros(each.shape) for each in maps]
    for image in range(2):
        for number in range(9):
            box, level = np.asarray(boxes[image, number]), int(levels[image, number])
            rows, columns = weights_of(box, level, alignment)
            plain = np.einsum('ph,hwc,qw->pqc', rows, maps[level][image], columns)
            np.testing.assert_allclose(
                features[image, number], plain, rtol=1e-4, atol=2e-5
            )
            expected[level][image] += np.einsum(
                'ph,pqc,qw->hwc', rows, wanted[image, number], columns
            )
    for found, plain in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(found, plain, rtol=1e-4, atol=5e-5)


def test_bfloat16_maps_give_the_same_to_their_precision():
    maps, boxes, levels = example()
    exact = roi_align(maps, boxes, levels, SIZE)
    coarse = [each.astype(jnp.bfloat16) for each in maps]
    for form in ('gather', 'einsum'):
        align = jax.jit(functools.partial(roi_align, size=SIZE, form=form))
        found = align(coarse, boxes, levels)
        assert found.dtype == jnp.bfloat16
        np.testing.assert_allclose(found.astype(jnp.float32), exact, atol=0.04)


def test_levels_change_at_powers_of_two_times_the_canonical_box():
    sides = np.array([1, 111.9, 112, 223.9, 224, 447.9, 448, 2000])
    boxes = np.stack([0 * sides, 0 * sides, sides, sides], -1)
    found = assign_levels(jnp.array(boxes, jnp.float32))
    assert found.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    # The last pixel counts: 111 + 1.
    box = jnp.array([0.0, 0.0, 111.0, 111.0])
    assert int(assign_levels(box, legacy=True)) == 1
    assert int(assign_levels(jnp.zeros(4))) == 0


def test_another_alignment_or_form_is_refused():
    maps, boxes, levels = example()
    with pytest.raises(ValueError, match=r"roi_alignment='half'.*aligned"):
        roi_align(maps, boxes, levels, SIZE, alignment='half')
    with pytest.raises(ValueError, match=r"roi_align_form='loop'.*gather, einsum"):
        roi_align(maps, boxes, levels, SIZE, form='loop')
