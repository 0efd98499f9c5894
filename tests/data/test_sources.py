"""Folders, held-out images and made-up ones."""

import os

import pytest
from PIL import Image

from slimjax.data.sources import load_source


def write(path, color=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', (8, 8), (color, 0, 0)).save(path)


def test_labels_are_the_places_of_the_sorted_class_folders(tmp_path):
    for name in ('zebra', 'ape'):
        write(tmp_path / 'train' / name / 'a.PNG')
        write(tmp_path / 'test' / name / 'deep' / 'b.jpg')
    (tmp_path / 'train' / 'ape' / 'notes.txt').write_text('no image')
    (tmp_path / 'train' / 'ape' / 'loop').symlink_to(tmp_path / 'train')
    train = load_source('folder', 'test', str(tmp_path))
    assert train.class_names == ('ape', 'zebra')
    assert [example.label for example in (train[0], train[1])] == [0, 1]


def test_names_need_not_be_text(tmp_path):
    write(tmp_path / 'train' / 'a' / 'x.jpg')
    odd = os.fsencode(tmp_path / 'train' / 'a') + b'/\xff\n.jpg'
    os.rename(tmp_path / 'train' / 'a' / 'x.jpg', odd)
    write(tmp_path / 'val' / 'a' / 'x.jpg')
    example = load_source('folder', 'train', str(tmp_path))[0]
    assert example.image.startswith(b'\xff\xd8')
    assert '\\xff' in example.name


def test_without_a_validation_folder_a_twentieth_is_held_out(tmp_path):
    for index in range(40):
        write(tmp_path / 'train' / 'ab'[index % 2] / f'{index}.png', index)
    kept = load_source('folder', 'train', str(tmp_path))
    held = load_source('folder', 'validation', str(tmp_path))
    names = [{source[i].name for i in range(len(source))} for source in (kept, held)]
    assert (len(names[0]), len(names[1])) == (38, 2)
    assert not names[0] & names[1]
    test = load_source('folder', 'test', str(tmp_path))
    assert [test[i].name for i in range(2)] == [held[i].name for i in range(2)]


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda root: None, 'no folder train'),
        (lambda root: (root / 'train' / 'a').mkdir(parents=True), 'has no image'),
        (lambda root: (root / 'train').mkdir(), 'has no images'),
        (
            lambda root: [
                write(root / 'train' / 'a' / 'x.png'),
                write(root / 'val' / 'b' / 'x.png'),
            ],
            "class 'b', which train lacks",
        ),
    ],
)
def test_folders_that_cannot_be_used_are_refused(tmp_path, make, message):
    make(tmp_path)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        load_source('folder', 'validation', str(tmp_path))


def test_a_missing_folder_is_named():
    with pytest.raises(FileNotFoundError, match="data_dir='/nowhere' is no folder"):
        load_source('folder', 'train', '/nowhere')


def test_made_up_images_are_the_same_each_time():
    first, second = (load_source('synthetic', 'train', synthetic=(7, 1)) for _ in '12')
    assert (first[5].image == second[5].image).all()
    assert len(first.class_names) == 7
