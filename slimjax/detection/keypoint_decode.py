"""From the heat maps of a box to its keypoints, as Mask R-CNN's authors decode them.

On the host and on numpy arrays: each box is resized to its own size in pixels.
"""

import math

import numpy as np

STYLES = ('detectron2', 'torchvision')
# Of PyTorch's bicubic kernel; others take -0.5.
_SHARPNESS = -0.75


def decode_keypoints(
    logits: np.ndarray, boxes: np.ndarray, style: str = 'detectron2'
) -> np.ndarray:
    """Returns the most likely place of each keypoint.

    The maps are resized to the size of the box in whole pixels, bicubically, and the
    centre of the largest value is taken (Detectron2's and torchvision's
    `heatmaps_to_keypoints`).

    Args:
        logits: float `[boxes, keypoints, size, size]`.
        boxes: float `[boxes, 4]`, x1, y1, x2, y2 in pixels.
        style: what the third number is: `'detectron2'`, a probability, the softmax
            over the map at the point; `'torchvision'`, the logit there.

    Returns:
        float32 `[boxes, keypoints, 3]`: x and y in pixels, and the score. COCO ranks
        by the score of the box.

    Raises:
        ValueError: no such style.

    Example:
        >>> logits = np.zeros((1, 1, 56, 56), np.float32)
        >>> logits[0, 0, 28, 14] = 9
        >>> decode_keypoints(logits, np.array([[10, 10, 66, 66]]))[0, 0, :2].tolist()
        [24.5, 38.5]
    """
    if style not in STYLES:
        raise ValueError(f'style={style!r}; allowed are {", ".join(STYLES)}')
    result = np.zeros((*logits.shape[:2], 3), np.float32)
    for place, (maps, box) in enumerate(zip(logits, boxes, strict=True)):
        x1, y1, x2, y2 = np.asarray(box, np.float32)
        across, pixel_width = _axis(x2 - x1, maps.shape[-1])
        down, pixel_height = _axis(y2 - y1, maps.shape[-2])
        resized = down @ np.asarray(maps, np.float32) @ across.T
        flat = resized.reshape(len(maps), -1)
        best = flat.argmax(1)
        peak = np.take_along_axis(flat, best[:, None], 1)[:, 0]
        row, column = np.divmod(best, resized.shape[-1])
        result[place, :, 0] = x1 + (column + np.float32(0.5)) * pixel_width
        result[place, :, 1] = y1 + (row + np.float32(0.5)) * pixel_height
        if style == 'detectron2':
            # The peak of the resized map over the sum of the map as it came.
            result[place, :, 2] = 1 / np.exp(maps - peak[:, None, None]).sum((1, 2))
        else:
            result[place, :, 2] = peak
    return result


def _axis(side: np.float32, size: int) -> tuple[np.ndarray, np.float32]:
    """How one side of a box is resized, and the length of its pixels."""
    side = max(side, np.float32(1))
    count = math.ceil(side)
    return _bicubic(count, size), side / np.float32(count)


def _bicubic(count: int, size: int) -> np.ndarray:
    """Weights `[count, size]` of PyTorch's bicubic resizing, without antialiasing."""
    centres = (np.arange(count, dtype=np.float32) + 0.5) * np.float32(
        size / count
    ) - 0.5
    first = np.floor(centres)
    weights = np.zeros((count, size), np.float32)
    for tap in range(-1, 3):
        value = _kernel(np.abs(centres - first - tap))
        # Beyond the border stands the last value.
        column = np.clip(first + tap, 0, size - 1).astype(int)
        np.add.at(weights, (np.arange(count), column), value.astype(np.float32))
    return weights


def _kernel(distance: np.ndarray) -> np.ndarray:
    a, x = _SHARPNESS, distance
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, far)
