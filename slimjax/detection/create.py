"""Detectors by name, and their variables."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
from jax import Array

from slimjax.detection.model import SlimmableRCNN
from slimjax.detection.settings import Detector, settings
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
    own = {name: fields[name] for name in _MODEL_FIELDS if name in fields}
    # A model is a static argument of compiled functions, so its fields are hashable.
    own = {k: tuple(v) if isinstance(v, list) else v for k, v in own.items()}
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


def init_variables(
    model: SlimmableRCNN, key: Array, image_shape: tuple[int, int] = (64, 64)
) -> dict[str, Any]:
    """Returns the variables of all widths.

    Args:
        model: a detector.
        key: of the random numbers.
        image_shape: height and width in pixels, on which no variable depends.

    Example:
        >>> model = create_model('faster_rcnn', 'tiny', num_classes=3, widths=(1.0,),
        ...                      stage_sizes=(1, 1, 1, 1), base_features=8)
        >>> shapes = jax.eval_shape(lambda key: init_variables(model, key),
        ...                         jax.random.key(0))
        >>> shapes['params']['box_head']['classes']['kernel'].shape
        (64, 3)
    """
    return model.init(key, example_batch(image_shape))


def example_batch(image_shape: tuple[int, int]) -> Mapping[str, Array]:
    """Returns what detection needs of a batch, of one black image.

    Example:
        >>> sorted(example_batch((32, 64)))
        ['image', 'image_size', 'original_size']
    """
    size = jnp.array([image_shape], jnp.int32)
    image = jnp.zeros((1, *image_shape, 3), jnp.float32)
    return {'image': image, 'image_size': size, 'original_size': size}
