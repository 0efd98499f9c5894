"""Files that are written whole or not at all."""

import contextlib
import os
import pathlib
from collections.abc import Iterator


@contextlib.contextmanager
def whole_file(path: str | pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives another name to write to; what is there at the end takes the file's place.

    Where writing fails, the file stays as it was.

    Args:
        path: of the file; its folder must be there.

    Example:
        >>> import tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp(), 'a.txt')
        >>> with whole_file(path) as temporary:
        ...     _ = temporary.write_text('whole')
        >>> path.read_text(), len(list(path.parent.iterdir()))
        ('whole', 1)
    """
    path = pathlib.Path(path)
    temporary = path.with_name(f'{path.name}.{os.getpid()}.tmp')
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def check_output(flag: str, path: str | pathlib.Path) -> None:
    """Checks a file's place: results come at the end, and are to find one there.

    Args:
        flag: that the path was given by.
        path: of the file.

    Raises:
        ValueError: it is a folder, or its folder is not there or read-only.

    Example:
        >>> check_output('--json', 'results.json')
    """
    path = pathlib.Path(path)
    if path.is_dir():
        raise ValueError(f'{flag}={path} is a folder; name a file in it')
    if not os.access(path.parent, os.W_OK):
        there = 'cannot be written to' if path.parent.is_dir() else 'is not there'
        raise ValueError(f'{flag}={path}: the folder {str(path.parent)!r} {there}')
