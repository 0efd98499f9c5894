"""Where the numbers of a run go: `metrics.jsonl` always, TensorBoard where wanted."""

import contextlib
import json
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Protocol, TextIO


class Writer(Protocol):
    """Takes scalars; every clu `MetricWriter` is one."""

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None: ...

    def flush(self) -> None: ...


class JsonLines:
    """Appends `{"step": ..., "train/loss/0.25": ...}`, one object a line.

    It holds nothing that differs between two runs of the same computation, no times:
    the file of a resumed run equals the uninterrupted one's byte for byte.

    Args:
        path: the file; made if missing.
        resume_step: lines of later steps are dropped, which an interrupted run wrote
            after its last checkpoint, and so is a line cut short.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     writer = JsonLines(pathlib.Path(folder, 'metrics.jsonl'))
        ...     writer.write_scalars(1, {'train/loss/1.0': 0.5})
        ...     read_metrics(pathlib.Path(folder, 'metrics.jsonl'))
        [{'step': 1, 'train/loss/1.0': 0.5}]
    """

    def __init__(self, path: pathlib.Path, resume_step: int = 0):
        self._path = path
        kept = [
            json.dumps(line)
            for line in read_metrics(path)
            if line['step'] <= resume_step
        ]
        if resume_step == 0:
            kept = []
        temporary = path.with_name(path.name + '.tmp')
        with open(temporary, 'w') as file:
            file.writelines(line + '\n' for line in kept)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Appends one line."""
        line = {'step': int(step), **{k: float(v) for k, v in scalars.items()}}
        with self._opened() as file:
            file.write(json.dumps(line) + '\n')

    def flush(self) -> None:
        """Returns when all lines are on the disk."""
        with self._opened() as file:
            os.fsync(file.fileno())

    @contextlib.contextmanager
    def _opened(self) -> Iterator[TextIO]:
        try:
            with open(self._path, 'a') as file:
                yield file
        except OSError as error:
            # That of a full disk names no file.
            raise OSError(error.errno, error.strerror, str(self._path)) from error


class TensorBoard:
    """Writes event files that TensorBoard reads.

    Raises:
        ImportError: tensorboardX is not installed.
    """

    def __init__(self, directory: pathlib.Path, resume_step: int = 0):
        try:
            import tensorboardX
        except ImportError:
            raise ImportError(
                'config.tensorboard=True needs tensorboardX: '
                "pip install 'slimjax[tensorboard]'"
            ) from None
        self._writer = tensorboardX.SummaryWriter(
            str(directory),
            purge_step=resume_step + 1 if resume_step else None,
            flush_secs=5,
        )

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes one event for each scalar."""
        for name, value in scalars.items():
            self._writer.add_scalar(name, float(value), int(step))

    def flush(self) -> None:
        """Returns when all events are in the file."""
        self._writer.flush()


def read_metrics(path: str | pathlib.Path) -> list[dict[str, float]]:
    """Returns the lines of a metrics file, without one that was cut short or damaged.

    Example:
        >>> read_metrics('/nowhere/metrics.jsonl')
        []
    """
    try:
        text = pathlib.Path(path).read_bytes().decode(errors='replace')
    except FileNotFoundError:
        return []
    lines = []
    for line in text.split('\n'):
        with contextlib.suppress(ValueError, RecursionError):
            lines.append(json.loads(line))
    return [line for line in lines if isinstance(line, dict) and 'step' in line]
