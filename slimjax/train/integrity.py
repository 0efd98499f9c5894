"""Whether what is read of a checkpoint is what was written.

A disk, a copy or a network may change a bit and say nothing, and the formats below do
not notice it in the numbers themselves. So `meta.json` keeps a hash of every array, by
its part of the checkpoint, and of its own text.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

_SEALS = 'seals'
_META = 'meta'


class BrokenCheckpointError(ValueError):
    """A checkpoint that is not as it was written; the message says what is wrong."""


def seal(tree: Any) -> str:
    """Returns a hash of all arrays of a tree, with their names, types and shapes.

    Example:
        >>> ones = {'a': np.ones(2, np.float32)}
        >>> seal(ones) == seal({'a': np.ones(2, np.float32)})
        True
        >>> seal(ones) == seal({'a': np.ones(2, np.float64)})
        False
    """
    digest = hashlib.blake2b(digest_size=16)
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        array = np.ascontiguousarray(leaf)
        name = jax.tree_util.keystr(path)
        digest.update(f'{name} {array.dtype} {np.shape(leaf)}\n'.encode())
        digest.update(array.reshape(-1).view(np.uint8))
    return digest.hexdigest()


def sealed(meta: Mapping[str, Any], parts: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `meta` with the seals of a checkpoint's parts and of itself.

    Args:
        meta: JSON-able facts.
        parts: trees of arrays, by name.

    Example:
        >>> meta = sealed({'step': 3}, {'params': {'w': np.ones(2)}})
        >>> check_meta(meta)
        >>> check_meta({**meta, 'step': 4})
        Traceback (most recent call last):
        slimjax.train.integrity.BrokenCheckpointError: meta.json was changed
    """
    seals = {name: seal(tree) for name, tree in parts.items()}
    meta = json.loads(json.dumps(meta))  # As it will be read.
    return {**meta, _SEALS: {**seals, _META: _text_seal({**meta, _SEALS: seals})}}


def check_meta(meta: Mapping[str, Any]) -> None:
    """Checks that `meta.json` is as it was written.

    Raises:
        BrokenCheckpointError: it is not. What an earlier slimjax wrote has no seals,
            and passes.
    """
    if _SEALS not in meta:
        return
    seals = dict(meta[_SEALS])
    if seals.pop(_META, None) != _text_seal({**meta, _SEALS: seals}):
        raise BrokenCheckpointError('meta.json was changed')


def check_parts(meta: Mapping[str, Any], parts: Mapping[str, Any]) -> None:
    """Checks that parts of a checkpoint are as they were written.

    Args:
        meta: of the checkpoint, checked.
        parts: trees of arrays, by name; not necessarily all.

    Raises:
        BrokenCheckpointError: they are not.
    """
    for name, tree in parts.items():
        if _SEALS in meta and meta[_SEALS].get(name) != seal(tree):
            raise BrokenCheckpointError(f'the numbers of {name!r} were changed')


def sealed_parts(meta: Mapping[str, Any]) -> list[str] | None:
    """Returns the names of a checkpoint's parts; None where it has no seals.

    Example:
        >>> sealed_parts(sealed({}, {'params': {}, 'stats': {}}))
        ['params', 'stats']
    """
    if _SEALS not in meta:
        return None
    return [name for name in meta[_SEALS] if name != _META]


def _text_seal(meta: Mapping[str, Any]) -> str:
    text = json.dumps(meta, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
