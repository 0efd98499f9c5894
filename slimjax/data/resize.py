"""From pixels of any size to a square image, for training and for evaluation."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from slimjax.data.decode import to_pillow

# Of an image that is longer, its middle is resized: a strip of 1 x 100,000 px would
# otherwise grow to gigabytes before its middle is cut out.
_LONGEST = 64
# Of a narrower Gaussian, OpenCV's weights of the neighbours, in 1/256, are all 0.
_NARROWEST = 0.28


class Augmentation(NamedTuple):
    """How training images are cut out.

    Attributes:
        crop_scale: smallest and largest area of a random-resized crop, as parts of
            the image; () for none.
        crop_ratio: smallest and largest aspect ratio of it, width by height.
        pad: pixels of black around the image before a random crop.
        flip: whether half of the images are mirrored.

    Example:
        >>> Augmentation(crop_scale=(), pad=4).flip
        True
    """

    crop_scale: tuple[float, ...] = (0.08, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    pad: int = 0
    flip: bool = True


def random_crop(
    pixels: np.ndarray,
    size: int,
    how: Augmentation,
    rng: np.random.Generator,
    box: tuple[int, int, int, int] | None = None,
) -> np.ndarray:
    """Returns a random square part of an image, perhaps mirrored.

    Args:
        pixels: uint8 `[height, width, channels]`.
        size: side of the result.
        how: what is drawn.
        rng: decides; the same state gives the same part.
        box: what `crop_box` has drawn already, where there are crops.

    Returns:
        uint8 `[size, size, channels]`.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> random_crop(np.zeros((20, 30, 3), np.uint8), 8, Augmentation(), rng).shape
        (8, 8, 3)
    """
    if how.crop_scale:
        top, left, height, width = box or crop_box(pixels.shape[:2], how, rng)
        pixels = pixels[top : top + height, left : left + width]
        pixels = resize_smoothly(pixels, (size, size))
    else:
        pixels = center_crop(pixels, size, size)
        if how.pad:
            pixels = _framed(pixels, [(how.pad, how.pad)] * 2)
            top, left = rng.integers(0, 2 * how.pad + 1, 2)
            pixels = pixels[top : top + size, left : left + size]
    if how.flip and rng.random() < 0.5:
        # A mirrored view would be copied pixel by pixel, at eight times the cost.
        pixels = cv2.flip(pixels, 1).reshape(size, size, -1)
    return np.ascontiguousarray(pixels)


def crop_box(
    shape: tuple[int, int], how: Augmentation, rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """Draws a box as torchvision's RandomResizedCrop does.

    Args:
        shape: height and width of the image.
        how: bounds of area and aspect ratio.
        rng: decides.

    Returns:
        Its top, left, height and width, inside the image.

    Example:
        >>> crop_box((100, 10), Augmentation((1.0, 1.0)), np.random.default_rng(0))
        (43, 0, 13, 10)
    """
    height, width = shape
    low, high = (math.log(ratio) for ratio in how.crop_ratio)
    for _ in range(10):
        area = height * width * rng.uniform(*how.crop_scale)
        ratio = math.exp(rng.uniform(low, high))
        box_width = round(math.sqrt(area * ratio))
        box_height = round(math.sqrt(area / ratio))
        if 0 < box_width <= width and 0 < box_height <= height:
            top = int(rng.integers(0, height - box_height + 1))
            left = int(rng.integers(0, width - box_width + 1))
            return top, left, box_height, box_width
    # An image too long for any box: as much of its middle as the ratio allows.
    ratio = min(max(width / height, how.crop_ratio[0]), how.crop_ratio[1])
    box_width = max(1, min(width, round(height * ratio)))
    box_height = max(1, min(height, round(width / ratio)))
    return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width


def resize_smoothly(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes without the aliasing of OpenCV's linear interpolation.

    A Gaussian of the width that linear interpolation lacks goes before it, which is
    nearly Pillow's triangle filter, 1.6 times as fast.

    Args:
        pixels: uint8 `[height, width, channels]`.
        size: height and width of the result.

    Returns:
        uint8 `[*size, channels]`.

    Example:
        >>> resize_smoothly(np.zeros((20, 30, 3), np.uint8), (8, 9)).shape
        (8, 9, 3)
    """
    # Variances, in pixels of the image, where it shrinks k times: k^2/6 of the
    # triangle, 1/6 of the interpolation; the Gaussian adds what is between.
    sigma_y, sigma_x = (
        math.sqrt(max((before / after) ** 2 - 1, 0) / 6)
        for before, after in zip(pixels.shape[:2], size, strict=True)
    )
    kernel = _taps(sigma_x), _taps(sigma_y)
    if kernel != (1, 1):
        pixels = cv2.GaussianBlur(
            pixels, kernel, sigmaX=max(sigma_x, 0.01), sigmaY=max(sigma_y, 0.01)
        )
    pixels = cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_LINEAR)
    return pixels.reshape(*size, -1)


def _taps(sigma: float) -> int:
    """Length of the Gaussian's kernel."""
    if sigma < _NARROWEST:
        return 1
    return 3 if sigma < 0.8 else 2 * math.ceil(1.6 * sigma) + 1


def center_crop(pixels: np.ndarray, size: int, resize: int) -> np.ndarray:
    """Returns the middle of an image, as torchvision's Resize and CenterCrop.

    Args:
        pixels: uint8 `[height, width, channels]`.
        size: side of the result.
        resize: length of the shorter side before the crop.

    Returns:
        uint8 `[size, size, channels]`; black where the image is too small.

    Example:
        >>> center_crop(np.zeros((20, 30, 3), np.uint8), 8, 10).shape
        (8, 8, 3)
    """
    pixels = _middle(pixels, min(pixels.shape[:2]) * _LONGEST)
    height, width, channels = pixels.shape
    short = min(height, width)
    target = (int(width * resize / short), int(height * resize / short))
    if target != (width, height):
        image = to_pillow(pixels).resize(target, Image.Resampling.BILINEAR)
        pixels = np.asarray(image).reshape(target[1], target[0], channels)
    missing = [max(size - side, 0) for side in pixels.shape[:2]]
    if any(missing):
        pixels = _framed(pixels, [(side // 2, side - side // 2) for side in missing])
    return np.ascontiguousarray(_middle(pixels, size))


def _framed(pixels: np.ndarray, pads: Sequence[tuple[int, int]]) -> np.ndarray:
    """Puts black around an image: of a small one, `np.pad` takes ten times as long."""
    (above, below), (before, behind) = pads
    height, width, channels = pixels.shape
    framed = np.zeros(
        (above + height + below, before + width + behind, channels), np.uint8
    )
    framed[above : above + height, before : before + width] = pixels
    return framed


def _middle(pixels: np.ndarray, size: int) -> np.ndarray:
    """Cuts off what is more than `size` on each side, rounding as torchvision."""
    top, left = (max(0, round((side - size) / 2)) for side in pixels.shape[:2])
    return pixels[top : top + size, left : left + size]
