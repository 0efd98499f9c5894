"""How the numbers of kernels are stored: in 32 or 16 bits, or as 8-bit integers."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import jax
import numpy as np

Storage = Literal['float32', 'float16', 'int8']
_LARGEST = 127


class Stored(NamedTuple):
    """What is kept of an array.

    Attributes:
        values: of the type that is stored.
        scale: `[out]`, by which the last axis of `values` is to be multiplied; None
            for not at all.
    """

    values: np.ndarray
    scale: np.ndarray | None = None

    def restored(self) -> np.ndarray:
        """Returns the array as it will be computed with, in float32."""
        values = self.values.astype(np.float32)
        return values if self.scale is None else values * self.scale


def stored(array: np.ndarray, storage: Storage) -> Stored:
    """Returns an array as it is stored.

    Vectors stay in float32: they are small, and norms are sensitive to them. Integers
    have a scale for each output channel, which all widths share.

    Raises:
        ValueError: float16 cannot hold the values.

    Example:
        >>> found = stored(np.array([[1.0, -4.0], [0.5, 2.0]], np.float32), 'int8')
        >>> found.values.tolist(), found.restored()[:, 0].round(2).tolist()
        ([[127, -127], [64, 64]], [1.0, 0.5])
    """
    array = np.asarray(array, np.float32)
    if not np.isfinite(array).all():
        raise ValueError('weights hold NaN or infinity: nothing can be exported')
    if storage == 'float32' or array.ndim < 2:
        return Stored(array)
    if storage == 'float16':
        if np.abs(array).max(initial=0) > np.finfo(np.float16).max:
            raise ValueError('weights above 65504 do not fit float16')
        return Stored(array.astype(np.float16))
    largest = np.abs(array).max(tuple(range(array.ndim - 1)))
    scale = np.where(largest > 0, largest / _LARGEST, 1).astype(np.float32)
    values = np.clip(np.rint(array / scale), -_LARGEST, _LARGEST)
    return Stored(values.astype(np.int8), scale)


def as_restored(variables: Mapping[str, Any], storage: Storage) -> dict[str, Any]:
    """Returns variables as they will be computed with once they have been stored."""
    return jax.tree.map(lambda leaf: stored(leaf, storage).restored(), dict(variables))
