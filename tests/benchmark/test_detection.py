"""The benchmark of a detector."""

import sys
import types

import jax
import numpy as np
import pytest

from slimjax.benchmark import figure
from slimjax.benchmark.detection import (
    benchmark_detector,
    check_torchvision,
    detector_config,
    drawn_batch,
    operation_ms,
)
from slimjax.detection.settings import DETECTORS
from slimjax.train.network import build_model

NARROW = {'pyramid_features': 8, 'box_features': 16, 'mask_features': (8,)}


def tiny_config(detector='mask_rcnn', size=(64, 96)):
    config = detector_config(
        detector, 'tiny', 'resnet14', batch=1, size=size, dtype='float32'
    )
    config.widths = (0.25, 0.5)
    for name, value in {**NARROW, 'base_features': 8}.items():
        config.model_fields[name] = value
    return config


@pytest.mark.parametrize('detector', DETECTORS)
def test_what_is_drawn_are_objects_within_their_images(detector):
    config = tiny_config(detector)
    model = build_model(config)
    batch = drawn_batch(config, model, 3)
    own = {'mask_rcnn': 'masks', 'keypoint_rcnn': 'keypoints'}.get(detector)
    assert batch['image'].shape == (3, 64, 96, 3)
    assert ({'masks', 'keypoints'} & set(batch)) == ({own} if own else set())
    boxes = batch['boxes'][batch['valid']]
    assert len(boxes) == 3 * 7
    assert (boxes >= 0).all()
    assert (boxes[:, 2:] <= [96, 64]).all()
    assert (boxes[:, 2:] - boxes[:, :2] >= 8).all()
    labels = batch['labels'][batch['valid']]
    assert labels.min() >= 1
    assert labels.max() < model.num_classes
    if own == 'keypoints':
        points = batch['keypoints'][batch['valid']]
        assert (points[..., :2] > boxes[:, None, :2]).all()
        assert (points[..., :2] < boxes[:, None, 2:]).all()


def test_suppression_and_alignment_are_timed_alone():
    model = build_model(tiny_config())
    times = operation_ms(model, batch=1, repeats=2)
    assert list(times) == ['nms_ms', 'roi_align_ms', 'roi_align_gradient_ms']
    assert all(each.low > 0 for each in times.values())


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'detector': 'faster_rcnn'}, '--detector=faster_rcnn: .*mask_rcnn alone'),
        ({'model': 'resnet14'}, '--model=resnet14: .*resnet50 alone'),
    ],
)
def test_torchvision_is_compared_as_it_is(monkeypatch, tmp_path, change, message):
    config = {'detector': 'mask_rcnn', 'model': 'resnet50'}
    check_torchvision({**config, **change}, None)
    monkeypatch.setitem(sys.modules, 'torchvision', None)
    with pytest.raises(ImportError, match='--against=torch: no torchvision here'):
        check_torchvision(config, 'torch')
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / 'torchvision.py').write_text('raise RuntimeError("no operator nms")')
    monkeypatch.delitem(sys.modules, 'torchvision')
    with pytest.raises(ImportError, match='no torchvision here: no operator nms'):
        check_torchvision(config, 'torch')
    monkeypatch.setitem(sys.modules, 'torchvision', types.ModuleType('torchvision'))
    check_torchvision(config, 'torch')
    with pytest.raises(ValueError, match=message):
        check_torchvision({**config, **change}, 'torch')


@pytest.mark.slow
def test_a_detector_is_measured_and_told_of(tmp_path):
    config = tiny_config(size=(64, 64))
    config.batch_size = jax.local_device_count()
    results = benchmark_detector(config, repeats=2, say=lambda line: None)
    assert list(results['individual_step_ms']) == ['0.5', '0.25']
    assert results['temp_bytes'] > 0
    assert results['ratio_memory_less_gradient'] < 1.05
    text = '\n'.join(figure.lines(results))
    for part in ('suppression alone', 'RoIAlign alone', 'batch 1: ', 'images/s'):
        assert part in text
    assert 'matrix product' not in text
    assert '| mask_rcnn, tiny, resnet14, 1 x 64 x 64 px, ' in figure.markdown([results])
    figure.plot([results], tmp_path / 'plot.png')
    assert np.isfinite(results['images_per_s'])
