"""Prepares a split of a data set in COCO's format as ArrayRecord, no TensorFlow.

TFDS wants a builder in a package of its own, in a file of this name.
"""

import concurrent.futures
import functools
import math
import os
import pathlib
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_module
from tensorflow_datasets.core import dataset_builder, example_serializer

from slimjax.data.coco_format.annotations import AnnotatedImage, Annotations
from slimjax.data.coco_format.layout import INDEX, SPLITS, VERSION
from slimjax.data.coco_format.masks import CROP, PACKED, crop_mask, pack
from slimjax.data.decode import DecodeError, decode

# About 200 MB of COCO's.
SHARD_IMAGES = 1250


class Builder(dataset_builder.FileReaderBuilder):
    """Images with boxes, masks and keypoints, in order of the images' numbers.

    It writes its files itself: TFDS's own writer asks for TensorFlow from 1 GB on.

    Args:
        images: folder of the images.
        annotations: what is known of them.
        split: name of the split, and of the configuration of TFDS.
        say: is told of progress.
        kwargs: of TFDS, such as `data_dir`.
    """

    VERSION = tfds.core.Version(VERSION)
    BUILDER_CONFIGS: ClassVar = [
        tfds.core.BuilderConfig(name=split) for split in SPLITS
    ]

    def __init__(
        self,
        images: pathlib.Path,
        annotations: Annotations,
        split: str,
        say: Callable[[str], None] = print,
        **kwargs: Any,
    ):
        self._images, self._annotations = images, annotations
        self._split, self._say = split, say
        super().__init__(config=split, **kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        found = self._annotations
        tensor, names = tfds.features.Tensor, [each.name for each in found.categories]
        features = {
            'image': tfds.features.Image(encoding_format='jpeg'),
            'file_name': tfds.features.Text(),
            'image_id': tfds.features.Scalar(np.int64),
            'boxes': tensor(shape=(None, 4), dtype=np.float32),
            'labels': tfds.features.Sequence(tfds.features.ClassLabel(names=names)),
            'crowd': tensor(shape=(None,), dtype=np.bool_),
        }
        if found.has_masks:
            features['masks'] = tensor(
                shape=(None, CROP, PACKED), dtype=np.uint8, encoding='zlib'
            )
        if found.num_keypoints:
            features['keypoints'] = tensor(
                shape=(None, found.num_keypoints, 3), dtype=np.float32
            )
        return tfds.core.DatasetInfo(
            builder=self,
            description='Object detection, prepared by slimjax.',
            features=tfds.features.FeaturesDict(features),
            # Index and records are in one order; training shuffles it.
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(describe(found)),
        )

    def _download_and_prepare(self, dl_manager: Any, download_config: Any) -> None:
        images = self._annotations.images
        count = math.ceil(len(images) / SHARD_IMAGES)
        files = tfds.core.ShardedFileTemplate(
            data_dir=self.data_path,
            dataset_name=self.name,
            split=self._split,
            filetype_suffix='array_record',
        )
        lengths, num_bytes = [], 0
        # Decoding, which tells whether an image is sound, leaves Python to threads.
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            for shard in range(count):
                part = images[shard * SHARD_IMAGES : (shard + 1) * SHARD_IMAGES]
                path = files.sharded_filepath(shard_index=shard, num_shards=count)
                # What is stored hardly shrinks, and a record is read alone.
                writer = array_record_module.ArrayRecordWriter(
                    str(path), 'group_size:1,uncompressed'
                )
                try:
                    for record in pool.map(self._record, part):
                        writer.write(record)
                        num_bytes += len(record)
                finally:
                    writer.close()
                lengths.append(len(part))
                self._say(f'{sum(lengths)} of {len(images)} images')
        info = tfds.core.SplitInfo(
            name=self._split,
            shard_lengths=lengths,
            num_bytes=num_bytes,
            filename_template=files,
        )
        self.info.set_splits(tfds.core.splits.SplitDict([info]))

    def _record(self, image: AnnotatedImage) -> bytes:
        data = read_image(self._images / image.file_name, image)
        features = self.info.features
        example = features.encode_example(_example(image, data, self._annotations))
        record = self._serializer.get_tf_example(example)
        return record.SerializeToString(deterministic=True)

    @functools.cached_property
    def _serializer(self) -> example_serializer.ExampleSerializer:
        features = self.info.features.get_serialized_info()
        return example_serializer.ExampleSerializer(features)


def read_image(path: pathlib.Path, image: AnnotatedImage) -> bytes:
    """Returns an image file that can be decoded and has the size that is stated.

    Raises:
        ValueError: it is missing, broken or of another size; names it.
    """
    try:
        data = path.read_bytes()
        # Annotations are of the pixels as they are stored.
        height, width, _ = decode(data, str(path), exif_rotation=False).shape
    except (OSError, DecodeError) as error:
        raise ValueError(f'image {image.id}: {error}') from None
    if (height, width) != (image.height, image.width):
        raise ValueError(
            f'image {image.id}: {path} has {height} x {width} pixels (height x width), '
            f'where the annotations state {image.height} x {image.width}'
        )
    return data


def _example(image: AnnotatedImage, data: bytes, found: Annotations) -> dict[str, Any]:
    objects = image.objects
    boxes = np.array([each.box for each in objects], np.float32).reshape(-1, 4)
    example = {
        'image': data,
        'file_name': image.file_name,
        'image_id': image.id,
        'boxes': boxes,
        'labels': [each.label for each in objects],
        'crowd': np.array([each.crowd for each in objects], np.bool_),
    }
    if found.has_masks:
        crops = [crop_mask(each.segmentation, each.box) for each in objects]
        example['masks'] = pack(np.array(crops, bool).reshape(-1, CROP, CROP))
    if found.num_keypoints:
        points = np.zeros((len(objects), found.num_keypoints, 3), np.float32)
        for place, each in enumerate(objects):
            if each.keypoints is not None:
                points[place] = each.keypoints
        example['keypoints'] = points
    return example


def describe(found: Annotations) -> dict[str, Any]:
    """Returns what a reader must know beside the records, as JSON.

    Returns:
        `categories`: their fields; `masks`: whether there are any; `index`: for each
        image its number, size and how many objects it has (`boxes`; `crowds`; of the
        categories with keypoints `keypoint_boxes` and `keypoint_crowds`) and how many
        labelled keypoints (`keypoints`), so that images are chosen unread.

    Example:
        >>> describe(Annotations([], [], False, []))['index']['boxes']
        []
    """
    with_points = {i for i, each in enumerate(found.categories) if each.keypoints}
    rows = [
        {
            'image_id': image.id,
            'height': image.height,
            'width': image.width,
            'boxes': sum(not each.crowd for each in image.objects),
            'crowds': sum(each.crowd for each in image.objects),
            'keypoint_boxes': sum(
                not each.crowd and each.label in with_points for each in image.objects
            ),
            'keypoint_crowds': sum(
                each.crowd and each.label in with_points for each in image.objects
            ),
            'keypoints': sum(
                int((each.keypoints[:, 2] > 0).sum())
                for each in image.objects
                if each.keypoints is not None and not each.crowd
            ),
        }
        for image in found.images
    ]
    return {
        'categories': [each._asdict() for each in found.categories],
        'masks': found.has_masks,
        'index': {name: [row[name] for row in rows] for name in INDEX},
    }
