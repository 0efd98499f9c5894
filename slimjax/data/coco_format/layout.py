"""Where a prepared set stands, and what its index holds."""

import pathlib

SPLITS = ('train', 'validation', 'test')
NAME, VERSION = 'coco_format', '1.0.0'
# Under which name the annotations are kept, keypoints among them, beside the records.
ANNOTATIONS = 'instances.json'
# What the metadata tell of each image.
INDEX = (
    'image_id',
    'height',
    'width',
    'boxes',
    'crowds',
    'keypoint_boxes',
    'keypoint_crowds',
    'keypoints',
)


def split_folder(output: str | pathlib.Path, split: str) -> pathlib.Path:
    """Returns where a split stands.

    Example:
        >>> split_folder('/data', 'train').as_posix()
        '/data/coco_format/train/1.0.0'
    """
    return pathlib.Path(output).expanduser() / NAME / split / VERSION
