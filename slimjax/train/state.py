"""The state of a training run: all that a checkpoint must hold."""

from functools import partial
from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax import Array

from slimjax.variables import split_variables


@flax.struct.dataclass
class Average:
    """Moving averages of the weights and of every width's statistics."""

    params: Any
    stats: Any


@flax.struct.dataclass
class TrainState:
    """What a step takes and returns; it has no device axis.

    Attributes:
        step: steps done so far, int32; the only clock of a run.
        params: parameters of all widths.
        stats: all other collections, such as `batch_stats_0.25`.
        opt_state: state of the optimiser.
        average: moving averages, or None where they are not wanted.
        sums: metrics added up since the last log line, and their number `count`;
            part of the state so that a resumed run logs what an uninterrupted one does.
    """

    step: Array
    params: Any
    stats: Any
    opt_state: Any
    average: Average | None
    sums: dict[str, Array]


def create_state(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    image_shape: tuple[int, int, int],
    metric_names: tuple[str, ...],
    *,
    seed: int,
    average: bool = False,
) -> TrainState:
    """Returns the state at step 0.

    Args:
        model: a slimmable classifier.
        optimizer: whose state is initialised.
        image_shape: height, width and channels of an image.
        metric_names: names of the metrics that a step returns.
        seed: of the initialisation.
        average: whether moving averages are kept.

    Example:
        >>> import slimjax
        >>> fields = {'widths': (0.5, 1.0), 'stage_sizes': (1,), 'base_features': 8}
        >>> model = slimjax.create_model('resnet14', num_classes=10, **fields)
        >>> state = create_state(model, optax.sgd(0.1), (32, 32, 3), ('loss/1.0',),
        ...                      seed=0)
        >>> int(state.step)
        0
    """

    # The key is an argument: as a constant it would take the compiler 10 s to fold, and
    # make a program of each seed.
    @jax.jit
    def create(key):
        params, stats = initial_variables(model, image_shape, key)
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            stats=stats,
            opt_state=optimizer.init(params),
            average=Average(params, stats) if average else None,
            sums=zero_sums(metric_names),
        )

    return create(jax.random.key(seed))


def zero_sums(metric_names: tuple[str, ...]) -> dict[str, Array]:
    """Returns the sums of an interval that has no step yet.

    Example:
        >>> sorted(zero_sums(('loss/1.0',)))
        ['count', 'loss/1.0']
    """
    return {name: jnp.zeros((), jnp.float32) for name in (*metric_names, 'count')}


# Of one network, shapes and values are asked for several times, and it is traced once.
@partial(jax.jit, static_argnums=(0, 1))
def initial_variables(
    model: nn.Module, image_shape: tuple[int, int, int], key: Array
) -> tuple[Any, dict[str, Any]]:
    """Returns parameters and statistics before training."""
    images = jnp.zeros((1, *image_shape), jnp.float32)
    return split_variables(model.init(key, images))


def abstract_variables(
    model: nn.Module, image_shape: tuple[int, int, int]
) -> tuple[Any, dict[str, Any]]:
    """Returns shapes and types of `initial_variables`, computing nothing."""
    key = jax.eval_shape(jax.random.key, 0)
    return jax.eval_shape(partial(initial_variables, model, image_shape), key)
