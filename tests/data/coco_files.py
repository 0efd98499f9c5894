"""A small data set in COCO's format for the tests, with all that COCO is known for."""

import json
import pathlib

import numpy as np

from tests.data.files import jpeg, picture

POINTS = ['nose', 'left_hand', 'right_hand']
# Height and width of each image, by its number.
SIZES = {3: (40, 60), 7: (60, 40), 10: (30, 50), 12: (64, 48), 90: (50, 50)}
CATEGORIES = [
    {'id': 90, 'name': 'toothbrush', 'supercategory': 'indoor'},
    {'id': 1, 'name': 'person', 'supercategory': 'person'},
]
PERSON = {'keypoints': POINTS, 'skeleton': [[1, 2], [1, 3]], 'sigmas': [0.1, 0.2, 0.3]}


def rectangle(x, y, width, height):
    """The polygon of a box."""
    return [[x, y, x + width, y, x + width, y + height, x, y + height]]


def annotation(id, image, category, bbox, **fields):
    """An annotation whose polygon is its box."""
    return {
        'id': id,
        'image_id': image,
        'category_id': category,
        'bbox': bbox,
        'area': bbox[2] * bbox[3],
        'iscrowd': 0,
        'segmentation': rectangle(*bbox),
    } | fields


def crowd_rle(height, width):
    """The uncompressed encoding of the left half of an image."""
    half = width // 2
    return {
        'size': [height, width],
        'counts': [0, half * height, (width - half) * height],
    }


def instances():
    """Boxes of two categories with a gap, a crowd, an empty image, a box of no area."""
    return {
        'images': [
            {'id': id, 'file_name': f'{id:012d}.jpg', 'height': h, 'width': w}
            for id, (h, w) in reversed(SIZES.items())
        ],
        'categories': [dict(each) for each in CATEGORIES],
        'annotations': [
            annotation(1, 3, 1, [10.5, 5.25, 20.0, 30.5]),
            annotation(2, 3, 90, [30, 10, 8, 4]),
            annotation(
                3, 3, 1, [0, 0, 30, 40], iscrowd=1, segmentation=crowd_rle(40, 60)
            ),
            annotation(4, 7, 1, [2, 3, 10, 20]),
            annotation(5, 7, 90, [5, 5, 0, 7]),  # no area
            annotation(6, 12, 90, [40, 60, 20, 20]),  # reaches out of the image
            annotation(
                8, 90, 1, [0, 0, 25, 50], iscrowd=1, segmentation=crowd_rle(50, 50)
            ),
        ],
    }


def person_keypoints():
    """The same people, with their keypoints."""
    content = instances()
    content['categories'] = [CATEGORIES[1] | PERSON]
    content['annotations'] = [
        each | {'keypoints': [0] * 9, 'num_keypoints': 0}
        for each in content['annotations']
        if each['category_id'] == 1
    ]
    content['annotations'][0] |= {
        'keypoints': [15, 10, 2, 25, 20, 1, 0, 0, 0],
        'num_keypoints': 2,
    }
    return content


def write(folder: pathlib.Path, images=None) -> dict[str, pathlib.Path]:
    """Writes images and annotations; returns the arguments of `prepare_coco`."""
    pictures = folder / 'images'
    pictures.mkdir(parents=True)
    for id, (height, width) in SIZES.items():
        data = jpeg(id, height, width)
        (pictures / f'{id:012d}.jpg').write_bytes((images or {}).get(id, data))
    paths = {'images': pictures}
    for name, content in (
        ('instances', instances()),
        ('keypoints', person_keypoints()),
    ):
        paths[name] = folder / f'{name}_train2017.json'
        paths[name].write_text(json.dumps(content))
    return paths


def pictured(id: int) -> np.ndarray:
    """The pixels of an image before it became a JPEG."""
    return picture(*SIZES[id], id)
