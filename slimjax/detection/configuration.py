"""What a configuration says of a detector: its model, its data, and what is allowed."""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from slimjax.data.coco_format.formats import DetectionAugmentation, DetectionFormat
from slimjax.detection.create import create_model
from slimjax.detection.metrics import NAMES
from slimjax.detection.model import SlimmableRCNN
from slimjax.detection.settings import Settings, settings
from slimjax.models import create_model as create_classifier
from slimjax.models import model_fields
from slimjax.models.resnet import ResNet
from slimjax.train.schedule import UNITS
from slimjax.width import width_name

# What each detector is measured by, as COCO calls it.
KINDS = {
    'faster_rcnn': ('bbox',),
    'mask_rcnn': ('bbox', 'segm'),
    'keypoint_rcnn': ('bbox', 'keypoints'),
}
# What says the same as a setting, and what says it of a run.
_SAID_ELSEWHERE = {
    'learning_rate': 'learning_rate',
    'weight_decay': 'weight_decay',
    'clip_norm': 'clip_norm',
    'epochs': 'train_epochs',
    'decay_epochs': 'milestone_epochs',
    'warmup_steps': 'warmup_steps',
    'warmup_factor': 'warmup_factor',
}
# Fields of the backbone.
_OWN_FIELDS = ('base_features', 'stage_sizes', 'conv_form')
# Fields that say nothing to a detector, and so keep their defaults.
_OF_CLASSIFIERS = (
    *('channels', 'sandwich', 'frozen_width', 'norm', 'search_share', 'folds', 'fold'),
    *('image_size', 'image_channels', 'mean', 'std', 'crop_scale', 'crop_ratio'),
    *('pad', 'jitter', 'lighting', 'eval_resize', 'exif_rotation', 'bad_image_limit'),
    *('label_smoothing', 'label_smoothing_form', 'distill', 'teacher', 'reduce'),
    *('loss_weights', 'ema_decay', 'calibration', 'calibration_examples'),
    'calibration_transform',
)


class Reads(NamedTuple):
    """How a detector reads images, in training and in evaluation."""

    format: DetectionFormat
    augmentation: DetectionAugmentation


def detector_fields() -> tuple[str, ...]:
    """Returns the fields that `config.model_fields` may hold of a detector.

    Example:
        >>> 'buckets' in detector_fields(), 'learning_rate' in detector_fields()
        (True, False)
    """
    names = (field.name for field in dataclasses.fields(Settings))
    return (*_OWN_FIELDS, *(name for name in names if name not in _SAID_ELSEWHERE))


def default_of(config: Mapping[str, Any], name: str) -> Any:
    """Returns a field of a detector that `config.model_fields` does not state.

    Args:
        config: `detector`, `preset` and `model`.
        name: one of `detector_fields`.

    Raises:
        ValueError: there is no such field; says where it is, or lists them.

    Example:
        >>> config = {'detector': 'mask_rcnn', 'preset': 'tiny', 'model': 'resnet50'}
        >>> default_of(config, 'detections')
        20
    """
    check_detector_field(config, name)
    if name in _OWN_FIELDS:
        return getattr(_backbone(config), name)
    return getattr(settings(config['preset'], config['detector']), name)


def check_detector_field(config: Mapping[str, Any], name: str) -> None:
    """Refuses a name in `config.model_fields` that a detector does not have.

    Raises:
        ValueError: says where it is, or lists the names.
    """
    if name in _SAID_ELSEWHERE:
        raise ValueError(
            f'config.model_fields.{name}: config.{_SAID_ELSEWHERE[name]} says it'
        )
    if name not in detector_fields():
        raise ValueError(
            f'config.model_fields.{name}: {config["detector"]} has no such field; it '
            'has ' + ', '.join(sorted(detector_fields()))
        )


def build_detector(
    config: Mapping[str, Any], *, axis_name: str | None = None
) -> SlimmableRCNN:
    """Returns the detector that a complete config describes.

    Args:
        config: see `slimjax.config_fields`. `model` names the backbone, and
            `model_fields` may state any of `detector_fields` that is to differ from
            the preset.
        axis_name: the mapped axis of devices that it will run under, if any.

    Raises:
        ValueError: a field or value that is not allowed, or a width at which it has no
            channels; says so without having compiled anything.

    Example:
        >>> from slimjax.config import complete
        >>> build_detector(complete({'detector': 'mask_rcnn', 'preset': 'tiny',
        ...                          'widths': (0.5, 1.0)})).settings.detections
        20
    """
    stated = config['model_fields'].items()
    fields = {name: tuple(v) if isinstance(v, list) else v for name, v in stated}
    for name in fields:
        check_detector_field(config, name)
    backbone = _backbone(config)
    try:
        model = create_model(
            config['detector'],
            config['preset'],
            # The background is a class of the detector, and none of the data.
            num_classes=config['num_classes'] + 1,
            num_keypoints=config['num_keypoints'],
            widths=tuple(config['widths']) or backbone.widths,
            norm_batch=config['norm_batch'],
            dtype=jnp.dtype(config['dtype']),
            param_dtype=jnp.dtype(config['param_dtype']),
            **{name: getattr(backbone, name) for name in _OWN_FIELDS} | fields,
        )
        # The backbone alone depends on the width, and lacks channels at the narrowest.
        maps = partial(model.init, width=min(model.widths), method='maps')
        images = jnp.zeros((1, 64, 64, 3), jnp.float32)
        jax.eval_shape(maps, jax.random.key(0), images)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f'config: {config["detector"]} of {config["model"]} cannot be built: '
            f'{error}'
        ) from error
    return model.clone(axis_name=axis_name)


def _backbone(config: Mapping[str, Any]) -> ResNet:
    name = config['model']
    if 'stride_on_1x1' not in model_fields(name):
        raise ValueError(
            f'config.model={name!r}: the backbone of a detector is a ResNet, such as '
            "'resnet50'"
        )
    model = create_classifier(name)
    if not all(isinstance(width, float) for width in model.widths):
        raise ValueError(
            f'config.model={name!r}: the backbone of a detector has multipliers as '
            "widths, as 'resnet50' has"
        )
    return model


def reads_of(config: Mapping[str, Any], options: Settings) -> Reads:
    """Returns how a detector reads images.

    The convention of boxes is the model's own affair: it takes edges, and returns such.

    Args:
        config: a complete config.
        options: settings of its model.

    Example:
        >>> from slimjax.config import complete
        >>> config = complete({'detector': 'mask_rcnn', 'flip': False})
        >>> reads_of(config, settings('tiny', 'mask_rcnn')).format.short_side
        128
    """
    bgr = options.channel_order == 'bgr'
    mean, std = options.image_mean, options.image_std
    return Reads(
        DetectionFormat(
            buckets=tuple(map(tuple, options.buckets)),
            short_side=options.test_short_side,
            long_side=options.longest_side,
            # The pipeline wants them for red, green, blue in any case.
            mean=tuple(mean[::-1] if bgr else mean),
            std=tuple(std[::-1] if bgr else std),
            bgr=bgr,
            masks=config['detector'] == 'mask_rcnn',
            keypoints=config['detector'] == 'keypoint_rcnn',
            max_boxes=options.max_boxes,
            too_many=config['too_many_boxes'],
            min_box_side=config['min_box_side'],
            keypoint_offset=options.keypoint_shift,
        ),
        DetectionAugmentation(tuple(options.train_short_sides), config['flip']),
    )


def check_detector(config: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Checks the config of a detector each of whose fields is right by itself.

    Args:
        config: a complete config.
        defaults: of all fields.

    Raises:
        ValueError: says which field, its value and what is allowed.
    """
    for name in _OF_CLASSIFIERS:
        if config[name] != defaults[name]:
            raise ValueError(
                f'config.{name}={config[name]!r} says nothing to '
                f'detector={config["detector"]!r}: allowed is {defaults[name]!r}'
            )
    if config['dataset'] != 'coco':
        raise ValueError(
            f'config.dataset={config["dataset"]!r}: with detector='
            f"{config['detector']!r}, allowed is 'coco': any data set that "
            'scripts/prepare_coco.py has prepared in data_dir'
        )
    if config['batch_size'] % config['accumulate_steps']:
        raise ValueError(
            f'config.accumulate_steps={config["accumulate_steps"]} does not divide '
            f'batch_size={config["batch_size"]}'
        )
    if config['schedule'] == 'multistep' and not any(
        config[f'milestone_{unit}'] for unit in UNITS
    ):
        raise ValueError(
            "config.schedule='multistep' needs milestone_epochs, milestone_steps or "
            'milestone_examples'
        )
    model = build_detector(config)
    if config['paste'] == 'published' and not model.settings.legacy:
        raise ValueError(
            f"config.paste='published' is of boxes that end at their last pixel, which "
            f"preset={config['preset']!r} has not: allowed are 'detectron2' and "
            "'torchvision'"
        )
    if config['min_box_side'] < 1 and model.settings.legacy:
        raise ValueError(
            f'config.min_box_side={config["min_box_side"]} with preset='
            f'{config["preset"]!r}, whose boxes end at their last pixel: allowed is 1 '
            'and more'
        )
    allowed = [
        f'{kind}/{name}' for kind in KINDS[config['detector']] for name in NAMES[kind]
    ]
    metric, width = split_metric(config['best_metric'])
    widths = ['', *map(width_name, model.widths)]
    if metric not in allowed or width not in widths:
        raise ValueError(
            f'config.best_metric={config["best_metric"]!r}: allowed are '
            f"{', '.join(allowed)} (mean over widths), or one width's, such as "
            f'bbox/AP/{widths[1]}'
        )


def split_metric(name: str) -> tuple[str, str]:
    """Returns the metric, and the width or '', of a `best_metric`.

    Example:
        >>> split_metric('bbox/AP'), split_metric('segm/AP50/0.25')
        (('bbox/AP', ''), ('segm/AP50', '0.25'))
    """
    kind, _, rest = name.partition('/')
    metric, _, width = rest.partition('/')
    return f'{kind}/{metric}', width
