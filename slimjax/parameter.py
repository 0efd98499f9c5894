"""A parameter of a user's own module, cut to the channels of the width that runs."""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from slimjax.layers import Initializer, layer_path, sow_active, untraced_param


def slim_param(
    layer: nn.Module,
    name: str,
    init: Initializer,
    shape: Sequence[int],
    *,
    stored: int | None = None,
    dtype: Any = jnp.float32,
) -> Array:
    """Returns the first channels of a parameter of a module of your own.

    For what is neither a kernel nor a norm: a layer scale, a position embedding. One
    array serves all widths; where it is made, it has the channels of the widest.

    Args:
        layer: the module, in its `nn.compact` method or `setup`.
        name: of the parameter.
        init: called as `init(key, shape, dtype)`.
        shape: at the width that runs; the last axis are the channels, and the others
            are the same at every width.
        stored: channels at the widest. None takes those of `shape`, which are the
            widest's only if the variables are initialised at the widest.
        dtype: of the parameter.

    Raises:
        ValueError: more channels than are stored, or other axes than before.

    Example:
        >>> import jax
        >>> class Scale(nn.Module):
        ...     @nn.compact
        ...     def __call__(self, x):
        ...         shape = (1, x.shape[-1])
        ...         return x * slim_param(self, 'scale', nn.initializers.ones, shape)
        >>> variables = Scale().init(jax.random.key(0), jnp.ones((2, 8)))
        >>> Scale().apply(variables, jnp.ones((2, 6))).shape
        (2, 6)
    """
    *others, active = shape
    stored = active if stored is None else stored
    whole = untraced_param(layer, name, init, (*others, stored), dtype)
    if list(whole.shape[:-1]) != others or whole.shape[-1] < active:
        raise ValueError(
            f'{layer_path(layer)}: {name} of the shape {whole.shape} cannot give '
            f'{tuple(shape)}; initialise at the widest width, or state stored='
        )
    cut = whole[..., :active]
    sow_active(layer, {name: cut})
    return cut
