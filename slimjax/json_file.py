"""JSON that may come from anyone: read as it stands there, or refused."""

import json
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

# What a C program, or numpy, would take.
_LARGEST = 2**63


def read_json(path: str | os.PathLike) -> Any:
    """Returns what a JSON file holds; see `parse_json`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no JSON, or none that is plain.
    """
    return parse_json(pathlib.Path(path).read_bytes())


def parse_json(text: str | bytes) -> Any:
    """Returns what a JSON text holds.

    Python's own reader lets pass what others read otherwise, or what fails only where
    it is used: a key twice in an object, NaN, numbers beyond all bounds; and nesting
    without end raises a RecursionError.

    Args:
        text: in UTF-8, where it is bytes.

    Raises:
        ValueError: it is no JSON, or has one of those.

    Example:
        >>> import pytest
        >>> parse_json('{"widths": [0.25, 1.0]}')
        {'widths': [0.25, 1.0]}
        >>> with pytest.raises(ValueError, match="'a' stands there twice"):
        ...     parse_json('{"a": 1, "a": 2}')
    """
    try:
        return json.loads(
            text,
            object_pairs_hook=_once,
            parse_int=_whole,
            parse_float=_real,
            parse_constant=_constant,
        )
    except RecursionError:
        raise ValueError('nested too deeply') from None


def tuples(value: Any) -> Any:
    """Returns a value with tuples in place of lists, at every depth.

    JSON knows lists alone; what names a compiled program has to be hashable.

    Example:
        >>> tuples({'buckets': [[64, 96], [96, 64]]})
        {'buckets': ((64, 96), (96, 64))}
    """
    if isinstance(value, Mapping):
        return {name: tuples(each) for name, each in value.items()}
    return tuple(map(tuples, value)) if type(value) in (list, tuple) else value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f'{twice[:80]!r} stands there twice')
    return found


def _whole(text: str) -> int:
    if len(text) > 20 or not -_LARGEST <= int(text) < _LARGEST:
        raise ValueError(f'a whole number of {len(text)} digits is too large')
    return int(text)


def _real(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f'the number {text[:80]} is too large')
    return value


def _constant(name: str) -> None:
    raise ValueError(f'{name} is no number of JSON')
