"""Milliseconds an image."""

from functools import partial

import jax
import jax.numpy as jnp
import pytest

from slimjax.insight import timing
from slimjax.insight.latency import latency_ms
from tests.insight.networks import Plain, Slimmable


@pytest.fixture
def clock(monkeypatch):
    """A clock by which the n-th timed run takes n seconds."""
    ticks = iter(n * (n + 1) / 2 for n in range(1, 1000))
    before = [0.0]

    def perf_counter():
        # Start and end of a run alternate; the time between two runs is nothing.
        perf_counter.calls += 1
        if perf_counter.calls % 2 == 0:
            before[0] = next(ticks)
        return before[0]

    perf_counter.calls = 0
    monkeypatch.setattr(timing.time, 'perf_counter', perf_counter)


def slimmable():
    model, images = Slimmable(), jnp.ones((1, 6, 6, 3))
    init = partial(model.init, width=1.0, train=False)
    return model, jax.jit(init)(jax.random.key(0), images)


def test_widths_take_turns_and_the_median_of_warm_runs_counts(clock):
    model, variables = slimmable()
    found = latency_ms(model, variables, (6, 6, 3), repeats=3, batch_size=2)
    # Run n takes n seconds; the first three of each width warm up.
    assert list(found) == [1.0, 0.5]
    assert found == {1.0: 1000 * 9 / 2, 0.5: 1000 * 10 / 2}


def test_a_plain_network_is_timed_without_training():
    variables = Plain().init(jax.random.key(0), jnp.ones((1, 8, 8, 3)))
    (found,) = latency_ms(Plain(), variables, (8, 8, 3), repeats=2).values()
    assert found > 0


@pytest.mark.parametrize('name', ['batch_size', 'repeats'])
def test_nothing_to_time_is_an_error(name):
    with pytest.raises(ValueError, match=f'{name}=0: at least 1'):
        latency_ms(*slimmable(), (6, 6, 3), **{name: 0})
