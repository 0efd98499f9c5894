"""How long a network takes for an image on this device."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from slimjax.insight.passes import pass_keywords
from slimjax.insight.timing import interleaved
from slimjax.width import Width


def latency_ms(
    model: nn.Module,
    variables: Mapping[str, Any],
    image_shape: tuple[int, int, int],
    *,
    widths: Sequence[Width] | None = None,
    batch_size: int = 1,
    repeats: int = 30,
) -> dict[Width, float]:
    """Returns the median milliseconds an image of every width, widest first.

    The widths take turns, so that whatever else the machine does hits all alike.

    Args:
        model: a Flax module called with images, and with `width=` and `train=` if it
            takes them; one that takes no `width=` is timed as width 1.0.
        variables: of the model.
        image_shape: height and width in pixels, and channels.
        widths: None for the model's field `widths`.
        batch_size: images that are run together; their time is shared out.
        repeats: timed runs of each width, after the first ones, which compile.

    Raises:
        ValueError: less than one image or run, or the widths are unknown.

    Example:
        >>> import slimjax
        >>> model = slimjax.SlimConv(8, 3, widths=(0.5, 1.0))
        >>> variables = model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
        >>> list(latency_ms(model, variables, (32, 32, 3), repeats=1))
        [1.0, 0.5]
    """
    if batch_size < 1:
        raise ValueError(f'batch_size={batch_size}: at least 1 is needed')
    images = jnp.zeros((batch_size, *image_shape), jnp.float32)
    variables = jax.device_put(variables)

    def run(apply):
        return lambda: jax.block_until_ready(apply(variables, images))

    runs = {
        width: run(jax.jit(partial(model.apply, **keywords)))
        for width, keywords in pass_keywords(model, widths).items()
    }
    return {
        width: float(np.median(each)) / batch_size
        for width, each in interleaved(runs, repeats).items()
    }
