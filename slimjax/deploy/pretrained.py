"""A network as a folder that the Hugging Face Hub takes: config, weights, card."""

import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from slimjax.deploy.card import model_card
from slimjax.deploy.folder import fingerprint, whole_folder
from slimjax.deploy.model_config import model_from_json, model_to_json
from slimjax.deploy.parts import width_parts
from slimjax.deploy.weights import read_weights, write_weights
from slimjax.insight.cost import cost_results
from slimjax.interop import export_torch
from slimjax.json_file import read_json
from slimjax.models import SlimmableClassifier
from slimjax.variables import check_shapes
from slimjax.version import __version__
from slimjax.width import Width

CONFIG, WEIGHTS, CARD = 'config.json', 'model.safetensors', 'README.md'
TORCH = 'model.pt'
FORMAT_VERSION = 1


def save_pretrained(
    directory: str | os.PathLike,
    model: SlimmableClassifier,
    variables: Mapping[str, Any],
    *,
    image_shape: tuple[int, int, int] = (224, 224, 3),
    preprocessing: Mapping[str, Any] | None = None,
    class_names: Sequence[str] = (),
    results: Mapping[str, Any] | None = None,
    torch: bool = False,
) -> None:
    """Writes a network as `config.json`, `model.safetensors` and a model card.

    Args:
        directory: a new folder; it appears whole or not at all.
        model: of one of slimjax's families, with any fields.
        variables: of the model.
        image_shape: height and width in pixels, and channels.
        preprocessing: `{'mean', 'std', ...}`, what was done to pixels in 0..1.
        class_names: by the number of the class.
        results: of an evaluation, as a run's `results.json`; for the card.
        torch: adds `model.pt`, see `slimjax.interop.export_torch`.

    Raises:
        ValueError: the folder exists, the variables are not the model's, or the model
            is of a class of the user's own, or none of the published code's that
            `torch` asks for.

    Example:
        >>> import tempfile, jax.numpy as jnp, slimjax
        >>> fields = {'stage_sizes': (1,), 'base_features': 8, 'widths': (0.5, 1.0)}
        >>> model = slimjax.create_model('resnet14', num_classes=10, **fields)
        >>> images = jnp.ones((1, 32, 32, 3))
        >>> variables = jax.jit(model.init)(jax.random.key(0), images)
        >>> directory = pathlib.Path(tempfile.mkdtemp(), 'network')
        >>> save_pretrained(directory, model, variables, image_shape=(32, 32, 3))
        >>> sorted(path.name for path in directory.iterdir())
        ['README.md', 'config.json', 'model.safetensors']
        >>> narrow, own = from_pretrained(directory, width=0.5)
        >>> jax.jit(narrow.apply)(own, images).shape
        (1, 10)
    """
    held = model_to_json(model)
    model = model_from_json(held)
    check_shapes(_shapes(model, image_shape), dict(variables), 'variables')
    if class_names and len(class_names) != model.num_classes:
        raise ValueError(
            f'{len(class_names)} class_names for {model.num_classes} classes'
        )
    known = cost_results(model, image_shape)
    for name, scores in (results or {}).get('widths', {}).items():
        if name in known['widths']:
            known['widths'][name] |= scores
    known['split'] = (results or {}).get('split')
    with whole_folder(directory) as folder:
        write_weights(folder / WEIGHTS, variables)
        config = {
            'model_type': 'slimjax',
            'architectures': [type(model).__name__],
            'format_version': FORMAT_VERSION,
            'slimjax_version': __version__,
            **held,
            'image_shape': list(image_shape),
            'preprocessing': preprocessing and dict(preprocessing),
            'id2label': {str(n): str(name) for n, name in enumerate(class_names)},
            'weights': fingerprint(folder / WEIGHTS),
        }
        folder.joinpath(CONFIG).write_text(json.dumps(config, indent=2) + '\n')
        folder.joinpath(CARD).write_text(model_card(config, known))
        if torch:
            export_torch(folder / TORCH, variables, model)


def from_pretrained(
    directory: str | os.PathLike, width: Width | str | None = None
) -> tuple[SlimmableClassifier, dict[str, Any]]:
    """Reads a network that `save_pretrained` wrote.

    The folder may come from anyone: nothing in it is run.

    Args:
        directory: the folder.
        width: one of the network's widths, or the name of one, which is returned as a
            network of its own; only its part of the weights is read, which is then not
            checked against its hash. None for the network with all widths.

    Returns:
        The model, and its variables as numpy arrays.

    Raises:
        FileNotFoundError: there is no such folder, or it lacks a file.
        ValueError: a file is damaged or cut short, the weights are those of another
            network, or the network has no such width.

    Example:
        See `save_pretrained`.
    """
    directory = pathlib.Path(directory)
    config = read_config(directory)
    path = directory / WEIGHTS
    try:
        model = model_from_json(config)
        shape = tuple(config['image_shape'])
        if len(shape) != 3 or any(type(n) is not int or n < 1 for n in shape):
            raise ValueError(f'"image_shape" is {config["image_shape"]}')
        shapes = _shapes(model, shape)
        # All of a folder with one width is read anyway.
        whole = width is None or len(model.widths) == 1
        expected = config['weights']['sha256'] if whole else None
        parts = None
        if width is not None:
            model, parts = width_parts(model, shapes, width, shape)
    # Whatever fields in disorder lead to while a network is traced.
    except Exception as error:
        raise ValueError(f'{directory / CONFIG}: {_told(error)}') from error
    variables = read_weights(path, shapes, parts)
    if expected is not None and fingerprint(path)['sha256'] != expected:
        raise ValueError(f'{path}: not the file that {CONFIG} was written for')
    return model, variables


def read_config(directory: str | os.PathLike) -> dict[str, Any]:
    """Returns what `config.json` of a folder holds.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is no JSON, or of a format that this version does not read.
    """
    path = pathlib.Path(directory, CONFIG)
    try:
        config = read_json(path)
        version = config.get('format_version')
    except (ValueError, AttributeError) as error:
        raise ValueError(f'{path}: damaged: {error}') from error
    if version != FORMAT_VERSION:
        raise ValueError(
            f'{path}: format_version={version!r}; this slimjax reads {FORMAT_VERSION}'
        )
    return config


def _shapes(model: SlimmableClassifier, image_shape) -> dict[str, Any]:
    images = jax.ShapeDtypeStruct((1, *image_shape), np.float32)
    return jax.eval_shape(model.init, jax.random.key(0), images)


def _told(error: Exception) -> str:
    return f'lacks {error}' if isinstance(error, KeyError) else str(error)
