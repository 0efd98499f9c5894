"""Suppression at once against the greedy loop."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slimjax.detection.nms import kept_boxes
from tests.detection.test_boxes import random_boxes


def overlap(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if union > 0 else 0.0


def greedy(boxes, valid, threshold, groups):
    kept = []
    for place in np.flatnonzero(valid):
        rivals = [k for k in kept if groups[k] == groups[place]]
        if all(overlap(boxes[k], boxes[place]) <= threshold for k in rivals):
            kept.append(place)
    return kept


def check(boxes, threshold, valid=None, groups=None):
    count = len(boxes)
    valid = np.ones(count, bool) if valid is None else valid
    expected = greedy(
        boxes, valid, threshold, np.zeros(count) if groups is None else groups
    )
    suppress = jax.jit(functools.partial(kept_boxes, threshold=threshold))
    found = suppress(jnp.array(boxes, jnp.float32), jnp.array(valid), groups=groups)
    assert np.flatnonzero(found).tolist() == expected
    return expected


@pytest.mark.parametrize('threshold', [0.3, 0.5, 0.7])
def test_clustered_boxes_are_suppressed_as_by_the_greedy_loop(threshold):
    rng = np.random.default_rng(3)
    centres = random_boxes(12)[rng.integers(0, 12, 200)]
    boxes = (centres + rng.normal(0, 4, (200, 4))).astype(np.float32)
    valid = rng.uniform(size=200) < 0.9
    groups = rng.integers(0, 3, 200).astype(np.int32)
    assert 12 < len(check(boxes, threshold, valid)) < 180
    check(boxes, threshold, valid, groups)


def test_a_chain_keeps_every_second_box():
    # Each overlaps its neighbours alone: the longest chain there can be.
    left = np.arange(40.0)[:, None] * 4
    boxes = np.concatenate([left, 0 * left, left + 10, 0 * left + 10], -1)
    assert check(boxes, 0.4) == list(range(0, 40, 2))


def test_equal_boxes_leave_the_first():
    boxes = np.tile([[1.0, 1, 5, 5]], (7, 1))
    assert check(boxes, 0.5) == [0]


def test_an_overlap_at_the_threshold_is_none():
    # Two of 4 x 4 px share half: 8 / 24; 1/3 is not above 1/3.
    boxes = np.array([[0.0, 0, 4, 4], [0, 2, 4, 6], [0, 1, 4, 5]])
    assert check(boxes[:2], float(np.float32(8) / np.float32(24))) == [0, 1]
    assert check(boxes[[0, 2]], 0.5) == [0]


def test_boxes_without_an_area_and_padding_drop_nothing():
    boxes = np.array([[0.0, 0, 0, 0], [0, 0, 0, 0], [2, 2, 2, 9], [0, 0, 9, 9]])
    assert check(boxes, 0.5, np.array([True, True, True, True])) == [0, 1, 2, 3]
    same = np.tile([[1.0, 1, 5, 5]], (2, 1))
    assert check(same, 0.5, np.array([False, True])) == [1]


def test_images_of_a_batch_are_suppressed_each_by_itself():
    boxes = np.stack([random_boxes(30, seed, size=20.0) for seed in range(3)])
    valid = np.ones((3, 30), bool)
    together = jax.vmap(lambda b, v: kept_boxes(b, v, 0.3))(
        jnp.array(boxes), jnp.array(valid)
    )
    for each, keep in zip(boxes, together, strict=True):
        assert np.flatnonzero(keep).tolist() == check(each, 0.3)
