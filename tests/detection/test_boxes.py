"""Boxes, their code and the anchors, against numbers worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slimjax.detection.anchors import pyramid_anchors
from slimjax.detection.boxes import clip, decode, encode, overlaps

WEIGHTS = (10.0, 10.0, 5.0, 5.0)


def random_boxes(count, seed=0, size=100.0):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, size, (count, 2))
    return np.concatenate(
        [corner, corner + rng.uniform(2, size, (count, 2))], -1
    ).astype(np.float32)


@pytest.mark.parametrize('legacy', [False, True])
def test_decoding_inverts_encoding(legacy):
    boxes, anchors = random_boxes(50), random_boxes(50, seed=1)
    deltas = encode(boxes, anchors, WEIGHTS, legacy=legacy)
    again = decode(deltas, anchors, WEIGHTS, legacy=legacy)
    np.testing.assert_allclose(again, boxes, rtol=1e-4, atol=1e-4)


def test_the_legacy_code_counts_the_last_pixel():
    # 10 px wide from 0 to 9, 5 px high; moved by its width, twice as high.
    anchor = jnp.array([0.0, 0.0, 9.0, 4.0])
    moved = decode(jnp.array([1.0, 0.0, 0.0, np.log(2)]), anchor, legacy=True)
    np.testing.assert_allclose(moved, [10.0, -2.5, 19.0, 6.5], atol=1e-5)


def test_sides_grow_at_most_to_62_times_and_shrink_likewise_if_asked():
    anchor = jnp.array([0.0, 0.0, 10.0, 10.0])
    large, small = jnp.array([0.0, 0.0, 9.0, 9.0]), jnp.array([0.0, 0.0, -9.0, -9.0])
    width = np.diff(decode(large, anchor)[::2])[0]
    np.testing.assert_allclose(width, 625.0, rtol=1e-5)
    width = np.diff(decode(small, anchor)[::2])[0]
    np.testing.assert_allclose(width, 10 * np.exp(-9), rtol=1e-2)
    width = np.diff(decode(small, anchor, clamp_shrinking=True)[::2])[0]
    np.testing.assert_allclose(width, 0.16, rtol=1e-4)


def test_overlaps_are_those_of_a_loop():
    boxes, others = random_boxes(20), random_boxes(30, seed=1)
    for legacy in (False, True):
        found = overlaps(jnp.array(boxes), jnp.array(others), legacy=legacy)
        found = np.asarray(found)
        for i, a in enumerate(boxes):
            for j, b in enumerate(others):
                width = min(a[2], b[2]) - max(a[0], b[0]) + legacy
                height = min(a[3], b[3]) - max(a[1], b[1]) + legacy
                shared = max(width, 0) * max(height, 0)
                area = [(c[2] - c[0] + legacy) * (c[3] - c[1] + legacy) for c in (a, b)]
                expected = shared / (sum(area) - shared)
                np.testing.assert_allclose(found[i, j], expected, rtol=1e-5, atol=1e-7)


def test_padding_has_finite_gradients():
    boxes = jnp.zeros((3, 4))

    def loss(boxes):
        return (encode(boxes, boxes) ** 2).sum() + overlaps(boxes, boxes).sum()

    assert np.isfinite(jax.jit(jax.grad(loss))(boxes)).all()


def test_boxes_end_at_the_last_pixel_or_the_edge():
    box, size = jnp.array([-5.0, -5.0, 99.0, 99.0]), jnp.array([10, 20])
    assert clip(box, size).tolist() == [0, 0, 20, 10]
    assert clip(box, size, legacy=True).tolist() == [0, 0, 19, 9]


def test_rounded_anchors_are_those_of_torchvision():
    (level,) = pyramid_anchors('rounded', (8, 12), [(2, 3)], [32], [0.5, 1.0, 2.0])
    first = np.array([[-23, -11, 23, 11], [-16, -16, 16, 16], [-11, -23, 11, 23]])
    np.testing.assert_array_equal(level[:3], first)
    # Cells by rows, then columns.
    np.testing.assert_array_equal(level[3:6], first + np.array([4, 0, 4, 0]))
    np.testing.assert_array_equal(level[9:12], first + np.array([0, 4, 0, 4]))


def test_cells_of_rounded_anchors_are_the_image_over_the_map():
    levels = pyramid_anchors(
        'rounded', (800, 800), [(200, 200), (13, 13)], [32, 512], [1.0]
    )
    assert levels[1][1, 0] - levels[1][0, 0] == 61  # 800 // 13
    levels = pyramid_anchors('centred', (800, 800), [(200, 200)], [32], [1.0])
    assert levels[0][1, 0] - levels[0][0, 0] == 4


def test_centred_anchors_are_those_of_detectron2():
    (level,) = pyramid_anchors('centred', (4, 4), [(1, 1)], [32], [0.5, 1.0, 2.0])
    wide, high = 32 * np.sqrt(2) / 2, 32 / np.sqrt(2) / 2
    expected = [
        [-wide, -high, wide, high],
        [-16, -16, 16, 16],
        [-high, -wide, high, wide],
    ]
    np.testing.assert_allclose(level, expected, rtol=1e-6)


def test_legacy_anchors_stand_in_the_middle_of_a_cell():
    (level,) = pyramid_anchors('legacy', (4, 4), [(1, 1)], [32], [0.5, 1.0, 2.0])
    # 45.25 x 22.63, 32 x 32 and 22.63 x 45.25 px around (1.5, 1.5).
    expected = [[-21, -9, 24, 12], [-14, -14, 17, 17], [-9, -21, 12, 24]]
    np.testing.assert_array_equal(level, expected)


def test_anchors_of_another_kind_are_refused():
    with pytest.raises(ValueError, match=r"anchors='round'.*legacy, centred, rounded"):
        pyramid_anchors('round', (4, 4), [(1, 1)], [32], [1.0])
    with pytest.raises(ValueError, match='2 are needed'):
        pyramid_anchors('rounded', (8, 8), [(2, 2), (1, 1)], [32], [1.0])
