"""Masks, heat maps and boxes made by formulas, the same wherever they are made."""

import numpy as np

SIZE = (45, 60)  # of the image: height and width
# Inside, across each border, of whole pixels, thin, and of less than a pixel.
BOXES = np.array(
    [
        [5.3, 7.1, 30.8, 29.9],
        [-6.5, -3.25, 20.1, 16.7],
        [40.2, 30.6, 66.3, 50.9],
        [0.0, 0.0, 60.0, 45.0],
        [10.0, 12.0, 38.0, 40.0],
        [20.4, 3.3, 22.1, 41.2],
        [33.2, 20.2, 33.7, 20.9],
        [12.9, 5.5, 47.4, 8.2],
    ],
    np.float32,
)


def waves(count, size, phase=0.0):
    """Smooth maps: float32 `[count, size, size]`, in about -3..3."""
    y, x = np.mgrid[:size, :size] / size
    k = np.arange(count)[:, None, None] + phase
    values = np.sin(7 * x + k) + np.cos(5 * y - 2 * k) + np.sin(9 * x * y + 3 * k)
    return values.astype(np.float32)


def masks():
    """Probabilities: float32 `[boxes, 28, 28]`."""
    return (1 / (1 + np.exp(-3 * waves(len(BOXES), 28) - 1))).astype(np.float32)


def heat_maps():
    """Logits: float32 `[boxes, 3, 56, 56]`."""
    return 4 * waves(len(BOXES) * 3, 56, 0.5).reshape(len(BOXES), 3, 56, 56)
