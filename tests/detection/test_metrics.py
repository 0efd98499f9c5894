"""The numbers are COCO's.

`golden_pair.json` holds annotations and results that were made up for this test, with
crowds, three sizes and four keypoints, and what pycocotools 2.0.11 says of them.
"""

import json
import pathlib

import numpy as np
import pytest

from slimjax.data.coco_format.masks import decode_rle
from slimjax.detection.metrics import KINDS, NAMES, CocoMetrics
from slimjax.detection.results import ResultsFormat, coco_results, joined

GOLDEN = json.loads(pathlib.Path(__file__).with_name('golden_pair.json').read_text())
ANNOTATIONS, RESULTS = GOLDEN['annotations'], GOLDEN['results']


@pytest.mark.parametrize('kind', KINDS)
def test_metrics_are_those_of_pycocotools(kind):
    found = CocoMetrics(ANNOTATIONS)(kind, RESULTS[kind])
    assert list(found) == [f'{kind}/{name}' for name in NAMES[kind]]
    np.testing.assert_allclose(
        list(found.values()), GOLDEN['metrics'][kind], rtol=0, atol=1e-12
    )
    assert min(found.values()) > 0


def test_one_kind_does_not_change_another_nor_what_is_given():
    metrics = CocoMetrics(ANNOTATIONS)
    before = json.dumps(GOLDEN)
    first = [metrics(kind, RESULTS[kind]) for kind in KINDS]
    again = [metrics(kind, RESULTS[kind]) for kind in reversed(KINDS)]
    assert first == again[::-1]
    assert json.dumps(GOLDEN) == before


def test_a_file_is_read_as_its_content(tmp_path):
    path = tmp_path / 'instances.json'
    path.write_text(json.dumps(ANNOTATIONS))
    assert CocoMetrics(path)('bbox', RESULTS['bbox']) == CocoMetrics(ANNOTATIONS)(
        'bbox', RESULTS['bbox']
    )


def test_nothing_found_is_no_precision():
    for kind in KINDS:
        found = CocoMetrics(ANNOTATIONS)(kind, [])
        assert found[f'{kind}/AP'] == 0


def test_some_images_may_be_compared_alone():
    ids = [each['id'] for each in ANNOTATIONS['images']][:4]
    part = ANNOTATIONS | {
        kind: [each for each in ANNOTATIONS[kind] if each[key] in ids]
        for kind, key in (('images', 'id'), ('annotations', 'image_id'))
    }
    results = [each for each in RESULTS['bbox'] if each['image_id'] in ids]
    expected = CocoMetrics(part)('bbox', results)
    assert CocoMetrics(ANNOTATIONS)('bbox', results, image_ids=ids) == expected
    assert CocoMetrics(ANNOTATIONS)('bbox', results) != expected


def test_annotations_may_lack_what_can_be_computed():
    bare = [
        {k: v for k, v in each.items() if k in ('image_id', 'category_id', 'bbox')}
        for each in ANNOTATIONS['annotations']
    ]
    found = CocoMetrics(ANNOTATIONS | {'annotations': bare})('bbox', RESULTS['bbox'])
    assert 0 < found['bbox/AP'] < 1


@pytest.mark.parametrize(
    ('kind', 'change', 'message'),
    [
        ('box', {}, "kind='box'; allowed are bbox, segm, keypoints"),
        ('bbox', {'image_id': 1}, 'image_id=1 is not in annotations'),
        ('bbox', {'category_id': 2}, 'category_id=2 is not in annotations'),
    ],
)
def test_results_of_something_else_are_refused(kind, change, message):
    with pytest.raises(ValueError, match=message):
        CocoMetrics(ANNOTATIONS)(kind, [RESULTS['bbox'][0] | change])


@pytest.mark.parametrize(
    ('kind', 'categories', 'message'),
    [
        ('segm', [{'id': 1, 'name': 'a'}], 'there are no masks to compare with'),
        ('keypoints', [{'id': 1, 'name': 'a'}], 'no category has keypoints'),
        (
            'keypoints',
            [{'id': 1, 'name': 'a', 'keypoints': ['x', 'y']}],
            'category 1 has 2 keypoints and no sigmas',
        ),
    ],
)
def test_annotations_without_what_is_compared_are_refused(kind, categories, message):
    annotation = {'id': 1, 'image_id': 2, 'category_id': 1, 'bbox': [0, 0, 5, 5]}
    content = ANNOTATIONS | {'categories': categories, 'annotations': [annotation]}
    with pytest.raises(ValueError, match=message):
        CocoMetrics(content)(kind, [])


def test_keypoints_that_an_annotation_lacks_are_not_labelled():
    bare = [dict(each) for each in ANNOTATIONS['annotations']]
    changed = next(each for each in bare if each.get('num_keypoints'))
    none = [0] * len(changed['keypoints'])
    zero = [
        each | ({'keypoints': none, 'num_keypoints': 0} if each is changed else {})
        for each in bare
    ]
    lacking = [dict(each) for each in bare]
    for name in ('keypoints', 'num_keypoints'):
        del lacking[bare.index(changed)][name]
    found, expected = (
        CocoMetrics(ANNOTATIONS | {'annotations': each})(
            'keypoints', RESULTS['keypoints']
        )
        for each in (lacking, zero)
    )
    assert found == expected


def test_masks_are_asked_of_what_is_inside_the_image():
    outside = dict(ANNOTATIONS['annotations'][0], id=77, bbox=[1e4, 1e4, 5, 5])
    del outside['segmentation']
    every = [*ANNOTATIONS['annotations'], outside]
    CocoMetrics(ANNOTATIONS | {'annotations': every}).prepared('segm')
    every[-1] = outside | {'bbox': [1, 1, 5, 5]}
    with pytest.raises(ValueError, match=r'no masks to compare with \(annotation 77\)'):
        CocoMetrics(ANNOTATIONS | {'annotations': every}).prepared('segm')


def test_categories_with_sigmas_of_their_own_are_refused():
    points = {'keypoints': ['x', 'y'], 'sigmas': [0.1, 0.1]}
    categories = [{'id': 1, 'name': 'a', **points}, {'id': 2, 'name': 'b', **points}]
    content = ANNOTATIONS | {'categories': categories, 'annotations': []}
    assert CocoMetrics(content).prepared('keypoints') == ([0.1, 0.1], [1, 2])
    categories[1]['sigmas'] = [0.1, 0.5]
    with pytest.raises(ValueError, match='categories 1 and 2 have other sigmas'):
        CocoMetrics(content).prepared('keypoints')


def test_what_has_neither_area_nor_mask_is_no_object_of_the_masks():
    nothing = {'id': 10_000, 'image_id': 2, 'category_id': 1, 'bbox': [3, 3, 0, 5]}
    image = ANNOTATIONS['annotations'][0]['image_id']
    more = [*ANNOTATIONS['annotations'], {**nothing, 'image_id': image}]
    metrics = CocoMetrics(ANNOTATIONS | {'annotations': more})
    found = metrics('segm', RESULTS['segm'])
    assert found == CocoMetrics(ANNOTATIONS)('segm', RESULTS['segm'])


def perfect(format, scale=2.0):
    """A batch of 2 images and a blank, and detections that are the annotations."""
    images = ANNOTATIONS['images'][:2]
    rows = [
        [
            each
            for each in ANNOTATIONS['annotations']
            if each['image_id'] == image['id'] and not each['iscrowd']
        ]
        for image in images
    ] + [[]]
    size = max(map(len, rows)) + 1
    labels = {id: place + 1 for place, id in enumerate(format.category_ids)}
    found = {
        'boxes': np.full((3, size, 4), 7, np.float32),
        'scores': np.ones((3, size), np.float32),
        'labels': np.ones((3, size), np.int32),
        'valid': np.zeros((3, size), bool),
        'masks': np.ones((3, size, 28, 28), np.float32),
        'keypoints': np.zeros((3, size, 4, 3), np.float32),
    }
    for image, objects in enumerate(rows):
        for row, each in enumerate(objects):
            x, y, width, height = np.array(each['bbox']) * scale
            found['boxes'][image, row] = x, y, x + width, y + height
            found['labels'][image, row] = labels[each['category_id']]
            found['valid'][image, row] = True
            if 'keypoints' in each:
                points = np.reshape(each['keypoints'], (-1, 3))
                found['keypoints'][image, row] = points
                found['keypoints'][image, row, :, :2] += format.keypoint_offset
                found['keypoints'][image, row, :, :2] *= scale
    sizes = np.array([[160, 200]] * 3)
    batch = {
        'image_id': np.array([images[0]['id'], images[1]['id'], 0]),
        'original_size': sizes,
        'image_size': (sizes * scale).astype(int),
        'mask': np.array([1.0, 1.0, 0.0]),
    }
    return found, batch


FORMATS = [
    ResultsFormat((1, 18, 90)),
    ResultsFormat((1, 18, 90), paste='published'),
    ResultsFormat((1, 18, 90), paste='torchvision', keypoint_offset=0.5),
]


@pytest.mark.parametrize('format', FORMATS)
def test_what_is_found_where_it_is_in_a_resized_image_is_right(format):
    detections, batch = perfect(format)
    found = coco_results(detections, batch, format)
    ids = batch['image_id'][:2]
    metrics = CocoMetrics(ANNOTATIONS)
    assert metrics('bbox', found['bbox'], ids)['bbox/AP'] == pytest.approx(1)
    people = [each for each in found['keypoints'] if each['category_id'] == 1]
    assert metrics('keypoints', people, ids)['keypoints/AP'] == pytest.approx(1)
    # Full masks are the boxes.
    for box, mask in zip(found['bbox'], found['segm'], strict=True):
        area = decode_rle(mask['segmentation']).sum()
        sides = np.array(box['bbox'][2:])
        assert (sides - 1).prod() <= area <= (sides + 2).prod()


def test_what_is_not_valid_is_blank_or_outside_of_the_image_is_dropped():
    format = FORMATS[0]
    detections, batch = perfect(format)
    count = int(detections['valid'].sum())
    detections['valid'][2, 0] = True  # of the blank
    detections['boxes'][0, 0] = (-9, -9, 0, 5)
    found = coco_results(detections, batch, format)
    assert {kind: len(entries) for kind, entries in found.items()} == dict.fromkeys(
        KINDS, count - 1
    )
    detections['boxes'][0, 0] = (-9, 300, 9, 600)
    box = coco_results(detections, batch, format)['bbox'][0]['bbox']
    assert box == [0, 150, 4.5, 10]


def test_results_are_json_and_join():
    format = FORMATS[0]
    found = coco_results(*perfect(format), format)
    assert json.loads(json.dumps(found)) == found
    both = joined([found, found])
    assert both['segm'] == found['segm'] * 2
    assert set(found['bbox'][0]) == {'image_id', 'category_id', 'score', 'bbox'}
