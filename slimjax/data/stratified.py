"""Cutting labelled examples into parts in which every class has its share."""

import hashlib
from collections.abc import Sequence

import numpy as np

from slimjax.data.base import Example, Source


def stratified_parts(labels: np.ndarray, sizes: Sequence[int]) -> list[list[int]]:
    """Returns the places of each part's examples.

    Which example falls into which part is decided by a hash of its place, the same on
    every machine; classes are dealt to the parts in proportion.

    Args:
        labels: of all examples, int `[examples]`.
        sizes: of the parts; they add up to all examples.

    Raises:
        ValueError: they do not.

    Example:
        >>> parts = stratified_parts(np.arange(100) % 10, (60, 40))
        >>> [np.bincount(np.array(part) % 10).tolist() for part in parts]
        [[6, 6, 6, 6, 6, 6, 6, 6, 6, 6], [4, 4, 4, 4, 4, 4, 4, 4, 4, 4]]
    """
    if sum(sizes) != len(labels):
        raise ValueError(f'sizes={tuple(sizes)}, of {len(labels)} examples')

    def hashed(index):
        return hashlib.sha256(str(index).encode()).hexdigest()

    ranked = []
    for label in np.unique(labels):
        members = sorted(np.flatnonzero(labels == label).tolist(), key=hashed)
        # Where in its class an example stands, from 0 to 1: cutting all examples at
        # one such place cuts every class in the same proportion.
        ranked += [((r + 0.5) / len(members), i) for r, i in enumerate(members)]
    order = [index for _, index in sorted(ranked)]
    parts, start = [], 0
    for size in sizes:
        parts.append(sorted(order[start : start + size], key=hashed))
        start += size
    return parts


def fold_parts(labels: np.ndarray, folds: int, fold: int) -> dict[str, list[int]]:
    """Returns the places of each split's examples where fold `fold` is the test split.

    The next fold is the validation split and the rest are trained on: so every example
    is tested once, by a network that was neither trained nor chosen on it.

    Args:
        labels: of all examples, int `[examples]`.
        folds: equal parts, 3 or more.
        fold: from 0.

    Raises:
        ValueError: too few folds, more than a class has examples, or no such fold.

    Example:
        >>> parts = fold_parts(np.arange(100) % 10, folds=5, fold=4)
        >>> {split: len(part) for split, part in parts.items()}
        {'train': 60, 'validation': 20, 'test': 20}
    """
    fewest = int(np.unique(labels, return_counts=True)[1].min())
    if not 3 <= folds <= fewest:
        raise ValueError(
            f'config.folds={folds}: test, validation and the rest are 3 at least, '
            f'and a class has {fewest} examples'
        )
    if not 0 <= fold < folds:
        raise ValueError(f'config.fold={fold}: the {folds} folds are 0 to {folds - 1}')
    ends = [len(labels) * end // folds for end in range(folds + 1)]
    parts = stratified_parts(labels, np.diff(ends).tolist())
    test, validation = fold, (fold + 1) % folds
    rest = [n for n in range(folds) if n not in (test, validation)]
    return {
        'train': [index for n in rest for index in parts[n]],
        'validation': parts[validation],
        'test': parts[test],
    }


class Joined:
    """Several sources one behind the other, as one.

    Args:
        sources: of the same classes.

    Example:
        >>> from slimjax.data.base import SyntheticSource
        >>> train, test = (SyntheticSource(split, 10, 1) for split in ('train', 'test'))
        >>> whole = Joined([train, test])
        >>> len(whole), whole[10_001].name
        (10512, 'synthetic 1')
    """

    def __init__(self, sources: Sequence[Source]):
        self._sources = tuple(sources)
        self._ends = np.cumsum([len(source) for source in sources])
        self.class_names = sources[0].class_names

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> Example:
        number = int(np.searchsorted(self._ends, index, side='right'))
        start = self._ends[number - 1] if number else 0
        return self._sources[number][int(index - start)]
