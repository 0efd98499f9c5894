"""Reading a config file, and making ready for what the command line changes in it."""

import importlib.machinery
import importlib.util
import inspect
import pathlib
import traceback
from collections.abc import Mapping
from typing import Any

import ml_collections
from absl import flags
from ml_collections import config_flags

from slimjax.config import complete, state_model_field, unknown_field
from slimjax.config_fields import FIELDS

_FLAG = '--config.'


def load_config(argument: str) -> ml_collections.ConfigDict:
    """Returns the complete config of `FILE` or `FILE:RECIPE`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no config file, has no such recipe, or sets a field that does
            not exist; where its own code fails, the message names the line.
    """
    path, _, recipe = argument.partition(':')
    if not pathlib.Path(path).is_file():
        raise FileNotFoundError(f'--config={argument}: there is no file {path!r}')
    try:
        return complete(_get_config(path, recipe))
    except ValueError:  # As its message for people.
        raise
    except Exception as error:
        # Whatever else the code of a file leads to.
        raise ValueError(
            f'--config={argument}: {_line(error, path)}{type(error).__name__}: {error}'
        ) from error


def _get_config(path: str, recipe: str) -> Mapping[str, Any]:
    loader = importlib.machinery.SourceFileLoader('config', path)
    module = importlib.util.module_from_spec(
        importlib.util.spec_from_loader('config', loader)
    )
    loader.exec_module(module)
    if not hasattr(module, 'get_config'):
        raise ValueError(f'--config={path}: it has no function get_config()')
    if recipe and not inspect.signature(module.get_config).parameters:
        raise ValueError(f'--config={path}:{recipe}: it has no recipes; drop :{recipe}')
    found = module.get_config(*([recipe] if recipe else []))
    if not isinstance(found, Mapping | ml_collections.ConfigDict):
        raise ValueError(
            f'--config={path}: get_config() returned {type(found).__name__}; a '
            'ConfigDict is needed'
        )
    return found


def _line(error: Exception, path: str) -> str:
    """Where in the file an error was raised."""
    if isinstance(error, SyntaxError):
        return f'line {error.lineno}: '
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == path]
    return f'line {lines[-1]}: ' if lines else ''


def expect_changes(config: ml_collections.ConfigDict, arguments: list[str]) -> None:
    """Sees that `config` has every field that `--config.FIELD=VALUE` will change.

    The fields of the model that it does not state get their defaults.

    Raises:
        ValueError: there is no such field; the message names the nearest.

    Example:
        >>> config = complete({'model': 'resnet14'})
        >>> expect_changes(config, ['--config.model_fields.small_images=True'])
        >>> config.model_fields.small_images
        False
    """
    flags = [arg.removeprefix(_FLAG) for arg in arguments if arg.startswith(_FLAG)]
    changes = [flag.partition('=')[::2] for flag in flags]
    names = ('model', 'detector', 'preset')
    chosen = {name: dict(changes).get(name, config[name]) for name in names}
    for name, _ in changes:
        first, _, rest = name.partition('.')
        if first not in FIELDS or (rest and first != 'model_fields'):
            raise ValueError(unknown_field(name))
        if first == 'model_fields':
            state_model_field(config, chosen, rest)


def change(config: ml_collections.ConfigDict, changes: list[str]) -> None:
    """Changes a complete config in place.

    Args:
        config: a complete config.
        changes: `--config.FIELD=VALUE`, each.

    Raises:
        ValueError: a change that is none, a field that does not exist, or a value of
            another type.

    Example:
        >>> config = complete({})
        >>> change(config, ['--config.seed=3', '--config.widths=(0.5,1.0)'])
        >>> config.seed, config.widths
        (3, (0.5, 1.0))
    """
    other = [each for each in changes if not each.startswith(_FLAG) or '=' not in each]
    if other:
        raise ValueError(f'{other[0]!r} is not understood: {_FLAG}FIELD=VALUE is')
    expect_changes(config, changes)
    # Flags of its own: the program's are not the library's to touch.
    values = flags.FlagValues()
    arguments = ['', *changes]
    config_flags.DEFINE_config_dict(
        'config', config, flag_values=values, sys_argv=arguments
    )
    try:
        values(arguments)
    except flags.Error as error:
        raise ValueError(str(error)) from None
