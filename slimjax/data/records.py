"""Writes TFDS's files of ImageNet: shards of records, and what describes them."""

import io
import json
import os
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from PIL import Image

from slimjax.data.decode import DecodeError, decode, to_pillow
from slimjax.data.inventory import Item

NAME, VERSION = 'imagenet2012', '5.1.0'
# What is written anew is written so finely that training cannot tell.
_REPAIR_QUALITY, _SHRINK_QUALITY = 95, 90


class Shard(NamedTuple):
    """A file of records to be written.

    Attributes:
        folder: that it goes to.
        split: `'train'` or `'validation'`.
        index: its number.
        count: of shards of the split.
        items: what goes into it.
        short_side: to which larger images are shrunk; 0 for none.

    Example:
        >>> Shard('/data', 'train', 1, 4, [], 0).file
        'imagenet2012-train.array_record-00001-of-00004'
    """

    folder: str
    split: str
    index: int
    count: int
    items: Sequence[Item]
    short_side: int

    @property
    def file(self) -> str:
        """The name that TFDS looks for."""
        return f'{NAME}-{self.split}.array_record-{self.index:05d}-of-{self.count:05d}'

    @property
    def report(self) -> pathlib.Path:
        """Where it says that it is finished, and what was found."""
        return pathlib.Path(self.folder, f'{self.file}.json')


class Report(NamedTuple):
    """What was written of a shard.

    Attributes:
        written: number of images.
        num_bytes: of the records.
        repaired: names of images that were encoded anew, as they were no RGB or grey
            JPEG.
        broken: names of images that cannot be decoded and were left out, and why.

    Example:
        >>> Report(1, 694, (), ()).written
        1
    """

    written: int
    num_bytes: int
    repaired: tuple[str, ...]
    broken: tuple[str, ...]


def finished(shard: Shard) -> Report | None:
    """Returns the report of a shard that stands complete, without broken images."""
    if not (
        shard.report.is_file() and pathlib.Path(shard.folder, shard.file).is_file()
    ):
        return None
    report = Report(**json.loads(shard.report.read_text()))
    # The user may have replaced the broken ones: the shard is written again.
    return None if report.broken else report


def write_shard(shard: Shard, class_names: Sequence[str]) -> Report:
    """Writes a shard under a temporary name, and renames it.

    Args:
        shard: what to write.
        class_names: in the order of the labels.
    """
    from array_record.python import array_record_module
    from tensorflow_datasets.core import example_serializer

    features = make_features(class_names)
    serializer = example_serializer.ExampleSerializer(features.get_serialized_info())
    shard.report.unlink(missing_ok=True)
    path = pathlib.Path(shard.folder, shard.file)
    temporary = path.with_name(f'{path.name}.writing')
    # A record is read alone, and a JPEG does not shrink.
    writer = array_record_module.ArrayRecordWriter(
        str(temporary), 'group_size:1,uncompressed'
    )
    num_bytes, repaired, broken = 0, [], []
    for item in shard.items:
        try:
            image, sound = sound_jpeg(item.read(), item.name, shard.short_side)
        except (DecodeError, OSError) as error:
            broken.append(f'{item.class_name}/{item.name}: {error}')
            continue
        if not sound:
            repaired.append(f'{item.class_name}/{item.name}')
        example = {'image': image, 'label': item.class_name, 'file_name': item.name}
        record = serializer.get_tf_example(features.encode_example(example))
        # The same bytes in every process: files can be compared.
        record = record.SerializeToString(deterministic=True)
        writer.write(record)
        num_bytes += len(record)
    writer.close()
    os.replace(temporary, path)
    report = Report(
        len(shard.items) - len(broken), num_bytes, tuple(repaired), tuple(broken)
    )
    # Written last: a shard without it is not finished.
    replace_text(shard.report, json.dumps(report._asdict()))
    return report


def sound_jpeg(data: bytes, name: str, short_side: int = 0) -> tuple[bytes, bool]:
    """Returns an image file as it is, or as an RGB JPEG where readers may stumble.

    ImageNet has one PNG and 22 CMYK images among its JPEGs. All images are decoded,
    so that a broken one is found here and not after a day of training.

    Args:
        data: the image file.
        name: of it, for the error.
        short_side: to which a larger image is shrunk, by Pillow's bilinear filter as
            in evaluation; 0 for none.

    Returns:
        The file, and whether it was sound: an RGB or grey JPEG.

    Raises:
        DecodeError: it cannot be decoded.

    Example:
        >>> file = io.BytesIO()
        >>> Image.new('CMYK', (8, 8)).save(file, 'jpeg')
        >>> sound_jpeg(file.getvalue(), 'cmyk.JPEG')[1]
        False
    """
    # Orientation stays as it is stored: a reader decides whether to follow its tag.
    pixels = decode(data, name, exif_rotation=False)
    with Image.open(io.BytesIO(data)) as image:
        sound = image.format == 'JPEG' and image.mode in ('RGB', 'L')
        exif = image.info.get('exif', b'')
    short = min(pixels.shape[:2])
    shrink = 0 < short_side < short
    if sound and not shrink:
        return data, True
    image, quality = to_pillow(pixels), _REPAIR_QUALITY
    if shrink:
        width, height = (round(side * short_side / short) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BILINEAR)
        quality = _SHRINK_QUALITY
    file = io.BytesIO()
    image.save(file, 'JPEG', quality=quality, subsampling='4:4:4', exif=exif)
    return file.getvalue(), sound


def make_features(class_names: Sequence[str]) -> Any:
    """Returns the features of TFDS's own imagenet2012."""
    import tensorflow_datasets as tfds

    return tfds.features.FeaturesDict(
        {
            'image': tfds.features.Image(encoding_format='jpeg'),
            'label': tfds.features.ClassLabel(names=list(class_names)),
            'file_name': tfds.features.Text(),
        }
    )


def write_info(
    folder: pathlib.Path,
    class_names: Sequence[str],
    splits: dict[str, Sequence[Report]],
    description: str,
) -> None:
    """Writes the JSON files that make TFDS read a folder of shards.

    Args:
        folder: with the shards.
        class_names: in the order of the labels.
        splits: the reports of the shards of each split, in order.
        description: what the set is and how it was made.
    """
    import tensorflow_datasets as tfds

    identity = tfds.core.dataset_info.DatasetIdentity(
        name=NAME,
        version=tfds.core.Version(VERSION),
        data_dir=str(folder),
        module_name='slimjax.data.records',
    )
    info = tfds.core.DatasetInfo(
        builder=identity,
        description=description,
        features=make_features(class_names),
        supervised_keys=('image', 'label'),
        homepage='https://image-net.org/',
    )
    info.set_file_format('array_record')
    info.set_splits(
        tfds.core.splits.SplitDict(
            [
                tfds.core.SplitInfo(
                    name=split,
                    shard_lengths=[report.written for report in reports],
                    num_bytes=sum(report.num_bytes for report in reports),
                    filename_template=tfds.core.ShardedFileTemplate(
                        data_dir=folder,
                        dataset_name=NAME,
                        split=split,
                        filetype_suffix='array_record',
                    ),
                )
                for split, reports in splits.items()
            ]
        )
    )
    info.write_to_directory(folder)


def replace_text(path: pathlib.Path, text: str) -> None:
    """Writes a file so that it is either whole or not there."""
    temporary = path.with_name(f'{path.name}.writing')
    temporary.write_text(text)
    os.replace(temporary, path)
