"""The types in which statistics and losses are computed."""

from typing import Any

import jax.numpy as jnp
import numpy as np


def at_least_float32(dtype: Any) -> np.dtype:
    """Returns `dtype`, or float32 where that is wider.

    Example:
        >>> at_least_float32('bfloat16'), at_least_float32('float64')
        (dtype('float32'), dtype('float64'))
    """
    # NumPy's promotion, as jax's refuses to promote under its strict setting.
    return np.promote_types(np.float32, jnp.dtype(dtype))
