"""One training step: every width on the same batch, one update."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from slimjax.data.augment import augment
from slimjax.models.common import SlimmableClassifier
from slimjax.train.finite import IN_TURN, unless_finite, with_hidden
from slimjax.train.losses import correct_in_top, cross_entropy
from slimjax.train.objective import (
    Aux,
    LossFn,
    WidthResult,
    accumulated,
    gradient_in_turn,
    sum_over_widths,
)
from slimjax.train.parallel import averaged
from slimjax.train.state import Average, TrainState
from slimjax.train.stem import shares_stem, sum_with_shared_stem
from slimjax.variables import apply_train
from slimjax.width import Width, widest_first, width_name

Batch = Mapping[str, Array]


def trained_widths(
    widths: Sequence[Width], config: Mapping[str, Any]
) -> tuple[Width, ...]:
    """Returns the widths that a run trains, widest first: all that are not frozen.

    Example:
        >>> trained_widths((0.25, 0.5, 1.0), {'frozen_width': 0.25})
        (1.0, 0.5)
    """
    ordered, frozen = widest_first(widths), config.get('frozen_width', 0.0)
    return tuple(width for width in ordered if not frozen or width > frozen)


def metric_names(
    widths: Sequence[Width], config: Mapping[str, Any] | None = None
) -> tuple[str, ...]:
    """Returns the names of the metrics that a step returns.

    Args:
        widths: those of the model.
        config: `frozen_width` and `reduce`; None where all are trained together.

    Example:
        >>> metric_names((0.5, 1.0))
        ('loss/1.0', 'top1/1.0', 'loss/0.5', 'top1/0.5', 'grad_norm')
    """
    config = config or {}
    names = [width_name(width) for width in trained_widths(widths, config)]
    if config.get('reduce') == IN_TURN:
        names = [IN_TURN]
    return (*(f'{m}/{name}' for name in names for m in ('loss', 'top1')), 'grad_norm')


def make_loss_fn(model: SlimmableClassifier, config: Mapping[str, Any]) -> LossFn:
    """Returns the loss of one width, as `sum_over_widths` takes it.

    Where there is a teacher, the softmax of its logits is all that is learnt from: no
    label, and no label smoothing (US-Nets, section 4.2). It may also stand in the
    batch, see `slimjax.train.teacher`.
    """

    def loss_fn(params, stats, batch, *, width, teacher=None):
        logits, stats = apply_train(model, params, stats, batch['image'], width=width)
        loss = cross_entropy(
            logits,
            batch['label'],
            batch.get('teacher', teacher),
            smoothing=config['label_smoothing'],
            form=config['label_smoothing_form'],
        )
        return loss, Aux(stats, logits)

    return loss_fn


def make_inputs(
    model: SlimmableClassifier, config: Mapping[str, Any], step: Array, batch: Batch
) -> dict[str, Array]:
    """Returns what all widths of a step see: augmented images, labels, a teacher."""
    examples = batch['label'].shape[0]
    device = lax.axis_index(model.axis_name) if model.axis_name else 0
    return {
        'image': augment(
            batch['image'],
            key=jax.random.fold_in(jax.random.key(config['seed']), step),
            positions=device * examples + jnp.arange(examples),
            jitter=config['jitter'],
            lighting=config['lighting'],
            mean=config['mean'],
            std=config['std'],
            dtype=model.dtype,
        ),
        **{name: batch[name] for name in ('label', 'teacher') if name in batch},
    }


def width_scores(result: WidthResult, labels: Array) -> dict[str, Array]:
    """Returns the loss and the accuracy that are logged of a width."""
    return {
        'loss': result.loss.mean().astype(jnp.float32),
        'top1': correct_in_top(result.logits, labels, 1).mean(),
    }


def updated(
    state: TrainState,
    optimizer: optax.GradientTransformation,
    gradients: Any,
    stats: Any,
    metrics: Mapping[str, Array],
    config: Mapping[str, Any],
) -> tuple[TrainState, dict[str, Array]]:
    """Applies averaged gradients once; returns the next state, and all metrics.

    Args:
        state: the state before.
        optimizer: whose update it is.
        gradients: of all widths together, the same on all devices.
        stats: the collections after the step, likewise.
        metrics: likewise; those of the state's `sums` are added up there.
        config: `ema_decay` of the moving averages, where the state has them, and
            `skip_nonfinite`, 0 if left out.
    """
    norm = optax.global_norm(gradients).astype(jnp.float32)
    metrics = {**with_hidden(metrics, stats), 'grad_norm': norm}
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    sums = {
        name: total + (1 if name == 'count' else metrics[name])
        for name, total in state.sums.items()
    }
    new_state = TrainState(
        step=state.step + 1,
        params=params,
        stats=stats,
        opt_state=opt_state,
        average=_averaged(state, params, stats, config['ema_decay']),
        sums=sums,
    )
    if config.get('skip_nonfinite'):
        new_state = unless_finite(state, new_state, metrics)
    return new_state, metrics


def finished(
    state: TrainState,
    optimizer: optax.GradientTransformation,
    found: tuple[Any, Any, Mapping[str, Array]],
    batch: Batch,
    config: Mapping[str, Any],
    *,
    axis_name: str | None,
) -> tuple[TrainState, dict[str, Array]]:
    """Averages over devices what a step found, and applies it once.

    Args:
        state: the state before.
        optimizer: whose update it is.
        found: gradients, collections and metrics of this device.
        batch: holds `stop` where a process may ask for the end.
        config: as in `updated`.
        axis_name: the mapped axis of devices, if any.

    Returns:
        The next state and all metrics; `stop` is the largest of any device.
    """
    gradients, stats, metrics = averaged(found, axis_name) if axis_name else found
    new_state, metrics = updated(state, optimizer, gradients, stats, metrics, config)
    if 'stop' in batch:
        stop = batch['stop']
        metrics['stop'] = lax.pmax(stop, axis_name) if axis_name else stop
    return new_state, metrics


def make_train_step(
    model: SlimmableClassifier,
    optimizer: optax.GradientTransformation,
    config: Mapping[str, Any],
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, Array]]]:
    """Returns the training step, a plain function to be mapped over devices.

    Args:
        model: its `axis_name` is the name of the mapped axis; None for no mapping.
        optimizer: applied once, to the gradients of all widths together.
        config: `seed`, `label_smoothing`, `label_smoothing_form`, `distill`, `reduce`,
            `loss_weights`, `accumulate_steps`, `ema_decay`, `frozen_width` and
            `skip_nonfinite` (none if left out), and the device's part of the
            augmentation: `jitter`, `lighting`, `mean`, `std`.

    Returns:
        `step(state, batch) -> (state, metrics)` with a device's part of the batch,
        `image` uint8 `[examples, height, width, channels]`, `label` int `[examples]`,
        and `teacher` where one is configured, logits `[examples, classes]`. All that it
        returns is averaged over devices. Besides the `metric_names`, `metrics` holds
        `stop`, the largest `batch['stop']` of any device where the batch has one.
    """
    axis_name = model.axis_name
    gradients_of = _gradients_of(model, config)

    def step(state: TrainState, batch: Batch):
        inputs = make_inputs(model, config, state.step, batch)
        gradients, stats, aux = gradients_of(state, inputs)
        metrics = {
            f'{score}/{name}': value
            for name, result in aux.items()
            for score, value in width_scores(result, batch['label']).items()
        }
        return finished(
            state,
            optimizer,
            (gradients, stats, metrics),
            batch,
            config,
            axis_name=axis_name,
        )

    return step


def _gradients_of(model: SlimmableClassifier, config: Mapping[str, Any]) -> Callable:
    """`f(state, inputs) -> (gradients, stats, {name: WidthResult})`, of one device."""
    loss_fn, parts = make_loss_fn(model, config), config['accumulate_steps']
    widths, weights = trained_widths(model.widths, config), None
    if config['loss_weights']:
        weights = dict(zip(model.widths, config['loss_weights'], strict=True))
    if config['reduce'] == IN_TURN:
        one = gradient_in_turn(loss_fn, widths, weights=weights)

        def in_turn(state, inputs):
            gradients, stats, result = accumulated(partial(one, state.step), parts)(
                state.params, state.stats, inputs
            )
            return gradients, stats, {IN_TURN: result}

        return in_turn
    shared = shares_stem(model)
    summing = partial(sum_with_shared_stem, model) if shared else sum_over_widths
    summed = summing(
        loss_fn,
        widths,
        reduce=config['reduce'],
        distill=config['distill'],
        weights=weights,
    )

    def together(state, inputs):
        gradients, stats, results = accumulated(summed, parts)(
            state.params, state.stats, inputs
        )
        named = {width_name(width): result for width, result in results.items()}
        return gradients, stats, named

    return together


def _averaged(state: TrainState, params, stats, decay: float) -> Average | None:
    if state.average is None:
        return None
    # Early on, the average of few steps must not cling to the initial weights.
    step = state.step.astype(jnp.float32)
    keep = jnp.minimum(decay, (1 + step) / (10 + step))
    return jax.tree.map(
        lambda old, new: (keep * old + (1 - keep) * new).astype(old.dtype),
        state.average,
        Average(params, stats),
    )
