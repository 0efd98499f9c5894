"""One process at a time in a folder."""

import contextlib
import errno
import fcntl
import logging
import os
import pathlib
import socket
from collections.abc import Iterator

log = logging.getLogger(__name__)

# Network file systems that were mounted without locks.
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP)


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[None]:
    """Keeps others out of a folder, on all machines that share it.

    The kernel holds the lock, on the file `FOLDER/lock`, and releases it with the end
    of this process, however that comes: what is killed leaves nothing to clear away.
    The file itself stays.

    Args:
        folder: such as a workdir; exists.

    Raises:
        ValueError: another process holds it; says which.
        OSError: the folder cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as path, locked(pathlib.Path(path)):
        ...     with locked(pathlib.Path(path)):
        ...         pass
        Traceback (most recent call last):
        ValueError: ... is in use by process ...
    """
    host = socket.gethostname()
    with open(folder / 'lock', 'a+') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or 'another process'
            raise ValueError(
                f'{folder} is in use by {holder}: wait for its end, stop it, or take '
                'another folder'
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            log.warning('%s: no locks here; see that nothing else uses it', folder)
        # Who it is helps others, but is not worth failing for on a full disk.
        with contextlib.suppress(OSError):
            file.truncate(0)
            os.write(file.fileno(), f'process {os.getpid()} on {host}\n'.encode())
        yield
