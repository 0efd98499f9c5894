"""BatchNorm statistics of a network whose weights are fixed."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from slimjax.data.augment import normalize
from slimjax.models.common import SlimmableClassifier
from slimjax.train.parallel import prefetched
from slimjax.variables import Stats, apply_train
from slimjax.width import widest_first


def make_calibration_step(
    model: SlimmableClassifier, config: Mapping[str, Any]
) -> Callable[[Any, Mapping[str, Any]], Any]:
    """Returns the statistics of one batch at all widths, to be mapped over devices.

    Args:
        model: its `axis_name` is the name of the mapped axis; None for no mapping.
        config: `mean` and `std` of the images.

    Returns:
        `step((params, stats), batch) -> (mean, square)`: the batch's own statistics in
        place of running ones, and the squares of all its means; averaged over
        devices. What several widths share is the mean of theirs.
    """
    # Nothing of the old statistics is kept, and the groups are pooled in any case.
    model = model.clone(norm_momentum=0.0, norm_batch='device')
    widths = widest_first(model.widths)

    def step(variables, batch):
        params, stats = variables
        images = normalize(batch['image'], config['mean'], config['std'], model.dtype)
        total = jax.tree.map(jnp.zeros_like, stats)
        uses = dict.fromkeys(stats, 0)
        for width in widths:
            _, found = apply_train(model, params, stats, images, width=width)
            for name in model.stats_collections(width):
                total[name] = jax.tree.map(jnp.add, total[name], found[name])
                uses[name] += 1
        own = {
            name: jax.tree.map(lambda x, n=uses[name]: x / max(n, 1), tree)
            for name, tree in total.items()
        }
        moments = (own, jax.tree.map(jnp.square, own))
        return lax.pmean(moments, model.axis_name) if model.axis_name else moments

    return step


def calibrate(
    calibration_step: Callable,
    params: Any,
    stats: Stats,
    batches: Iterable[Mapping[str, np.ndarray]],
) -> Stats:
    """Returns the statistics of `batches` together, for every width.

    A variance is the mean of the batches' variances plus the variance of their means.

    Args:
        calibration_step: what `make_calibration_step` returns, under `pmapped`.
        params: the weights, placed by `replicated`.
        stats: statistics of the same structure, whose values do not matter.
        batches: this process's part of the images, in whole batches.

    Raises:
        ValueError: there is no batch.
    """
    sums, count = None, 0
    for batch in prefetched(batches):
        moments = jax.device_get(calibration_step((params, stats), batch))
        moments = jax.tree.map(np.float64, moments)
        sums = moments if sums is None else jax.tree.map(np.add, sums, moments)
        count += 1
    if sums is None:
        raise ValueError('there is no batch to calibrate on')
    means, squares = jax.tree.map(lambda x: x / count, sums)

    def pooled(path, mean, old):
        if path[-1].key == 'var':
            *norm, _ = path
            of_means, of_squares = (_at(t, norm)['mean'] for t in (means, squares))
            mean = mean + np.maximum(of_squares - np.square(of_means), 0)
        return mean.astype(old.dtype)

    return jax.tree_util.tree_map_with_path(pooled, means, stats)


def _at(tree: Any, path: Iterable[Any]) -> Any:
    for entry in path:
        tree = tree[entry.key]
    return tree
