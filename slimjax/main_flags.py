"""What the flags of `slimjax.main` must be together, before a run of days begins."""

import pathlib
from collections.abc import Mapping
from typing import Any

from slimjax.whole_file import check_output


def check_flags(given: Mapping[str, Any]) -> None:
    """Checks the flags of the command line that are not the config's.

    Args:
        given: `mode`, `workdir`, `json`, `topology`, `distributed`, `coordinator`,
            `processes` and `process`; None for what is not given.

    Raises:
        ValueError: names the flag, its value and what is allowed.

    Example:
        >>> import pytest
        >>> with pytest.raises(ValueError, match='--mode=eval needs --workdir=DIR'):
        ...     check_flags({'mode': 'eval', 'workdir': None})
    """
    mode, workdir, topology = (given.get(n) for n in ('mode', 'workdir', 'topology'))
    if mode != 'describe' and not workdir:
        raise ValueError(f'--mode={mode} needs --workdir=DIR')
    if mode != 'describe' and pathlib.Path(workdir).is_file():
        raise ValueError(f'--workdir={workdir} is a file; a folder is needed')
    if mode != 'describe' and topology:
        raise ValueError('--topology goes with --mode=describe: nothing runs there')
    if given.get('json'):
        if mode == 'calibrate':
            raise ValueError('--json goes with another mode: calibrate has no results')
        check_output('--json', given['json'])
    _check_processes(given)


def _check_processes(given: Mapping[str, Any]) -> None:
    coordinator, count, index = (
        given.get(name) for name in ('coordinator', 'processes', 'process')
    )
    if not (given.get('distributed') or coordinator):
        for name in ('processes', 'process'):
            if given.get(name) is not None:
                raise ValueError(
                    f'--{name}={given[name]} goes with --coordinator=HOST:PORT or '
                    '--distributed'
                )
    if coordinator and not coordinator.rpartition(':')[2].isdigit():
        raise ValueError(f'--coordinator={coordinator}: HOST:PORT is needed')
    if count is not None and count < 1:
        raise ValueError(f'--processes={count}: 1 or more is needed')
    if index is not None and (index < 0 or (count is not None and index >= count)):
        below = '' if count is None else f' to {count - 1}, with --processes={count}'
        raise ValueError(f'--process={index}: allowed is 0{below or " or more"}')
