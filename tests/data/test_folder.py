"""Folders as people have them: other files, links, odd names, missing classes."""

import os
import pathlib
import pickle
import shutil

import pytest

from slimjax.data.sources import load_source, sample, split_parts
from tests.data.files import class_folders, jpeg

CLASSES = {'ant': 3, 'bee': 2, 'cat': 4}


@pytest.fixture
def root(tmp_path):
    class_folders(tmp_path / 'train', CLASSES)
    class_folders(tmp_path / 'val', {'ant': 1, 'cat': 2}, seed=50)
    return tmp_path


def load(root, split='train'):
    return load_source('folder', split, str(root))


def names(source):
    return [source[i].name for i in range(len(source))]


def test_an_example_is_a_file_its_class_and_its_path(root):
    source = load(root)
    assert [source[i].label for i in range(9)] == [0, 0, 0, 1, 1, 2, 2, 2, 2]
    assert source[3].name == f'{root}/train/bee/0.jpg'
    assert source[3].image == (root / 'train/bee/0.jpg').read_bytes()


def test_labels_of_the_other_splits_are_those_of_train(root, caplog):
    source = load(root, 'validation')
    assert source.class_names == ('ant', 'bee', 'cat')
    assert [source[i].label for i in range(3)] == [0, 2, 2]
    assert "has no image of 1 classes, such as 'bee'" in caplog.text


def test_hidden_and_other_files_are_passed_over(root):
    for name in ('notes.txt', 'Thumbs.db', '._0.jpg', '.hidden.png'):
        (root / 'train/ant' / name).write_text('x')
    (root / 'train/README').write_text('x')
    (root / 'train/.cache').mkdir()
    (root / 'train/.cache/a.jpg').write_text('x')
    source = load(root)
    assert len(source) == 9
    assert source.class_names == ('ant', 'bee', 'cat')


@pytest.mark.parametrize('suffix', ['JPEG', 'JPG', 'png', 'bmp', 'WebP'])
def test_images_are_found_by_suffix_below_the_class(root, suffix):
    (root / 'train/ant/more').mkdir()
    (root / 'train/ant/more' / f'x.{suffix}').write_bytes(jpeg())
    assert len(load(root)) == 10


def test_loops_of_links_are_not_followed(root):
    (root / 'train/loop').symlink_to(root / 'train')
    (root / 'train/up').symlink_to(root)
    (root / 'train/ant/loop').symlink_to(root / 'train/ant')
    source = load(root)
    assert source.class_names == ('ant', 'bee', 'cat')
    assert len(source) == 9


def test_a_class_may_be_a_link_to_its_folder(root, tmp_path_factory):
    elsewhere = class_folders(tmp_path_factory.mktemp('elsewhere'), {'dogs': 2})
    (root / 'train/dog').symlink_to(elsewhere / 'dogs')
    assert load(root).class_names == ('ant', 'bee', 'cat', 'dog')
    assert len(load(root)) == 11


def test_names_that_are_not_utf8_can_be_printed(root):
    folder = os.fsencode(root) + b'/train/caf\xe9'
    os.mkdir(folder)
    data = jpeg(7)
    pathlib.Path(os.fsdecode(folder + b'/\xff\xfe.jpg')).write_bytes(data)
    source = load(root)
    assert source.class_names == ('ant', 'bee', r'caf\xe9', 'cat')
    example = source[5]
    assert (example.image, example.label) == (data, 2)
    assert example.name.endswith(r'/train/caf\xe9/\xff\xfe.jpg')
    '|'.join([*source.class_names, example.name]).encode()


def test_an_empty_class_is_an_error(root):
    (root / 'train/dog').mkdir()
    with pytest.raises(ValueError, match="class 'dog' .* has no image"):
        load(root)


def test_a_file_that_vanished_is_an_os_error(root):
    source = load(root)
    shutil.rmtree(root / 'train/ant')
    with pytest.raises(OSError, match='ant'):
        source[0]


def test_a_folder_source_can_be_sent_to_another_process(root):
    source = load(root)
    copy = pickle.loads(pickle.dumps(source))
    assert [copy[i] for i in range(9)] == [source[i] for i in range(9)]


def test_what_stands_for_each_split():
    def stored(*names):
        return {split: part.stored for split, part in split_parts(names).items()}

    all_three = {'train': 'train', 'validation': 'validation', 'test': 'test'}
    assert stored('train', 'validation', 'test') == all_three
    # ImageNet: the literature reports its validation split.
    assert stored('train', 'validation') == all_three | {'test': 'validation'}
    # CIFAR-10: nothing is chosen on its test split.
    assert stored('train', 'test') == all_three | {'validation': 'train'}
    assert stored('train') == dict.fromkeys(all_three, 'train')


def test_a_set_without_validation_holds_out_a_twentieth_of_train(tmp_path):
    class_folders(tmp_path / 'train', {'a': 30, 'b': 30})
    class_folders(tmp_path / 'test', {'a': 1, 'b': 1})
    train, validation = load(tmp_path), load(tmp_path, 'validation')
    everything = sorted(str(path) for path in (tmp_path / 'train').rglob('*.jpg'))
    assert sorted(names(train) + names(validation)) == everything
    # By a hash of the place: the same on every machine and in every version.
    assert [everything.index(n) for n in names(validation)] == [39, 51, 55]
    assert len(load(tmp_path, 'test')) == 2


def test_a_set_of_train_alone_is_tested_on_what_is_held_out(tmp_path):
    class_folders(tmp_path / 'train', {'a': 30})
    assert names(load(tmp_path, 'test')) == names(load(tmp_path, 'validation'))


def test_one_image_cannot_be_split(tmp_path):
    class_folders(tmp_path / 'train', {'a': 1})
    with pytest.raises(ValueError, match='1 training images are too few'):
        load(tmp_path)


def test_an_unknown_split_is_an_error(root):
    with pytest.raises(ValueError, match=r"split='dev'; allowed are train, valid"):
        load(root, 'dev')


def test_a_sample_is_drawn_without_replacement(root):
    drawn = names(sample(load(root), 4))
    assert len(set(drawn)) == 4
    assert drawn == names(sample(load(root), 4))
    assert len(sample(load(root), 100)) == 9
