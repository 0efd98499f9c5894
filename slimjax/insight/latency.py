"""How long a network takes for an image on this device."""

import functools
import time
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from slimjax.width import Width, widest_first


def latency_ms(
    model: nn.Module,
    variables: Mapping[str, Any],
    image_shape: tuple[int, int, int],
    *,
    batch_size: int = 1,
    repeats: int = 30,
) -> dict[Width, float]:
    """Returns the median milliseconds an image of every width, widest first.

    The widths take turns, so that whatever else the machine does hits all alike.

    Args:
        model: takes images and `width=`, and has a field `widths`.
        variables: of the model.
        image_shape: height, width and channels.
        batch_size: images that are run together.
        repeats: timed runs of each width.

    Example:
        >>> import slimjax
        >>> model = slimjax.create_model('resnet14', num_classes=10, widths=(0.25,))
        >>> images = jnp.zeros((1, 32, 32, 3))
        >>> variables = jax.jit(model.init)(jax.random.key(0), images)
        >>> latency_ms(model, variables, (32, 32, 3), repeats=1)[0.25] > 0
        True
    """
    images = jnp.zeros((batch_size, *image_shape), jnp.float32)
    variables = jax.device_put(variables)
    runs = {}
    for width in widest_first(model.widths):
        runs[width] = jax.jit(functools.partial(model.apply, width=width))
        for _ in range(3):
            jax.block_until_ready(runs[width](variables, images))
    times = {width: [] for width in runs}
    for _ in range(repeats):
        for width, run in runs.items():
            start = time.perf_counter()
            jax.block_until_ready(run(variables, images))
            times[width].append(time.perf_counter() - start)
    return {
        width: 1000 * float(np.median(each)) / batch_size
        for width, each in times.items()
    }
