"""From the heat maps of a box to its keypoints, as Mask R-CNN's authors decode them.

On the host and on numpy arrays: each box is resized to its own size in pixels.
"""

import cv2
import numpy as np

STYLES = ('detectron2', 'torchvision')


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
        corner, end = np.asarray(box, np.float32).reshape(2, 2)
        sides = np.maximum(end - corner, np.float32(1))
        size = np.ceil(sides).astype(int)
        for keypoint, values in enumerate(np.asarray(maps, np.float32)):
            # OpenCV's cubic kernel is PyTorch's: a = -0.75, nothing averaged.
            resized = cv2.resize(values, size.tolist(), interpolation=cv2.INTER_CUBIC)
            row, column = np.unravel_index(resized.argmax(), resized.shape)
            centre = np.array([column, row], np.float32) + np.float32(0.5)
            peak = resized[row, column]
            # The peak of the resized map over the sum of the map as it came.
            score = peak if style == 'torchvision' else 1 / np.exp(values - peak).sum()
            result[place, keypoint] = *(corner + centre * (sides / size)), score
    return result
