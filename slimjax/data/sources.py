"""Where examples come from: TFDS, a folder of images, or made up.

A source has a length and gives examples by their place, in any order; it can be sent
to reader processes. `load_source` finds the one that a config names.
"""

import hashlib
import os
import pathlib
import tempfile
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp')
# Share of the training images held out where a set has no validation split.
HELD_OUT = 0.05


class Example(NamedTuple):
    """An image, encoded or as pixels, with its class and a name for messages."""

    image: bytes | np.ndarray
    label: int
    name: str


class Source(Protocol):
    """Examples by place, and the classes that they belong to."""

    class_names: tuple[str, ...]

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Example: ...


def load_source(
    dataset: str,
    split: str,
    data_dir: str = '',
    *,
    synthetic: tuple[int, int] = (1000, 3),
) -> Source:
    """Returns the examples of a split.

    Args:
        dataset: `'digits'`, `'folder'`, `'synthetic'`, or the name of a TFDS data set
            that is prepared as ArrayRecord, such as `'imagenet2012'`. Nothing is
            ever downloaded.
        split: `'train'`, `'validation'` or `'test'`. Where a set has no validation
            split, 5 % of train, chosen by a hash, stand for it and are left out of
            train. Where it has no test split, its validation split is read, as the
            literature does for ImageNet; a folder needs one of them.
        data_dir: of the images or of TFDS; `''` for TFDS's own folder.
        synthetic: numbers of classes and of channels of what is made up.

    Raises:
        FileNotFoundError: the data are not there; says how to get them.
        ValueError: data that cannot be used.

    Example:
        >>> source = load_source('synthetic', 'train')
        >>> len(source), source[0].image.shape
        (10000, (256, 256, 3))
    """
    if split not in ('train', 'validation', 'test'):
        raise ValueError(f'split={split!r}; allowed are train, validation and test')
    if dataset == 'synthetic':
        return SyntheticSource(split, *synthetic)
    available = _folder_splits if dataset == 'folder' else _tfds_splits
    splits = available(dataset, data_dir)
    if 'train' not in splits:
        raise ValueError(
            f'{dataset} has no split train; it has {", ".join(sorted(splits))}'
        )
    if 'validation' not in splits and split != 'test':
        kept, held_out = _held_out(splits['train']())
        return kept if split == 'train' else held_out
    if split in splits:
        return splits[split]()
    if 'validation' not in splits:
        raise ValueError(f'{dataset} has no split test, and no validation for it')
    return splits['validation']()


class Subset:
    """Some examples of a source."""

    def __init__(self, source: Source, indices: Sequence[int]):
        self._source, self._indices = source, np.asarray(indices)
        self.class_names = source.class_names

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Example:
        return self._source[int(self._indices[index])]


def _held_out(source: Source) -> tuple[Subset, Subset]:
    """Splits training examples into those for training and those for validation."""
    count = len(source)
    ranks = sorted(range(count), key=lambda i: hashlib.sha256(str(i).encode()).digest())
    size = max(1, round(HELD_OUT * count))
    if size >= count:
        raise ValueError(f'{count} training images are too few to hold out some')
    kept, held_out = sorted(ranks[size:]), sorted(ranks[:size])
    return Subset(source, kept), Subset(source, held_out)


def sample(source: Source, count: int, seed: int = 0) -> Subset:
    """Returns `count` examples drawn at random, or all if there are fewer.

    Example:
        >>> len(sample(load_source('synthetic', 'train'), 3))
        3
    """
    order = np.random.default_rng(seed).permutation(len(source))
    return Subset(source, order[:count])


class SyntheticSource:
    """Noise, the same at each reading; for throughput."""

    def __init__(self, split: str, classes: int, channels: int, side: int = 256):
        self.class_names = tuple(str(label) for label in range(classes))
        self._length = {'train': 10_000, 'validation': 512, 'test': 512}[split]
        noise = np.random.default_rng(len(split)).integers(
            0, 256, (16, side, side, channels), np.uint8
        )
        self._images = noise

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> Example:
        image = self._images[index % len(self._images)]
        return Example(image, index % len(self.class_names), f'synthetic {index}')


class FolderSource:
    """Images in one folder for each class.

    Args:
        root: holds the class folders.
        class_names: of the training split, so that labels agree between splits.

    Raises:
        ValueError: there is no image, an empty class, or one that train lacks.
    """

    def __init__(self, root: pathlib.Path, class_names: Sequence[str] | None = None):
        folders = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
        self.class_names = tuple(class_names or folders)
        unknown = sorted(set(folders) - set(self.class_names))
        if unknown:
            raise ValueError(f'{root} has the class {unknown[0]!r}, which train lacks')
        self._files, self._labels = [], []
        for label, name in enumerate(self.class_names):
            files = _image_files(root / name) if name in folders else []
            if not files and class_names is None:
                raise ValueError(f'the class {name!r} in {root} has no image')
            self._files += files
            self._labels += [label] * len(files)
        if not self._files:
            raise ValueError(
                f'{root} has no images: {root}/<class>/*{IMAGE_SUFFIXES[0]} is expected'
            )

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Example:
        path = self._files[index]
        name = os.fsencode(path).decode(errors='backslashreplace')
        try:
            data = pathlib.Path(path).read_bytes()
        except OSError:
            data = b''  # Decoding it fails, and names the file.
        return Example(data, self._labels[index], name)


def _image_files(folder: pathlib.Path) -> list[str]:
    """Image files below `folder`, sorted; links to folders are not followed."""
    found = []
    for directory, _, names in os.walk(folder):
        found += [
            os.path.join(directory, name)
            for name in names
            if name.lower().endswith(IMAGE_SUFFIXES)
        ]
    return sorted(found)


def _folder_splits(_: str, data_dir: str):
    root = pathlib.Path(data_dir)
    if not data_dir or not root.is_dir():
        raise FileNotFoundError(
            f'config.data_dir={data_dir!r} is no folder; it must hold '
            'train/<class>/*.jpg, and val and test if there are'
        )
    names = {
        'train': ('train',),
        'validation': ('validation', 'val'),
        'test': ('test',),
    }
    found = {}
    for split, spellings in names.items():
        for name in spellings:
            if (root / name).is_dir():
                found[split] = root / name
    if 'train' not in found:
        raise FileNotFoundError(f'{root} has no folder train')
    train = found['train']

    def load(path):
        if path == train:
            return FolderSource(path)
        classes = sorted(entry.name for entry in os.scandir(train) if entry.is_dir())
        return FolderSource(path, classes)

    return {split: lambda path=path: load(path) for split, path in found.items()}


class TfdsSource:
    """A split of a TFDS data set, read as encoded bytes."""

    def __init__(self, builder, split: str):
        import tensorflow_datasets as tfds

        self.class_names = tuple(builder.info.features['label'].names)
        self._split = f'{builder.info.full_name} {split}'
        decoders = {'image': tfds.decode.SkipDecoding()}
        self._records = builder.as_data_source(split, decoders=decoders)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Example:
        record = self._records[index]
        name = record.get('file_name', f'{self._split}[{index}]')
        name = (
            name.decode(errors='backslashreplace') if isinstance(name, bytes) else name
        )
        return Example(record['image'], int(record['label']), str(name))


def _tfds_splits(dataset: str, data_dir: str):
    builder = _digits(data_dir) if dataset == 'digits' else _prepared(dataset, data_dir)
    if builder.info.file_format.value != 'array_record':
        raise ValueError(
            f'{builder.data_path} is prepared as {builder.info.file_format.value}: '
            'convert it by scripts/prepare_imagenet.py --convert'
        )
    return {
        split: lambda split=split: TfdsSource(builder, split)
        for split in builder.info.splits
    }


def _prepared(dataset: str, data_dir: str):
    """The builder of a set that stands ready on the disk."""
    import tensorflow_datasets as tfds

    root = pathlib.Path(data_dir or tfds_dir())
    candidates = sorted(root.glob(f'{dataset}/**/dataset_info.json'))
    if (root / 'dataset_info.json').is_file():
        candidates = [root / 'dataset_info.json']
    if not candidates:
        raise FileNotFoundError(
            f'{dataset} is not prepared in {root} (config.data_dir, or TFDS_DATA_DIR). '
            'ImageNet: run scripts/prepare_imagenet.py. Another TFDS data set: '
            f"tfds.builder('{dataset}', file_format='array_record')"
            '.download_and_prepare(), once, where TensorFlow is installed'
        )
    return tfds.builder_from_directory(candidates[-1].parent)


def _digits(data_dir: str):
    """The builder of the digits, which prepares them where that was not done yet."""
    import tensorflow_datasets as tfds

    from slimjax.data.digits.digits_dataset_builder import Builder

    tfds.disable_progress_bar()
    root = pathlib.Path(data_dir or tfds_dir())
    try:
        root.mkdir(parents=True, exist_ok=True)
        writable = os.access(root, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        root = pathlib.Path(tempfile.gettempdir(), 'slimjax_datasets')
    builder = Builder(data_dir=root, file_format='array_record')
    if not builder.is_prepared():
        try:
            builder.download_and_prepare()
        except FileExistsError:
            # Another process was faster.
            builder = Builder(data_dir=root, file_format='array_record')
    return builder


def tfds_dir() -> str:
    """Returns the folder in which TFDS keeps its data sets."""
    default = os.path.join('~', 'tensorflow_datasets')
    return os.path.expanduser(os.environ.get('TFDS_DATA_DIR') or default)
