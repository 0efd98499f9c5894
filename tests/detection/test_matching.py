"""Matching against a plain loop, and what is drawn of it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slimjax.detection.draw import draw_boxes
from slimjax.detection.matching import match
from slimjax.detection.sampling import first_slots, priorities, sample
from slimjax.detection.settings import settings
from tests.detection.test_boxes import random_boxes
from tests.detection.test_nms import overlap


def plain_match(candidates, valid, truths, rule, positive=0.6, negative=0.3, low=0.0):
    """The rules as their papers' code has them, one candidate at a time."""
    shared = np.array([[overlap(t, c) for c in candidates] for t in truths])
    labels, matched = [], []
    for place in range(len(candidates)):
        column = shared[:, place] if len(truths) else np.array([0.0])
        best = column.max()
        labels.append(1 if best >= positive else 0 if best < negative else -1)
        matched.append(int(column.argmax()))
    if rule != 'none':
        for number, row in enumerate(shared):
            most = row[valid].max()
            if most <= 0 or most < low:
                continue
            for place in np.flatnonzero(valid & (np.abs(row - most) < 1e-9)):
                labels[place] = 1
                if rule == 'reassign':
                    matched[place] = number
    return np.where(valid, labels, -1), np.array(matched)


def run(candidates, valid, truths, count, **rule):
    """Matches a padded truth of which `count` boxes are any."""
    padded = np.zeros((12, 4), np.float32)
    padded[:count] = truths[:count]
    matcher = jax.jit(functools.partial(match, **rule))
    return matcher(
        jnp.array(candidates),
        jnp.array(valid),
        jnp.array(padded),
        jnp.arange(12) < count,
    )


@pytest.mark.parametrize('rule', ['none', 'label', 'reassign'])
def test_matches_are_those_of_a_loop(rule):
    candidates, truths = random_boxes(80, size=30), random_boxes(10, 5, size=30)
    candidates[:20] = np.repeat(truths, 2, 0)
    candidates[:20] += np.random.default_rng(1).normal(0, 3, (20, 4))
    # Equal candidates tie; two truths have the same best.
    candidates[40:50] = candidates[:10]
    truths[3] = truths[2] + np.float32([0, 0, 2, 2])
    valid = np.random.default_rng(0).uniform(size=80) < 0.8
    for low in (0.0, 0.45):
        labels, matched = plain_match(candidates, valid, truths, rule, low=low)
        found = run(
            candidates,
            valid,
            truths,
            10,
            positive=0.6,
            negative=0.3,
            low_quality=rule,
            low_quality_minimum=low,
        )
        assert found.labels.tolist() == labels.tolist()
        positive = labels == 1
        assert positive.sum() > 3
        assert found.truths[positive].tolist() == matched[positive].tolist()


def test_an_image_without_a_truth_has_only_negatives():
    candidates = random_boxes(20)
    found = run(
        candidates,
        np.ones(20, bool),
        candidates,
        0,
        positive=0.7,
        negative=0.3,
        low_quality='label',
    )
    assert found.labels.tolist() == [0] * 20


def test_a_truth_that_nothing_overlaps_makes_nothing_positive():
    candidates = random_boxes(20)
    far = np.full((1, 4), 5000, np.float32) + np.float32([0, 0, 9, 9])
    found = run(
        candidates,
        np.ones(20, bool),
        far,
        1,
        positive=0.7,
        negative=0.3,
        low_quality='label',
    )
    assert found.labels.tolist() == [0] * 20


def test_another_rule_is_refused():
    with pytest.raises(ValueError, match=r"low_quality='all'.*none, label, reassign"):
        run(
            random_boxes(2),
            np.ones(2, bool),
            random_boxes(2),
            2,
            positive=0.7,
            negative=0.3,
            low_quality='all',
        )


@pytest.mark.parametrize(
    ('number_positive', 'number_negative', 'drawn'),
    [(50, 500, (16, 48)), (3, 500, (3, 61)), (50, 10, (16, 10)), (0, 5, (0, 5))],
)
def test_positives_are_capped_and_negatives_fill_up(
    number_positive, number_negative, drawn
):
    labels = np.full(600, -1)
    places = np.random.default_rng(0).permutation(600)
    labels[places[:number_positive]] = 1
    labels[places[number_positive : number_positive + number_negative]] = 0
    order = priorities(jax.random.key(0), 600)
    result = jax.jit(functools.partial(sample, count=64, positives=16))(
        jnp.array(labels), order
    )
    assert (int(result.positive.sum()), int(result.negative.sum())) == drawn
    assert (labels[np.asarray(result.positive)] == 1).all()
    assert (labels[np.asarray(result.negative)] == 0).all()
    slots = first_slots(result, 64)
    positive, negative = result.positive[slots], result.negative[slots]
    assert positive[: drawn[0]].all()
    assert negative[drawn[0] : sum(drawn)].all()
    assert not (positive | negative)[sum(drawn) :].any()


def test_every_candidate_is_drawn_as_often_as_another():
    labels = jnp.array([1] * 4 + [0] * 8)
    keys = jax.random.split(jax.random.key(1), 4000)

    def draw(key):
        return sample(labels, priorities(key, 12), count=4, positives=1)

    drawn = jax.vmap(draw)(keys)
    shares = np.asarray(drawn.positive.mean(0) + drawn.negative.mean(0))
    # 1 of 4 and 3 of 8; the standard deviation is 0.008.
    np.testing.assert_allclose(shares, [1 / 4] * 4 + [3 / 8] * 8, atol=0.035)


def test_mmdetection_gives_each_box_of_the_truth_its_best_proposal():
    # The first proposal is most like the first box, but the second's best, too.
    truths = jnp.array([[0.0, 0, 9, 9], [0.0, 0, 9, 5]])
    proposals = jnp.array([[0.0, 0, 9, 7.4], [0.0, 0, 9, 9], [60.0, 60, 69, 69]])
    options = settings('published', 'faster_rcnn', roi_samples=16)

    def matched(rule):
        drawn = draw_boxes(
            proposals,
            jnp.ones(3, bool),
            truths,
            jnp.array([3, 4]),
            jnp.array([True, True]),
            None,
            dataclasses.replace(options, roi_low_quality=rule, roi_positive_share=0.5),
        )
        rows = zip(
            *(each[:5].tolist() for each in (drawn.boxes, drawn.labels)), strict=True
        )
        return {tuple(box): label for box, label in rows}

    first, last = tuple(proposals[0].tolist()), tuple(proposals[2].tolist())
    assert (matched('none')[first], matched('reassign')[first]) == (3, 4)
    for rule in ('none', 'reassign'):
        found = matched(rule)
        assert found[last] == 0
        # Each box of the truth is a proposal, and stands for itself.
        assert [found[tuple(box)] for box in truths.tolist()] == [3, 4]
