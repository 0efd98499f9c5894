"""Channel tables in a file: what a search found, and configs name as their widths."""

import json
import os
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import ml_collections

from slimjax.json_file import parse_json
from slimjax.width import ChannelTable, widest_first


def load_channels(source: str | os.PathLike) -> tuple[ChannelTable, ...]:
    """Returns the channel tables of a file, the widest first.

    Args:
        source: its path, or what stands in it: `{"tables": {"1": {"macs": 9000,
            "channels": {"stem/conv": 8, ...}}, ...}}`, of which further keys are not
            looked at.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds something else.

    Example:
        >>> text = '{"tables": {"1": {"macs": 9000, "channels": {"stem/conv": 8}}}}'
        >>> load_channels(text)
        (ChannelTable(name='1', channels=(('stem/conv', 8),), macs=9000),)
    """
    where, text = 'config.channels', source
    if not str(source).lstrip().startswith('{'):
        where = str(source)
        if not pathlib.Path(source).is_file():
            raise FileNotFoundError(f'config.channels={where!r}: there is no such file')
        text = pathlib.Path(source).read_text(encoding='utf-8', errors='replace')
    try:
        tables = parse_json(text)['tables'].items()
        return widest_first([_table(name, own) for name, own in tables])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f'{where} holds no channel tables: {error!r}') from None


def _table(name: str, own: Mapping[str, Any]) -> ChannelTable:
    numbers = [*own['channels'].values(), own['macs']]
    if any(type(number) is not int for number in numbers):
        raise ValueError(f'table {name!r} has a number that is not whole')
    return ChannelTable(name, tuple(own['channels'].items()), own['macs'])


def channels_text(tables: Iterable[ChannelTable]) -> str:
    """Returns channel tables as `load_channels` takes them.

    Example:
        >>> table = ChannelTable('1', (('stem/conv', 8),), macs=9000)
        >>> load_channels(channels_text([table])) == (table,)
        True
    """
    return json.dumps(
        {
            'tables': {
                table.name: {'macs': table.macs, 'channels': dict(table.channels)}
                for table in tables
            }
        }
    )


def with_channels(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """Returns a config whose `channels` are the tables themselves, not their file.

    So a run is the same wherever it is opened, and whatever becomes of the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no channel tables.

    Example:
        >>> with_channels(ml_collections.ConfigDict({'channels': ''})).channels
        ''
    """
    if not config.channels:
        return config
    config = config.copy_and_resolve_references()
    config.channels = channels_text(load_channels(config.channels))
    return config
