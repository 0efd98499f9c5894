"""Learning rates and durations against the published formulas."""

import math

import pytest

from slimjax.train.schedule import Clock, given_unit, learning_rate


def rates(steps, **config):
    clock = config.pop('clock', Clock(examples=1000, batch_size=100))
    schedule = learning_rate({'learning_rate': 0.5, **config}, clock)
    return [float(schedule(step)) for step in steps]


def test_multistep_drops_at_the_first_step_of_each_milestone_epoch():
    found = rates(
        [0, 299, 300, 599, 600],
        schedule='multistep',
        milestone_epochs=(30, 60),
        decay_factor=0.1,
        train_epochs=90,
    )
    assert found == pytest.approx([0.5, 0.5, 0.05, 0.05, 0.005])


def test_exponential_decays_once_an_epoch_even_with_fractional_epochs():
    clock = Clock(examples=1281167, batch_size=160)
    steps = [0, 8007, 8008, 1_000_000, 3_843_500]
    found = rates(
        steps, schedule='exponential', decay_factor=0.98, train_epochs=480, clock=clock
    )
    epochs = [math.floor(step / clock.steps_per_epoch) for step in steps]
    assert epochs == [0, 0, 1, 124, 479]
    assert found == pytest.approx([0.5 * 0.98**e for e in epochs], rel=1e-5)


def test_linear_starts_one_step_below_the_peak_and_ends_at_zero():
    clock = Clock(examples=1281167, batch_size=1024)
    total = round(250 * 1281167 / 1024)
    found = rates([0, total - 1], schedule='linear', train_epochs=250, clock=clock)
    assert found == pytest.approx([0.5 * (1 - 1 / total), 0.0], rel=1e-6)


def test_cosine_follows_the_published_formula_after_warmup():
    total, warmup = 100, 10
    found = rates(
        [0, 4, 9, 10, 54, 99], schedule='cosine', train_steps=total, warmup_steps=warmup
    )
    cosine = [
        0.5 * (1 + math.cos(math.pi * (s + 1 - warmup) / (total - warmup))) / 2
        for s in (10, 54, 99)
    ]
    assert found == pytest.approx([0.05, 0.25, 0.5, *cosine], abs=1e-6)


@pytest.mark.parametrize(
    ('stated', 'steps'),
    [({'a_steps': 7}, 7), ({'a_epochs': 1.5}, 15), ({'a_examples': 250}, 2), ({}, 0)],
)
def test_durations_convert_from_every_unit(stated, steps):
    assert Clock(examples=1000, batch_size=100).steps(stated, 'a') == steps


def test_two_units_at_once_are_refused_with_both_values():
    with pytest.raises(ValueError, match=r'warmup_steps=5, warmup_epochs=1'):
        given_unit({'warmup_steps': 5, 'warmup_epochs': 1}, 'warmup')


def test_milestones_may_stand_in_any_order():
    rates = [
        [float(learning_rate(config, Clock(10, 1))(step)) for step in range(8)]
        for config in (
            {
                'learning_rate': 1.0,
                'schedule': 'multistep',
                'decay_factor': 0.1,
                'train_steps': 8,
                'milestone_steps': steps,
            }
            for steps in ((3, 6), (6, 3))
        )
    ]
    assert rates[0] == rates[1]
