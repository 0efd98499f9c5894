"""The network that a config describes, refused where it cannot be built."""

import functools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax.numpy as jnp

from slimjax.config import model_options
from slimjax.detection.configuration import build_detector
from slimjax.detection.model import SlimmableRCNN
from slimjax.insight.cost import cost_results
from slimjax.models import SlimmableClassifier, create_model
from slimjax.models.slim_layers import slim_layers
from slimjax.width import ChannelTable, Width, width_name


def build_model(
    config: Mapping[str, Any], *, axis_name: str | None = None
) -> SlimmableClassifier | SlimmableRCNN:
    """Returns the network that a complete config describes.

    Args:
        config: see `slimjax.config_fields`.
        axis_name: the mapped axis of devices that it will run under, if any.

    Raises:
        ValueError: a width at which the network has no channels, for example; says so
            without having compiled anything.

    Example:
        >>> from slimjax.config import complete
        >>> build_model(complete({'model': 'resnet14', 'widths': (0.5, 1.0)})).widths
        (0.5, 1.0)
    """
    if config['detector']:
        return build_detector(config, axis_name=axis_name)
    model = create_model(
        config['model'],
        num_classes=config['num_classes'],
        **model_options(config),
        norm_batch=config['norm_batch'],
        dtype=jnp.dtype(config['dtype']),
        param_dtype=jnp.dtype(config['param_dtype']),
        axis_name=axis_name,
        **{name: _plain(value) for name, value in config['model_fields'].items()},
    )
    size = config['image_size']
    shape = size, size, config['image_channels']
    try:
        layers = slim_layers(model, shape)
        network_costs(model.clone(axis_name=None), shape)
        _check_tables(model.widths, layers)
        if model.norm == 'private':
            _check_distinct(model.widths, layers)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f'config: {config["model"]} cannot be built at widths '
            f'{tuple(map(width_name, model.widths))} for images of {size} px: {error}'
        ) from error
    return model


# As many as a comparison has networks, each of which is built again for every seed.
@functools.lru_cache(maxsize=64)
def network_costs(
    model: SlimmableClassifier | SlimmableRCNN, image_shape: tuple[int, int, int]
) -> dict[str, Any]:
    """Returns what `cost_results` does, traced once for a network that is asked again.

    Every width is traced, so that one which cannot be built is found.

    Args:
        model: not under a mapped axis.
        image_shape: height and width in pixels, and channels.

    Raises:
        TypeError: a width at which the network cannot be built.
        ValueError: the same.

    Example:
        >>> from slimjax.config import complete
        >>> model = build_model(complete({'model': 'resnet14', 'image_size': 32}))
        >>> costs = network_costs(model, (32, 32, 3))
        >>> costs is network_costs(model, (32, 32, 3))
        True
    """
    return cost_results(model, image_shape)


def _check_tables(widths: Sequence[Width], layers: Collection[str]) -> None:
    """Refuses channel tables of another network, some of whose layers nobody asks for.

    Such is the tail of MobileNet v2, where it is not slim.
    """
    for width in widths:
        channels = width.channels if isinstance(width, ChannelTable) else ()
        unused = [path for path, _ in channels if path not in layers]
        if unused:
            raise ValueError(
                f'channel table {width.name!r} states {unused[0]!r}, and the network '
                'has no such layer whose channels change'
            )


def _check_distinct(widths: Sequence[Width], layers: Mapping[str, Any]) -> None:
    """Refuses two multipliers that are one network, and would be trained twice."""
    known = {}
    for width in widths if isinstance(widths[0], float) else ():
        channels = tuple(layer.output_channels(width) for layer in layers.values())
        other = known.setdefault(channels, width)
        if other is not width:
            raise ValueError(
                f'widths {width_name(other)} and {width_name(width)} have the same '
                'channels in every layer; take one of them away'
            )


def _plain(value):
    return tuple(value) if isinstance(value, list) else value
