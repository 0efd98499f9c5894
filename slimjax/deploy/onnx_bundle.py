"""What of a bundle takes the extra `onnx`, which is imported when it is asked for."""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import numpy as np

from slimjax.deploy.backends import OnnxBackend
from slimjax.deploy.storage import Storage
from slimjax.width import Width, width_name

_FILE = 'model.onnx'


def write_onnx(
    folder: pathlib.Path,
    model: nn.Module,
    variables: Mapping[str, Any],
    image_shape: tuple[int, int, int],
    widths: Sequence[Width],
    storage: Storage,
) -> dict[str, Any]:
    """Writes `model.onnx`, see `slimjax.deploy.onnx_file`.

    Args:
        folder: to write to.
        model: as it is to run, called with images and `width=`.
        variables: of the model.
        image_shape: height and width in pixels, and channels.
        widths: which of the model's.
        storage: of the kernels.

    Returns:
        What the manifest tells of it: `{'widths': {name: {'file', 'width_index'}},
        'bytes_widest_alone': of an export of the first width}`.

    Raises:
        ImportError: onnx is not installed.
    """
    make = partial(_onnx_model(), model, variables, image_shape, storage=storage)
    folder.joinpath(_FILE).write_bytes(make(widths=widths).SerializeToString())
    return {
        'widths': {
            width_name(width): {'file': _FILE, 'width_index': place}
            for place, width in enumerate(widths)
        },
        'bytes_widest_alone': make(widths=widths[:1]).ByteSize(),
    }


def runs_alone(
    folder: pathlib.Path,
    model: nn.Module,
    variables: Mapping[str, Any],
    image_shape: tuple[int, int, int],
    widths: Sequence[Width],
    storage: Storage,
    threads: int,
    outputs: Mapping[str, Any],
) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Returns what runs each width in an ONNX file of its own, by `NAME alone`.

    Args:
        folder: where a file may stand for a moment.
        model: as in `write_onnx`, and so are those between.
        variables: of the model.
        image_shape: height and width in pixels, and channels.
        widths: which of the model's.
        storage: of the kernels.
        threads: of ONNX Runtime.
        outputs: what the manifest tells of them.
    """
    make = partial(_onnx_model(), model, variables, image_shape, storage=storage)
    path, runs = folder / 'alone.onnx', {}
    for width in widths:
        name = width_name(width)
        path.write_bytes(make(widths=(width,)).SerializeToString())
        own = {'file': path.name, 'width_index': 0}
        manifest = {'widths': {name: own}, **outputs}
        backend = OnnxBackend(folder, manifest, threads)
        runs[f'{name} alone'] = partial(backend.run, name)
    path.unlink()
    return runs


def _onnx_model() -> Callable:
    try:
        from slimjax.deploy.onnx_file import onnx_model
    except ImportError as error:
        raise ImportError(f"{error}: pip install 'slimjax[onnx]'") from error
    return onnx_model
