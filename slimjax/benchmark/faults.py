"""The table of injected faults, from what `make torture` writes."""

from collections.abc import Mapping
from typing import Any

from slimjax.insight.table import markdown


def faults_markdown(results: Mapping[str, Any]) -> str:
    """Returns a table of the faults of each part, and a line of where it ran.

    Args:
        results: the contents of `results/torture.json`.

    Example:
        >>> faults = {'kill -9': {'injected': 50, 'survived': 49, 'lost': ['metrics']}}
        >>> part = {'command': 'make torture SEED=0', 'minutes': 3, 'faults': faults,
        ...         'git_commit': 'a' * 40, 'device': 'cpu', 'date': '2026-01-01'}
        >>> print(faults_markdown({'parts': {'crash': part}}))
        | part  |   fault | injected | survived | lost |
        | ----- | ------: | -------: | -------: | ---: |
        | crash | kill -9 |       50 |       49 |    1 |
        <BLANKLINE>
        - crash: `make torture SEED=0`, 3 minutes at aaaaaaa on cpu, 2026-01-01
    """
    rows = [['part', 'fault', 'injected', 'survived', 'lost']]
    sources = []
    for name, part in results['parts'].items():
        for fault, counts in part['faults'].items():
            numbers = counts['injected'], counts['survived'], len(counts['lost'])
            rows.append([name, fault, *map(str, numbers)])
        sources.append(
            f'- {name}: `{part["command"]}`, {part["minutes"]} minutes at '
            f'{part["git_commit"][:7]} on {part["device"]}, {part["date"]}'
        )
    return '\n'.join([markdown(rows), '', *sources])
