"""What of a bundle takes the extra `onnx`, which is imported when it is asked for."""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any, Literal

import flax.linen as nn
import numpy as np

from slimjax.deploy.backends import OnnxBackend
from slimjax.deploy.manifest import signature_name
from slimjax.deploy.storage import Storage
from slimjax.width import Width, width_name

_FILE = 'model.onnx'


def write_onnx(
    folder: pathlib.Path,
    model: nn.Module,
    variables: Mapping[str, Any],
    image_shape: tuple[int, int, int],
    widths: Sequence[Width],
    storage: Storage | Literal['w8a8'],
    calibration: np.ndarray | None = None,
) -> dict[str, Any]:
    """Writes `model.onnx`, see `slimjax.deploy.onnx_file`, or of w8a8 a file a width.

    Args:
        folder: to write to.
        model: as it is to run, called with images and `width=`.
        variables: of the model.
        image_shape: height and width in pixels, and channels.
        widths: which of the model's.
        storage: of the kernels; `'w8a8'` computes in 8-bit integers.
        calibration: for w8a8, images by which the ranges of integers are chosen.

    Returns:
        What the manifest tells of it: `{'widths': {name: {'file', 'width_index': its
        place in the file}}, 'bytes_widest_alone': of an export of the first width}`.

    Raises:
        ImportError: onnx or onnxruntime is not installed.
        ValueError: an operation that slimjax does not export, or not in integers.
    """
    onnx_model, in_integers = _makers()
    integers = storage == 'w8a8'
    make = partial(
        onnx_model,
        model,
        variables,
        image_shape,
        storage='float32' if integers else storage,
    )

    @cache  # The widest alone may be one of the files.
    def made(widths: tuple[Width, ...]) -> bytes:
        found = make(widths=widths)
        if integers:
            found = in_integers(found, calibration)
        return found.SerializeToString()

    files = {_FILE: tuple(widths)}
    if integers:
        files = {f'{signature_name(width_name(w))}.onnx': (w,) for w in widths}
    facts = {}
    for file, inside in files.items():
        folder.joinpath(file).write_bytes(made(inside))
        for place, width in enumerate(inside):
            facts[width_name(width)] = {'file': file, 'width_index': place}
    return {'widths': facts, 'bytes_widest_alone': len(made(tuple(widths[:1])))}


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
    onnx_model, _ = _makers()
    make = partial(onnx_model, model, variables, image_shape, storage=storage)
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


def _makers() -> tuple[Callable, Callable]:
    try:
        from slimjax.deploy.onnx_file import onnx_model
        from slimjax.deploy.onnx_integers import in_integers
    except ImportError as error:
        raise ImportError(f"{error}: pip install 'slimjax[onnx]'") from error
    return onnx_model, in_integers
