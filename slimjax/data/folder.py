"""Images in plain folders, one for each class, in one for each split."""

import logging
import os
import pathlib
from collections.abc import Callable, Sequence

import numpy as np

from slimjax.data.base import Example

log = logging.getLogger(__name__)

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.webp')
# What people call the folders of the splits; the first that exists is taken.
_SPELLINGS = {
    'train': ('train',),
    'validation': ('validation', 'val'),
    'test': ('test',),
}


class FolderSource:
    """Images in one folder for each class; labels count the classes in order of name.

    Files below a class's folder that are no images or are hidden are passed over. So
    are links to folders inside a class, and a class that is a link to a folder around
    it.

    Args:
        root: holds the class folders.
        class_names: of the training split, so that labels agree between splits; None
            for the folders of `root` itself, each of which must hold an image.

    Raises:
        ValueError: there is no image, an empty class, or a class that train lacks.

    Example:
        >>> import tempfile
        >>> root = pathlib.Path(tempfile.mkdtemp())
        >>> for name in ('cat', 'dog'):
        ...     (root / name).mkdir()
        ...     _ = (root / name / '1.jpg').write_bytes(b'')
        >>> FolderSource(root)[1].label
        1
    """

    def __init__(self, root: pathlib.Path, class_names: Sequence[str] | None = None):
        folders = _class_folders(root)
        self.class_names = tuple(folders if class_names is None else class_names)
        unknown = sorted(set(folders) - set(self.class_names))
        if unknown:
            raise ValueError(
                f'{root} has the class {unknown[0]!r}, which train lacks; train has '
                f'{len(self.class_names)} classes'
            )
        files, labels, empty = [], [], []
        for label, name in enumerate(self.class_names):
            found = _image_files(folders[name]) if name in folders else []
            files += [os.path.relpath(file, os.fsencode(root)) for file in found]
            labels += [label] * len(found)
            if not found:
                empty.append(name)
        if not files:
            raise ValueError(
                f'{root} has no images; expected are {root}/<class>/*.jpg (or '
                f'{", ".join(IMAGE_SUFFIXES[1:])})'
            )
        if empty and class_names is None:
            raise ValueError(f'the class {empty[0]!r} in {root} has no image')
        if empty:
            log.warning(
                '%s has no image of %d classes, such as %r', root, len(empty), empty[0]
            )
        self._root = root
        # One array is sent to reader processes much faster than a million strings.
        self._files, self._labels = np.array(files), np.array(labels, np.int32)

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Example:
        file = bytes(self._files[index])
        path = self._root / os.fsdecode(file)
        name = f'{self._root}{os.sep}{_readable(file)}'
        return Example(path.read_bytes(), int(self._labels[index]), name)


def folder_splits(data_dir: str) -> dict[str, Callable[[], FolderSource]]:
    """Returns what loads each split of a folder.

    Args:
        data_dir: holds `train`, and perhaps `validation` (or `val`) and `test`.

    Raises:
        FileNotFoundError: there is no such folder, or no `train` in it.
    """
    root = pathlib.Path(data_dir)
    if not data_dir or not root.is_dir():
        raise FileNotFoundError(
            f'config.data_dir={data_dir!r} is no folder; it must hold '
            'train/<class>/*.jpg, and val and test if there are'
        )
    found = {}
    for split, spellings in _SPELLINGS.items():
        folders = [root / name for name in spellings if (root / name).is_dir()]
        if folders:
            found[split] = folders[0]
    if 'train' not in found:
        raise FileNotFoundError(
            f'{root} has no folder train: train/<class>/*.jpg is expected in it'
        )
    train = found.pop('train')
    return {'train': lambda: FolderSource(train)} | {
        split: lambda path=path: FolderSource(path, list(_class_folders(train)))
        for split, path in found.items()
    }


def _class_folders(root: pathlib.Path) -> dict[str, bytes]:
    """The folder of each class, in order of name, which is made readable."""
    around = os.path.realpath(root) + os.sep
    found = {}
    for entry in sorted(os.scandir(root), key=lambda entry: entry.name):
        # Unlike entry.is_dir(), this does not raise at a link to itself.
        if (
            os.path.isdir(entry.path)
            and not entry.name.startswith('.')
            and not around.startswith(os.path.realpath(entry.path) + os.sep)
        ):
            name = _readable(os.fsencode(entry.name))
            if name in found:
                raise ValueError(
                    f'{root} has two classes that read {name!r}: rename one'
                )
            found[name] = os.fsencode(entry.path)
    return found


def _image_files(folder: bytes) -> list[bytes]:
    suffixes = tuple(suffix.encode() for suffix in IMAGE_SUFFIXES)
    found = []
    for directory, _, names in os.walk(folder):
        found += [
            os.path.join(directory, name)
            for name in names
            if name.lower().endswith(suffixes) and not name.startswith(b'.')
        ]
    return sorted(found)


def _readable(name: bytes) -> str:
    """A name in any encoding as one line that can be printed and stored as JSON."""
    text = name.decode(errors='backslashreplace')
    return ''.join(
        c if c.isprintable() else c.encode('unicode_escape').decode() for c in text
    )
