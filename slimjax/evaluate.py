"""Evaluation of every width, with every example counted once."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from slimjax.data.augment import normalize
from slimjax.models.common import SlimmableClassifier
from slimjax.train.losses import correct_in_top, example_losses
from slimjax.train.parallel import prefetched
from slimjax.width import width_name

Results = dict[str, dict[str, float]]


def make_eval_step(
    model: SlimmableClassifier, config: Mapping[str, Any]
) -> Callable[[Any, Mapping[str, Array]], dict[str, Any]]:
    """Returns the evaluation of one batch at all widths, to be mapped over devices.

    Args:
        model: its `axis_name` is the name of the mapped axis; None for no mapping.
        config: `label_smoothing`, `label_smoothing_form`, `mean` and `std`.

    Returns:
        `step(variables, batch) -> {width: {'loss', 'top1', 'top5', 'count'}}` with
        sums over the examples whose `mask` is 1, of all devices.
    """

    def step(variables, batch):
        images = normalize(batch['image'], config['mean'], config['std'], model.dtype)
        mask = batch['mask'].astype(jnp.float32)
        sums = {}
        for width in model.widths:
            logits = model.apply(variables, images, width=width, train=False)
            scores = {
                'loss': example_losses(
                    logits,
                    batch['label'],
                    smoothing=config['label_smoothing'],
                    form=config['label_smoothing_form'],
                ),
                'top1': correct_in_top(logits, batch['label'], 1),
                'top5': correct_in_top(logits, batch['label'], 5),
                'count': jnp.ones_like(mask),
            }
            # A masked example may hold anything: it must not turn a sum into NaN.
            sums[width_name(width)] = {
                name: jnp.where(mask > 0, score, 0).sum()
                for name, score in scores.items()
            }
        return lax.psum(sums, model.axis_name) if model.axis_name else sums

    return step


def evaluate(
    eval_step: Callable, variables: Any, batches: Iterable[Mapping[str, np.ndarray]]
) -> Results:
    """Returns the mean scores of every width.

    Args:
        eval_step: what `make_eval_step` returns, under `pmapped`.
        variables: parameters and statistics, placed by `replicated`.
        batches: this process's part of the batches, padded, with `mask`.

    Returns:
        `{'0.25': {'loss': ..., 'top1': ..., 'top5': ..., 'count': ...}, ...}`;
        accuracies are fractions, and a network of less than 5 classes has all
        examples right in its top 5.

    Raises:
        ValueError: there is no example.
    """
    totals = None
    for batch in prefetched(batches):
        sums = jax.device_get(eval_step(variables, batch))
        sums = jax.tree.map(np.float64, sums)
        totals = sums if totals is None else jax.tree.map(np.add, totals, sums)
    if totals is None or not all(total['count'] for total in totals.values()):
        raise ValueError('there is no example to evaluate')
    return {
        name: {
            score: float(value / total['count']) if score != 'count' else int(value)
            for score, value in total.items()
        }
        for name, total in totals.items()
    }
