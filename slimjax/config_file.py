"""Reading a config file, and making ready for what the command line changes in it."""

import importlib.util
import pathlib

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
        ValueError: it sets a field that does not exist.
    """
    path, _, recipe = argument.partition(':')
    if not pathlib.Path(path).is_file():
        raise FileNotFoundError(f'--config={argument}: there is no file {path!r}')
    spec = importlib.util.spec_from_file_location('config', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return complete(module.get_config(*([recipe] if recipe else [])))


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
        if first not in FIELDS:
            raise ValueError(unknown_field(first))
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
