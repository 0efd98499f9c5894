"""A run, opened again from its folder alone."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import ml_collections

from slimjax.config import complete
from slimjax.config_file import change
from slimjax.detection.backbone import PyramidBackbone, backbone_of
from slimjax.detection.run import first_bucket
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
    run = make_run(config)
    found, where = (checkpoint.params, checkpoint.stats), f'the checkpoint in {workdir}'
    for expected, own in zip(
        abstract_variables(run.model, run.image_shape), found, strict=True
    ):
        check_shapes(expected, own, where)
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
    """

    model: SlimmableClassifier | PyramidBackbone
    variables: dict[str, Any]
    image_shape: tuple[int, int, int]
    preprocessing: dict[str, Any] | None
    class_names: list[str]


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
            detector.
    """
    checkpoint = load_variables(workdir)
    meta = checkpoint.meta
    variables = {'params': checkpoint.params, **checkpoint.stats}
    prepared = None
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
            return _backbone(model, variables, shape)
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
    return Network(model, variables, shape, prepared, list(meta['class_names']))


def _check_variables(model, shape, variables, workdir) -> None:
    images = jax.ShapeDtypeStruct((1, *shape), model.dtype)
    expected = jax.eval_shape(model.init, jax.random.key(0), images)
    check_shapes(expected, variables, f'the checkpoint in {workdir}')


def _backbone(model, variables, shape) -> Network:
    options = model.settings
    prepared = {
        'mean': [each / 255 for each in options.image_mean],
        'std': [each / 255 for each in options.image_std],
        'resize': options.test_short_side,
        'longest_side': options.longest_side,
        'channel_order': options.channel_order,
    }
    return Network(*backbone_of(model, variables), shape, prepared, [])


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

    def tuples(value):
        if isinstance(value, Mapping):
            return {name: tuples(each) for name, each in value.items()}
        return tuple(map(tuples, value)) if isinstance(value, list) else value

    return complete(tuples(plain))
