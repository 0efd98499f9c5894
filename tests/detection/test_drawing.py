"""What is drawn is where it was found."""

import numpy as np
import pytest
from PIL import ImageDraw

from slimjax.data.coco_format.annotations import Category
from slimjax.data.coco_format.masks import encode_part
from slimjax.detection.drawing import draw_results

CATEGORIES = [Category(3, 'cat', ('head', 'tail'), ((0, 1),)), Category(7, 'dog')]
BLACK = np.zeros((480, 640, 3), np.uint8)


def found(box, score=0.9, category=3, mask_part=None, points=None):
    """Results of one object; the mask fills the middle of its box."""
    about = {'category_id': category, 'score': score}
    results = {'bbox': [about | {'bbox': box}]}
    if mask_part is not None:
        mask = encode_part(np.ones(mask_part, bool), 200, 300, 480, 640)
        results['segm'] = [about | {'segmentation': mask}]
    if points is not None:
        results['keypoints'] = [about | {'keypoints': points}]
    return results


def changed(image):
    return np.asarray(image).any(-1)


def test_a_mask_tints_its_pixels_and_no_others():
    results = found([250, 150, 200, 200], mask_part=(40, 60))
    without = {'bbox': results['bbox']}
    tinted = changed(draw_results(BLACK, results, CATEGORIES))
    tinted &= ~changed(draw_results(BLACK, without, CATEGORIES))
    rows, columns = np.flatnonzero(tinted.any(1)), np.flatnonzero(tinted.any(0))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (200, 239, 300, 359)
    assert tinted[200:240, 300:360].all()


def test_a_box_is_drawn_on_its_edges():
    drawn = changed(draw_results(BLACK, found([250, 150, 200, 100]), CATEGORIES))
    assert drawn[150:251, [250, 450]].all()
    assert drawn[[150, 250], 250:451].all()
    assert not drawn[160:240, 260:440].any()
    assert not drawn[260:].any()


def test_a_skeleton_joins_its_keypoints_if_both_were_found():
    box, line = [250, 150, 200, 100], [270, 200, 0.9, 430, 200, 0.9]
    drawn = changed(draw_results(BLACK, found(box, points=line), CATEGORIES))
    assert drawn[200, 270:431].all()
    line[2] = 0.01
    drawn = changed(draw_results(BLACK, found(box, points=line), CATEGORIES))
    assert not drawn[200, 260:420].any()
    assert drawn[200, 430]


def test_what_is_less_sure_is_left_out():
    results = found([250, 150, 200, 100], score=0.4)
    assert not changed(draw_results(BLACK, results, CATEGORIES)).any()
    drawn = draw_results(BLACK, results, CATEGORIES, least_score=0.3)
    assert changed(drawn).any()


@pytest.mark.parametrize('box', [[0, 0, 50, 50], [600, 0, 40, 480], [0, 470, 640, 10]])
def test_labels_stay_in_the_image_and_name_the_category(box, monkeypatch):
    written = spied_text(monkeypatch)
    draw_results(BLACK, found(box, 0.876, 7), CATEGORIES)
    ((x, y), text), *_ = written
    assert text == 'dog 0.88'
    assert 0 <= x < 600
    # Where the line begins: the ink of its letters stands lower.
    assert -8 < y < 480


def test_labels_of_one_place_stand_below_each_other(monkeypatch):
    written = spied_text(monkeypatch)
    one = found([100, 100, 50, 50])['bbox'][0]
    entries = [one | {'score': score} for score in (0.7, 0.9, 0.8)]
    draw_results(BLACK, {'bbox': entries}, CATEGORIES)
    assert [text for _, text in written] == ['cat 0.90', 'cat 0.80', 'cat 0.70']
    heights = [y for (_, y), _ in written]
    assert np.diff(heights).min() > 10


def test_a_small_image_is_enlarged_and_what_is_on_it_too():
    image = np.zeros((120, 160, 3), np.uint8)
    drawn = draw_results(image, found([50, 50, 40, 30]), CATEGORIES)
    assert drawn.size == (640, 480)
    assert changed(drawn)[200:321, [200, 360]].all()


def test_nothing_found_leaves_the_image():
    image = np.random.default_rng(0).integers(0, 256, (480, 500, 3), np.uint8)
    drawn = draw_results(image, {'bbox': [], 'segm': []}, CATEGORIES)
    np.testing.assert_array_equal(np.asarray(drawn), image)


def spied_text(monkeypatch):
    written, write = [], ImageDraw.ImageDraw.text

    def text(self, place, words, **options):
        written.append((place, words))
        return write(self, place, words, **options)

    monkeypatch.setattr(ImageDraw.ImageDraw, 'text', text)
    return written
