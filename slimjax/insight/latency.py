"""How long a network takes for an image on this device."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from slimjax.insight.memory import temporary_bytes
from slimjax.insight.passes import pass_keywords
from slimjax.insight.timing import interleaved
from slimjax.variables import own_variables
from slimjax.width import Width


class Pass:
    """An inference pass at one width, compiled for a batch; a call runs it to its end.

    It is given what the width reads, and not the norms of the others.

    Attributes:
        temporary_bytes: what the program needs beside what goes in and comes out; None
            where XLA does not tell.
    """

    def __init__(self, model: nn.Module, variables, images, keywords):
        if 'width' in keywords:
            variables = own_variables(model, variables, keywords['width'])
        apply = jax.jit(partial(model.apply, **keywords))
        self._compiled = apply.lower(variables, images).compile()
        self._inputs = variables, images
        self.temporary_bytes = temporary_bytes(self._compiled)

    def __call__(self) -> None:
        jax.block_until_ready(self._compiled(*self._inputs))


def inference_passes(
    model: nn.Module,
    variables: Mapping[str, Any],
    image_shape: tuple[int, int, int],
    *,
    widths: Sequence[Width] | None = None,
    batch_size: int = 1,
) -> dict[Width, Pass]:
    """Returns the compiled passes of every width, widest first.

    Args:
        model: a Flax module called with images, and with `width=` and `train=` if it
            takes them; one that takes no `width=` is timed as width 1.0.
        variables: of the model.
        image_shape: height and width in pixels, and channels.
        widths: None for the model's field `widths`.
        batch_size: images that are run together.

    Raises:
        ValueError: less than one image, or the widths are unknown.

    Example:
        >>> import slimjax
        >>> model = slimjax.SlimConv(8, 3, widths=(0.5, 1.0))
        >>> variables = model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
        >>> list(inference_passes(model, variables, (32, 32, 3)))
        [1.0, 0.5]
    """
    if batch_size < 1:
        raise ValueError(f'batch_size={batch_size}: at least 1 is needed')
    images = jnp.zeros((batch_size, *image_shape), jnp.float32)
    variables = jax.device_put(variables)
    return {
        width: Pass(model, variables, images, keywords)
        for width, keywords in pass_keywords(model, widths).items()
    }


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
        model: as in `inference_passes`.
        variables: of the model.
        image_shape: height and width in pixels, and channels.
        widths: None for the model's field `widths`.
        batch_size: images that are run together; their time is shared out.
        repeats: timed runs of each width, after 3 that are not.

    Raises:
        ValueError: less than one image or run, or the widths are unknown.

    Example:
        >>> import slimjax
        >>> model = slimjax.SlimConv(8, 3, widths=(0.5, 1.0))
        >>> variables = model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
        >>> list(latency_ms(model, variables, (32, 32, 3), repeats=1))
        [1.0, 0.5]
    """
    passes = inference_passes(
        model, variables, image_shape, widths=widths, batch_size=batch_size
    )
    return {
        width: float(np.median(each)) / batch_size
        for width, each in interleaved(passes, repeats).items()
    }
