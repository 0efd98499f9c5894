"""COCO's files become records that hold all of them, without TensorFlow."""

import json
import runpy
import sys

import numpy as np
import pytest

from slimjax.data.coco_format import coco_format_dataset_builder
from slimjax.data.coco_format.layout import ANNOTATIONS
from slimjax.data.coco_format.masks import crop_mask, unpack
from slimjax.data.coco_format.prepare import prepare_coco
from slimjax.data.coco_format.source import CocoSource, trainable
from slimjax.data.decode import decode
from slimjax.lock import locked
from tests.conftest import ROOT
from tests.data.coco_files import (
    SIZES,
    instances,
    person_keypoints,
    rectangle,
    write,
)
from tests.data.files import jpeg, png_header


@pytest.fixture(scope='module')
def paths(tmp_path_factory):
    return write(tmp_path_factory.mktemp('coco'))


@pytest.fixture(scope='module')
def prepared(paths, tmp_path_factory):
    output = tmp_path_factory.mktemp('prepared')
    return prepare_coco(**paths, output=output, say=lambda line: None), output


@pytest.fixture(scope='module')
def source(prepared):
    return CocoSource(prepared[1], 'train')


def test_every_image_and_object_is_there(prepared, source, paths):
    result, _ = prepared
    assert (result.images, result.objects, result.without_area) == (5, 6, [5])
    assert 'tensorflow' not in sys.modules
    assert source.index['image_id'].tolist() == list(SIZES)
    for place, id in enumerate(SIZES):
        example = source[place]
        assert example.image_id == id
        assert example.image == (paths['images'] / f'{id:012d}.jpg').read_bytes()
        assert decode(example.image, '').shape[:2] == SIZES[id]


def test_objects_are_those_of_the_files(source):
    assert source.class_names == ('person', 'toothbrush')
    example = source[0]
    np.testing.assert_array_equal(
        example.boxes,
        [[10.5, 5.25, 30.5, 35.75], [30, 10, 38, 14], [0, 0, 30, 40]],
    )
    assert example.labels.tolist() == [1, 2, 1]
    assert example.crowd.tolist() == [False, False, True]
    assert example.keypoints[0].tolist() == [[15, 10, 2], [25, 20, 1], [0, 0, 0]]
    assert not example.keypoints[1:].any()
    expected = crop_mask(rectangle(10.5, 5.25, 20.0, 30.5), example.boxes[0])
    np.testing.assert_array_equal(unpack(example.masks)[0], expected)


def test_an_image_without_annotations_has_no_rows(source):
    example = source[2]
    assert example.boxes.shape == (0, 4)
    assert example.masks.shape == (0, 112, 14)
    assert example.keypoints.shape == (0, 3, 3)


def test_keypoint_models_see_the_categories_with_keypoints_alone(prepared):
    source = CocoSource(prepared[1], 'train', keypoints=True)
    assert source.class_names == ('person',)
    assert source[0].labels.tolist() == [1, 1]
    assert source[3].boxes.shape == (0, 4)
    assert source.mirrored_keypoints == (0, 2, 1)
    assert source.index['boxes'].tolist() == [1, 1, 0, 0, 0]


def test_training_leaves_out_images_of_nothing_but_crowds(prepared, source):
    assert trainable(source).index['image_id'].tolist() == [3, 7, 12]
    assert len(trainable(source, min_image_side=41)) == 1
    people = CocoSource(prepared[1], 'train', keypoints=True)
    assert trainable(people, min_keypoints=2).index['image_id'].tolist() == [3]
    with pytest.raises(ValueError, match='none of 5 images .* min_keypoints=3'):
        trainable(people, min_keypoints=3)


def test_the_annotations_are_kept_beside_the_records_with_their_keypoints(source):
    kept = json.loads(source.annotations.read_text())
    expected = instances()
    for kind, names in (
        ('annotations', ('keypoints', 'num_keypoints')),
        ('categories', ('keypoints', 'skeleton', 'sigmas')),
    ):
        more = {each['id']: each for each in person_keypoints()[kind]}
        for each in expected[kind]:
            each |= {
                name: value
                for name, value in more.get(each['id'], {}).items()
                if name in names
            }
    assert kept == expected


def test_what_a_killed_preparation_left_is_removed(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    paths = write(tmp_path / 'files')
    left = tmp_path / 'out/coco_format/train/incomplete.ABC123_1.0.0'
    left.mkdir(parents=True)
    (left / 'records').write_text('half')
    said = []
    del paths['keypoints']
    found = prepare_coco(**paths, output='~/out', say=said.append)
    assert not left.exists()
    assert any(f'removing {left}' in line for line in said)
    assert found.folder == tmp_path / 'out/coco_format/train/1.0.0'
    source = CocoSource('~/out', 'train')
    assert len(source) == 5
    assert source.annotations.read_bytes() == paths['instances'].read_bytes()


def test_two_do_not_prepare_one_split(tmp_path):
    paths = write(tmp_path)
    folder = tmp_path / 'out/coco_format/train'
    folder.mkdir(parents=True)
    with locked(folder), pytest.raises(ValueError, match='is in use by process'):
        prepare_coco(**paths, output=tmp_path / 'out', say=[].append)


def test_several_files_hold_the_images_in_one_order(
    paths, source, tmp_path, monkeypatch
):
    monkeypatch.setattr(coco_format_dataset_builder, 'SHARD_IMAGES', 2)
    said = []
    prepare_coco(**paths, output=tmp_path, say=said.append)
    files = list(tmp_path.glob('coco_format/train/1.0.0/*array_record*'))
    assert len(files) == 3
    assert said[-3:] == ['2 of 5 images', '4 of 5 images', '5 of 5 images']
    sharded = CocoSource(tmp_path, 'train')
    for place in range(5):
        assert sharded[place].image == source[place].image


def test_a_prepared_split_is_not_overwritten(prepared, paths):
    with pytest.raises(FileExistsError, match='remove it'):
        prepare_coco(**paths, output=prepared[1])


def test_what_is_not_prepared_says_what_to_run(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'prepare_coco.py --output=.*validati'):
        CocoSource(tmp_path, 'validation')
    with pytest.raises(ValueError, match="split='val'; allowed are train, validation"):
        CocoSource(tmp_path, 'val')


@pytest.mark.parametrize(
    ('image', 'message'),
    [
        (jpeg(0, 60, 39), 'image 7: .*07.jpg has 60 x 39 pixels .* state 60 x 40'),
        (jpeg(0, 60, 40)[:300], 'image 7: .*000000000007.jpg'),
        (b'', 'image 7: .*000000000007.jpg: an empty file'),
        (png_header(40, 60), 'image 7: .*000000000007.jpg'),
    ],
)
def test_an_image_that_cannot_be_used_is_named(tmp_path, image, message):
    paths = write(tmp_path, {7: image})
    with pytest.raises(ValueError, match=message):
        prepare_coco(**paths, output=tmp_path / 'out', say=lambda line: None)
    left = tmp_path / 'out' / 'coco_format' / 'train'
    assert sorted(path.name for path in left.iterdir()) == [ANNOTATIONS, 'lock']


def test_a_missing_image_is_named_before_any_work(tmp_path):
    paths = write(tmp_path)
    (paths['images'] / '000000000012.jpg').unlink()
    with pytest.raises(ValueError, match=r'1 of 5 images are not in .*012.jpg \(image'):
        prepare_coco(**paths, output=tmp_path / 'out', say=lambda line: None)


def test_a_file_without_images_is_refused(tmp_path):
    paths = write(tmp_path)
    content = {'images': [], 'annotations': [], 'categories': [{'id': 1, 'name': 'a'}]}
    paths['instances'].write_text(json.dumps(content))
    with pytest.raises(ValueError, match='instances_train2017.json: there are no imag'):
        prepare_coco(paths['images'], paths['instances'], tmp_path / 'out')


def test_the_command_prepares_and_says_errors_in_a_line(tmp_path, monkeypatch, capsys):
    script = str(ROOT / 'scripts' / 'prepare_coco.py')
    flags = [f'--{name}={path}' for name, path in write(tmp_path).items()]
    flags += [f'--output={tmp_path / "out"}', '--split=validation']
    monkeypatch.setattr(sys, 'argv', [script, *flags])
    runpy.run_path(script, run_name='__main__')
    said = capsys.readouterr().out
    assert '1 annotations have no area and were left out, such as 5' in said
    assert 'done: 5 images, 6 objects in' in said
    assert len(CocoSource(tmp_path / 'out', 'validation')) == 5
    with pytest.raises(SystemExit, match='^prepare_coco: .*remove it to prepare it'):
        runpy.run_path(script, run_name='__main__')
