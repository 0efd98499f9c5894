"""What a run asks of its devices and its machine, checked before it asks."""

import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax

from slimjax.insight.memory import format_bytes, physical_memory
from slimjax.train.state import abstract_variables


def check_batch(config: Mapping[str, Any]) -> None:
    """Checks that a batch can be cut as a config says.

    Args:
        config: a complete config, whose `batch_size` divides over the devices.

    Raises:
        ValueError: says which field, its value and what is allowed.

    Example:
        >>> check_batch({'batch_size': jax.device_count(), 'accumulate_steps': 1,
        ...              'norm_batch': 'device'})
    """
    part = config['batch_size'] // jax.device_count()
    parts = config['accumulate_steps']
    if part % parts:
        raise ValueError(
            f'config.accumulate_steps={parts} does not divide the {part} examples of '
            f'each device (batch_size={config["batch_size"]} on {jax.device_count()} '
            'devices)'
        )
    part //= parts
    group = config['norm_batch']
    whole = part * jax.device_count()
    if isinstance(group, int) and (
        whole % group or max(group, part) % min(group, part)
    ):
        raise ValueError(
            f'config.norm_batch={group} does not divide into batch_size='
            f'{config["batch_size"]}: each of {jax.device_count()} devices computes '
            f'{part} examples at a time; choose a divisor of {part}, or a multiple of '
            f'it that divides {whole}'
        )


def check_memory(
    config: Mapping[str, Any], model: nn.Module, image_shape: tuple[int, int, int]
) -> None:
    """Checks that this machine can hold what is made before the first step.

    Args:
        config: a complete config.
        model: its network.
        image_shape: height, width and channels of an image.

    Raises:
        ValueError: names the fields, what they ask for and what there is.

    Example:
        >>> import pytest, slimjax
        >>> config = {'batch_size': 10**15, 'eval_batch_size': 8, 'image_size': 32,
        ...           'num_classes': 10, 'detector': ''}
        >>> model = slimjax.create_model('resnet14')
        >>> with pytest.raises(ValueError, match='batch_size=1000000000000000 and '):
        ...     check_memory(config, model, (32, 32, 3))
    """
    needed = {}
    for name in ('batch_size', 'eval_batch_size'):
        share = config[name] // jax.process_count()
        fields = f'{name}={config[name]} and image_size={config["image_size"]}'
        needed[fields] = share * math.prod(image_shape)
    if not config['detector']:  # The size of a detector is that of its backbone.
        params, _ = abstract_variables(model.clone(axis_name=None), image_shape)
        fields = f'num_classes={config["num_classes"]}, widths and model_fields'
        needed[fields] = sum(
            leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(params)
        )
    for fields, size in needed.items():
        if size > physical_memory():
            raise ValueError(
                f'config.{fields} ask for {format_bytes(size)} of memory at the least; '
                f'this machine has {format_bytes(physical_memory())}'
            )
