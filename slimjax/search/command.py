"""From a workdir to a file of channel tables."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from slimjax.commands import write_json
from slimjax.search.greedy import Found
from slimjax.search.run import Search, Settings
from slimjax.search.targets import parse_targets
from slimjax.train import report
from slimjax.whole_file import check_output


def search_workdir(
    workdir: str | pathlib.Path,
    targets: str,
    output: str | pathlib.Path,
    settings: Settings,
    *,
    changes: Sequence[str] = (),
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Searches the channels of every layer, and writes them as channel tables.

    Args:
        workdir: of a universally slimmable network trained with `search_share`.
        targets: see `slimjax.search.targets`.
        output: a JSON file, new.
        settings: how it goes; `Settings()` is usual.
        changes: `--config.FIELD=VALUE`, each, such as another `data_dir`.
        say: prints a line for a person.

    Returns:
        What the file holds: `tables`, named `'1'`, `'2'`, ... from the smallest, each
        with `macs`, `params`, `loss`, `error` and `channels`; how they were found; and
        the `trail` that led to them.

    Raises:
        FileNotFoundError: there is no checkpoint, or no data.
        ValueError: a network, data or targets that cannot be searched with, or the
            output exists, or its folder does not.
    """
    output = pathlib.Path(output)
    if output.exists():
        raise ValueError(f'{output} exists: remove it, or choose another --output')
    check_output('--output', output)
    parse_targets(targets, settings.cost, 1.0)  # Refused before anything is measured.
    search = Search(workdir, settings, changes, say)
    limits = parse_targets(targets, settings.cost, search.unit)
    say(search.line())
    found, trail = search.trail(limits, say)
    results = {
        'tables': {
            str(number + 1): _table(search, each, str(number + 1))
            for number, each in enumerate(reversed(found))
        },
        'search': {
            **dataclasses.asdict(settings),
            'targets': targets,
            'images': search.evaluator.images,
            'workdir': str(workdir),
            'model': search.trained.run.config.model,
            'step': search.trained.meta['step'],
            'git_commit': report.git_commit(),
            'versions': report.versions(),
        },
        'trail': [
            {
                'macs': int(search.space.macs(each.counts)),
                'params': int(search.space.params(each.counts)),
                'loss': each.loss,
                'error': each.error,
            }
            for each in trail
        ],
    }
    write_json(output, results)
    for name, table in reversed(results['tables'].items()):
        say(
            f'{name}: {table["macs"]:,} MACs, {table["params"]:,} parameters, loss '
            f'{table["loss"]:.4f}, error {100 * table["error"]:.2f} %'
        )
    say(f'{output}: train them by --config.channels={output} "--config.widths=()"')
    return results


def _table(search: Search, found: Found, name: str) -> dict[str, Any]:
    table = search.space.table(found.counts, name)
    cost = {}
    if search.settings.cost == 'latency':
        cost['latency_ms_estimated'] = 1000 * float(search.cost(found.counts))
    return {
        'macs': table.macs,
        'params': int(search.space.params(found.counts)),
        **cost,
        'loss': found.loss,
        'error': found.error,
        'channels': dict(table.channels),
    }
