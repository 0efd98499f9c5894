"""Scenes of scikit-learn's handwritten digits, as a detection set in COCO's format.

Small enough to train detectors on a few CPU cores without any download: digits of
several sizes that overlap, crowds of tiny ones, masks, and four keypoints on the
stroke of each.
"""

import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image

from slimjax.data.coco_format.layout import split_folder
from slimjax.data.coco_format.masks import encode_part
from slimjax.data.coco_format.prepare import Prepared, prepare_coco
from slimjax.data.digits.digits_dataset_builder import all_digits, split_indices
from slimjax.data.records import replace_text

SIDE = 128
COUNTS = {'train': 2000, 'validation': 500}
# The outermost points of the ink. Sigmas as of a person's: between eye and hip.
KEYPOINTS = ('top', 'left', 'bottom', 'right')
SIGMAS = (0.05, 0.05, 0.05, 0.05)
# Which of the splits of the digits each split of scenes is composed of.
_SOURCES = {'train': ('train',), 'validation': ('validation', 'test')}
_DIGITS, _SIZES = (1, 7), (20, 56)  # digits in a scene, their sides in pixels
_CROWD_SHARE, _CROWD_DIGITS, _CROWD_SIZES, _CROWD_SIDE = 0.15, (8, 13), (9, 13), 44
_INK = 0.4  # what of the full ink belongs to a digit
_LEAST_VISIBLE = 0.5  # of a digit that others cover
_TRIES = 20


class Scene(NamedTuple):
    """An image and its annotations, without numbers.

    Attributes:
        pixels: uint8 `[128, 128, 3]`.
        annotations: fields of COCO's.
    """

    pixels: np.ndarray
    annotations: list[dict[str, Any]]


class Glyph(NamedTuple):
    """A digit at its place.

    Attributes:
        label: which digit.
        ink: float `[128, 128]`, 0..1.
        mask: bool `[128, 128]`.
    """

    label: int
    ink: np.ndarray
    mask: np.ndarray


def make_digit_scenes(
    output: str | pathlib.Path,
    *,
    counts: Mapping[str, int] = COUNTS,
    seed: int = 0,
    say: Callable[[str], None] = print,
) -> dict[str, Prepared]:
    """Draws the scenes, writes images and COCO's JSON, and prepares them as records.

    Args:
        output: gets `images/SPLIT/*.png`, `annotations/instances_SPLIT.json` (which
            holds the keypoints too), and what `prepare_coco` makes of them.
        counts: scenes of each split; no digit stands in scenes of two splits.
        seed: decides all.
        say: is told of progress.

    Returns:
        What was prepared of each split.

    Raises:
        FileExistsError: it was made already.
        ImportError: scikit-learn or faster-coco-eval is not installed.
        ValueError: no such split, or no scenes.
    """
    output = pathlib.Path(output).expanduser()
    for split, count in counts.items():
        if split not in COUNTS or count < 1:
            raise ValueError(
                f'counts: {split}={count}; allowed are 1 or more of {", ".join(COUNTS)}'
            )
        if split_folder(output, split).exists():
            raise FileExistsError(f'{split_folder(output, split)} exists: remove it')
    digits = all_digits()
    parts = split_indices(digits.target)
    prepared = {}
    for split, count in counts.items():
        sources = np.concatenate([parts[name] for name in _SOURCES[split]])
        images = output / 'images' / split
        images.mkdir(parents=True, exist_ok=True)
        content = _empty_content()
        say(f'drawing {count} {split} scenes of {len(sources)} digits')
        for index in range(count):
            rng = np.random.default_rng([seed, list(_SOURCES).index(split), index])
            scene = draw_scene(digits.images[sources], digits.target[sources], rng)
            _add(content, scene, f'{index:06d}.png')
            Image.fromarray(scene.pixels).save(images / f'{index:06d}.png')
        annotations = output / 'annotations' / f'instances_{split}.json'
        annotations.parent.mkdir(exist_ok=True)
        replace_text(annotations, json.dumps(content))
        prepared[split] = prepare_coco(
            images, annotations, output, split=split, say=say
        )
    return prepared


def draw_scene(
    images: np.ndarray, labels: np.ndarray, rng: np.random.Generator
) -> Scene:
    """Draws one scene.

    Later digits cover earlier ones, whose masks and boxes are of what is left to see.
    A keypoint that is covered is hidden (visibility 1).

    Args:
        images: digits to choose from, `[digits, 8, 8]`, ink in 0..16.
        labels: which digit each is, int `[digits]`.
        rng: decides; the same state gives the same scene.

    Example:
        >>> ink = np.full((3, 8, 8), 16.0)
        >>> scene = draw_scene(ink, np.arange(3), np.random.default_rng(1))
        >>> scene.pixels.shape
        (128, 128, 3)
    """
    pixels = _background(rng)
    crowd = _crowd(images, labels, rng) if rng.random() < _CROWD_SHARE else []
    glyphs, visible = [], []
    for _ in range(rng.integers(*_DIGITS)):
        for _ in range(_TRIES):
            glyph = _glyph(images, labels, rng, _SIZES)
            left = [mask & ~glyph.mask for mask in visible]
            covered = [
                mask.sum() < _LEAST_VISIBLE * each.mask.sum()
                for mask, each in zip(left, glyphs, strict=True)
            ]
            if not any(covered) and not _covers(glyph, crowd):
                glyphs.append(glyph)
                visible = [*left, glyph.mask]
                break
    for each in [*crowd, *glyphs]:
        pixels = _drawn(pixels, each.ink, rng)
    annotations = [_crowd_annotation(crowd)] if crowd else []
    annotations += [
        _annotation(each, mask) for each, mask in zip(glyphs, visible, strict=True)
    ]
    return Scene(np.clip(pixels, 0, 255).astype(np.uint8), annotations)


def _background(rng) -> np.ndarray:
    """A dim surface that changes slowly, with the noise of a camera."""
    coarse = rng.uniform(20, 90, (5, 5, 3)).astype(np.float32)
    smooth = cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
    return smooth + rng.normal(0, 4, smooth.shape)


def _glyph(images, labels, rng, sizes, corner=(0, 0), side=SIDE) -> Glyph:
    """A digit of random size, proportion and slant, whole inside a square."""
    index = rng.integers(len(labels))
    height = rng.uniform(*sizes)
    width = height * rng.uniform(0.8, 1.2)
    angle = np.deg2rad(rng.uniform(-15, 15))
    reach = np.hypot(height, width) / 2
    centre = corner + rng.uniform(reach, side - reach, 2)
    turn = np.array(
        [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    ) * (np.array([width, height]) / 8)
    shift = centre - turn @ np.array([3.5, 3.5])
    ink = cv2.warpAffine(
        (images[index] / 16).astype(np.float32),
        np.column_stack([turn, shift]),
        (SIDE, SIDE),
        flags=cv2.INTER_CUBIC,
    )
    ink = np.clip(ink, 0, 1)
    return Glyph(int(labels[index]), ink, ink > _INK)


def _crowd(images, labels, rng) -> list[Glyph]:
    """Tiny digits of one kind, close together."""
    kind = np.flatnonzero(labels == rng.choice(labels))
    corner = rng.uniform(0, SIDE - _CROWD_SIDE, 2)
    return [
        _glyph(images[kind], labels[kind], rng, _CROWD_SIZES, corner, _CROWD_SIDE)
        for _ in range(rng.integers(*_CROWD_DIGITS))
    ]


def _covers(glyph: Glyph, crowd: list[Glyph]) -> bool:
    return any((glyph.mask & each.mask).any() for each in crowd)


def _drawn(pixels, ink, rng) -> np.ndarray:
    color = rng.uniform(130, 255, 3)
    return pixels + (color - pixels) * ink[..., None]


def _annotation(glyph: Glyph, visible: np.ndarray) -> dict[str, Any]:
    points = []
    for x, y in outermost(glyph.mask):
        points += [x, y, 2 if visible[round(y), round(x)] else 1]
    return {
        'category_id': glyph.label + 1,
        'iscrowd': 0,
        **_outline(visible),
        'keypoints': points,
        'num_keypoints': len(KEYPOINTS),
    }


def _crowd_annotation(crowd: list[Glyph]) -> dict[str, Any]:
    mask = np.any([each.mask for each in crowd], 0)
    return {
        'category_id': crowd[0].label + 1,
        'iscrowd': 1,
        **_outline(mask),
        'keypoints': [0] * 3 * len(KEYPOINTS),
        'num_keypoints': 0,
    }


def outermost(mask: np.ndarray) -> list[tuple[int, int]]:
    """Returns the top, left, bottom and right point of a stroke, as x and y.

    Of several on one edge it is the middle one.

    Args:
        mask: bool `[height, width]`, not empty.

    Example:
        >>> outermost(np.array([[0, 1, 0], [1, 1, 1]], bool))
        [(1, 0), (0, 1), (1, 1), (2, 1)]
    """
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, bottom, left, right = rows[0], rows[-1], columns[0], columns[-1]

    def middle(line):
        places = np.flatnonzero(line)
        return int(places[len(places) // 2])

    return [
        (middle(mask[top]), int(top)),
        (int(left), middle(mask[:, left])),
        (middle(mask[bottom]), int(bottom)),
        (int(right), middle(mask[:, right])),
    ]


def _outline(mask: np.ndarray) -> dict[str, Any]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, left = int(rows[0]), int(columns[0])
    bottom, right = int(rows[-1]) + 1, int(columns[-1]) + 1
    part = mask[top:bottom, left:right]
    return {
        'bbox': [left, top, right - left, bottom - top],
        'area': int(mask.sum()),
        'segmentation': encode_part(part, top, left, *mask.shape),
    }


def _empty_content() -> dict[str, list[dict[str, Any]]]:
    # The outline, from top around to top; COCO counts keypoints from 1.
    skeleton = [[1, 2], [2, 3], [3, 4], [4, 1]]
    categories = [
        {
            'id': digit + 1,
            'name': str(digit),
            'keypoints': list(KEYPOINTS),
            'skeleton': skeleton,
            'sigmas': list(SIGMAS),
        }
        for digit in range(10)
    ]
    return {'images': [], 'categories': categories, 'annotations': []}


def _add(content, scene: Scene, file_name: str) -> None:
    image = {
        'id': len(content['images']) + 1,
        'file_name': file_name,
        'height': SIDE,
        'width': SIDE,
    }
    content['images'].append(image)
    for each in scene.annotations:
        number = {'id': len(content['annotations']) + 1, 'image_id': image['id']}
        content['annotations'].append(number | each)
