"""Folds of all labelled examples."""

import numpy as np
import pytest

from slimjax.data.sources import load_source
from slimjax.data.stratified import fold_parts, stratified_parts

SPLITS = ('train', 'validation', 'test')


def images(source):
    return [source[index].name.rpartition(' ')[2] for index in range(len(source))]


def test_every_digit_is_tested_once_and_validates_once():
    tested, validated = [], []
    for fold in range(5):
        parts = {
            split: images(load_source('digits', split, folds=5, fold=fold))
            for split in SPLITS
        }
        whole = [int(image) for part in parts.values() for image in part]
        assert sorted(whole) == list(range(1797))
        tested += parts['test']
        validated += parts['validation']
    assert len(set(tested)) == len(tested) == 1797
    assert len(set(validated)) == len(validated) == 1797


def test_folds_are_stratified():
    labels = np.repeat(np.arange(3), (10, 20, 70))
    for fold in range(5):
        test = fold_parts(labels, 5, fold)['test']
        assert np.bincount(labels[test]).tolist() == [2, 4, 14]


@pytest.mark.parametrize(
    ('folds', 'fold', 'message'),
    [
        (2, 0, r'config\.folds=2: test, validation and the rest are 3'),
        (11, 0, 'a class has 10 examples'),
        (5, 5, r'config\.fold=5: the 5 folds are 0 to 4'),
    ],
)
def test_what_cannot_be_cut_is_refused(folds, fold, message):
    with pytest.raises(ValueError, match=message):
        fold_parts(np.repeat(np.arange(3), (10, 20, 70)), folds, fold)


def test_parts_that_are_not_the_whole_are_refused():
    with pytest.raises(ValueError, match=r'sizes=\(3, 4\), of 8 examples'):
        stratified_parts(np.arange(8), (3, 4))


def test_noise_is_not_cut():
    with pytest.raises(ValueError, match=r'config\.folds=5: noise is not cut'):
        load_source('synthetic', 'train', folds=5)
