"""The detectors against torchvision's, at width 1.0 and as physically narrow networks.

`scripts/golden_detection.py` made the numbers, in float64, and so they are computed
here: what differs is that they were kept as float32. The narrow networks there have
planes of their own, filled with the first channels of the wide one's.
"""

import functools
import pathlib

import jax
import numpy as np
import pytest

from slimjax.detection import create_model
from slimjax.detection.create import init_variables
from slimjax.detection.proposals import Proposals
from slimjax.interop import (
    load_torchvision_detection,
    torchvision_detection_state_dict,
)
from slimjax.variables import apply_train, split_variables
from tests.detection import drawn
from tests.slow import slow_but

FOLDER = pathlib.Path(__file__).parent / 'golden'
# Each takes half a minute to compile.
QUICK = 'small_mask_rcnn_0.25'
CASES = slow_but(drawn.CASES, QUICK)
LOSSES = {
    'objectness': 'loss_objectness',
    'proposal_boxes': 'loss_rpn_box_reg',
    'classes': 'loss_classifier',
    'boxes': 'loss_box_reg',
    'masks': 'loss_mask',
    'keypoints': 'loss_keypoint',
}
TRUTHS = 6


def model_of(case, dtype, widths, base_features=64):
    return create_model(
        case.detector,
        'torchvision',
        num_classes=drawn.classes(case.detector),
        num_keypoints=drawn.KEYPOINTS,
        widths=widths,
        stage_sizes=case.stages,
        base_features=base_features,
        dtype=dtype,
        param_dtype=dtype,
        **case.options,
    )


def shapes_of(model):
    """Shapes of torchvision's state dict."""
    template = jax.eval_shape(lambda: init_variables(model, jax.random.key(0)))
    zeros = jax.tree.map(lambda leaf: np.broadcast_to(0.0, leaf.shape), template)
    state = torchvision_detection_state_dict(zeros, model)
    return {key: array.shape for key, array in state.items()}


def padded(rows):
    rows = np.asarray(rows)
    return np.pad(rows, ((0, TRUTHS - len(rows)), *((0, 0),) * (rows.ndim - 1)))


def batch_of(case, dtype):
    truths = [drawn.truth(image, case.detector) for image in range(2)]
    fields = {name: [each[name] for each in truths] for name in truths[0]}
    valid = [np.ones(len(each), bool) for each in fields['boxes']]
    if 'masks' in fields:
        fields['masks'] = [
            [mask[y1:y2, x1:x2] for mask, (x1, y1, x2, y2) in zip(*pair, strict=True)]
            for pair in zip(
                fields['masks'], [b.astype(int) for b in fields['boxes']], strict=True
            )
        ]
    batch = {
        name: np.stack([padded(each) for each in rows])
        for name, rows in {**fields, 'valid': valid}.items()
    }
    return {
        **batch,
        'boxes': batch['boxes'].astype(dtype),
        'labels': batch['labels'].astype(np.int32),
        'crowd': np.zeros((2, TRUTHS), bool),
        'image': drawn.images().astype(dtype),
        'image_size': drawn.IMAGE_SIZES,
        'original_size': drawn.IMAGE_SIZES,
    }


def given(golden, kind, dtype):
    """torchvision's proposals, padded."""
    rows = [golden[f'{kind}/{image}'].astype(dtype) for image in range(2)]
    most = max(map(len, rows))
    boxes = np.stack([np.pad(each, ((0, most - len(each)), (0, 0))) for each in rows])
    valid = np.stack([np.arange(most) < len(each) for each in rows])
    return Proposals(boxes, np.zeros(valid.shape, dtype), valid)


@functools.cache
def run(name, dtype=np.float64):
    """The golden numbers, and what slimjax makes of the same."""
    with jax.enable_x64(dtype == np.float64):
        return _run(name, dtype)


def _run(name, dtype):
    case, golden = drawn.CASES[name], np.load(FOLDER / f'{name}.npz')
    model = model_of(case, dtype, tuple({case.width, 1.0}))
    state = {
        key: drawn.parameter(key, shape) for key, shape in shapes_of(model).items()
    }
    params, stats = split_variables(load_torchvision_detection(state, model))
    batch = batch_of(case, dtype)

    @jax.jit
    def everything(params, stats, batch, proposals, train_proposals):
        variables = {'params': params, **stats}
        use = functools.partial(model.apply, variables, width=case.width)

        def total(params):
            losses, _ = apply_train(
                model,
                params,
                stats,
                batch,
                width=case.width,
                proposals=train_proposals,
                method='losses',
            )
            return sum(losses.values()), losses

        (_, losses), gradients = jax.value_and_grad(total, has_aux=True)(params)
        return {
            'maps': use(batch['image'], method='maps'),
            'proposals': use(batch, method='proposals'),
            'train_proposals': use(batch, train=True, method='proposals'),
            'detections': use(batch, proposals=proposals, method='predict'),
            'losses': losses,
            'gradients': gradients,
        }

    found = jax.device_get(
        everything(
            params,
            stats,
            batch,
            given(golden, 'proposals', dtype),
            given(golden, 'train_proposals', dtype),
        )
    )
    found['gradients'] = torchvision_detection_state_dict(
        {'params': found['gradients'], **stats}, model
    )
    narrow = model_of(case, dtype, (1.0,), int(64 * case.width))
    found['shapes'] = shapes_of(narrow)
    return golden, found


@pytest.mark.parametrize('name', CASES)
def test_maps_are_those_of_torchvision(name):
    golden, found = run(name)
    for level, each in enumerate(found['maps'], start=2):
        expected = golden[f'map/p{level}']
        np.testing.assert_allclose(drawn.probe(each), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize('name', CASES)
@pytest.mark.parametrize('kind', ['proposals', 'train_proposals'])
def test_the_same_proposals_are_made(name, kind):
    golden, found = run(name)
    for image in range(2):
        expected = golden[f'{kind}/{image}']
        valid = found[kind].valid[image]
        boxes = found[kind].boxes[image][valid]
        np.testing.assert_allclose(boxes, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize('name', CASES)
def test_the_same_is_detected(name):
    golden, found = run(name)
    for image in range(2):
        valid = found['detections']['valid'][image]
        mine = {key: each[image][valid] for key, each in found['detections'].items()}
        expected = {
            key: golden[f'detections/{image}/{key}']
            for key in mine
            if f'detections/{image}/{key}' in golden
        }
        assert mine['labels'].tolist() == expected['labels'].tolist()
        if 'masks' in mine:
            mine['masks'] = mine['masks'][:, 13:15]
        for key, each in expected.items():
            np.testing.assert_allclose(mine[key], each, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize('name', CASES)
def test_losses_and_gradients_are_those_of_torchvision(name):
    golden, found = run(name)
    hold_losses(golden, found, 1e-6)
    hold_gradients(golden, found, 1e-6)


@pytest.mark.slow
def test_float32_is_as_good_as_it_rounds():
    golden, found = run('resnet50_faster_rcnn_1.0', np.float32)
    hold_losses(golden, found, 1e-5)
    hold_gradients(golden, found, 1e-3)


def hold_losses(golden, found, allowed):
    losses = {
        name: golden[f'loss/{theirs}']
        for name, theirs in LOSSES.items()
        if f'loss/{theirs}' in golden
    }
    assert found['losses'].keys() == losses.keys()
    for name, expected in losses.items():
        np.testing.assert_allclose(found['losses'][name], expected, rtol=allowed)


def hold_gradients(golden, found, allowed):
    """Differences are shares of the largest of an array."""
    names = [key for key in golden if key.startswith('gradient/')]
    assert len(names) > 30
    for key in names:
        whole = found['gradients'][key.removeprefix('gradient/')]
        own = tuple(slice(side) for side in found['shapes'][key[9:]])
        expected = golden[key]
        # The keypoints' last bias moves all places alike: its gradient is rounding.
        most = allowed * np.abs(expected).max() + 1e-7
        assert np.abs(drawn.probe(whole[own]) - expected).max() < most, key
        # The rest of the wide kernel has no part in it.
        assert np.count_nonzero(whole) == np.count_nonzero(whole[own])
