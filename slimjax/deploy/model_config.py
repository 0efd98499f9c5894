"""A model as JSON, and back."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from slimjax.models import MODELS, SlimmableClassifier, create_model, model_fields
from slimjax.width import ChannelTable, Width

# What only the code around a model decides: the mapped axis, and how it computes.
_NOT_KEPT = ('parent', 'name', 'axis_name', 'conv_form')
_DTYPES = ('dtype', 'param_dtype')


def model_to_json(model: SlimmableClassifier) -> dict[str, Any]:
    """Returns a model's name and its fields as JSON has them.

    Args:
        model: of one of slimjax's families.

    Raises:
        ValueError: a class of the user's own, which no name would find again.

    Example:
        >>> model_to_json(create_model('resnet26', widths=(0.5, 1.0)))['model']
        'resnet26'
    """
    values = {
        field.name: getattr(model, field.name)
        for field in dataclasses.fields(model)
        if field.name not in _NOT_KEPT
    }
    names = [
        name
        for name, make in MODELS.items()
        if getattr(make, 'func', make) is type(model)
    ]
    if not names:
        raise ValueError(
            f'{type(model).__name__} is none of the models of slimjax.create_model, so '
            'that its fields alone would not make it again'
        )

    def differing(name):
        own = getattr(MODELS[name], 'keywords', {})
        return sum(values[field] != value for field, value in own.items())

    # The fields would make the model under any of the names; the nearest tells most.
    name = min(names, key=differing)
    fields = {field: _to_json(field, value) for field, value in values.items()}
    return {'model': name, 'fields': fields}


def model_from_json(held: Mapping[str, Any]) -> SlimmableClassifier:
    """Returns the model that `model_to_json` described.

    Raises:
        ValueError: an unknown model or field, or a value of another type.

    Example:
        >>> held = model_to_json(create_model('resnet26', widths=(0.5, 1.0)))
        >>> model_from_json(held) == create_model('resnet26', widths=(0.5, 1.0))
        True
    """
    name, fields = held.get('model'), held.get('fields')
    if not isinstance(name, str) or not isinstance(fields, Mapping):
        raise ValueError('"model" is no name, or "fields" no object')
    if name not in MODELS:
        raise ValueError(f'"model" is {name!r}; the models are {", ".join(MODELS)}')
    default = MODELS[name]()
    values = {}
    for field, value in fields.items():
        if field in _NOT_KEPT or field not in model_fields(name):
            raise ValueError(f'"fields": {name} has no field {field!r}')
        values[field] = _from_json(field, value, getattr(default, field))
    return create_model(name, **values)


def _to_json(field: str, value: Any) -> Any:
    if field in _DTYPES:
        return jnp.dtype(value).name
    if field == 'widths':
        return [_width_to_json(width) for width in value]
    return list(value) if isinstance(value, tuple) else value


def _width_to_json(width: Width) -> Any:
    if isinstance(width, ChannelTable):
        return {
            'name': width.name,
            'macs': width.macs,
            'channels': dict(width.channels),
        }
    return float(width)


def _from_json(field: str, value: Any, default: Any) -> Any:
    try:
        if field in _DTYPES:
            dtype = jnp.dtype(value)
            if not jnp.issubdtype(dtype, np.floating):
                raise TypeError
            return dtype
        if field == 'widths':
            return tuple(_width_from_json(width) for width in value)
        if isinstance(default, tuple):
            return tuple(int(each) for each in value)
        # norm_batch is a name or a number.
        allowed = (str, int) if field == 'norm_batch' else type(default)
        if not isinstance(value, allowed):
            raise TypeError
    except (KeyError, TypeError, AttributeError):
        raise ValueError(f'"fields": {field} cannot be {value!r}') from None
    return value


def _width_from_json(value: Any) -> Width:
    if isinstance(value, Mapping):
        channels = tuple(value['channels'].items())
        return ChannelTable(value['name'], channels, macs=value['macs'])
    return value
