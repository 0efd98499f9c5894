"""COCO's files are read as they are meant, and what is wrong is said by its number."""

import json

import numpy as np
import pytest
from faster_coco_eval import mask as library

from slimjax.data.coco_format.annotations import read_annotations
from slimjax.data.coco_format.masks import (
    CROP,
    crop_mask,
    decode_rle,
    pack,
    rle_counts,
    unpack,
)
from tests.data.coco_files import (
    annotation,
    crowd_rle,
    instances,
    person_keypoints,
    rectangle,
)


@pytest.fixture
def read(tmp_path):
    def read(content=None, keypoints=None):
        paths = []
        for name, each in (('instances', content or instances()), ('kp', keypoints)):
            paths.append(each and tmp_path / f'{name}.json')
            if each:
                paths[-1].write_text(json.dumps(each))
        return read_annotations(*paths)

    return read


def test_labels_close_the_gaps_between_categories(read):
    found = read()
    assert [each.id for each in found.categories] == [1, 90]
    assert [each.label for each in found.images[0].objects] == [0, 1, 0]


def test_images_come_in_order_and_keep_those_without_objects(read):
    found = read()
    assert [image.id for image in found.images] == [3, 7, 10, 12, 90]
    assert found.images[2].objects == []


def test_boxes_are_absolute_corners_inside_the_image(read):
    boxes = {each.id: each.box for image in read().images for each in image.objects}
    assert boxes[1] == (10.5, 5.25, 30.5, 35.75)
    assert boxes[6] == (40, 60, 48, 64)


def test_boxes_without_area_are_left_out_and_named(read):
    content = instances()
    content['annotations'] += [
        annotation(9, 3, 1, [60, 0, 5, 5]),  # outside
        annotation(11, 3, 1, [59.9999999, 0, 5, 5]),  # as good as outside
    ]
    found = read(content)
    assert found.without_area == [5, 9, 11]
    assert len(found.images[1].objects) == 1


def test_a_mask_of_a_sliver_is_cropped_all_the_same():
    sliver = crop_mask([[0, 0, 1e12, 0, 1e12, 40, 0, 40]], (59.99, 0, 60, 40))
    assert sliver.all()
    assert not crop_mask([[-1e12, 50, 1e12, 50, 0, 60]], (0, 0, 0.01, 0.01)).any()


def test_keypoints_join_the_instances_by_number(read):
    found = read(keypoints=person_keypoints())
    first, brush, crowd = found.images[0].objects
    assert first.keypoints.tolist() == [[15, 10, 2], [25, 20, 1], [0, 0, 0]]
    assert brush.keypoints is None
    assert crowd.crowd
    assert found.num_keypoints == 3
    assert found.categories[0].skeleton == ((0, 1), (0, 2))
    assert found.categories[0].sigmas == (0.1, 0.2, 0.3)


def test_a_set_of_boxes_alone_has_no_masks(read):
    content = instances()
    for each in content['annotations']:
        del each['segmentation']
    assert not read(content).has_masks
    assert read().has_masks


MALFORMED = [
    ({'bbox': [1, 2, 3]}, r'annotation 1: bbox=\[1, 2, 3\], where 4 finite numbers'),
    ({'bbox': [1, 2, '3', 4]}, 'annotation 1: bbox='),
    ({'bbox': [1, 2, float('nan'), 4]}, 'annotation 1: bbox='),
    ({'bbox': [1, 2, -3, 4]}, 'annotation 1: bbox=.*no side is below 0'),
    ({'bbox': None}, 'annotation 1: bbox=None'),
    ({'image_id': 4}, 'annotation 1: image_id=4, where the number of an image'),
    ({'image_id': '3'}, "annotation 1: image_id='3', where a whole number"),
    ({'category_id': 2}, 'annotation 1: category_id=2, where the number of a cat'),
    ({'iscrowd': 2}, 'annotation 1: iscrowd=2, where one of 0 and 1'),
    ({'segmentation': [[1, 2, 3, 4]]}, 'annotation 1: segmentation=.*three points'),
    ({'segmentation': [[1, 2, 3, 4, 5, 6, 7]]}, 'annotation 1: segmentation='),
    ({'segmentation': [[1, 2, 3, 4, 5, 'x']]}, 'annotation 1: segmentation='),
    ({'segmentation': 'x'}, "annotation 1: segmentation='x'"),
    (
        {'segmentation': {'size': [60, 40], 'counts': [2400]}},
        r'annotation 1: segmentation=.*the size \[40, 60\]',
    ),
    (
        {'segmentation': {'size': [40, 60], 'counts': [2399]}},
        'annotation 1: segmentation=.*runs of 2399 pixels in all',
    ),
    ({'segmentation': {'size': [40, 60], 'counts': 5}}, 'annotation 1: segm.*counts'),
    (
        {'segmentation': {'size': [40.0, 60], 'counts': [2400]}},
        r'annotation 1: segmentation=.*the size \[40, 60\]',
    ),
    ({'bbox': [1, 2, 10**400, 4]}, 'annotation 1: bbox='),
    ({'segmentation': []}, 'annotation 1 has no segmentation, and annotation 2 has'),
    ({'id': None}, 'number 0 of annotations has no whole number as id'),
    ({'id': 2}, 'two of annotations have the id 2'),
]


@pytest.mark.parametrize(('change', 'message'), MALFORMED)
def test_a_malformed_annotation_is_named(read, change, message):
    content = instances()
    content['annotations'][0] |= change
    with pytest.raises(ValueError, match=message):
        read(content)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'keypoints': [1, 2, 2]}, 'annotation 1: keypoints=.*9 finite numbers'),
        ({'keypoints': [1, 2, 3] * 3}, 'annotation 1: keypoints=.*visibility of 0, 1'),
        ({'image_id': 7}, 'annotation 1: image_id=7, where 3, as among'),
        ({'id': 99}, 'annotation 99 is not in'),
    ],
)
def test_malformed_keypoints_are_named(read, change, message):
    content = person_keypoints()
    content['annotations'][0] |= change
    with pytest.raises(ValueError, match=message):
        read(keypoints=content)


@pytest.mark.parametrize(
    ('kind', 'change', 'message'),
    [
        ('images', {'height': 0}, 'image 90: height=0, where above 0'),
        ('images', {'width': None}, 'image 90: width=None'),
        ('images', {'file_name': 7}, 'image 90: file_name=7, where a text'),
        ('categories', {'name': 5}, 'category 90: name=5'),
        ('categories', {'name': 'person'}, "category 90: name='person', where a name"),
        ('categories', {'keypoints': ['a', 'a']}, 'category 90: keypoints='),
        ('categories', {'skeleton': [[1, 2]]}, 'category 90: skeleton='),
    ],
)
def test_malformed_images_and_categories_are_named(read, kind, change, message):
    content = instances()
    content[kind][0] |= change
    with pytest.raises(ValueError, match=message):
        read(content)


@pytest.mark.parametrize(
    ('text', 'message'),
    [('{"images": [', 'no JSON'), ('[]', "no list 'images'"), ('{}', "list 'images'")],
)
def test_a_file_of_something_else_is_refused(tmp_path, text, message):
    path = tmp_path / 'instances.json'
    path.write_text(text)
    with pytest.raises(ValueError, match=rf'instances.json: .*{message}'):
        read_annotations(path)


def random_bitmap(seed, height=23, width=31):
    rng = np.random.default_rng(seed)
    return rng.random((height, width)) < rng.random()


@pytest.mark.parametrize('seed', range(5))
def test_run_lengths_are_those_of_cocos_own_library(seed):
    bitmap = random_bitmap(seed)
    encoded = library.encode(np.asfortranarray(bitmap, np.uint8))
    np.testing.assert_array_equal(decode_rle(encoded), bitmap)
    counts = rle_counts(encoded['counts'])
    np.testing.assert_array_equal(
        decode_rle({'size': list(bitmap.shape), 'counts': counts}), bitmap
    )


@pytest.mark.parametrize('text', ['\x01', 'o', '1 4'])
def test_a_broken_encoding_is_refused(text):
    with pytest.raises(ValueError, match='stands for nothing|inside a number'):
        rle_counts(text)


def test_a_bitmap_framed_at_its_own_resolution_is_itself():
    bitmap = random_bitmap(0, 130, 150)
    encoded = library.encode(np.asfortranarray(bitmap, np.uint8))
    found = crop_mask(encoded, (20, 10, 20 + CROP, 10 + CROP))
    np.testing.assert_array_equal(found, bitmap[10 : 10 + CROP, 20 : 20 + CROP])


def test_a_rectangle_fills_its_box():
    assert crop_mask(rectangle(3.2, 4.7, 11.3, 5.1), (3.2, 4.7, 14.5, 9.8)).all()
    half = crop_mask(crowd_rle(40, 60), (0, 0, 60, 40))
    assert half[:, :56].all()
    assert not half[:, 56:].any()


def test_polygons_are_drawn_as_cocos_own_library_draws_them_on_a_large_image():
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    radius = 300 + 80 * np.cos(5 * angles)
    outline = np.stack([400 + radius * np.cos(angles), 420 + radius * np.sin(angles)])
    polygon = [outline.T.ravel().tolist()]
    low, high = outline.min(1), outline.max(1)
    whole = library.decode(library.merge(library.frPyObjects(polygon, 840, 800)))
    encoded = library.encode(np.asfortranarray(whole))
    box = (*low, *high)
    drawn, sampled = crop_mask(polygon, box), crop_mask(encoded, box)
    assert (drawn & sampled).sum() / (drawn | sampled).sum() > 0.985


def test_a_polygon_that_leaves_its_box_is_cut_at_it():
    angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    outline = np.stack([30 + 80 * np.cos(angles), 250 + 90 * np.sin(angles)], 1)
    polygon = [outline.ravel().tolist()]
    whole = library.decode(library.merge(library.frPyObjects(polygon, 300, 200)))
    encoded = library.encode(np.asfortranarray(whole))
    box = (0, 160, 110, 300)
    drawn, sampled = crop_mask(polygon, box), crop_mask(encoded, box)
    assert (drawn & sampled).sum() / (drawn | sampled).sum() > 0.98


def test_two_polygons_are_one_mask():
    both = rectangle(0, 0, 5, 10) + rectangle(5, 0, 5, 10)
    assert crop_mask(both, (0, 0, 10, 10)).all()


def test_crops_survive_their_packing():
    crops = np.random.default_rng(0).random((3, CROP, CROP)) < 0.5
    assert pack(crops).nbytes == 3 * 1568
    np.testing.assert_array_equal(unpack(pack(crops)), crops)
