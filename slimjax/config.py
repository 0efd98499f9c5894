"""Configurations: completed by the defaults, and checked whole.

A config file sets those fields that its recipe decides; `complete` adds the rest, and
`check` refuses a bad value before anything is compiled.
"""

import contextlib
import difflib
import math
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import ml_collections

from slimjax.channel_file import load_channels
from slimjax.config_check import check_together
from slimjax.config_fields import FIELDS, Field
from slimjax.detection.configuration import (
    check_detector,
    check_detector_field,
    default_of,
)
from slimjax.models import (
    SlimmableClassifier,
    create_model,
    model_fields,
)
from slimjax.train.schedule import UNITS, given_unit
from slimjax.width import ChannelTable, resolve


def complete(config: Mapping[str, Any]) -> ml_collections.ConfigDict:
    """Returns `config` with the default of every field that it does not set.

    A duration that the config states in one unit loses its default in another.

    Raises:
        ValueError: a field that does not exist; the message names the nearest.

    Example:
        >>> complete({'train_steps': 10}).train_epochs
        0.0
    """
    full = ml_collections.ConfigDict()
    for name in config:
        if name not in FIELDS:
            raise ValueError(unknown_field(name))
    for name, field in FIELDS.items():
        default = field.default
        stem, _, unit = name.rpartition('_')
        if unit in UNITS and any(f'{stem}_{other}' in config for other in UNITS):
            default = type(default)()
        value = config.get(name, default)
        if isinstance(default, float) and type(value) is int:
            value = float(value)
        if isinstance(default, dict):
            value = ml_collections.ConfigDict(dict(value))
        if name == 'norm_batch':
            # 'device' or 40: the command line must not hold it to one type.
            full.norm_batch = ml_collections.config_dict.placeholder(object)
        full[name] = value
    return full


def state_model_field(
    config: ml_collections.ConfigDict, chosen: Mapping[str, Any], name: str
) -> None:
    """Gives `config.model_fields` the model's default of a field that it lacks.

    The command line can change only what a config states.

    Args:
        config: a complete config.
        chosen: `model`, `detector` and `preset`, which the command line may change too.
        name: of the field.

    Raises:
        ValueError: the model has no such field; the message lists them.

    Example:
        >>> config = complete({'model': 'resnet14'})
        >>> state_model_field(config, config, 'small_images')
        >>> config.model_fields.small_images
        False
    """
    _check_model_field(chosen, name)
    if name in config.model_fields:
        return
    model = chosen['model']
    config.model_fields[name] = (
        default_of(chosen, name)
        if chosen['detector']
        else getattr(create_model(model), name)
    )


def _check_model_field(config: Mapping[str, Any], name: str) -> None:
    if config['detector']:
        return check_detector_field(config, name)
    model = config['model']
    known = set(model_fields(model)) - set(FIELDS) - {'axis_name'}
    if name not in known:
        raise ValueError(
            f'config.model_fields.{name}: {model} has no such field; it has '
            + ', '.join(sorted(known))
        )


# What published configs call it; there, `soft_target` is read by nothing.
_ELSEWHERE = {'soft_target': 'distill', 'inplace_distill': 'distill'}


def unknown_field(name: str) -> str:
    """Returns the message about a field that does not exist.

    Example:
        >>> unknown_field('learning_rat')
        "config.learning_rat: there is no such field; did you mean 'learning_rate'?"
    """
    near = difflib.get_close_matches(name, FIELDS, n=1)
    if name in _ELSEWHERE:
        near = [_ELSEWHERE[name]]
    hint = f'; did you mean {near[0]!r}?' if near else ''
    return f'config.{name}: there is no such field{hint}'


def check(config: ml_collections.ConfigDict) -> None:
    """Checks a complete config, each field by itself and all together.

    Raises:
        ValueError: says which field, its value and what is allowed.

    Example:
        >>> check(complete({'model': 'resnet14', 'momentum': 0.5}))
    """
    for name, field in FIELDS.items():
        _check_field(name, config[name], field)
    for name in ('dtype', 'param_dtype'):
        if config[name] == 'float64' and not jax.config.jax_enable_x64:
            raise ValueError(
                f"config.{name}='float64': jax computes in float32 unless "
                'JAX_ENABLE_X64=1 is in the environment, or jax_enable_x64 is on'
            )
    try:
        for name in ('train', 'warmup', 'eval', 'checkpoint', 'log'):
            given_unit(config, name)
        given_unit(config, 'milestone', empty=())
        if not given_unit(config, 'train')[0]:
            raise ValueError(
                'train_epochs, train_steps and train_examples are 0; state one of them'
            )
    except ValueError as error:
        raise ValueError(f'config: {error}') from None
    for name in config.model_fields:
        _check_model_field(config, name)
    if config.detector:
        check_detector(config, {name: each.default for name, each in FIELDS.items()})
    else:
        check_together(config, _model(config))


@contextlib.contextmanager
def about_field(config: Mapping[str, Any], name: str) -> Iterator[None]:
    """Tells of an error in what a field names that the field is what to change.

    Example:
        >>> with about_field({'teacher': 'runs/a'}, 'teacher'):
        ...     raise FileNotFoundError('runs/a holds no checkpoint')
        Traceback (most recent call last):
        ValueError: config.teacher='runs/a': runs/a holds no checkpoint
    """
    try:
        yield
    except (OSError, ValueError) as error:
        raise ValueError(f'config.{name}={config[name]!r}: {error}') from None


def model_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the widths and the norm that a config states, as the model's fields.

    What it leaves to the model is not there.

    Example:
        >>> model_options({'widths': (0.5, 1.0), 'channels': '', 'norm': 'own'})
        {'widths': (0.5, 1.0)}
    """
    options = {}
    if config['channels']:
        options['widths'] = _tables(config)
    elif config['widths']:
        options['widths'] = tuple(config['widths'])
    if config['norm'] != 'own':
        options['norm'] = config['norm']
    return options


def _tables(config: Mapping[str, Any]) -> tuple[ChannelTable, ...]:
    """Those of the file, or those of them that `widths` names."""
    tables, names = load_channels(config['channels']), config['widths']
    if not all(isinstance(name, str) for name in names):
        raise ValueError(
            f'widths={names}: with channels={config["channels"]!r}, allowed are names '
            'of its tables, or () for all of them'
        )
    return tuple(resolve(name, tables) for name in names) or tables


def _model(config: Mapping[str, Any]) -> SlimmableClassifier:
    options = model_options(config)
    try:
        return create_model(config['model'], **options)
    except ValueError as error:
        raise ValueError(f'config.widths: {error}') from None


def _check_field(name: str, value: Any, field: Field) -> None:
    kind = type(field.default)
    if isinstance(value, list):
        raise ValueError(f'config.{name}={value}: use a tuple, not a list')
    fits = isinstance(value, kind) or name == 'norm_batch'
    if kind in (int, float):
        fits = type(value) in (int, float) if kind is float else type(value) is int
        if fits and not math.isfinite(value):
            raise ValueError(f'config.{name}={value}: a finite number is needed')
    elif kind is dict:
        fits = isinstance(value, ml_collections.ConfigDict)
    if not fits:
        raise ValueError(
            f'config.{name}={value!r}: {kind.__name__} expected, as in '
            f'{field.default!r}'
        )
    if not field.is_allowed(value):
        raise ValueError(f'config.{name}={value!r}: allowed is {field.allowed}')
