"""The digits: our own TFDS builder, its splits, its path without TensorFlow."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from slimjax.data.decode import decode
from slimjax.data.digits.digits_dataset_builder import split_indices
from slimjax.data.sources import load_source
from tests.commands import SERVER


def test_splits_are_disjoint_complete_and_stratified():
    labels = load_digits().target
    parts = split_indices(labels)
    assert {name: len(part) for name, part in parts.items()} == {
        'train': 1197,
        'validation': 240,
        'test': 360,
    }
    assert sorted(itertools.chain(*parts.values())) == list(range(1797))
    for part in parts.values():
        share = np.bincount(labels[part]) / np.bincount(labels)
        assert np.abs(share - len(part) / 1797).max() * 183 < 1.01


def test_splits_are_fixed():
    parts = split_indices(load_digits().target)
    assert {name: part[:4] for name, part in parts.items()} == GOLDEN


GOLDEN = {
    'train': [1039, 886, 286, 1467],
    'validation': [1521, 611, 474, 1163],
    'test': [402, 1261, 1725, 598],
}


def test_what_is_read_is_what_scikit_learn_has():
    digits = load_digits()
    train = load_source('digits', 'train')
    expected = {
        (digits.images[index] * (255 / 16)).round().astype(np.uint8).tobytes()
        for index in split_indices(digits.target)['train']
    }
    found = {
        decode(train[i].image, train[i].name, channels=1).tobytes()
        for i in range(len(train))
    }
    assert found == expected
    assert train.class_names == tuple('0123456789')


def prepare(folder):
    return len(load_source('digits', 'test', folder))


def test_processes_may_prepare_at_once(tmp_path):
    with SERVER.Pool(3) as pool:
        assert pool.map(prepare, [str(tmp_path)] * 3) == [360] * 3


def test_tensorflow_is_never_imported(tmp_path):
    program = (
        'import sys, slimjax; from slimjax.data.sources import load_source; '
        f'load_source("digits", "train", {str(tmp_path)!r})[0]; '
        'sys.exit("tensorflow" in sys.modules)'
    )
    subprocess.run([sys.executable, '-c', program], check=True, timeout=120)


def test_importing_slimjax_touches_no_device_and_no_flags():
    program = (
        'import sys, slimjax; from absl import flags; import jax; '
        'assert not flags.FLAGS.is_parsed(); '
        'assert "config" not in flags.FLAGS; '
        'from jax._src import xla_bridge; assert not xla_bridge._backends; '
        'assert "tensorflow" not in sys.modules'
    )
    subprocess.run([sys.executable, '-c', program], check=True, timeout=120)


@pytest.mark.parametrize('name', ['imagenet2012', 'cifar10'])
def test_a_set_that_is_not_prepared_is_never_downloaded(name, tmp_path):
    with pytest.raises(FileNotFoundError, match='is not prepared in'):
        load_source(name, 'train', str(tmp_path))
