"""Scores that are kept on disk, so that an interrupted search goes on from them."""

import hashlib
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from slimjax.search.evaluator import Scores
from slimjax.search.greedy import Evaluate
from slimjax.search.space import SearchSpace


class Remembered:
    """An evaluator that evaluates no candidate twice, not even after a restart.

    A search asks for the same candidates in the same order whenever it runs: started
    again, it gets the known scores at once, and goes on.

    Args:
        evaluate: scores candidates, see `Evaluator`.
        path: of a file of JSON lines, one a candidate, which grows.

    Attributes:
        known: how many candidates the file had at first.

    Example:
        >>> import tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp(), 'scores.jsonl')
        >>> def scores(counts):
        ...     return Scores(counts[:, 0], counts[:, 0])
        >>> evaluate = Remembered(scores, path)
        >>> evaluate(np.array([[8, 16]])).loss
        array([8.])
        >>> Remembered(lambda counts: None, path)(np.array([[8, 16]])).loss
        array([8.])
    """

    def __init__(self, evaluate: Evaluate, path: str | pathlib.Path):
        self._evaluate, self._path = evaluate, pathlib.Path(path)
        self._scores = _read(self._path)
        self.known = len(self._scores)

    def __call__(self, counts: np.ndarray) -> Scores:
        """Returns the scores of `[candidates, variables]` networks."""
        rows = [tuple(row) for row in np.asarray(counts).tolist()]
        new = list(dict.fromkeys(row for row in rows if row not in self._scores))
        if new:
            scores = self._evaluate(np.array(new))
            found = zip(new, scores.loss.tolist(), scores.error.tolist(), strict=True)
            own = {row: (float(loss), float(error)) for row, loss, error in found}
            _append(self._path, own)
            self._scores |= own
        loss, error = zip(*(self._scores[row] for row in rows), strict=True)
        return Scores(np.array(loss), np.array(error))


def digest(
    params: Any,
    space: SearchSpace,
    batches: Mapping[str, np.ndarray],
    computed: tuple,
) -> str:
    """Returns what names the scores of a network on some images.

    Args:
        params: of the network.
        space: its layers.
        batches: the images, as they are normalised together.
        computed: what else a score depends on, such as the type of the computation.

    Example:
        >>> empty = SearchSpace((), {}, None, None, ())
        >>> len(digest({}, empty, {'label': np.zeros(1)}, ('float32',)))
        16
    """
    known = hashlib.sha256(repr((list(space.layers), computed)).encode())
    for leaf in jax.tree.leaves((params, dict(batches))):
        known.update(f'{leaf.shape} {leaf.dtype}'.encode())
        known.update(np.ascontiguousarray(leaf).tobytes())
    return known.hexdigest()[:16]


def _read(path: pathlib.Path) -> dict[tuple[int, ...], tuple[float, float]]:
    if not path.exists():
        return {}
    found, kept = {}, 0
    text = path.read_bytes()
    for line in text.splitlines(keepends=True):
        try:
            if not line.endswith(b'\n'):
                raise ValueError('torn')
            counts, loss, error = json.loads(line)
            found[tuple(counts)] = (loss, error)
        except (ValueError, TypeError):
            break
        kept += len(line)
    if kept < len(text):
        # An interruption has torn the last line.
        os.truncate(path, kept)
    return found


def _append(path: pathlib.Path, scores: Mapping[tuple[int, ...], tuple]) -> None:
    lines = [json.dumps([list(row), *own]) + '\n' for row, own in scores.items()]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('a') as file:
        file.write(''.join(lines))
        file.flush()
        os.fsync(file.fileno())
