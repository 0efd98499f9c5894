"""Data sets of TensorFlow Datasets (TFDS), read without TensorFlow as encoded bytes.

TFDS is the catalogue and the file format: it says what splits and classes a prepared
set has, and ArrayRecord gives its examples in any order.
"""

import contextlib
import io
import json
import logging
import os
import pathlib
import re
import tempfile
from collections.abc import Callable
from typing import Any

from slimjax.data.base import Example

log = logging.getLogger(__name__)

_VERSION = re.compile(r'\d+\.\d+\.\d+')


class TfdsSource:
    """A split of a TFDS data set, read as encoded bytes.

    Args:
        builder: of a set that is prepared as ArrayRecord.
        split: its name; TFDS's slices, such as `'train[:10%]'`, go too.

    Raises:
        ValueError: the set has not one image and one class label an example.
    """

    def __init__(self, builder: Any, split: str):
        import tensorflow_datasets as tfds

        features = dict(builder.info.features.items())
        keys = builder.info.supervised_keys or ('image', 'label')
        self._image, self._label = keys[:2]
        if not (
            isinstance(features.get(self._image), tfds.features.Image)
            and isinstance(features.get(self._label), tfds.features.ClassLabel)
        ):
            raise ValueError(
                f'{builder.info.full_name} is no set for classification: it has '
                f'{", ".join(features)}, where an image and a class label are needed'
            )
        self.class_names = tuple(features[self._label].names)
        self._split = f'{builder.info.full_name} {split}'
        # TFDS would turn each feature of a record into numpy and back, which takes
        # longer than reading it.
        self._records = builder.as_data_source(
            split, deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
        )

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Example:
        from google.protobuf.message import DecodeError
        from tensorflow_datasets.proto import tf_example_pb2

        name = f'{self._split}[{index}]'
        try:
            record = tf_example_pb2.Example.FromString(self._records[index])
        except (RuntimeError, IndexError, DecodeError) as error:
            # Of a shard that is missing, cut or damaged.
            why = str(error).partition('\n')[0]
            raise OSError(f'{name} cannot be read: {why}') from error
        record = record.features.feature
        for key in ('file_name', 'id'):
            if key in record:
                name = f'{name} {_text(record[key])}'
                break
        image = record[self._image].bytes_list.value[0]
        return Example(image, record[self._label].int64_list.value[0], name)


def _text(feature: Any) -> str:
    if feature.int64_list.value:
        return ' '.join(map(str, feature.int64_list.value))
    return b' '.join(feature.bytes_list.value).decode(errors='backslashreplace')


def tfds_splits(dataset: str, data_dir: str) -> dict[str, Callable[[], TfdsSource]]:
    """Returns what loads each split of a TFDS data set that has labels.

    Args:
        dataset: `'digits'`, or a name as TFDS writes it, such as `'imagenet2012'` or
            `'imagenet_resized/64x64:0.1.0'`, or the folder of a prepared set.
        data_dir: of TFDS, or of the set itself; `''` for TFDS's own.

    Raises:
        FileNotFoundError: it is not prepared; says what to run. Nothing is downloaded.
        ValueError: it is prepared in another format, or several fit.
    """
    import tensorflow_datasets as tfds

    if dataset == 'digits':
        builder = digits_builder(data_dir)
    else:
        builder = tfds.builder_from_directory(find_prepared(dataset, data_dir))
    splits = {
        split: lambda split=split: TfdsSource(builder, split)
        for split in builder.info.splits
    }
    # The labels of ImageNet's test images, and of others', were never published.
    if 'test' in splits and splits['test']()[0].label < 0:
        del splits['test']
    return splits


def find_prepared(dataset: str, data_dir: str = '') -> pathlib.Path:
    """Returns the folder of a set that stands ready as ArrayRecord; see `tfds_splits`.

    Of several versions the newest is taken.
    """
    root = pathlib.Path(data_dir or tfds_dir()).expanduser()
    name, _, version = dataset.partition(':')
    places = [pathlib.Path(dataset).expanduser(), root]
    found = [place for place in places if (place / 'dataset_info.json').is_file()][:1]
    if found and found[0] == root and _info(root).get('name') != name.split('/')[0]:
        raise ValueError(
            f'config.data_dir={root} holds {_info(root).get("name")!r}, not {name!r}'
        )
    if not found and not os.path.isabs(name):
        found = [
            folder
            for pattern in ('*', '*/*')
            for folder in root.glob(f'{name}/{pattern}')
            if _VERSION.fullmatch(folder.name)
            and version in ('', folder.name)
            and (folder / 'dataset_info.json').is_file()
        ]
    if not found:
        raise FileNotFoundError(
            f'{dataset} is not prepared in {root} (config.data_dir, or TFDS_DATA_DIR). '
            'ImageNet: run scripts/prepare_imagenet.py. Another TFDS data set: '
            f"tfds.builder('{dataset}', file_format='array_record')"
            '.download_and_prepare(), once, where TensorFlow is installed'
        )
    readable = [
        folder for folder in found if _info(folder).get('fileFormat') == 'array_record'
    ]
    if not readable:
        raise ValueError(
            f'{found[0]} is prepared as {_info(found[0]).get("fileFormat", "tfrecord")}'
            ', which cannot be read in any order; run '
            f'scripts/prepare_imagenet.py --convert {found[0]} --data_dir <folder>'
        )
    configs = sorted({folder.parent.name for folder in readable})
    if len(configs) > 1:
        raise ValueError(
            f'{dataset} is prepared in {len(configs)} configurations: set '
            f'config.dataset to one of {", ".join(f"{name}/{c}" for c in configs)}'
        )
    if len(readable) == 1:
        return readable[0]  # Whose folder may have any name.
    return max(readable, key=lambda folder: [*map(int, folder.name.split('.'))])


def _info(folder: pathlib.Path) -> dict[str, Any]:
    return json.loads((folder / 'dataset_info.json').read_text())


def digits_builder(data_dir: str = '') -> Any:
    """Returns the builder of the digits, which are prepared where they are not yet.

    Args:
        data_dir: of TFDS; where it cannot be written, the system's folder for
            temporary files stands in.
    """
    import tensorflow_datasets as tfds

    from slimjax.data.digits.digits_dataset_builder import Builder

    root = pathlib.Path(data_dir or tfds_dir()).expanduser()
    builder = Builder(data_dir=root, file_format='array_record')
    if not _is_prepared(builder) and not _writable(root):
        root = pathlib.Path(tempfile.gettempdir(), f'slimjax_datasets_{os.getuid()}')
        builder = Builder(data_dir=root, file_format='array_record')
    if _is_prepared(builder):
        return builder
    log.info('preparing the digits in %s', builder.data_path)
    tfds.disable_progress_bar()
    try:
        # What it prints is of a download, which there is none of.
        with contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare()
    except FileExistsError:
        # Another process was faster: what it made is the same.
        builder = Builder(data_dir=root, file_format='array_record')
    if not _is_prepared(builder):
        raise FileExistsError(f'{builder.data_path} is no complete data set: remove it')
    return builder


def _is_prepared(builder: Any) -> bool:
    return (pathlib.Path(builder.data_path) / 'dataset_info.json').is_file()


def _writable(root: pathlib.Path) -> bool:
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(root, os.W_OK)


def tfds_dir() -> str:
    """Returns the folder in which TFDS keeps its data sets.

    Example:
        >>> os.path.isabs(tfds_dir())
        True
    """
    default = os.path.join('~', 'tensorflow_datasets')
    return os.path.expanduser(os.environ.get('TFDS_DATA_DIR') or default)
