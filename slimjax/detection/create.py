"""Detectors by name, and their variables."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jax import Array

from slimjax.detection.model import SlimmableRCNN
from slimjax.detection.settings import Detector, settings
from slimjax.json_file import tuples
from slimjax.variables import check_shapes
from slimjax.width import widest_first

_MODEL_FIELDS = tuple(
    field.name
    for field in dataclasses.fields(SlimmableRCNN)
    if field.name not in ('parent', 'name', 'detector', 'settings')
)


def create_model(
    detector: Detector, preset: str = 'published', **fields: Any
) -> SlimmableRCNN:
    """Returns a slimmable detector.

    Args:
        detector: `'faster_rcnn'`, `'mask_rcnn'` or `'keypoint_rcnn'`.
        preset: of settings, see `slimjax.detection.settings.settings`.
        **fields: fields of `SlimmableRCNN`, such as `num_classes`, which counts the
            background as torchvision does, and `widths`; all others are settings.

    Raises:
        ValueError: an unknown detector, preset or field, or values that are not
            allowed.

    Example:
        >>> model = create_model('mask_rcnn', preset='tiny', num_classes=11,
        ...                      widths=(0.5, 1.0), detections=5)
        >>> model.widths, model.settings.detections
        ((0.5, 1.0), 5)
    """
    # A model is a static argument of compiled functions, so its fields are hashable.
    fields = tuples(fields)
    own = {name: fields[name] for name in _MODEL_FIELDS if name in fields}
    others = {name: each for name, each in fields.items() if name not in own}
    options = settings(preset, detector, **others)
    model = SlimmableRCNN(detector, options, **own)
    widest_first(model.widths)
    if model.num_classes < 2:
        raise ValueError(
            f'num_classes={model.num_classes}: 2 and more are allowed, as the '
            'background is one'
        )
    return model


def init_variables(model: SlimmableRCNN, key: Array) -> dict[str, Any]:
    """Returns the variables of all widths, on a small image as they depend on none.

    Args:
        model: a detector.
        key: of the random numbers.

    Example:
        >>> import jax
        >>> model = create_model('faster_rcnn', 'tiny', num_classes=3, widths=(1.0,),
        ...                      stage_sizes=(1, 1, 1, 1), base_features=8)
        >>> shapes = jax.eval_shape(lambda: init_variables(model, jax.random.key(0)))
        >>> shapes['params']['box_head']['classes']['kernel'].shape
        (64, 3)
    """
    return model.init(key, jnp.zeros((1, 64, 64, 3), jnp.float32))


def with_backbone(
    variables: Mapping[str, Any], classifier: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns a detector's variables with the backbone of a classifier.

    Args:
        variables: of the detector.
        classifier: of a `ResNet` of the same widths and size, such as `load_torch`
            reads; its classifying layer is left out.

    Raises:
        ValueError: a classifier of other widths or sizes.

    Example:
        >>> variables = {'params': {'backbone': {'a': jnp.zeros(2)}, 'head': {}}}
        >>> classifier = {'params': {'a': jnp.ones(2), 'classifier': {}}}
        >>> with_backbone(variables, classifier)['params']['backbone']['a'].tolist()
        [1.0, 1.0]
    """
    own = {name: tree['backbone'] for name, tree in variables.items()}
    found = {
        name: {layer: each for layer, each in tree.items() if layer != 'classifier'}
        for name, tree in classifier.items()
    }
    check_shapes(own, found, 'the classifier')
    return {name: {**tree, 'backbone': found[name]} for name, tree in variables.items()}
