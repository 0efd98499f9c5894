"""Prepared TFDS data sets: how they are found, and what is said where they are not."""

import os
import pickle
import shutil
import subprocess
import sys
import types

import pytest
import tensorflow_datasets as tfds

from slimjax.data import catalogue
from slimjax.data.catalogue import find_prepared
from slimjax.data.sources import load_source


@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
    root = tmp_path_factory.mktemp('prepared')
    load_source('digits', 'test', str(root))
    return root / 'digits/1.0.0'


@pytest.fixture
def digits(prepared, tmp_path):
    return copied(prepared, tmp_path / 'digits/1.0.0')


def copied(old, new):
    shutil.copytree(old, new)
    return new


def test_a_set_is_found_by_name_version_or_folder(digits):
    data_dir = str(digits.parents[1])
    assert find_prepared('digits', data_dir) == digits
    assert find_prepared('digits:1.0.0', data_dir) == digits
    assert find_prepared('digits', str(digits)) == digits
    assert find_prepared(str(digits), '/nowhere') == digits
    for version in ('10.0.0', '9.0.0', '11.0.0.incompleteABC'):
        shutil.copytree(digits, digits.with_name(version))
    assert find_prepared('digits', data_dir).name == '10.0.0'
    assert find_prepared('digits:9.0.0', data_dir).name == '9.0.0'


def test_a_tfds_folder_is_read_as_any_other_set(digits):
    source = load_source(str(digits), 'validation')
    assert len(source) == 240
    assert source[5] == load_source('digits', 'validation')[5]


def test_one_of_several_configurations_must_be_named(digits):
    data_dir = digits.parents[1]
    for config in ('small', 'large'):
        shutil.copytree(digits, data_dir / 'sizes' / config / '1.0.0')
    with pytest.raises(ValueError, match='one of sizes/large, sizes/small'):
        find_prepared('sizes', str(data_dir))
    assert find_prepared('sizes/small', str(data_dir)).parent.name == 'small'


def test_a_set_that_is_not_prepared_says_what_to_run(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'prepare_imagenet\.py'):
        load_source('imagenet2012', 'train', str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"tfds\.builder\('cifar10'"):
        load_source('cifar10', 'train', str(tmp_path))


def test_a_set_in_tfrecord_says_what_to_run(digits):
    file = digits / 'dataset_info.json'
    file.write_text(file.read_text().replace('"array_record"', '"tfrecord"'))
    with pytest.raises(ValueError, match=rf'--convert {digits} --data_dir'):
        load_source('digits:1.0.0', 'train', str(digits.parents[1]))


def test_the_folder_of_another_set_is_an_error(digits):
    with pytest.raises(ValueError, match=r"holds 'digits', not 'imagenet2012'"):
        load_source('imagenet2012', 'train', str(digits))


def test_a_set_may_stand_in_a_folder_of_any_name(digits, tmp_path):
    folder = shutil.copytree(digits, tmp_path / 'numbers')
    assert find_prepared(str(folder)) == folder


def test_examples_are_those_that_tfds_reads():
    builder = catalogue.digits_builder()
    skip = {'image': tfds.decode.SkipDecoding()}
    expected = builder.as_data_source('test', decoders=skip)
    source = catalogue.TfdsSource(builder, 'test')
    for index in (0, 7, 239):
        example, record = source[index], expected[index]
        assert example.image == record['image']
        assert example.label == record['label']
        assert example.name == f'digits/1.0.0 test[{index}] {record["id"]}'


def test_test_images_without_labels_are_not_tested_on(monkeypatch):
    read = catalogue.TfdsSource.__getitem__

    def unlabelled(self, index):
        example = read(self, index)
        return example._replace(label=-1) if 'test' in self._split else example

    monkeypatch.setattr(catalogue.TfdsSource, '__getitem__', unlabelled)
    assert len(load_source('digits', 'test')) == 240


def test_a_set_without_class_labels_is_an_error():
    features = tfds.features.FeaturesDict({'image': tfds.features.Image()})
    info = types.SimpleNamespace(
        features=features, supervised_keys=None, full_name='faces/1.0.0'
    )
    with pytest.raises(ValueError, match=r'faces/1.0.0 is no set .* it has image, wh'):
        catalogue.TfdsSource(types.SimpleNamespace(info=info), 'train')


def test_a_tfds_source_can_be_sent_to_another_process():
    source = load_source('digits', 'test')
    copy = pickle.loads(pickle.dumps(source))
    assert len(copy) == len(source)
    assert copy[11] == source[11]


PREPARE = """
import sys
from slimjax.data.sources import load_source
source = load_source('digits', 'train', sys.argv[1])
assert len(source) == 1197 and source[3].image
"""


@pytest.mark.slow
def test_four_processes_prepare_the_digits_at_once_and_quietly(tmp_path):
    command = [sys.executable, '-c', PREPARE, str(tmp_path)]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for _ in range(4)
    ]
    outputs = [process.communicate()[0].decode() for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, outputs
    assert outputs == [''] * 4
    assert os.listdir(tmp_path / 'digits') == ['1.0.0']


def test_the_digits_need_no_folder_that_can_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr('tempfile.gettempdir', lambda: str(tmp_path))
    nowhere = tmp_path / 'file'
    nowhere.write_text('')
    assert len(load_source('digits', 'test', str(nowhere / 'tfds'))) == 360


def test_prepared_digits_are_read_where_nothing_can_be_written(digits, monkeypatch):
    monkeypatch.setattr('os.access', lambda *_: False)
    monkeypatch.setattr('tempfile.gettempdir', lambda: 1 / 0)
    assert len(load_source('digits', 'test', str(digits.parents[1]))) == 360


def test_an_incomplete_folder_of_digits_is_said_to_be_so(tmp_path):
    (tmp_path / 'digits/1.0.0').mkdir(parents=True)
    (tmp_path / 'digits/1.0.0/something').write_text('')
    with pytest.raises(FileExistsError, match=r'digits/1\.0\.0 .*remove it'):
        load_source('digits', 'train', str(tmp_path))


def test_without_scikit_learn_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'sklearn.datasets', None)
    with pytest.raises(ImportError, match=r'pip install .slimjax\[demo\]'):
        load_source('digits', 'train', str(tmp_path))
