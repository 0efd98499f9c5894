"""A controller under made-up loads, of which the cost at every width is known."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float

from slimjax.deploy.controller import Controller, Decision
from slimjax.deploy.costs import Cost

# Milliseconds of a network whose widths cost what four widths of a MobileNet do.
COSTS = {
    '1.0': Cost(10.0, 11.5),
    '0.75': Cost(6.0, 6.9),
    '0.5': Cost(3.0, 3.5),
    '0.25': Cost(1.2, 1.4),
}
BUDGET = 14.0
# Requests a second; as many make a window, of which the 95th percentile is taken.
RATE = 100

Times = Float[np.ndarray, ' requests']


@dataclasses.dataclass(frozen=True)
class Load:
    """What hits requests, one after another.

    Attributes:
        factor: `[requests]`, by which every width becomes slower.
        added: `[requests]`, milliseconds that every width waits.
        harder: how much harder a wider width is hit: its factor is raised to this power
            in proportion to its cost.
        spread: standard deviation of the logarithm of the noise.
        spikes: probability of a request that takes four times as long.
    """

    factor: Times
    added: Times
    harder: float = 0.0
    spread: float = 0.07
    spikes: float = 0.003


def _steps(time, rng):
    levels = rng.choice([1.0, 1.4, 2.5, 5.0, 14.0], size=len(time))
    levels[0] = 1.0
    return Load(levels[(time // 20).astype(int)], 0 * time)


def _bursts(time, rng):
    starts = np.cumsum(rng.uniform(4, 25, size=len(time)))
    since = time - starts[np.searchsorted(starts, time, 'right') - 1]
    return Load(np.where((since >= 0) & (since < 1.5), 3.0, 1.0), 0 * time)


def _throttling(time, rng):
    # Two minutes of heat, one hot, and a fan that cools at once; again and again.
    return Load(1 + 2 * np.clip(time % 200 / 120, 0, 1) * (time % 200 < 180), 0 * time)


def _noise(time, rng):
    return Load(1.2 + 0 * time, 0 * time, spread=0.15, spikes=0.01)


def _contention(time, rng):
    busy = (time // 45).astype(int) % 2 == 1
    return Load(np.where(busy, 1.25, 1.0), np.where(busy, 3.0, 0.0), harder=0.5)


LOADS: dict[str, Callable[[Times, np.random.Generator], Load]] = {
    'steps': _steps,
    'bursts': _bursts,
    'throttling': _throttling,
    'noise': _noise,
    'contention': _contention,
}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a controller made of a load.

    Attributes:
        time: `[requests]`, seconds.
        cost: `[requests]`, milliseconds at the width that was chosen.
        width: `[requests]`, its number, 0 for the widest.
        decisions: all changes.
        possible: `[windows]`, whether any width held the budget all through it.
        held: `[windows]`, whether the 95th percentile of what was chosen did.
        ideal: `[windows]`, number of the widest width that held it; meaningless where
            none did.
    """

    time: Times
    cost: Times
    width: np.ndarray
    decisions: list[Decision]
    possible: np.ndarray
    held: np.ndarray
    ideal: np.ndarray

    def results(self) -> dict[str, Any]:
        """Returns the figures of it, as plain data.

        `held` is a share of the possible windows, `work` what the chosen widths compute
        in proportion to the widest that held the budget in each window.
        """
        typical = np.array([cost.typical for cost in COSTS.values()])
        per_window = typical[self.width].reshape(len(self.held), -1).mean(1)
        work = (
            per_window[self.possible].sum() / typical[self.ideal][self.possible].sum()
        )
        reasons = [decision.reason for decision in self.decisions]
        return {
            'windows': len(self.held),
            'possible': int(self.possible.sum()),
            'held': float(self.held[self.possible].mean()),
            'switches': len(self.decisions),
            'reasons': {name: reasons.count(name) for name in sorted(set(reasons))},
            'work': float(work),
        }


def simulate(name: str, *, seconds: int = 600, seed: int = 0) -> Outcome:
    """Runs a controller of `COSTS` and `BUDGET` under a load of `LOADS`.

    A request comes 100 times a second, and takes at each width what the load makes of
    the width's cost; the controller sees the width that it chose.

    Args:
        name: of the load.
        seconds: simulated.
        seed: of the load and its noise.

    Raises:
        ValueError: there is no such load.

    Example:
        >>> simulate('throttling', seconds=20).results()['held']
        1.0
    """
    controller = Controller(COSTS, BUDGET)
    time, costs = made_up_costs(name, seconds, seed)
    names, widths, decisions = list(COSTS), [], []
    for at, row in zip(time, costs, strict=True):
        chosen = names.index(controller.width)
        widths.append(chosen)
        decision = controller.observe(controller.width, float(row[chosen]), float(at))
        if decision:
            decisions.append(decision)
    width = np.array(widths)
    cost = np.take_along_axis(costs, width[:, None], 1)[:, 0]
    fits = np.percentile(costs.reshape(seconds, RATE, -1), 95, axis=1) <= BUDGET
    return Outcome(
        time,
        cost,
        width,
        decisions,
        possible=fits.any(1),
        held=np.percentile(cost.reshape(seconds, RATE), 95, axis=1) <= BUDGET,
        ideal=fits.argmax(1),
    )


def made_up_costs(
    name: str, seconds: int, seed: int
) -> tuple[Times, Float[np.ndarray, 'requests widths']]:
    """Returns the times of requests, and what each would take at every width.

    Args:
        name: of a load.
        seconds: simulated.
        seed: of the load and its noise.

    Raises:
        ValueError: there is no such load.

    Example:
        >>> made_up_costs('steps', seconds=2, seed=0)[1].shape
        (200, 4)
    """
    if name not in LOADS:
        raise ValueError(f'name={name!r}; the loads are {", ".join(LOADS)}')
    rng = np.random.default_rng(seed)
    time = np.arange(seconds * RATE) / RATE
    load = LOADS[name](time, rng)
    typical = np.array([cost.typical for cost in COSTS.values()])
    power = 1 + load.harder * typical / typical.max()
    noise = np.exp(rng.normal(0, load.spread, len(time)))
    noise *= np.where(rng.random(len(time)) < load.spikes, 4, 1)
    slowed = typical * load.factor[:, None] ** power + load.added[:, None]
    return time, slowed * noise[:, None]
