"""Whether a checkpoint is one of the run that would go on from it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from slimjax.config_fields import FIELDS, FREE_FIELDS
from slimjax.train import report

if TYPE_CHECKING:
    from slimjax.train.run import Run


def check_resumable(run: 'Run', meta: Mapping[str, Any]) -> None:
    """Checks that a checkpoint is one of `run`.

    Args:
        run: what would go on.
        meta: of the checkpoint.

    Raises:
        ValueError: its config or data differ; the message shows where.
    """
    if 'weights_from' in meta:
        raise ValueError(
            f'the workdir holds the weights of {meta["weights_from"]}, not a run: '
            'take another --workdir, and start from them with config.init_from'
        )
    changed = changed_fields(run.config, meta['config'])
    if changed:
        raise ValueError(
            'the workdir holds a run of another config ('
            + '; '.join(changed)
            + '): take another --workdir, or start from it with config.init_from'
        )
    if meta['data'] != run.fingerprint:
        raise ValueError(
            f'the data of {run.config.dataset} are not those that the workdir was '
            f'trained on ({_changed_data(run, meta)}): the run cannot be resumed '
            'exactly; take another --workdir'
        )


def _changed_data(run: 'Run', meta: Mapping[str, Any]) -> str:
    now = run.meta
    if meta['class_names'] != now['class_names']:
        there, here = set(meta['class_names']), set(now['class_names'])
        return f'classes gone: {sorted(there - here)}, new: {sorted(here - there)}'
    if meta.get('examples', now['examples']) != now['examples']:
        return f'{meta["examples"]} examples there, {now["examples"]} now'
    return f'order or images: {meta["data"]} there, {run.fingerprint} now'


def changed_fields(config: Mapping[str, Any], then: Mapping[str, Any]) -> list[str]:
    """Returns how a config differs from that of an earlier run, a line a field.

    A field that there was not yet counts as having had its default: fields are added
    so that their defaults change nothing.

    Args:
        config: a complete config.
        then: the earlier one, as JSON kept it.

    Example:
        >>> changed_fields({'seed': 1, 'num_workers': 4}, {'seed': 0, 'num_workers': 0})
        ['seed: 0 there, 1 now']
        >>> changed_fields({'folds': 0}, {}), changed_fields({'folds': 5}, {})
        ([], ['folds: 0 there, 5 now'])
    """
    now = report.jsonable(config)
    defaults = {name: field.default for name, field in FIELDS.items()}
    then = report.jsonable({**{name: defaults.get(name) for name in now}, **then})
    return [
        f'{name}: {then.get(name)!r} there, {now.get(name)!r} now'
        for name in sorted({*now, *then} - FREE_FIELDS)
        if now.get(name) != then.get(name)
    ]
