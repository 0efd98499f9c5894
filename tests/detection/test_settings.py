"""Presets and what is refused before anything is compiled."""

import numpy as np
import pytest

from slimjax.detection import DETECTORS, PRESETS, create_model, settings
from slimjax.interop import load_torchvision_detection


def test_presets_differ_where_the_published_codes_do():
    published = settings('published', 'mask_rcnn')
    detectron = settings('detectron1', 'mask_rcnn')
    torchvision = settings('torchvision', 'mask_rcnn')
    assert (published.legacy, detectron.legacy, torchvision.legacy) == (
        True,
        False,
        False,
    )
    assert [each.test_proposals for each in (published, detectron, torchvision)] == [
        *(2000, 1000, 1000)
    ]
    assert published.clip_norm == 35
    assert detectron.rpn_normalizer == 'wanted'
    assert settings('detectron1', 'keypoint_rcnn').train_proposals == 1500
    assert settings('torchvision', 'keypoint_rcnn').epochs == 46
    keypoints = settings('published', 'keypoint_rcnn')
    assert (keypoints.legacy, keypoints.test_proposals) == (False, 1000)
    assert keypoints.image_std == published.image_std
    assert settings('detectron1', 'keypoint_rcnn').box_beta == 1
    assert [each.mask_target_shift for each in (published, detectron, torchvision)] == [
        *(0, 0, 0.5)
    ]


@pytest.mark.parametrize('preset', PRESETS)
@pytest.mark.parametrize('detector', DETECTORS)
def test_every_preset_makes_every_detector(preset, detector):
    model = create_model(detector, preset, num_classes=5, widths=[0.25, 1.0])
    assert hash(model) == hash(
        create_model(detector, preset, num_classes=5, widths=(0.25, 1.0))
    )


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        ({'roi_alignment': 'legacy'}, 'legacy=False goes with roi_alignment=unaligned'),
        ({'anchors': 'legacy'}, 'legacy=False goes with anchors=centred or rounded'),
        ({'anchors': 'round'}, "anchors='round'; allowed are legacy, centred, rounded"),
        ({'buckets': ((800, 1333),)}, 'multiples of 32 px are needed, not 800 x 1333'),
        ({'anchor_sizes': (32, 64)}, '5 are needed'),
        ({'rpn_negative': 0.8}, r'rpn_negative=0.8, rpn_positive=0.7'),
        ({'frozen_stages': 5}, 'frozen_stages=5; allowed are 0 to 4'),
        ({'norm': 'batch'}, "frozen_stages=1 with norm='batch', .*: allowed is 0"),
        ({'roi_samples': 0}, 'roi_samples=0; allowed are whole numbers from 1 on'),
        ({'detections': 1.5}, 'detections=1.5; allowed are whole numbers from 1 on'),
        ({'roi_samples': 3}, 'roi_samples=3, .*: of an image, at least one anchor and'),
        ({'rpn_samples': 1}, 'rpn_samples=1, roi_samples=512'),
        ({'roi_positive_share': 2}, 'roi_positive_share=2; allowed is 0 to 1'),
        ({'score_threshold': float('nan')}, 'score_threshold=nan; allowed is 0 to 1'),
        ({'image_std': (0, 1, 1)}, r'image_std=\(0, 1, 1\); allowed are numbers above'),
        ({'mask_features': ()}, r'mask_features=\(\); allowed are numbers above 0'),
        ({'norm': 'layer'}, "norm='layer'; allowed are frozen, batch"),
        ({'num_classes': 1}, 'num_classes=1: 2 and more'),
        ({'nms': 0.5}, 'no setting nms; there are anchor_ratios'),
        ({'preset': 'coco'}, "preset='coco'; allowed are published, detectron1"),
        ({'detector': 'rcnn'}, "detector='rcnn'; allowed are faster_rcnn"),
        ({'widths': (0.5, 0.5)}, 'more than once'),
    ],
)
def test_what_is_not_allowed_is_named(fields, message):
    fields = {'detector': 'mask_rcnn', 'preset': 'torchvision', **fields}
    with pytest.raises(ValueError, match=message):
        create_model(**fields)


def test_lists_in_settings_leave_a_model_that_compiled_functions_take():
    fields = {'buckets': [[64, 96]], 'widths': [0.5, 1.0], 'mask_features': [8]}
    model = create_model('mask_rcnn', 'tiny', **fields)
    assert hash(model) == hash(create_model('mask_rcnn', 'tiny', **fields))
    assert model.settings.buckets == ((64, 96),)


def test_torchvision_has_no_detector_with_group_norm():
    model = create_model('mask_rcnn', 'tiny', norm='group', widths=(1.0,))
    with pytest.raises(ValueError, match="norm='group': torchvision's detectors have"):
        load_torchvision_detection({'backbone': np.ones(1)}, model)
