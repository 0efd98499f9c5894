"""Durations and learning rates, both functions of the step number alone."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

UNITS = ('steps', 'epochs', 'examples')
# A step number is an int32.
_MOST_STEPS = 2**31 - 1
SCHEDULES = ('constant', 'multistep', 'exponential', 'linear', 'cosine')


@dataclasses.dataclass(frozen=True)
class Clock:
    """Converts durations to steps.

    Attributes:
        examples: number of training examples, which make an epoch.
        batch_size: examples a step, of all devices together.

    Example:
        >>> Clock(examples=1000, batch_size=100).steps({'train_epochs': 3}, 'train')
        30
    """

    examples: int
    batch_size: int

    @property
    def steps_per_epoch(self) -> float:
        """Steps an epoch, a fraction included, as in the published schedules."""
        return self.examples / self.batch_size

    def steps(self, config: Mapping[str, Any], name: str) -> int:
        """Returns the duration `name` of `config` in whole steps.

        Args:
            config: holds at most one of `<name>_steps`, `<name>_epochs` and
                `<name>_examples` that is not 0.
            name: such as `'warmup'`.

        Raises:
            ValueError: two units at once, or more steps than can be counted.
        """
        return self._convert(name, *given_unit(config, name))

    def epoch_start(self, epoch: float) -> int:
        """Returns the first step of which `epoch` epochs are over.

        Example:
            >>> Clock(examples=10, batch_size=4).epoch_start(1)
            3
        """
        return math.ceil(round(epoch * self.steps_per_epoch, 6))

    def _convert(self, name: str, value: float, unit: str) -> int:
        steps = {
            'steps': value,
            'epochs': value * self.steps_per_epoch,
            'examples': value / self.batch_size,
        }[unit]
        if steps > _MOST_STEPS:
            raise ValueError(
                f'config.{name}_{unit}={value} is {steps:.3g} steps; at most '
                f'{_MOST_STEPS:,} can be counted'
            )
        return max(1, round(steps)) if value > 0 else 0

    def milestones(self, config: Mapping[str, Any]) -> tuple[int, ...]:
        """Returns the steps at which a multistep schedule decays, in their order."""
        values, unit = given_unit(config, 'milestone', empty=())
        steps = sorted(self._convert('milestone', value, unit) for value in values)
        if unit == 'epochs':
            steps = sorted(self.epoch_start(epoch) for epoch in values)
        return tuple(steps)


def given_unit(config: Mapping[str, Any], name: str, empty: Any = 0):
    """Returns the value and unit in which `config` states the duration `name`.

    Raises:
        ValueError: more than one unit is stated.

    Example:
        >>> given_unit({'warmup_steps': 0, 'warmup_epochs': 5}, 'warmup')
        (5, 'epochs')
    """
    found = {
        unit: config[f'{name}_{unit}']
        for unit in UNITS
        if config.get(f'{name}_{unit}', empty)
    }
    if len(found) > 1:
        stated = ', '.join(f'{name}_{unit}={value}' for unit, value in found.items())
        raise ValueError(f'{stated}: state one of them and set the others to {empty}')
    unit, value = next(iter(found.items()), ('steps', empty))
    return value, unit


def learning_rate(config: Mapping[str, Any], clock: Clock) -> optax.Schedule:
    """Returns the learning rate of each step, as the published code computes it.

    `linear` and `cosine` change with every step and reach 0 with the last one;
    `multistep` and `exponential` multiply by `decay_factor` at the milestones and at
    each new epoch. Warm-up rises linearly to the full rate with its last step, or, from
    `warmup_factor` of it with the first step, to the full rate after the last one.

    Args:
        config: `learning_rate`, `schedule`, `decay_factor`, the durations `train`,
            `warmup` and `milestone`, and `warmup_factor`, 0 if left out.
        clock: converts the durations.

    Returns:
        A function from the step number to the rate, float32 (float64 where jax has
        it switched on).

    Example:
        >>> config = {'learning_rate': 1.0, 'schedule': 'linear', 'train_steps': 4}
        >>> schedule = learning_rate(config, Clock(examples=8, batch_size=2))
        >>> [float(schedule(step)) for step in range(4)]
        [0.75, 0.5, 0.25, 0.0]
    """
    peak, kind = config['learning_rate'], config['schedule']
    total, warmup = clock.steps(config, 'train'), clock.steps(config, 'warmup')
    factor, first = config.get('decay_factor', 1.0), config.get('warmup_factor', 0.0)
    if kind == 'multistep':
        starts = np.array(clock.milestones(config), np.int32)
    elif kind == 'exponential':
        last = math.ceil(total / clock.steps_per_epoch)
        starts = np.array([clock.epoch_start(e) for e in range(1, last)], np.int32)
    else:
        starts = np.array([], np.int32)
    # In float64: after 480 epochs, powers of the float32 nearest to 0.98 are 1e-5 off.
    shares = np.float64(factor) ** np.arange(len(starts) + 1)

    def schedule(step):
        step = jnp.asarray(step, jnp.int32)
        # Float64 where jax has it on: a rounded rate would not repeat such a run.
        real = jax.dtypes.canonicalize_dtype(float)
        if kind in ('linear', 'cosine'):
            span = max(total - warmup, 1)
            done = (step + 1 - warmup).astype(real) / span
            done = jnp.clip(done, 0.0, 1.0)
            share = 1 - done if kind == 'linear' else (1 + jnp.cos(jnp.pi * done)) / 2
        else:
            decays = jnp.searchsorted(jnp.asarray(starts), step, side='right')
            share = jnp.asarray(shares, real)[decays]
        rising = (step if first else step + 1).astype(real) / max(warmup, 1)
        rising = first + (1 - first) * rising if first else rising
        return peak * jnp.where(step < warmup, rising, share)

    return schedule
