"""The paper's Figure 3 as a picture: rows of images by width, framed by the verdict."""

import pathlib

import cv2
import numpy as np

from slimjax.insight.plot import new_figure, save_png
from slimjax.insight.top_images import Top, TopImages, mean_colour

RIGHT, WRONG = (42, 157, 60), (214, 40, 40)
_WHITE, _GREY = 255, (170, 170, 170)
# Pixels: of an image, its frame, between images and between rows.
_SIDE, _FRAME, _GAP = 64, 5, 12
# Pixels: for the names of the rows, and for the title.
_LEFT, _TOP = 112, 44
_DPI = 100


def plot_top_images(
    found: TopImages, path: str | pathlib.Path, title: str = ''
) -> None:
    """Draws the top images of a channel, a row a width.

    Green frames are images that the width classifies right, red ones those that it
    does not. Beside each image stands what its maximum sees, and before each row the
    mean colour of that.

    Args:
        found: what `top_images` returns.
        path: a PNG file, written whole or not at all.
        title: stands above the picture.

    Raises:
        ImportError: matplotlib is not installed.
    """
    picture = mosaic(found)
    height, width = picture.shape[:2]
    size = (width + _LEFT + _GAP, height + _TOP + _GAP)
    figure = new_figure((size[0] / _DPI, size[1] / _DPI), dpi=_DPI)
    # Each pixel of the mosaic is one of the figure.
    figure.set_layout_engine('none')
    corner = (_LEFT / size[0], _GAP / size[1])
    axes = figure.add_axes((*corner, width / size[0], height / size[1]))
    axes.imshow(picture, interpolation='nearest')
    step = (height + _GAP) / len(found.rows)
    labels = [
        f'{name}\n{sum(top.right for top in tops)} of {len(tops)} right'
        for name, tops in found.rows.items()
    ]
    middles = [(row + 0.5) * step - _GAP / 2 for row in range(len(labels))]
    axes.set_yticks(middles, labels, fontsize=8.5)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    figure.suptitle(title, fontsize=10.5)
    save_png(figure, pathlib.Path(path))


def mosaic(found: TopImages) -> np.ndarray:
    """Returns rows of frames, `[height, width, 3]` of uint8."""
    rows = [_joined([_swatch(tops), *map(_tile, tops)]) for tops in found.rows.values()]
    longest = max(row.shape[1] for row in rows)
    ends = [((0, 0), (0, longest - row.shape[1]), (0, 0)) for row in rows]
    rows = [
        np.pad(row, end, constant_values=_WHITE)
        for row, end in zip(rows, ends, strict=True)
    ]
    between = np.full((_GAP, longest, 3), _WHITE, np.uint8)
    parts = [part for row in rows for part in (row, between)]
    return np.concatenate(parts[:-1])


def _joined(tiles: list[np.ndarray]) -> np.ndarray:
    gap = np.full((len(tiles[0]), _GAP, 3), _WHITE, np.uint8)
    return np.concatenate([part for tile in tiles for part in (tile, gap)][:-1], axis=1)


def _tile(top: Top) -> np.ndarray:
    """An image in its frame, and what the maximum sees beside it."""
    framed = np.full((_SIDE + 2 * _FRAME,) * 2 + (3,), _WHITE, np.uint8)
    framed[:] = RIGHT if top.right else WRONG
    framed[_FRAME:-_FRAME, _FRAME:-_FRAME] = _fitted(top.image)
    crop = np.full((len(framed), _SIDE + _FRAME, 3), _WHITE, np.uint8)
    crop[_FRAME:-_FRAME, _FRAME:] = _fitted(top.crop, outlined=True)
    return np.concatenate([framed, crop], axis=1)


def _swatch(tops: list[Top]) -> np.ndarray:
    colour = np.round(mean_colour(tops)).astype(np.uint8)
    swatch = np.full((_SIDE + 2 * _FRAME, _SIDE // 3, 3), _WHITE, np.uint8)
    swatch[_FRAME:-_FRAME] = colour
    return swatch


def _fitted(image: np.ndarray, outlined: bool = False) -> np.ndarray:
    """An image of any size in the middle of a white square."""
    height, width = image.shape[:2]
    scale = _SIDE / max(height, width)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    scaled = cv2.resize(image, size, interpolation=how)
    square = np.full((_SIDE, _SIDE, 3), _WHITE, np.uint8)
    top, left = (_SIDE - size[1]) // 2, (_SIDE - size[0]) // 2
    # cv2 drops the one channel of a grey image.
    scaled = scaled.reshape(size[1], size[0], -1)
    square[top : top + size[1], left : left + size[0]] = scaled
    if outlined:
        # So that white pixels are told from the page.
        end = (left + size[0] - 1, top + size[1] - 1)
        cv2.rectangle(square, (left, top), end, _GREY)
    return square
