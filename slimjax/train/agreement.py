"""Several processes of one run must run the same thing, or wait for one another."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from slimjax.train import report

# Where the data of a host lie, and how it reads them, is its own affair.
_OF_HOSTS = ('data_dir', 'num_workers', 'num_threads')
_MOST_BYTES = 2**16


def check_agreement(config: Mapping[str, Any]) -> None:
    """Checks that all processes have one config and the same versions.

    All processes must call it; it costs an exchange of 64 KiB.

    Args:
        config: of this process.

    Raises:
        ValueError: in all processes; says who differs, and where.

    Example:
        >>> check_agreement({'seed': 0})  # A process alone agrees with itself.
    """
    if jax.process_count() == 1:
        return
    text = json.dumps(_facts(config)).encode()
    if len(text) > _MOST_BYTES:
        raise ValueError(
            f'a config of {len(text)} bytes; {_MOST_BYTES} can be compared'
        )
    padded = np.frombuffer(text.ljust(_MOST_BYTES), np.uint8)
    texts = multihost_utils.process_allgather(padded)
    check_same([json.loads(row.tobytes()) for row in np.asarray(texts)])


def _facts(config: Mapping[str, Any]) -> dict[str, Any]:
    fields = report.jsonable(config)
    own = {f'config.{k}': v for k, v in fields.items() if k not in _OF_HOSTS}
    versions = {f'version of {k}': v for k, v in report.versions().items()}
    return {**own, **versions, 'commit of slimjax': report.git_commit()}


def check_same(facts: Sequence[Mapping[str, Any]]) -> None:
    """Checks that all processes say the same.

    Args:
        facts: of each process, by its number.

    Raises:
        ValueError: names the first process that differs, and all that does.

    Example:
        >>> import pytest
        >>> with pytest.raises(ValueError, match='config.seed=1; process 0 has 0'):
        ...     check_same([{'config.seed': 0}, {'config.seed': 1}])
    """
    first = facts[0]
    for number, other in enumerate(facts):
        names = [n for n in {**first, **other} if first.get(n) != other.get(n)]
        if names:
            differences = ', '.join(
                f'{name}={other.get(name)}; process 0 has {first.get(name)}'
                for name in names
            )
            raise ValueError(
                f'process {number} of {len(facts)} has {differences}: run the same '
                'command and the same versions everywhere'
            )
