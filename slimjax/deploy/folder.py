"""Folders that appear whole or not at all, and the hashes of what is in them."""

import contextlib
import hashlib
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

_CHUNK = 1 << 20


@contextlib.contextmanager
def whole_folder(path: str | os.PathLike) -> Iterator[pathlib.Path]:
    """Gives a folder to write to, which becomes `path` when all is written.

    Args:
        path: of the new folder; those above it are made.

    Yields:
        A temporary folder beside it, which is removed if anything fails.

    Raises:
        ValueError: `path` exists.

    Example:
        >>> import tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp(), 'bundle')
        >>> with whole_folder(path) as folder:
        ...     _ = folder.joinpath('note').write_text('all of it')
        >>> path.joinpath('note').read_text()
        'all of it'
    """
    path = pathlib.Path(path).absolute()
    if path.exists():
        raise ValueError(f'{path} exists: remove it, or choose a new folder')
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.tmp')
    # Not by tempfile, whose folders nobody else may read.
    temporary.mkdir(parents=True)
    try:
        yield temporary
        temporary.rename(path)
    except BaseException:
        shutil.rmtree(temporary)
        raise


def fingerprint(path: pathlib.Path) -> dict[str, Any]:
    """Returns the size and the SHA-256 hash of a file.

    Example:
        >>> import tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp(), 'file')
        >>> _ = path.write_bytes(b'abc')
        >>> found = fingerprint(path)
        >>> found['bytes'], found['sha256'][:8]
        (3, 'ba7816bf')
    """
    found = hashlib.sha256()
    with path.open('rb') as file:
        while chunk := file.read(_CHUNK):
            found.update(chunk)
    return {'bytes': path.stat().st_size, 'sha256': found.hexdigest()}
