"""A prepared split of a data set in COCO's format: its images and objects by place."""

import copy
import pathlib
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from slimjax.data.coco_format.annotations import Category
from slimjax.data.coco_format.layout import (
    ANNOTATIONS,
    NAME,
    SPLITS,
    split_folder,
)

_OTHER = {'left': 'right', 'right': 'left', 'l': 'r', 'r': 'l'}
_SIDE = re.compile(r'left|right|(?<![a-z])[lr](?![a-z])')


class DetectionExample(NamedTuple):
    """An image file and its objects; all of one length.

    Attributes:
        image: the file.
        name: for messages.
        image_id: its number in the JSON.
        boxes: float32 `[objects, 4]`: x1, y1, x2, y2 in pixels.
        labels: int32 `[objects]`, from 1.
        crowd: bool `[objects]`.
        masks: uint8 `[objects, 112, 14]`, packed; None for a set without.
        keypoints: float32 `[objects, keypoints, 3]`; None for a set without.
    """

    image: bytes
    name: str
    image_id: int
    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    masks: np.ndarray | None
    keypoints: np.ndarray | None


class CocoSource:
    """A split that `scripts/prepare_coco.py` has prepared.

    Args:
        data_dir: the `--output` of that command.
        split: `'train'`, `'validation'` or `'test'`.
        keypoints: only the categories with keypoints, as keypoint models want them.

    Attributes:
        categories: of the labels 1, 2, ...
        class_names: theirs.
        has_masks: whether objects have masks.
        num_keypoints: of an object; 0 for none.
        index: for each image, int64 arrays: `image_id`, `height`, `width`; numbers of
            `boxes`, of `crowds` and of labelled `keypoints`.
        annotations: the JSON file that evaluation compares with.

    Raises:
        FileNotFoundError: it is not prepared; says what to run.
        ValueError: keypoints are asked for, and there are none; or no such split.
    """

    def __init__(
        self, data_dir: str | pathlib.Path, split: str, *, keypoints: bool = False
    ):
        import tensorflow_datasets as tfds

        if split not in SPLITS:
            raise ValueError(f'split={split!r}; allowed are {", ".join(SPLITS)}')
        folder = split_folder(data_dir, split)
        if not (folder / 'dataset_info.json').is_file():
            raise FileNotFoundError(
                f'{data_dir} (config.data_dir) has no prepared split {split}; '
                f'run scripts/prepare_coco.py --output={data_dir} '
                f'--split={split} --images=... --instances=...'
            )
        builder = tfds.builder_from_directory(folder)
        metadata = builder.info.metadata
        categories = [
            Category(
                each['id'],
                each['name'],
                tuple(each['keypoints']),
                tuple(map(tuple, each['skeleton'])),
                tuple(each['sigmas']),
            )
            for each in metadata['categories']
        ]
        # From a stored label to that of this source; 0 is left out.
        wanted = [not keypoints or bool(each.keypoints) for each in categories]
        self._labels = np.cumsum(wanted, dtype=np.int32) * np.array(wanted, np.int32)
        if not any(wanted):
            raise ValueError(
                f'{folder} has no keypoints; prepare it with --keypoints, or take '
                'another detector'
            )
        self.categories = tuple(
            each for each, use in zip(categories, wanted, strict=True) if use
        )
        self.class_names = tuple(each.name for each in self.categories)
        self.has_masks = bool(metadata['masks'])
        self.num_keypoints = max(len(each.keypoints) for each in self.categories)
        prefix = 'keypoint_' if keypoints else ''
        self.index = {
            name: np.array(metadata['index'][stored], np.int64)
            for name, stored in {
                'image_id': 'image_id',
                'height': 'height',
                'width': 'width',
                'boxes': f'{prefix}boxes',
                'crowds': f'{prefix}crowds',
                'keypoints': 'keypoints',
            }.items()
        }
        self._places = np.arange(len(self.index['image_id']))
        self.annotations = folder.parent / ANNOTATIONS
        self._split = f'{NAME} {split}'
        self._records = builder.as_data_source(
            split, decoders={'image': tfds.decode.SkipDecoding()}
        )

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> DetectionExample:
        record = self._records[int(self._places[index])]
        labels = self._labels[np.asarray(record['labels'], np.int64)]
        kept = labels > 0
        masks, keypoints = (record.get(name) for name in ('masks', 'keypoints'))
        return DetectionExample(
            record['image'],
            f'{self._split} {record["file_name"].decode(errors="backslashreplace")}',
            int(record['image_id']),
            record['boxes'][kept],
            labels[kept],
            record['crowd'][kept],
            None if masks is None else masks[kept],
            None if keypoints is None else keypoints[kept],
        )

    def subset(self, places: Sequence[int] | np.ndarray) -> 'CocoSource':
        """Returns the images of some places, in their order."""
        places = np.asarray(places, np.int64)
        part = copy.copy(self)
        part._places = self._places[places]
        part.index = {name: values[places] for name, values in self.index.items()}
        return part

    @property
    def mirrored_keypoints(self) -> tuple[int, ...]:
        """Which keypoint each becomes in a mirror: its other side, or itself.

        Sides are the words left and right in the names, or the letters l and r between
        what is no letter, such as `'l_eye'`; large or small.

        Raises:
            ValueError: categories differ in it.
        """
        swaps = {_mirrored(each.keypoints) for each in self.categories}
        if len(swaps) > 1:
            raise ValueError(
                f'{self.annotations}: the sides of keypoints differ between categories '
                f'({", ".join(self.class_names[:3])}, ...); flip=False does without'
            )
        return swaps.pop()


def _mirrored(names: tuple[str, ...]) -> tuple[int, ...]:
    lower = [name.lower() for name in names]
    swapped = [_SIDE.sub(lambda side: _OTHER[side[0]], name) for name in lower]
    return tuple(
        lower.index(other) if other in lower else place
        for place, other in enumerate(swapped)
    )


def trainable(
    source: CocoSource, *, min_keypoints: int = 0, min_image_side: int = 0
) -> CocoSource:
    """Returns the images that have something to learn from.

    Args:
        source: of the training split.
        min_keypoints: labelled keypoints that an image must have; Detectron2 asks for
            1, torchvision for 10, of keypoint models only.
        min_image_side: pixels of the shorter side; the published code asks for 32.

    Raises:
        ValueError: there is no such image.
    """
    index = source.index
    kept = (
        (index['boxes'] > 0)
        & (index['keypoints'] >= min_keypoints)
        & (np.minimum(index['height'], index['width']) >= min_image_side)
    )
    if not kept.any():
        raise ValueError(
            f'none of {len(source)} images has an object that is no crowd, '
            f'min_keypoints={min_keypoints} and min_image_side={min_image_side}'
        )
    return source.subset(np.flatnonzero(kept))
