"""How the widths of a slimmable network combine into one gradient."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from slimjax.width import Width, canonical, widest_first, width_name


class Aux(NamedTuple):
    """What a loss function returns beside its scalar."""

    stats: Any  # all collections, those of its width renewed
    logits: Array


class WidthResult(NamedTuple):
    """What `sum_over_widths` tells of one width."""

    loss: Array
    logits: Array


LossFn = Callable[..., tuple[Array, Aux]]


def width_gradient(
    loss_fn: LossFn, width: Width, factor: float = 1.0
) -> Callable[..., tuple[Any, Any, WidthResult]]:
    """Returns the gradient of one width, of which `sum_over_widths` makes the sum.

    Args:
        loss_fn: as in `sum_over_widths`.
        width: what it is called with.
        factor: of the gradient; the loss is reported without it.

    Returns:
        `f(params, stats, batch, teacher) -> (gradients, stats, WidthResult)`.

    Example:
        >>> def loss_fn(params, stats, batch, *, width, teacher=None):
        ...     return width * params.sum(), Aux(stats, batch)
        >>> gradients, _, _ = width_gradient(loss_fn, 0.5)(jnp.ones(2), {}, None, None)
        >>> gradients.tolist()
        [0.5, 0.5]
    """

    def gradients_of(params, stats, batch, teacher):
        def weighted(params):
            loss, aux = loss_fn(params, stats, batch, width=width, teacher=teacher)
            return loss * factor, (aux.stats, WidthResult(loss, aux.logits))

        gradients, (new_stats, result) = jax.grad(weighted, has_aux=True)(params)
        return gradients, new_stats, result

    return gradients_of


def sum_over_widths(
    loss_fn: LossFn,
    widths: Sequence[Width],
    *,
    reduce: Literal['sum', 'mean'] = 'sum',
    distill: bool = False,
    weights: Mapping[Width, float] | None = None,
) -> Callable[..., tuple[Any, Any, dict[Width, WidthResult]]]:
    """Returns the gradient of the losses of all widths together.

    The widths run one after another, widest first, each forward and backward (paper,
    Algorithm 1). Control flow keeps the compiler from overlapping them, so that the
    step needs the memory of the widest alone; and a NaN in one width leaves the
    losses of the others finite (not the summed gradient).

    Args:
        loss_fn: `loss_fn(params, stats, batch, *, width, teacher)` that returns a
            scalar and `Aux(stats, logits)`, where `stats` holds all collections.
            `teacher` is None for the widest and, with `distill`, its logits without
            gradient for the others.
        widths: the widths to sum over, such as `model.widths`. All must have logits
            of one shape.
        reduce: `'sum'`, as published, or `'mean'` of the gradients.
        distill: whether the widest teaches the others in place.
        weights: factor of each width's loss; 1 where absent.

    Returns:
        `f(params, stats, batch) -> (gradients, stats, {width: WidthResult})`, which
        may stand under `jit`, `pmap` and `shard_map` (with `check_vma=False`) and be
        accumulated. Under a mapped axis, the caller averages all that it returns.
        The losses are reported unweighted.

    Raises:
        ValueError: widths that do not go together, or weights of unknown widths.

    Example:
        >>> def loss_fn(params, stats, batch, *, width, teacher=None):
        ...     active = int(4 * width)
        ...     logits = batch[:, :active] @ params[:active]
        ...     return jnp.square(logits).mean(), Aux(stats, logits)
        >>> f = sum_over_widths(loss_fn, (0.5, 1.0))
        >>> gradients, _, aux = f(jnp.ones((4, 1)), {}, jnp.ones((2, 4)))
        >>> gradients.ravel().tolist(), float(aux[0.5].loss)
        ([12.0, 12.0, 8.0, 8.0], 4.0)
    """
    ordered = widest_first(widths)
    factors = _factors(ordered, weights)
    if reduce not in ('sum', 'mean'):
        raise ValueError(f"reduce={reduce!r}; allowed are 'sum' and 'mean'")
    share = 1.0 if reduce == 'sum' else 1.0 / len(ordered)

    gradients_of = {
        width: width_gradient(loss_fn, width, share * factors[width])
        for width in ordered
    }

    def combined(params, stats, batch):
        always = _always(params)
        total, teacher, results = None, None, {}
        for width in ordered:
            run = gradients_of[width]
            if total is None:
                total, stats, results[width] = run(params, stats, batch, teacher)
                if distill:
                    teacher = jax.lax.stop_gradient(results[width].logits)
                continue

            def add(total, stats, run=run, teacher=teacher):
                gradients, stats, result = run(params, stats, batch, teacher)
                return jax.tree.map(jnp.add, total, gradients), stats, result

            def skip(total, stats, like=results[ordered[0]]):
                return total, stats, jax.tree.map(jnp.zeros_like, like)

            total, stats, results[width] = jax.lax.cond(always, add, skip, total, stats)
        return total, stats, results

    return combined


def gradient_in_turn(
    loss_fn: LossFn,
    widths: Sequence[Width],
    *,
    weights: Mapping[Width, float] | None = None,
) -> Callable[..., tuple[Any, Any, WidthResult]]:
    """Returns the gradient of one width alone, another for each turn, widest first.

    The ablation of the sum: as many updates take a single pass each.

    Args:
        loss_fn: as in `sum_over_widths`; no width teaches another.
        widths: those that have their turn.
        weights: factor of each width's loss; 1 where absent.

    Returns:
        `f(turn, params, stats, batch) -> (gradients, stats, WidthResult)`, where `turn`
        counts from 0 and may be traced.

    Raises:
        ValueError: widths that do not go together, or weights of unknown widths.

    Example:
        >>> def loss_fn(params, stats, batch, *, width, teacher=None):
        ...     return width * params.sum(), Aux(stats, batch)
        >>> f = gradient_in_turn(loss_fn, (0.5, 1.0))
        >>> [f(turn, jnp.ones(1), {}, jnp.ones(1))[0].item() for turn in (0, 1, 2)]
        [1.0, 0.5, 1.0]
    """
    ordered = widest_first(widths)
    factors = _factors(ordered, weights)
    branches = [
        partial(width_gradient(loss_fn, width, factors[width]), teacher=None)
        for width in ordered
    ]

    def one(turn, params, stats, batch):
        return lax.switch(turn % len(branches), branches, params, stats, batch)

    return one


def _factors(
    widths: Sequence[Width], weights: Mapping[Width, float] | None
) -> dict[Width, float]:
    known = {canonical(key): value for key, value in (weights or {}).items()}
    unknown = [width_name(width) for width in known if width not in widths]
    if unknown:
        raise ValueError(f'weights of widths that are not trained: {unknown}')
    return {width: known.get(width, 1.0) for width in widths}


def accumulated(gradients_of: Callable, steps: int) -> Callable:
    """Runs `gradients_of` on `steps` parts of the batch and averages the results.

    Every part starts from the same statistics, whose update is linear in the batch's:
    so the result is that of the whole batch, if a part holds whole groups of
    `norm_batch` examples.

    Args:
        gradients_of: what `sum_over_widths` returns.
        steps: number of parts; 1 returns `gradients_of` itself.

    Example:
        >>> f = accumulated(lambda p, s, b: (b.mean() * p, s, {1.0: b}), 2)
        >>> gradients, _, aux = f(jnp.float32(1), {}, jnp.array([1.0, 2.0, 3.0, 6.0]))
        >>> float(gradients), aux[1.0].tolist()
        (3.0, [1.0, 2.0, 3.0, 6.0])
    """
    if steps == 1:
        return gradients_of

    def combined(params, stats, batch):
        parts = jax.tree.map(lambda x: x.reshape(steps, -1, *x.shape[1:]), batch)

        def body(total, part):
            gradients, new_stats, aux = gradients_of(params, stats, part)
            return jax.tree.map(jnp.add, total, (gradients, new_stats)), aux

        first = jax.tree.map(lambda x: x[0], parts)
        shapes = jax.eval_shape(gradients_of, params, stats, first)[:2]
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        total, aux = lax.scan(body, zeros, parts)
        gradients, new_stats = jax.tree.map(lambda x: x / steps, total)
        # A loss has no axis of examples, logits have: [steps, ...] -> [examples, ...].
        aux = jax.tree.map(
            lambda x: x if x.ndim == 1 else x.reshape(-1, *x.shape[2:]), aux
        )
        return gradients, new_stats, aux

    return combined


def _always(params: Any) -> Array:
    """A truth that the compiler cannot know.

    XLA runs independent widths side by side, holding the activations of all, unless
    each stands in a conditional whose outcome shows only at run time. One bit of the
    parameters is never 2, whatever they are; a comparison of their values would be
    false for a NaN.
    """
    leaf = jax.tree.leaves(params)[0]
    value = leaf.reshape(-1)[0]
    bits = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32, 8: jnp.uint64}
    whole = jax.lax.bitcast_convert_type(value, bits[value.dtype.itemsize])
    return (whole & jnp.ones_like(whole)) != 2 * jnp.ones_like(whole)
