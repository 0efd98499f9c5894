"""How PyTorch lays out an array, and how slimjax does."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

# Bins along a side of the features that torchvision's detectors flatten.
_BINS = 7


class Layout(NamedTuple):
    """The ways in and out."""

    ours: Callable[[np.ndarray], np.ndarray]
    theirs: Callable[[np.ndarray], np.ndarray]


def _flattened_in(tensor):
    kernel = tensor.reshape(len(tensor), -1, _BINS, _BINS)
    return kernel.transpose(2, 3, 1, 0).reshape(-1, len(tensor))


def _flattened_out(array):
    kernel = array.reshape(_BINS, _BINS, -1, array.shape[-1])
    return kernel.transpose(3, 2, 0, 1).reshape(array.shape[-1], -1)


LAYOUTS = {
    # OIHW and HWIO, (out, in) and (in, out), vectors.
    'plain': Layout(
        lambda tensor: tensor.transpose(2, 3, 1, 0) if tensor.ndim == 4 else tensor.T,
        lambda array: array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T,
    ),
    # A dense layer on flattened maps, whose channels come first in PyTorch.
    'flattened': Layout(_flattened_in, _flattened_out),
    # A transposed convolution: IOHW and HWIO.
    'doubling': Layout(
        lambda tensor: tensor.transpose(2, 3, 0, 1),
        lambda array: array.transpose(2, 3, 0, 1),
    ),
    # The same, as a convolution of Flax, whose kernel is not turned round.
    'transposed': Layout(
        lambda tensor: tensor.transpose(2, 3, 0, 1)[::-1, ::-1],
        lambda array: array[::-1, ::-1].transpose(2, 3, 0, 1),
    ),
}
