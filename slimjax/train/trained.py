"""A run, opened again from its folder alone."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np

from slimjax.config import complete
from slimjax.config_file import change
from slimjax.detection.backbone import PyramidBackbone, backbone_of
from slimjax.detection.run import first_bucket
from slimjax.json_file import tuples
from slimjax.models import SlimmableClassifier, create_model
from slimjax.train.checkpoint import load_variables
from slimjax.train.network import build_model
from slimjax.train.run import Run
from slimjax.train.runs import make_run
from slimjax.train.state import abstract_variables
from slimjax.variables import check_shapes


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
        ValueError: the checkpoint has no config, as an imported one, changes that make
            another network of it, or what `check_measured` refuses.
    """
    checkpoint = load_variables(workdir)
    if 'config' not in checkpoint.meta:
        raise ValueError(
            f'{workdir} was imported, and does not say what data it is for: train or '
            'calibrate it first'
        )
    config = stored_config(checkpoint.meta['config'])
    change(config, list(changes))
    run = make_run(config)
    found, where = (checkpoint.params, checkpoint.stats), f'the checkpoint in {workdir}'
    for expected, own in zip(
        abstract_variables(run.model, run.image_shape), found, strict=True
    ):
        check_shapes(expected, own, where)
    check_measured(checkpoint.stats, where)
    variables = {'params': checkpoint.params, **checkpoint.stats}
    return Trained(run, build_model(config), variables, checkpoint.meta)


def open_classifier(
    workdir: str | pathlib.Path, changes: Sequence[str] = ()
) -> Trained:
    """Returns what `open_run` does, for what only a classifier can be asked.

    Raises:
        FileNotFoundError: as of `open_run`.
        ValueError: likewise, or the workdir is of a detector.
    """
    trained = open_run(workdir, changes)
    if detector := trained.run.config.detector:
        raise ValueError(
            f'{workdir} holds a detector, {detector}: this is for networks that '
            'classify'
        )
    return trained


class Network(NamedTuple):
    """A trained network without its data, which a machine that ships it may lack.

    Attributes:
        model: under no mapped axis.
        variables: those of the best checkpoint, as numpy arrays.
        image_shape: height and width in pixels, and channels.
        preprocessing: `{'mean', 'std', 'resize'}`: what evaluation does to pixels in
            0..1, and the shorter side before the centre crop; None of a network that
            was imported. Of a backbone `'longest_side'` too, as images are not cut,
            and `'channel_order'`, in which the others stand.
        class_names: by the number of the class; of a backbone none.
        config: that of its training, complete; None of a network that was imported.
    """

    model: SlimmableClassifier | PyramidBackbone
    variables: dict[str, Any]
    image_shape: tuple[int, int, int]
    preprocessing: dict[str, Any] | None
    class_names: list[str]
    config: ml_collections.ConfigDict | None


def open_network(
    workdir: str | pathlib.Path, image_size: int = 0, *, backbone: bool = False
) -> Network:
    """Returns the network of a workdir; its data need not be there.

    Args:
        workdir: of a run, finished or not, of `--mode=calibrate`, or imported.
        image_size: side of the images in pixels; 0 for the run's, and for 224 where
            the network was imported. A detector's are those of its first bucket.
        backbone: returns the backbone where the workdir holds a detector, which is
            refused otherwise.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: what the checkpoint says and what it holds are two networks, or a
            detector, or what `check_measured` refuses.
    """
    checkpoint = load_variables(workdir)
    meta = checkpoint.meta
    check_measured(checkpoint.stats, f'the checkpoint in {workdir}')
    variables = {'params': checkpoint.params, **checkpoint.stats}
    config = prepared = None
    if 'config' in meta:
        config = stored_config(meta['config'])
        if config.detector and not backbone:
            raise ValueError(
                f'{workdir} holds a {config.detector}: a classifier is needed'
            )
        model = build_model(config)
        if config.detector:
            shape = (
                (image_size, image_size, 3)
                if image_size
                else first_bucket(model.settings)
            )
            _check_variables(model, shape, variables, workdir)
            return _backbone(model, variables, shape, config)
        size = image_size or config.image_size
        shape = (size, size, config.image_channels)
        prepared = preprocessing(config)
    else:
        own = [name if name.isdigit() else _number(name) for name in meta['widths']]
        model = create_model(
            meta['model'], num_classes=len(meta['class_names']), widths=own
        )
        shape = (image_size or 224, image_size or 224, 3)
    _check_variables(model, shape, variables, workdir)
    classes = list(meta['class_names'])
    return Network(model, variables, shape, prepared, classes, config)


def check_measured(stats: Mapping[str, Any], where: str) -> None:
    """Refuses statistics of some widths that are as they were made.

    Of widths that a sandwich only draws, they are measured at evaluations, before which
    a run may be stopped; with them a width would give what means nothing.

    Args:
        stats: the collections of a checkpoint.
        where: names it.

    Raises:
        ValueError: names the collections, and what to do.

    Example:
        >>> import pytest
        >>> new, old = ({'norm': {'var': np.full(2, x)}} for x in (1.0, 0.3))
        >>> with pytest.raises(ValueError, match=r'no statistics yet in batch_stats_1'):
        ...     check_measured({'batch_stats_1.0': new, 'batch_stats_0.5': old}, 'It')
    """

    def is_new(collection):
        leaves = jax.tree_util.tree_leaves_with_path(collection)
        return all(
            np.all(np.asarray(leaf) == (path[-1].key == 'var')) for path, leaf in leaves
        )

    new = [name for name, collection in stats.items() if is_new(collection)]
    if 0 < len(new) < len(stats):
        raise ValueError(
            f'{where} has no statistics yet in {", ".join(new)}: train on to the first '
            'evaluation, or compute them by --mode=calibrate'
        )


def _check_variables(model, shape, variables, workdir) -> None:
    images = jax.ShapeDtypeStruct((1, *shape), model.dtype)
    expected = jax.eval_shape(model.init, jax.random.key(0), images)
    check_shapes(expected, variables, f'the checkpoint in {workdir}')


def _backbone(model, variables, shape, config) -> Network:
    options = model.settings
    prepared = {
        'mean': [each / 255 for each in options.image_mean],
        'std': [each / 255 for each in options.image_std],
        'resize': options.test_short_side,
        'longest_side': options.longest_side,
        'channel_order': options.channel_order,
    }
    return Network(*backbone_of(model, variables), shape, prepared, [], config)


def preprocessing(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what evaluation does to images, as `Network` has it.

    Example:
        >>> preprocessing({'mean': (0.5,), 'std': (0.25,), 'eval_resize': 32})
        {'mean': [0.5], 'std': [0.25], 'resize': 32}
    """
    return {
        'mean': list(config['mean']),
        'std': list(config['std']),
        'resize': config['eval_resize'],
    }


def stored_widest(meta: Mapping[str, Any]) -> float | None:
    """Returns the widest multiplier that a checkpoint's kernels are stored for.

    Args:
        meta: of the checkpoint.

    Returns:
        None where it has channel tables, or does not say.

    Example:
        >>> stored_widest({'widths': ['0.25', '1.0']}), stored_widest({'widths': ['a']})
        (1.0, None)
    """
    try:
        # A table's name may be a number without a point.
        names = [name for name in meta.get('widths', ()) if not name.isdigit()]
        return max(map(float, names), default=None)
    except ValueError:
        return None


def _number(name: str) -> float | str:
    """A width multiplier by its name; the name of a channel table stays."""
    try:
        return float(name)
    except ValueError:
        return name


def stored_config(plain: Mapping[str, Any]) -> ml_collections.ConfigDict:
    """Returns a complete config as JSON kept it, where tuples are lists.

    Example:
        >>> stored_config({'model': 'resnet14', 'widths': [0.5, 1.0]}).widths
        (0.5, 1.0)
    """
    return complete(tuples(plain))
