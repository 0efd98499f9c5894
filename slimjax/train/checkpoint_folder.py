"""One checkpoint, as the folder that it is; the runs' are in `checkpoint.py`.

Beside that file this one alone knows orbax.
"""

import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from orbax.checkpoint import v1 as ocp

from slimjax.train.integrity import (
    BrokenCheckpointError,
    check_meta,
    check_parts,
    sealed_parts,
)

FORMAT_VERSION = 1
# From the version that a migration reads to the next one: meta -> meta.
MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
SCORE = 'score'


class _MetaHandler(ocp.handlers.JsonHandler):
    """Writes a dictionary as `meta.json`."""

    def __init__(self):
        super().__init__('meta.json')


def context() -> ocp.Context:
    """Returns how orbax is to write and read the parts of a checkpoint."""
    registry = ocp.handlers.local_registry()
    registry.add(_MetaHandler, checkpointable_name='meta')
    context = ocp.Context()
    context.checkpointables.registry = registry
    return context


def step_folders(directory: pathlib.Path) -> list[pathlib.Path]:
    """Returns the folder of each checkpoint, the newest last.

    Example:
        >>> step_folders(pathlib.Path('/nowhere'))
        []
    """
    if not directory.is_dir():
        return []
    return sorted(
        (path for path in directory.iterdir() if path.name.isdigit()),
        key=lambda path: int(path.name),
    )


def check_whole(path: pathlib.Path) -> None:
    """Reads all of a checkpoint, and what orbax chooses the best one by.

    Raises:
        BrokenCheckpointError: it is not as it was written.
    """
    meta = read_meta(path)
    if SCORE in meta:
        # Orbax chooses the best one by a file of its own.
        file = path / 'metrics' / 'metrics'
        try:
            found = json.loads(file.read_text()) if file.exists() else {SCORE: None}
        except ValueError:
            found = None
        # As text: a score may be NaN, which equals nothing.
        if json.dumps(found) != json.dumps({SCORE: meta[SCORE]}):
            raise BrokenCheckpointError(f'{file} is not as it was written')
    known = sealed_parts(meta)
    if known is None:
        parts = ('params', 'stats', 'training', 'average')
        known = [name for name in parts if (path / name).is_dir()]
    read_parts(path, meta, known)


def read_meta(path: pathlib.Path) -> dict[str, Any]:
    """Returns `meta.json`; of another format, it is not known what should be in it.

    Raises:
        BrokenCheckpointError: it is not as it was written.
    """
    meta = _read(path, ['meta'])['meta']
    if not isinstance(meta, dict):
        raise BrokenCheckpointError(f'{path} has a meta.json that is no object')
    if meta.get('format_version') == FORMAT_VERSION:
        check_meta(meta)
    return meta


def read_parts(
    path: pathlib.Path, meta: Mapping[str, Any], names: Sequence[str]
) -> dict[str, Any]:
    """Returns parts of a checkpoint by name, as trees of arrays.

    Raises:
        BrokenCheckpointError: they are not as they were written.
    """
    parts = _read(path, names)
    check_parts(meta, parts)
    return parts


def _read(path: pathlib.Path, names: Sequence[str]) -> dict[str, Any]:
    try:
        with context():
            return ocp.load_checkpointables(path, dict.fromkeys(names))
    except MemoryError:
        raise  # The machine's trouble, not the file's.
    except Exception as error:  # Whatever the formats below make of what they find.
        raise BrokenCheckpointError(f'{path}: {reason(error)}') from error


def reason(error: Exception) -> str:
    """Returns what is wrong in a line of bearable length.

    Example:
        >>> reason(ValueError('a' * 1000)) == 'a' * 200
        True
    """
    return str(error).strip().partition('\n')[0][:200] or type(error).__name__


def current(meta: dict[str, Any]) -> dict[str, Any]:
    """Returns `meta` of an older format in that of today.

    Raises:
        ValueError: a format that this version of slimjax does not read.
    """
    version = meta.get('format_version')
    while version in MIGRATIONS:
        meta = MIGRATIONS[version](meta)
        version = meta['format_version']
    if version != FORMAT_VERSION:
        raise ValueError(
            f'the checkpoint has format_version={version!r}; this slimjax reads '
            f'{sorted([*MIGRATIONS, FORMAT_VERSION])}: use the version that wrote it'
        )
    return meta
