"""The folder of a run, opened to train in it."""

import contextlib
import pathlib
from collections.abc import Callable, Iterator

import jax

from slimjax.lock import locked
from slimjax.train.checkpoint import Checkpoints
from slimjax.train.damage import set_aside_broken


@contextlib.contextmanager
def opened(workdir: pathlib.Path, say: Callable[[str], None]) -> Iterator[Checkpoints]:
    """Opens a workdir for one run alone, whatever an earlier one left behind.

    What it was writing as it was killed is deleted, and damaged checkpoints are set
    aside. All processes of a run must call it.

    Args:
        workdir: made if missing.
        say: prints a line for a person.

    Raises:
        ValueError: another run is in it, or no checkpoint of it is whole.
        OSError: it cannot be written.

    Example:
        >>> import tempfile
        >>> with opened(pathlib.Path(tempfile.mkdtemp()), print) as checkpoints:
        ...     checkpoints.newest is None
        True
    """
    with contextlib.ExitStack() as stack:
        if not jax.process_index():
            workdir.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(workdir))
            for left in workdir.glob('*.tmp'):
                left.unlink()
        for line in set_aside_broken(workdir):
            say(line)
        yield stack.enter_context(Checkpoints(workdir / 'checkpoints', clear=True))
