"""What ImageNet's folders or tars hold, without reading any image."""

import contextlib
import io
import os
import pathlib
import tarfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

IMAGE_SUFFIXES = ('.jpeg', '.jpg', '.png')


class Item(NamedTuple):
    """An image file, or a stretch of a tar.

    Attributes:
        path: of the file or the tar.
        offset: where the image begins in it, in bytes.
        size: its length in bytes; -1 for the whole file.
        class_name: of the image, in ImageNet a WordNet id such as `n01440764`.
        name: of the image file.

    Example:
        >>> Item('/images/n01440764/1.JPEG', 0, -1, 'n01440764', '1.JPEG').size
        -1
    """

    path: str
    offset: int
    size: int
    class_name: str
    name: str

    def read(self) -> bytes:
        """Returns the bytes of the image file."""
        with open(self.path, 'rb') as file:
            file.seek(self.offset)
            return file.read(self.size)


def list_train(path: pathlib.Path) -> list[Item]:
    """Returns the training images, sorted by class and name.

    Args:
        path: a folder of one folder for each class, or the official tar, which holds
            a tar for each class.

    Raises:
        ValueError: there are none.
    """
    items = _class_tars(path) if path.is_file() else _class_folders(path)
    if not items:
        raise ValueError(f'{path} has no images in folders or tars of classes')
    return items


def list_val(path: pathlib.Path, labels: pathlib.Path | None) -> list[Item]:
    """Returns the validation images, sorted.

    Args:
        path: a folder of one folder for each class, or a folder or the official tar
            of all images, which needs `labels`.
        labels: see `read_labels`.

    Raises:
        ValueError: there are none, or the labels are missing or do not fit.
    """
    if path.is_dir():
        items = _class_folders(path)
        flat = sorted(
            (Item(entry.path, 0, -1, '', entry.name) for entry in os.scandir(path)),
            key=lambda item: item.name,
        )
        flat = [item for item in flat if _is_image(item.name)]
        if items and flat:
            raise ValueError(
                f'{path} has both folders of classes and images beside them, such as '
                f'{flat[0].name}'
            )
        if items:
            return items
    else:
        with _opened(path) as tar:
            flat = sorted(_members(tar, path, ''), key=lambda item: item.name)
    if not flat:
        raise ValueError(f'{path} has no images')
    if labels is None:
        raise ValueError(
            f'{path} does not say the classes of its {len(flat)} images: set '
            '--val_labels to the devkit, ILSVRC2012_devkit_t12.tar.gz, or to a text '
            'file of one WordNet id a line'
        )
    classes = read_labels(labels, [item.name for item in flat])
    return [
        item._replace(class_name=name) for item, name in zip(flat, classes, strict=True)
    ]


def read_labels(path: pathlib.Path, names: Sequence[str]) -> list[str]:
    """Returns the class of each image.

    Args:
        path: ImageNet's devkit (`.tar.gz`), or a text file, in the order of the names a
            class a line, or an image's name and its class.
        names: of the images, sorted.

    Raises:
        ValueError: the file does not fit the images.
    """
    if path.name.endswith('.tar.gz'):
        lines = _devkit_labels(path)
    else:
        lines = path.read_text().split('\n')
    rows = [line.split() for line in lines if line.strip()]
    if len(rows) != len(names):
        raise ValueError(f'{path} has {len(rows)} labels for {len(names)} images')
    if all(len(row) == 2 for row in rows):
        classes = dict(rows)
        missing = [name for name in names if name not in classes]
        if missing:
            raise ValueError(f'{path} has no label of {missing[0]}')
        return [classes[name] for name in names]
    bad = [row for row in rows if len(row) != 1 or row[0].isdigit()]
    if bad:
        raise ValueError(
            f'{path} has the line {" ".join(bad[0])!r}, where a WordNet id such as '
            'n01440764 is expected; the numbers of ILSVRC2012_validation_ground_truth'
            '.txt mean nothing without the devkit: set --val_labels to its .tar.gz'
        )
    return [row[0] for row in rows]


def _devkit_labels(path: pathlib.Path) -> list[str]:
    # The devkit numbers the classes in an order of its own, which a MATLAB file holds.
    import scipy.io

    with _opened(path) as tar:
        # A link or a folder has no content.
        members = [member for member in tar.getmembers() if member.isfile()]
        files = {pathlib.PurePath(member.name).name: member for member in members}
        try:
            meta = tar.extractfile(files['meta.mat']).read()
            numbers = tar.extractfile(files['ILSVRC2012_validation_ground_truth.txt'])
        except KeyError as error:
            raise ValueError(
                f'{path} is no ImageNet devkit: it lacks {error}'
            ) from None
        numbers = [int(line) for line in numbers.read().split()]
    try:
        synsets = scipy.io.loadmat(io.BytesIO(meta), squeeze_me=True)['synsets']
        classes = {int(row['ILSVRC2012_ID']): str(row['WNID']) for row in synsets}
        return [classes[number] for number in numbers]
    # Whatever a damaged file leads to in scipy.
    except Exception as error:
        raise ValueError(f'{path}: meta.mat is damaged ({error!r})') from error


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[tarfile.TarFile]:
    """Opens a tar, of which nothing is ever unpacked to a place that it names."""
    try:
        with tarfile.open(path) as tar:
            yield tar
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise ValueError(f'{path}: no tar, or damaged: {error}') from error


def _class_folders(root: pathlib.Path) -> list[Item]:
    if not root.is_dir():
        raise ValueError(f'{root} is neither a folder nor a tar')
    folders = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    return [
        Item(os.path.join(root, folder, name), 0, -1, folder, name)
        for folder in folders
        for name in sorted(os.listdir(root / folder))
        if _is_image(name)
    ]


def _class_tars(path: pathlib.Path) -> list[Item]:
    items = []
    with _opened(path) as outer:
        for member in outer:
            class_name, suffix = os.path.splitext(os.path.basename(member.name))
            if suffix != '.tar' or not member.isfile():
                continue
            # Nothing is compressed, so that an image in a tar in a tar is a stretch
            # of the outer one.
            with tarfile.open(fileobj=outer.extractfile(member)) as inner:
                items += [
                    item._replace(offset=item.offset + member.offset_data)
                    for item in _members(inner, path, class_name)
                ]
    return sorted(items, key=lambda item: (item.class_name, item.name))


def _members(tar: tarfile.TarFile, path, class_name: str) -> Iterable[Item]:
    for member in tar:
        name = os.path.basename(member.name)
        if member.isfile() and _is_image(name):
            yield Item(str(path), member.offset_data, member.size, class_name, name)


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith('.')
