"""One run at a time in a workdir."""

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
def locked(workdir: pathlib.Path) -> Iterator[None]:
    """Keeps other runs out of a workdir, on all machines that share it.

    The kernel holds the lock, on the file `WORKDIR/lock`, and releases it with the end
    of this process, however that comes: what is killed leaves nothing to clear away.
    The file itself stays.

    Args:
        workdir: exists.

    Raises:
        ValueError: another run holds it; says which.
        OSError: the workdir cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, locked(pathlib.Path(folder)):
        ...     with locked(pathlib.Path(folder)):
        ...         pass
        Traceback (most recent call last):
        ValueError: ... is in use by process ...
    """
    host = socket.gethostname()
    with open(workdir / 'lock', 'a+') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or 'another run'
            raise ValueError(
                f'{workdir} is in use by {holder}: wait for its end, stop it, or take '
                'another --workdir'
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            log.warning('%s: no locks here; see that no other run uses it', workdir)
        # Who it is helps others, but is not worth failing for on a full disk.
        with contextlib.suppress(OSError):
            file.truncate(0)
            os.write(file.fileno(), f'process {os.getpid()} on {host}\n'.encode())
        yield
