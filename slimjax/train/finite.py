"""What is not finite in a state, by name; and steps that leave no trace of it."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from slimjax.norm import SHARED_STATS
from slimjax.train.state import TrainState

# What the metrics of whichever width a step trains are called.
IN_TURN = 'in_turn'


class NonFiniteLossError(FloatingPointError):
    """A loss was NaN or infinite, or the gradient; the message names step and width."""


@jax.jit
def _all_finite(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.isfinite(leaf).all(), tree)


def not_finite(tree: Any) -> list[str]:
    """Returns the paths of the arrays that hold NaN or infinity.

    Example:
        >>> tree = {'batch_stats_0.5': {'mean': jnp.array([0.0, jnp.inf])}, 'a': 1.0}
        >>> not_finite(tree)
        ['batch_stats_0.5/mean']
    """
    found = jax.device_get(_all_finite(tree))
    return [
        jax.tree_util.keystr(path, simple=True, separator='/')
        for path, finite in jax.tree_util.tree_leaves_with_path(found)
        if not finite
    ]


def check_finite(state: TrainState, step: int) -> None:
    """Checks a state before it is saved: the last good checkpoint must stay the last.

    Weights and momentum may overflow where losses and gradients did not.

    Raises:
        NonFiniteLossError: names the step and the arrays, whose path has the width.
    """
    kept = state.replace(sums={})
    if found := not_finite(kept):
        more = f' and {len(found) - 3} more' if len(found) > 3 else ''
        raise NonFiniteLossError(
            f'step {step}: not finite is {", ".join(found[:3])}{more}'
        )


def with_hidden(metrics: Mapping[str, Array], stats: Any) -> dict[str, Array]:
    """Returns metrics with a NaN as loss where a width's statistics are not finite.

    A compiled ReLU may turn NaN into 0, and a variance that overflows normalises to 0:
    both hide from the loss, and not from the running statistics, which are for ever.

    Args:
        metrics: of a step.
        stats: the collections after it.

    Example:
        >>> stats = {'batch_stats_0.5': {'var': jnp.array([1.0, jnp.inf])}}
        >>> with_hidden({'loss/0.5': jnp.float32(1.0)}, stats)['loss/0.5'].item()
        nan
    """
    found = dict(metrics)
    for name, loss in metrics.items():
        metric, _, width = name.partition('/')
        # What widths share is whose it may be; a width in turn is any.
        own = jax.tree.leaves(
            stats
            if width == IN_TURN
            else [stats.get(each) for each in (f'batch_stats_{width}', SHARED_STATS)]
        )
        if metric == 'loss' and own:
            finite = jnp.stack([jnp.isfinite(leaf).all() for leaf in own]).all()
            found[name] = jnp.where(finite, loss, jnp.nan)
    return found


def unless_finite(
    old: TrainState, new: TrainState, metrics: Mapping[str, Array]
) -> TrainState:
    """Returns the new state, or the old one at the next step where that is not finite.

    What counts steps goes on counting: the schedule is a function of the step number.

    Args:
        old: before the step.
        new: after it.
        metrics: of the step, the same on all devices: losses and `grad_norm`.

    Example:
        >>> old = TrainState(jnp.int32(3), 1.0, {}, jnp.int32(3), None, {})
        >>> new = TrainState(jnp.int32(4), jnp.nan, {}, jnp.int32(4), None, {})
        >>> kept = unless_finite(old, new, {'grad_norm': jnp.nan})
        >>> int(kept.step), float(kept.params), int(kept.opt_state)
        (4, 1.0, 4)
    """
    told = [metrics['grad_norm']]
    told += [value for name, value in metrics.items() if name.startswith('loss/')]
    finite = jnp.stack([jnp.isfinite(each) for each in told]).all()

    def choose(before, after):
        if not jnp.issubdtype(jnp.result_type(after), jnp.floating):
            return after
        return jnp.where(finite, after, before)

    return jax.tree.map(choose, old, new)


def first_broken(metrics: Mapping[str, float]) -> str | None:
    """Returns what is wrong with the metrics of a step, in words; None for nothing.

    Example:
        >>> first_broken({'loss/0.5': float('inf'), 'grad_norm': 1.0})
        'the loss of width 0.5 is inf'
    """
    for name, value in metrics.items():
        if name.startswith('loss/') and not math.isfinite(value):
            return f'the loss of width {name[5:]} is {value}'
    if not math.isfinite(metrics['grad_norm']):
        return f"the gradient's norm is {metrics['grad_norm']}"
    return None
