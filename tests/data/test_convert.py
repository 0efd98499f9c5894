"""TFRecord to ArrayRecord: the records stay, and the set becomes readable."""

import json
import shutil
import struct

import pytest

from slimjax.data.catalogue import find_prepared
from slimjax.data.convert import convert, read_tfrecord
from slimjax.data.sources import load_source


def write_tfrecord(path, records):
    """As TensorFlow writes it, but for the checksums, which nothing here reads."""
    with open(path, 'wb') as file:
        for record in records:
            file.write(struct.pack('<Q', len(record)) + b'\0' * 4)
            file.write(record + b'\0' * 4)


@pytest.fixture
def old(tmp_path):
    """The digits as TFDS would have prepared them as TFRecord, train in two files."""
    from array_record.python import array_record_module

    load_source('digits', 'test', str(tmp_path / 'arrays'))
    source = find_prepared('digits', str(tmp_path / 'arrays'))
    folder = tmp_path / 'old/digits/1.0.0'
    folder.mkdir(parents=True)
    for file in source.iterdir():
        if 'array_record-' not in file.name:
            shutil.copy(file, folder)
    info = json.loads((folder / 'dataset_info.json').read_text())
    del info['fileFormat']
    for split in info['splits']:
        file = f'digits-{split["name"]}.array_record-00000-of-00001'
        reader = array_record_module.ArrayRecordReader(str(source / file))
        records = reader.read_all()
        reader.close()
        parts = [records]
        if split['name'] == 'train':
            parts = [records[:500], records[500:]]
        split['shardLengths'] = [str(len(part)) for part in parts]
        for index, part in enumerate(parts):
            name = f'digits-{split["name"]}.tfrecord-{index:05}-of-{len(parts):05}'
            write_tfrecord(folder / name, part)
    (folder / 'dataset_info.json').write_text(json.dumps(info))
    return folder


def silent(_):
    pass


def test_a_converted_set_has_the_same_examples(old, tmp_path):
    with pytest.raises(ValueError, match=r'prepared as tfrecord, which .* --convert'):
        find_prepared('digits', str(tmp_path / 'old'))
    folder = convert(old, tmp_path / 'new', say=silent)
    assert folder == tmp_path / 'new/digits/1.0.0'
    for split in ('train', 'validation', 'test'):
        found = load_source('digits', split, str(tmp_path / 'new'))
        expected = load_source('digits', split, str(tmp_path / 'arrays'))
        assert len(found) == len(expected)
        for index in range(0, len(found), 50):
            assert found[index] == expected[index]


def test_an_interrupted_conversion_goes_on(old, tmp_path):
    def stop(line):
        if line == 'train: 2 of 2 files':
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(old, tmp_path / 'new', say=stop)
    new = tmp_path / 'new/digits/1.0.0'
    assert not (new / 'dataset_info.json').exists()
    first = new / 'digits-train.array_record-00000-of-00002'
    made = first.stat().st_mtime_ns
    convert(old, tmp_path / 'new', say=silent)
    assert first.stat().st_mtime_ns == made
    assert len(load_source('digits', 'train', str(tmp_path / 'new'))) == 1197


def test_a_file_that_was_cut_off_is_named(old, tmp_path):
    file = old / 'digits-train.tfrecord-00001-of-00002'
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(ValueError, match=rf'{file} ends within a record'):
        convert(old, tmp_path / 'new', say=silent)


def test_a_file_that_lacks_records_is_named(old, tmp_path):
    file = old / 'digits-train.tfrecord-00001-of-00002'
    write_tfrecord(file, list(read_tfrecord(file))[:-1])
    with pytest.raises(ValueError, match=r'has 696 records, where .* says 697'):
        convert(old, tmp_path / 'new', say=silent)


@pytest.mark.parametrize('length', [0, 1, 3])
def test_records_of_any_length_are_read(tmp_path, length):
    records = [b'x' * length, b'', b'abc']
    write_tfrecord(tmp_path / 'file', records)
    assert list(read_tfrecord(tmp_path / 'file')) == records


def test_what_cannot_be_converted_is_refused(old, tmp_path):
    with pytest.raises(FileNotFoundError, match='has no dataset_info.json'):
        convert(tmp_path, tmp_path / 'new', say=silent)
    with pytest.raises(ValueError, match='is prepared as array_record'):
        convert(tmp_path / 'arrays/digits/1.0.0', tmp_path / 'new', say=silent)
    with pytest.raises(ValueError, match='set another'):
        convert(old, tmp_path / 'old', say=silent)
    convert(old, tmp_path / 'new', say=silent)
    with pytest.raises(FileExistsError, match='remove it to convert it again'):
        convert(old, tmp_path / 'new', say=silent)
