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
