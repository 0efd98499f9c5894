"""How far the widths of a network pull its shared weights the same way.

The gradient of a narrow width and that of a wide one meet in the slice that both use.
A cosine of 1 is one direction, 0 none in common, and below 0 one works against the
other.
"""

import itertools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from slimjax.models.common import SlimmableClassifier
from slimjax.train.frozen import used_at
from slimjax.train.loop import Measure
from slimjax.train.objective import LossFn, width_gradient
from slimjax.train.run import Run
from slimjax.train.state import TrainState
from slimjax.train.step import make_inputs, make_loss_fn
from slimjax.width import Width, widest_first, width_name

PREFIX = 'cosine'
# Batches whose cosines are averaged: of one, they are noisy.
_BATCHES = 4

Cosines = dict[tuple[Width, Width], dict[str, float]]


class GradientCosines:
    """Cosines of the gradients of any two widths, by layer.

    Args:
        model: under no mapped axis.
        loss_fn: as of `sum_over_widths`.
        image_shape: height, width and channels of an image.
    """

    def __init__(
        self,
        model: SlimmableClassifier,
        loss_fn: LossFn,
        image_shape: tuple[int, int, int],
    ):
        self._widths = widest_first(model.widths)
        # One program a width, so that the activations of one are held at a time.
        self._gradients = {
            width: jax.jit(width_gradient(loss_fn, width)) for width in self._widths
        }
        self._used = jax.jit(
            lambda: {
                width: used_at(model, width, image_shape) for width in self._widths
            }
        )
        self._cosines = jax.jit(_cosines)

    def __call__(self, params: Any, stats: Any, batch: Mapping[str, Any]) -> Cosines:
        """Returns the cosine of each layer's kernel by pair of widths, wider first.

        Args:
            params: of the model.
            stats: its other collections.
            batch: as `loss_fn` takes it.
        """
        gradients = {
            width: gradient(params, stats, batch, None)[0]
            for width, gradient in self._gradients.items()
        }
        used = self._used()
        return {
            (wide, narrow): {
                name: float(value)
                for name, value in self._cosines(
                    gradients[wide], gradients[narrow], used[wide], used[narrow]
                ).items()
            }
            for wide, narrow in itertools.combinations(self._widths, 2)
        }


def _cosines(wide, narrow, by_wide, by_narrow) -> dict[str, jax.Array]:
    """By layer, of the kernels in the slice that both widths use."""
    found = {}
    # Of channel tables, the smaller one may have the more channels in a layer.
    shared = jax.tree.map(jnp.logical_and, by_wide, by_narrow)
    leaves = jax.tree_util.tree_leaves_with_path(shared)
    gradients = zip(jax.tree.leaves(wide), jax.tree.leaves(narrow), strict=True)
    for (path, both), pair in zip(leaves, gradients, strict=True):
        if 'kernel' not in path[-1].key:
            continue
        one, other = (jnp.where(both, each, jnp.zeros_like(each)) for each in pair)
        lengths = jnp.linalg.norm(one.ravel()) * jnp.linalg.norm(other.ravel())
        layer = jax.tree_util.keystr(path[:-1], simple=True, separator='/')
        found[layer] = jnp.vdot(one, other) / jnp.maximum(lengths, 1e-30)
    return found


def watch_gradients(run: Run) -> Measure:
    """Returns what measures the cosines of a run, for `train(measure=...)`.

    They are those of the next training batches, augmented, without momentum and decay,
    and are written as `cosine/WIDE/NARROW/LAYER`.

    Args:
        run: of a network of several widths, without sandwich.
    """
    model, config = run.model.clone(axis_name=None), run.config
    cosines = GradientCosines(model, make_loss_fn(model, config), run.image_shape)

    @jax.jit
    def prepared(step, batch):
        return make_inputs(model, config, step, batch)

    def measure(step: int, state: TrainState) -> dict[str, float]:
        reader, total = run.train_reader(step), {}
        try:
            for number, batch in enumerate(itertools.islice(reader, _BATCHES)):
                inputs = prepared(jnp.int32(step + number), batch)
                found = cosines(state.params, state.stats, inputs)
                for (wide, narrow), layers in found.items():
                    pair = f'{width_name(wide)}/{width_name(narrow)}'
                    for layer, value in layers.items():
                        name = f'{PREFIX}/{pair}/{layer}'
                        total.setdefault(name, []).append(value)
        finally:
            reader.close()
        return {name: float(np.mean(values)) for name, values in total.items()}

    return measure
