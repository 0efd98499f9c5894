"""The detectors as wholes: shapes, types, conventions and the backbone's weights."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slimjax
from slimjax.detection import (
    DETECTORS,
    PRESETS,
    create_model,
    init_variables,
    with_backbone,
)
from slimjax.detection.proposals import Proposals
from tests.detection.test_train import batch_of, tiny
from tests.slow import slow_but

SMALL = {'stage_sizes': (1, 1, 1, 1), 'num_classes': 4, 'num_keypoints': 3}


def padded_batch(model, images=2):
    """Shapes of a batch in the model's first bucket."""
    height, width = model.settings.buckets[0]
    count = model.settings.max_boxes
    shapes = {
        'image': ((images, height, width, 3), jnp.float32),
        'image_size': ((images, 2), jnp.int32),
        'original_size': ((images, 2), jnp.int32),
        'boxes': ((images, count, 4), jnp.float32),
        'labels': ((images, count), jnp.int32),
        'crowd': ((images, count), jnp.bool_),
        'valid': ((images, count), jnp.bool_),
        'masks': ((images, count, 112, 112), jnp.uint8),
        'keypoints': ((images, count, 3, 3), jnp.float32),
    }
    return {name: jax.ShapeDtypeStruct(*each) for name, each in shapes.items()}


def traced(model, method):
    variables = jax.eval_shape(lambda: init_variables(model, jax.random.key(0)))
    run = functools.partial(model.apply, width=0.25, method=method)
    return jax.eval_shape(run, variables, padded_batch(model))


def quickly(*quick):
    """All presets with all detectors, of which one is traced in the quick tests."""
    return slow_but(list(itertools.product(PRESETS, DETECTORS)), quick)


@pytest.mark.parametrize(('preset', 'detector'), quickly('published', 'mask_rcnn'))
def test_detections_have_static_shapes_at_full_size(preset, detector):
    model = create_model(detector, preset, widths=(0.25, 1.0), **SMALL)
    found = traced(model, 'predict')
    count = model.settings.detections
    assert found['boxes'].shape == (2, count, 4)
    assert found['labels'].dtype == jnp.int32
    assert found['valid'].shape == found['scores'].shape == (2, count)
    if detector == 'mask_rcnn':
        assert found['masks'].shape == (2, count, 28, 28)
    if detector == 'keypoint_rcnn':
        assert found['keypoints'].shape == (2, count, 3, 3)


@pytest.mark.parametrize(('preset', 'detector'), quickly('tiny', 'keypoint_rcnn'))
def test_bfloat16_computes_boxes_and_losses_in_float32(preset, detector):
    model = create_model(
        detector,
        preset,
        widths=(0.25, 1.0),
        dtype=jnp.bfloat16,
        **{**SMALL, 'norm': 'frozen'},
    )
    (one, *_) = jax.eval_shape(
        lambda: model.init_with_output(
            jax.random.key(0), jnp.zeros((1, 64, 64, 3)), method='maps'
        )[0]
    )
    assert one.dtype == jnp.bfloat16
    for method in ('predict', 'losses'):
        for name, each in traced(model, method).items():
            if name not in ('labels', 'valid'):
                assert each.dtype == jnp.float32, name


def test_legacy_boxes_come_and_go_as_edges():
    # An image of 32 px enlarged to 64: a pixel of the original is two of the batch.
    model = tiny('faster_rcnn').clone(
        settings=create_model(
            'faster_rcnn',
            'published',
            pyramid_features=8,
            box_features=16,
            detections=2,
        ).settings
    )
    shapes = jax.eval_shape(lambda: init_variables(model, jax.random.key(0)))
    variables = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    batch = batch_of(1)
    batch['original_size'] = batch['image_size'] // 2
    proposals = Proposals(
        jnp.array([[[10.0, 12.0, 29.0, 39.0]]]),
        jnp.ones((1, 1)),
        jnp.ones((1, 1), bool),
    )
    found = jax.jit(functools.partial(model.apply, method='predict'))(
        variables, batch, proposals=proposals
    )
    # Without weights, each of the three classes has a quarter, and stays in place.
    assert found['valid'][0].tolist() == [True, True]
    np.testing.assert_allclose(found['scores'][0], 0.25)
    np.testing.assert_allclose(found['boxes'][0, 0], [10, 12, 31, 41], atol=1e-4)


def test_a_backbone_comes_from_a_classifier_of_the_same_widths():
    model = tiny('faster_rcnn')
    variables = jax.eval_shape(lambda: init_variables(model, jax.random.key(0)))
    fields = {'stage_sizes': (1, 1, 1, 1), 'base_features': 8, 'num_classes': 10}
    images = jnp.zeros((1, 64, 64, 3))

    def classifier(widths):
        resnet = slimjax.create_model('resnet50', widths=widths, **fields)
        return jax.eval_shape(lambda: resnet.init(jax.random.key(0), images))

    joined = with_backbone(variables, classifier((0.5, 1.0)))
    assert jax.tree.structure(joined) == jax.tree.structure(variables)
    with pytest.raises(ValueError, match='the classifier is of another network'):
        with_backbone(variables, classifier((0.25, 1.0)))


def test_sides_that_the_pyramid_does_not_divide_are_refused():
    model = tiny('faster_rcnn')
    with pytest.raises(ValueError, match='image is 64 x 70 px'):
        jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 64, 70, 3))))


# torchvision's counts without norms.
@pytest.mark.parametrize(
    ('detector', 'classes', 'count'),
    [
        pytest.param('faster_rcnn', 91, 41_755_286, marks=pytest.mark.slow),
        ('mask_rcnn', 91, 44_401_393),
        pytest.param('keypoint_rcnn', 2, 59_137_258, marks=pytest.mark.slow),
    ],
)
def test_full_size_detectors_have_the_parameters_of_torchvision(
    detector, classes, count
):
    model = create_model(detector, 'torchvision', num_classes=classes, widths=(1.0,))
    shapes = jax.eval_shape(lambda: init_variables(model, jax.random.key(0)))
    sizes = [
        leaf.size
        for path, leaf in jax.tree_util.tree_leaves_with_path(shapes['params'])
        if not any(each.key == 'norm' for each in path)
    ]
    assert sum(sizes) == count
