"""A run, opened again from its folder alone."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import ml_collections

from slimjax.config import complete
from slimjax.config_file import change
from slimjax.models import SlimmableClassifier
from slimjax.train.checkpoint import check_shapes, load_variables
from slimjax.train.run import Run, build_model
from slimjax.train.state import abstract_variables


class Trained(NamedTuple):
    """What a workdir holds.

    Attributes:
        run: its config, and its data.
        model: the network, under no mapped axis.
        variables: those of its best checkpoint, as numpy arrays.
        meta: what the checkpoint tells of itself.
    """

    run: Run
    model: SlimmableClassifier
    variables: dict[str, Any]
    meta: dict[str, Any]


def open_run(workdir: str | pathlib.Path, changes: Sequence[str] = ()) -> Trained:
    """Returns the network of a workdir, and what it was trained on.

    Args:
        workdir: of a run, finished or not, or what `--mode=calibrate` wrote.
        changes: `--config.FIELD=VALUE`, each, such as another `data_dir`.

    Raises:
        FileNotFoundError: there is no checkpoint, or no data.
        ValueError: the checkpoint has no config, as an imported one, or changes that
            make another network of it.
    """
    checkpoint = load_variables(workdir)
    if 'config' not in checkpoint.meta:
        raise ValueError(
            f'{workdir} was imported, and does not say what data it is for: train or '
            'calibrate it first'
        )
    config = stored_config(checkpoint.meta['config'])
    change(config, list(changes))
    run = Run(config)
    found, where = (checkpoint.params, checkpoint.stats), f'the checkpoint in {workdir}'
    for expected, own in zip(
        abstract_variables(run.model, run.image_shape), found, strict=True
    ):
        check_shapes(expected, own, where)
    variables = {'params': checkpoint.params, **checkpoint.stats}
    return Trained(run, build_model(config), variables, checkpoint.meta)


def stored_config(plain: Mapping[str, Any]) -> ml_collections.ConfigDict:
    """Returns a complete config as JSON kept it, where tuples are lists.

    Example:
        >>> stored_config({'model': 'resnet14', 'widths': [0.5, 1.0]}).widths
        (0.5, 1.0)
    """

    def tuples(value):
        if isinstance(value, Mapping):
            return {name: tuples(each) for name, each in value.items()}
        return tuple(map(tuples, value)) if isinstance(value, list) else value

    return complete(tuples(plain))
