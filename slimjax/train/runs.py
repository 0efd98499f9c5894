"""Which run a config describes: of a classifier, or of a detector."""

import pathlib
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import ml_collections

from slimjax.data.coco_format.layout import split_folder
from slimjax.detection.run import DetectionRun, first_bucket
from slimjax.train.agreement import check_agreement
from slimjax.train.run import Run


def make_run(config: ml_collections.ConfigDict) -> Run:
    """Returns the run that a complete config describes.

    Raises:
        ValueError: a config that cannot run, before anything is compiled, or another
            one than that of another process.
    """
    check_agreement(config)
    return DetectionRun(config) if config.detector else Run(config)


def image_shape(config: Mapping[str, Any], model: nn.Module) -> tuple[int, int, int]:
    """Returns height, width and channels of the images that costs are counted of.

    Args:
        config: a complete config.
        model: its network.

    Example:
        >>> from slimjax.config import complete
        >>> from slimjax.models import create_model
        >>> image_shape(complete({'image_size': 32}), create_model('resnet14'))
        (32, 32, 3)
    """
    if config['detector']:
        return first_bucket(model.settings)
    size = config['image_size']
    return size, size, config['image_channels']


def final_split(config: Mapping[str, Any]) -> str:
    """Returns the split that the best checkpoint is evaluated on at the end.

    That is `'test'`, or `'validation'` of a detection set without, as COCO is: nobody
    has its test annotations.

    Args:
        config: a complete config.

    Example:
        >>> from slimjax.config import complete
        >>> final_split(complete({})), final_split(complete(
        ...     {'detector': 'mask_rcnn', 'data_dir': '/nowhere'}))
        ('test', 'validation')
    """
    prepared = pathlib.Path(split_folder(config['data_dir'], 'test')).is_dir()
    return 'validation' if config['detector'] and not prepared else 'test'
