"""Draws what was found onto the image: masks, boxes, skeletons, and what each is."""

import colorsys
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from slimjax.data.coco_format.annotations import Category
from slimjax.data.coco_format.masks import decode_rle
from slimjax.detection.results import Results

# Text on a smaller image could not be read: it is enlarged.
_SHORTEST = 480
_OPACITY = 0.45
# Turns of the circle of hues; neighbours in any order differ well.
_GOLDEN_RATIO = 0.618


class Found(NamedTuple):
    """One object to draw.

    Attributes:
        box: x, y, width, height in pixels.
        text: what it is.
        color: red, green, blue in 0..255.
        mask: bool `[height, width]`; None for none.
        points: `[keypoints, 3]`; None for none.
        skeleton: pairs of keypoints that are joined.
    """

    box: Sequence[float]
    text: str
    color: tuple[int, int, int]
    mask: np.ndarray | None
    points: np.ndarray | None
    skeleton: Sequence[tuple[int, int]]


def draw_results(
    pixels: np.ndarray,
    results: Results,
    categories: Sequence[Category],
    *,
    least_score: float = 0.5,
    least_keypoint_score: float = 0.05,
) -> Image.Image:
    """Returns the image with what was found on it, the best on top.

    Args:
        pixels: uint8 `[height, width, 3]`.
        results: of this image, as `coco_results` gives them.
        categories: with names and skeletons.
        least_score: objects below it are left out.
        least_keypoint_score: keypoints below it are left out; of Detectron2's scores.

    Returns:
        The image; one of a shorter side below 480 pixels is enlarged by a whole number,
        so that labels can be read.

    Example:
        >>> found = {'bbox': [{'category_id': 1, 'score': 0.9, 'bbox': [9, 9, 30, 20]}]}
        >>> image = np.zeros((60, 80, 3), np.uint8)
        >>> draw_results(image, found, [Category(1, 'cat')]).size
        (640, 480)
    """
    enlarge = max(1, -(-_SHORTEST // min(pixels.shape[:2])))
    height, width = (side * enlarge for side in pixels.shape[:2])
    canvas = np.asarray(Image.fromarray(pixels).resize((width, height)))
    found = _found(results, categories, least_score)
    for each in reversed(found):
        if each.mask is not None:
            canvas = _with_mask(
                canvas, each.mask.repeat(enlarge, 0).repeat(enlarge, 1), each.color
            )
    image = Image.fromarray(canvas)
    draw = ImageDraw.Draw(image)
    line = max(2, round(min(height, width) / 300))
    for each in reversed(found):
        x, y, box_width, box_height = (side * enlarge for side in each.box)
        corners = [x, y, x + box_width, y + box_height]
        draw.rectangle(corners, outline=each.color, width=line)
        if each.points is not None:
            _draw_skeleton(draw, each, least_keypoint_score, enlarge, line)
    font = ImageFont.load_default(max(11, round(min(height, width) / 36)))
    taken = []
    for each in found:
        _draw_label(draw, each, font, image.size, enlarge, taken)
    return image


def _found(results, categories, least_score) -> list[Found]:
    """What is to be drawn, the best first."""
    by_id = {each.id: each for each in categories}
    scores = np.array([each['score'] for each in results['bbox']])
    found = []
    for place in np.argsort(-scores, kind='stable').tolist():
        entry = results['bbox'][place]
        if entry['score'] < least_score:
            break
        category = by_id[entry['category_id']]
        mask = points = None
        if 'segm' in results:
            mask = decode_rle(results['segm'][place]['segmentation'])
        if 'keypoints' in results:
            points = np.reshape(results['keypoints'][place]['keypoints'], (-1, 3))
        text = f'{category.name} {entry["score"]:.2f}'
        color = _color(len(found))
        found.append(Found(entry['bbox'], text, color, mask, points, category.skeleton))
    return found


def _color(place: int) -> tuple[int, int, int]:
    rgb = colorsys.hsv_to_rgb(place * _GOLDEN_RATIO % 1, 0.85, 1.0)
    return tuple(round(255 * value) for value in rgb)


def _with_mask(canvas, mask, color) -> np.ndarray:
    canvas = canvas.copy()
    inside = canvas[mask]
    canvas[mask] = inside + (np.array(color) - inside) * _OPACITY
    edges, _ = cv2.findContours(
        mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE
    )
    return cv2.drawContours(canvas, edges, -1, color, 1)


def _draw_skeleton(draw, found: Found, least_score, enlarge, line) -> None:
    # Results have whole numbers in the middle of pixels.
    places = (found.points[:, :2] + 0.5) * enlarge
    seen = found.points[:, 2] >= least_score
    for first, second in found.skeleton:
        if seen[first] and seen[second]:
            ends = [tuple(places[first]), tuple(places[second])]
            draw.line(ends, fill=found.color, width=line)
    radius = line + 1
    for x, y in places[seen]:
        corners = [x - radius, y - radius, x + radius, y + radius]
        draw.ellipse(corners, fill='white', outline=found.color)


def _draw_label(draw, found: Found, font, size, enlarge, taken) -> None:
    """Writes a label above its box, or where there is room below that."""
    left, top, right, bottom = draw.textbbox((0, 0), found.text, font=font)
    width, height = right - left + 6, bottom - top + 4
    x = min(max(found.box[0] * enlarge, 0), max(size[0] - width, 0))
    y = max(found.box[1] * enlarge - height, 0)
    while any(_meet((x, y, width, height), other) for other in taken):
        y += height + 1
    taken.append((x, y, width, height))
    draw.rectangle([x, y, x + width, y + height], fill=found.color)
    bright = np.dot(found.color, (0.299, 0.587, 0.114)) > 140
    text_place = (x + 3 - left, y + 2 - top)
    draw.text(text_place, found.text, fill='black' if bright else 'white', font=font)


def _meet(one, other) -> bool:
    return (
        one[0] < other[0] + other[2]
        and other[0] < one[0] + one[2]
        and one[1] < other[1] + other[3]
        and other[1] < one[1] + one[3]
    )
