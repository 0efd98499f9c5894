"""The learning rate of every step of every recipe, against the published loop.

The published loader starts each epoch anew: its 1,281,167 examples make
ceil(examples / batch) iterations, the last of a short batch. Here batches go on across
epochs, so that steps and published iterations do not number alike. They are paired by
what the published rate is a function of, the epoch and the iteration in it: step s is
in epoch e = floor(s * batch / examples), as iteration s - (first step of e). Every step
has its iteration; only that of the short batch has no step in some epochs.

The first step of an epoch comes late, by less than a step, as it waits for the batch in
which the epochs meet. A rate that changes once an epoch cannot show it and is equal at
every step. A rate that changes with every iteration is the published function of the
examples seen so far: earlier than its pair's by that part of an iteration.
"""

import functools

import jax
import numpy as np
import pytest

from slimjax.train.schedule import Clock, learning_rate
from tests.recipes import EXAMPLES, RECIPES, load
from tests.test_configs import RECIPES as CONFIGURED

# A float32 that is the product or quotient of a few others.
ROUNDING = 4 * 2**-24
LINEAR = [name for name, row in RECIPES.items() if row.schedule == 'linear']
BY_EPOCH = [name for name in RECIPES if name not in LINEAR]


def published(schedule, epochs, batch, rate, warmup=0, examples=EXAMPLES):
    """The published loop in float64: a row for each epoch, of its iterations."""
    per_epoch = examples / batch
    iterations = -(-examples // batch)
    rows = []
    for epoch in range(epochs):
        done = epoch * per_epoch + np.arange(iterations) + 1
        if epoch < warmup:
            row = rate * done / (warmup * per_epoch)
        elif schedule == 'multistep':
            passed = sum(epoch >= milestone for milestone in (30, 60, 90))
            row = np.full(iterations, rate * 0.1**passed)
        elif schedule == 'exponential':
            row = np.full(iterations, rate * 0.98**epoch)
        elif schedule == 'linear':
            start = rate * (1 - (epoch - warmup) / (epochs - warmup))
            decrement = rate / (epochs - warmup) / per_epoch
            row = start - np.cumsum(np.full(iterations, decrement))
        elif schedule == 'cosine':
            share = (done - warmup * per_epoch) / ((epochs - warmup) * per_epoch)
            row = rate * (1 + np.cos(np.pi * share)) / 2
        rows.append(row)
    return np.stack(rows)


def paired(table, steps, batch, examples=EXAMPLES):
    """Each step's pair in a table of `published`, and how late the step's epoch is."""
    epochs = np.arange(steps) * batch // examples
    first = -(-epochs * examples // batch)
    return table[epochs, np.arange(steps) - first], first - epochs * examples / batch


def found_rates(config, examples=EXAMPLES):
    clock = Clock(examples, config['batch_size'])
    steps = np.arange(clock.steps(config, 'train'), dtype=np.int32)
    schedule = jax.jit(jax.vmap(learning_rate(config, clock)))
    return np.asarray(schedule(steps), np.float64)


@functools.cache
def of_fields(**fields):
    return found_rates(fields)


def of_recipe(name):
    """Our rates; recipes that differ in nothing else share them."""
    names = ('schedule', 'batch_size', 'learning_rate', 'decay_factor')
    units = ('steps', 'epochs', 'examples')
    durations = [f'{of}_{u}' for of in ('train', 'warmup', 'milestone') for u in units]
    config = load(name)
    return of_fields(**{field: config[field] for field in (*names, *durations)})


@functools.cache
def of_code(row):
    return published(row.schedule, row.epochs, row.batch, row.rate)


def test_every_recipe_is_compared():
    """But those of supernets, which were never published."""
    names = {row[1] for row in CONFIGURED if row[0] == 'imagenet'}
    assert set(RECIPES) == {n for n in names if not n.startswith('supernet_')}


@pytest.mark.parametrize('name', BY_EPOCH)
def test_the_rate_of_every_step_is_the_published_one(name):
    row, found = RECIPES[name], of_recipe(name)
    assert len(found) == round(row.epochs * EXAMPLES / row.batch)
    expected, _ = paired(of_code(row), len(found), row.batch)
    np.testing.assert_allclose(found, expected, rtol=ROUNDING)


@pytest.mark.parametrize('name', BY_EPOCH)
def test_the_rate_changes_with_the_first_step_of_an_epoch(name):
    row, found = RECIPES[name], of_recipe(name)
    starts = -(-np.arange(1, row.epochs) * EXAMPLES // row.batch)
    if row.schedule == 'multistep':
        starts = starts[[29, 59, 89]]
    np.testing.assert_array_equal(np.flatnonzero(np.diff(found)) + 1, starts)


@pytest.mark.parametrize('name', LINEAR)
def test_the_rate_of_every_step_is_the_published_one_at_as_many_examples(name):
    row, found = RECIPES[name], of_recipe(name)
    steps = row.epochs * EXAMPLES / row.batch
    assert len(found) == round(steps)
    pair, late = paired(of_code(row), len(found), row.batch)
    one = row.rate / steps
    # Ours ends with a whole step: what that adds to its length, it adds to the last
    # rate, and less to the others.
    tolerance = abs(len(found) - steps) * one + ROUNDING * row.rate
    assert tolerance < one / 2
    np.testing.assert_allclose(found, pair - late * one, rtol=0, atol=tolerance)
    assert np.all(found > pair - 1.5 * one)
    assert np.all(found < pair + 0.5 * one)


@pytest.mark.parametrize('name', LINEAR)
def test_the_published_rate_below_zero_is_not_replicated(name):
    row, found = RECIPES[name], of_recipe(name)
    table = of_code(row)
    assert (table < 0).sum() == 1
    if name == 's_shufflenet':
        assert table[-1, -1] == pytest.approx(-1.4e-6, abs=5e-8)
    assert found[-1] == 0
    assert np.all(found[:-1] > 0)


@pytest.mark.parametrize('name', RECIPES)
def test_the_first_epoch_is_not_left_out(name):
    """torch 1.1 and later leave it out: they start with the rate of epoch 1."""
    row, found = RECIPES[name], of_recipe(name)
    assert found[0] == pytest.approx(of_code(row)[0, 0], rel=1e-6)
    assert abs(len(found) * row.batch - row.epochs * EXAMPLES) <= row.batch / 2


@pytest.mark.parametrize('schedule', ['multistep', 'exponential', 'linear', 'cosine'])
@pytest.mark.parametrize('warmup', [0, 5])
def test_with_epochs_of_whole_steps_every_rate_is_equal(schedule, warmup):
    config = {
        'schedule': schedule,
        'train_epochs': 100,
        'warmup_epochs': warmup,
        'milestone_epochs': (30, 60, 90),
        'decay_factor': 0.1 if schedule == 'multistep' else 0.98,
        'batch_size': 100,
        'learning_rate': 0.4,
    }
    found = found_rates(config, 6400)
    expected = published(schedule, 100, 100, 0.4, warmup, 6400)
    np.testing.assert_allclose(
        found, expected.ravel(), rtol=ROUNDING, atol=ROUNDING / 2
    )


@pytest.mark.parametrize('schedule', ['linear', 'cosine'])
def test_with_other_epochs_every_rate_is_at_most_a_step_and_a_half_off(schedule):
    config = {
        'schedule': schedule,
        'train_epochs': 40,
        'warmup_epochs': 3,
        'batch_size': 1000,
        'learning_rate': 0.4,
    }
    found = found_rates(config, 64_300)
    table = published(schedule, 40, 1000, 0.4, 3, 64_300)
    pair, _ = paired(table, len(found), 1000, 64_300)
    # An epoch is late by up to a step, and each end of a slope is rounded by half.
    rise, fall = 0.4 / (3 * 64.3), np.pi / 2 * 0.4 / (37 * 64.3)
    assert np.abs(found - pair).max() < 1.5 * max(rise, fall)
