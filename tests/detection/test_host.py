"""From what heads say to the pixels of the image: pasted and decoded as others do it.

`golden_host.npz` was made with torchvision 0.28.0's own functions and, for Detectron2,
with PyTorch 2.13.0's `grid_sample` and `interpolate` as Detectron2 calls them.
"""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slimjax.data.coco_format.masks import decode_rle, encode_part
from slimjax.detection.paste import paste_mask
from slimjax.detection.postprocess import decode_keypoints
from tests.detection.host_inputs import BOXES, SIZE, heat_maps, masks

GOLDEN = np.load(pathlib.Path(__file__).with_name('golden_host.npz'))


def pasted(style):
    return np.array(
        [
            paste_mask(mask, box, *SIZE, style).whole()
            for mask, box in zip(masks(), BOXES, strict=True)
        ]
    )


@pytest.mark.parametrize('style', ['detectron2', 'torchvision'])
def test_pasted_masks_are_those_of_the_others_to_the_pixel(style):
    found = pasted(style)
    expected = np.unpackbits(GOLDEN[style])[: found.size].reshape(found.shape)
    np.testing.assert_array_equal(found, expected)
    assert 0 < found.mean() < 1


def test_a_full_mask_fills_the_pixels_whose_centres_are_in_its_box():
    found = paste_mask(np.ones((28, 28)), (2.6, 1.4, 7.4, 3.6), 6, 9).whole()
    expected = np.zeros((6, 9), bool)
    expected[1:4, 3:7] = True
    np.testing.assert_array_equal(found, expected)


def test_the_published_paste_ends_at_the_last_pixel_of_the_box():
    mask = np.ones((28, 28), np.float32)
    mask[:, 14:] = 0
    found = paste_mask(mask, (2, 1, 9, 3), 6, 12, 'published').whole()
    expected = np.zeros((6, 12), bool)
    expected[1:4, 2:6] = True
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize('style', ['detectron2', 'torchvision', 'published'])
@pytest.mark.parametrize('box', [(70, 50, 80, 60), (-9, -9, -4, -4), (5, 5, 5, 5)])
def test_a_box_outside_of_the_image_or_without_area_does_no_harm(style, box):
    found = paste_mask(np.ones((28, 28)), box, *SIZE, style).whole()
    assert found.shape == SIZE
    assert found.sum() <= 4


def test_another_style_is_refused():
    with pytest.raises(
        ValueError, match="style='mmdet'; allowed are detectron2, torch"
    ):
        paste_mask(np.ones((28, 28)), (0, 0, 1, 1), 2, 2, 'mmdet')


@pytest.mark.parametrize(
    ('score', 'scores'), [('probability', 'probabilities'), ('logit', 'logits')]
)
def test_keypoints_are_those_of_the_others(score, scores):
    maps = jnp.array(heat_maps()).transpose(0, 2, 3, 1)
    decode = jax.jit(functools.partial(decode_keypoints, score=score))
    found = decode(maps, jnp.array(BOXES))
    np.testing.assert_allclose(
        found[..., :2], GOLDEN['keypoints'][..., :2], rtol=0, atol=1e-4
    )
    np.testing.assert_allclose(found[..., 2], GOLDEN[scores], rtol=1e-4)


@pytest.mark.parametrize('seed', range(4))
def test_the_encoding_of_a_part_is_that_of_the_whole_image(seed):
    rng = np.random.default_rng(seed)
    for top, left, rows, columns in [
        (0, 0, 11, 13),  # the whole image, whose columns run into each other
        (3, 4, 5, 6),
        (6, 8, 5, 5),  # to the corner
        (0, 12, 11, 1),
        (2, 2, 0, 3),
    ]:
        part = rng.random((rows, columns)) < 0.2 + 0.6 * rng.random()
        whole = np.zeros((11, 13), bool)
        whole[top : top + rows, left : left + columns] = part
        encoded = encode_part(part, top, left, 11, 13)
        np.testing.assert_array_equal(decode_rle(encoded), whole)
        assert encoded == cocos_own(whole)


def cocos_own(bitmap):
    from faster_coco_eval import mask

    encoded = mask.encode(np.asfortranarray(bitmap, np.uint8))
    return {'size': list(bitmap.shape), 'counts': encoded['counts'].decode()}
