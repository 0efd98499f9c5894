"""The anchors of a feature pyramid, constants of an image's size."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

AnchorStyle = Literal['legacy', 'centred', 'rounded']
ANCHOR_STYLES = ('legacy', 'centred', 'rounded')

Shape = tuple[int, int]


def pyramid_anchors(
    style: AnchorStyle,
    image_shape: Shape,
    map_shapes: Sequence[Shape],
    sizes: Sequence[float],
    ratios: Sequence[float],
) -> list[np.ndarray]:
    """Returns the anchors of each level.

    The map of level l has 1 / 2^l of the image's sides, from l = 2 on.

    Args:
        style: where they stand, and what is rounded. `'centred'` (Detectron): around
            the corner of a cell, corners of any fraction. `'rounded'` (torchvision):
            there too, with corners rounded, and cells that are as large as the image
            over the map, cut to whole pixels, which is less than the stride where the
            coarsest map was rounded up. `'legacy'` (mmdetection of 2018): around the
            middle of a cell's pixels, with x2 and y2 the last pixel.
        image_shape: height and width in pixels of the padded image.
        map_shapes: height and width of each level's map, finest first.
        sizes: square roots of the areas, in pixels, one a level.
        ratios: heights over widths.

    Returns:
        `[height * width * ratios, 4]` a level, float32: by rows, then columns, then
        ratios, as the region proposal network gives its outputs.

    Raises:
        ValueError: another style, or another number of sizes than of levels.

    Example:
        >>> pyramid_anchors('rounded', (8, 8), [(2, 2)], [32], [0.5])[0][0].tolist()
        [-23.0, -11.0, 23.0, 11.0]
    """
    if style not in ANCHOR_STYLES:
        raise ValueError(f'anchors={style!r}; allowed are {", ".join(ANCHOR_STYLES)}')
    if len(sizes) != len(map_shapes):
        raise ValueError(
            f'anchor_sizes={tuple(sizes)}: {len(map_shapes)} are needed, one a level'
        )
    levels = []
    for level, ((height, width), size) in enumerate(
        zip(map_shapes, sizes, strict=True), start=2
    ):
        steps = (2**level, 2**level)
        if style == 'rounded':
            steps = (image_shape[0] // height, image_shape[1] // width)
        x, y = np.meshgrid(np.arange(width) * steps[1], np.arange(height) * steps[0])
        corners = np.stack([x, y, x, y], -1).reshape(-1, 1, 4)
        around = _around(style, size, np.asarray(ratios, np.float64), 2**level)
        levels.append((corners + around).reshape(-1, 4).astype(np.float32))
    return levels


def _around(style, size, ratios, stride):
    """The anchors of the first cell, `[ratios, 4]`."""
    widths, heights = size / np.sqrt(ratios), size * np.sqrt(ratios)
    middle, pixel = ((stride - 1) / 2, 1.0) if style == 'legacy' else (0.0, 0.0)
    halves = np.stack([widths - pixel, heights - pixel], -1) / 2
    boxes = np.concatenate([middle - halves, middle + halves], -1)
    return boxes if style == 'centred' else np.round(boxes)
