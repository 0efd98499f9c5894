"""From the name of a data set in a config to the examples of a split."""

import hashlib
from collections.abc import Callable, Collection
from typing import NamedTuple

import numpy as np

from slimjax.data.base import Example, Source, Subset, SyntheticSource
from slimjax.data.catalogue import tfds_splits
from slimjax.data.folder import folder_splits
from slimjax.data.stratified import Joined, fold_parts

__all__ = ['Example', 'Source', 'load_source', 'sample']

SPLITS = ('train', 'validation', 'test', 'search')
# Part of the training images held out where a set has no validation split.
HELD_OUT = 0.05


class Part(NamedTuple):
    """What stands for a split.

    Attributes:
        stored: the split as the set has it.
        select: picks the examples of it; None for all.
    """

    stored: str
    select: Callable[[int], list[int]] | None = None


def load_source(
    dataset: str,
    split: str,
    data_dir: str = '',
    *,
    synthetic: tuple[int, int] = (1000, 3),
    folds: int = 0,
    fold: int = 0,
    search_share: float = 0.0,
) -> Source:
    """Returns the examples of a split.

    Args:
        dataset: `'digits'`, `'folder'`, `'synthetic'`, or a TFDS data set that is
            prepared as ArrayRecord: its name, such as `'imagenet2012'`, or its folder.
            Nothing is ever downloaded.
        split: `'train'`, `'validation'` or `'test'`, see `split_parts` for sets that
            lack one; or `'search'`, what is kept from training.
        data_dir: of the images or of TFDS; `''` for TFDS's own folder.
        synthetic: numbers of classes and of channels of what is made up.
        folds: 0 for the splits that the set has; otherwise all of its labelled examples
            are cut anew, see `slimjax.data.stratified.fold_parts`.
        fold: which of the folds is the test split.
        search_share: part of train that is kept from training, chosen by a hash.

    Raises:
        FileNotFoundError: the data are not there; says how to get them.
        ValueError: data that cannot be used, or a search split that has no share.

    Example:
        >>> source = load_source('synthetic', 'train')
        >>> len(source), source[0].image.shape
        (10000, (256, 256, 3))
    """
    if split not in SPLITS:
        raise ValueError(f'split={split!r}; allowed are {", ".join(SPLITS)}')
    if split == 'search' and not search_share:
        raise ValueError(
            'config.search_share=0.0: all training images were trained on, and a '
            'search needs images that were not; train with search_share=0.1'
        )
    stored_split = 'train' if split == 'search' else split
    source = _stored(dataset, stored_split, data_dir, synthetic, folds, fold)
    if stored_split != 'train' or not search_share:
        return source
    select = _held_out if split == 'search' else _kept
    part = Subset(source, select(len(source), search_share))
    if not len(part):
        raise ValueError(
            f'config.search_share={search_share}: of {len(source)} training images, '
            'none is left to train on'
        )
    return part


def _stored(dataset, split, data_dir, synthetic, folds, fold) -> Source:
    if dataset == 'synthetic':
        if folds:
            raise ValueError(f'config.folds={folds}: noise is not cut; allowed is 0')
        return SyntheticSource(split, *synthetic)
    stored = _splits(dataset, data_dir)
    if folds:
        return _fold_source(stored, split, folds, fold)
    part = split_parts(stored)[split]
    if part.stored not in stored:
        raise ValueError(
            f'{dataset} has no split {part.stored}; it has {", ".join(sorted(stored))}'
        )
    source = stored[part.stored]()
    return Subset(source, part.select(len(source))) if part.select else source


def _splits(dataset: str, data_dir: str) -> dict[str, Callable[[], Source]]:
    """What loads each split that the set has."""
    if dataset == 'folder':
        return folder_splits(data_dir)
    return tfds_splits(dataset, data_dir)


def has_own_test(dataset: str, data_dir: str = '') -> bool:
    """Whether the test split is another than the validation split.

    Example:
        >>> has_own_test('synthetic')
        True
    """
    if dataset == 'synthetic':
        return True
    parts = split_parts(_splits(dataset, data_dir))
    return parts['test'] != parts['validation']


def _fold_source(stored, split: str, folds: int, fold: int) -> Subset:
    names = ('train', 'validation', 'test')
    whole = Joined([stored[name]() for name in names if name in stored])
    labels = np.array([whole[index].label for index in range(len(whole))])
    return Subset(whole, fold_parts(labels, folds, fold)[split])


def split_parts(stored: Collection[str]) -> dict[str, Part]:
    """Returns what stands for train, validation and test in a set.

    - A set with a validation split: all is as stored.
    - One without: 5 % of train, chosen by a hash, are the validation split, and are
      left out of train. So no choice is ever made on test images.
    - One without a (labelled) test split, such as ImageNet: the validation split is
      the test split too, as in the literature.

    Args:
        stored: the names of the splits that the set has.

    Example:
        >>> split_parts(['train', 'validation'])['test'].stored
        'validation'
        >>> split_parts(['train', 'test'])['validation'].stored
        'train'
    """
    if 'validation' in stored:
        parts = {'train': Part('train'), 'validation': Part('validation')}
    else:
        parts = {'train': Part('train', _kept), 'validation': Part('train', _held_out)}
    parts['test'] = Part('test') if 'test' in stored else parts['validation']
    return parts


def _by_hash(count: int) -> list[int]:
    if count < 2:
        raise ValueError(f'{count} training images are too few to hold out some')
    return sorted(range(count), key=lambda i: hashlib.sha256(str(i).encode()).digest())


def _held_out(count: int, share: float = HELD_OUT) -> list[int]:
    return sorted(_by_hash(count)[: max(1, round(share * count))])


def _kept(count: int, share: float = HELD_OUT) -> list[int]:
    return sorted(_by_hash(count)[max(1, round(share * count)) :])


def sample(source: Source, count: int, seed: int = 0) -> Subset:
    """Returns `count` examples drawn at random, or all if there are fewer.

    Args:
        source: drawn from, without replacement.
        count: how many.
        seed: decides.

    Example:
        >>> len(sample(load_source('synthetic', 'train'), 3))
        3
    """
    order = np.random.default_rng(seed).permutation(len(source))
    return Subset(source, order[:count])
