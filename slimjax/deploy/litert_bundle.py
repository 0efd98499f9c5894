"""What of a bundle takes the extra `litert`, which is imported when it is asked for."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import numpy as np

from slimjax.deploy.manifest import signature_name
from slimjax.width import Width, width_name

_FILE = 'model.tflite'


def write_litert(
    folder: pathlib.Path,
    model: nn.Module,
    variables: Mapping[str, Any],
    image_shape: tuple[int, int, int],
    widths: Sequence[Width],
    calibration: np.ndarray | None = None,
) -> dict[str, Any]:
    """Writes `model.tflite`, see `slimjax.deploy.litert_file`.

    Args:
        folder: to write to.
        model: as it is to run, called with images and `width=`.
        variables: of the model.
        image_shape: height and width in pixels, and channels.
        widths: which of the model's.
        calibration: images by which the ranges of 8-bit integers are chosen; None for
            float32.

    Returns:
        What the manifest tells of it: `{'widths': {name: {'file', 'signature'}},
        'bytes_widest_alone': of an export of the first width}`.

    Raises:
        ImportError: a package of the extra is not installed.
        ValueError: an operation that LiteRT does not have, or not in integers.
    """
    try:
        from slimjax.deploy.litert_file import in_integers, litert_model
    except ImportError as error:
        raise ImportError(f"{error}: pip install 'slimjax[litert]'") from error

    def made(widths):
        content = litert_model(model, variables, image_shape, widths=widths)
        return content if calibration is None else in_integers(content, calibration)

    folder.joinpath(_FILE).write_bytes(made(widths))
    names = [width_name(width) for width in widths]
    return {
        'widths': {
            name: {'file': _FILE, 'signature': signature_name(name)} for name in names
        },
        'bytes_widest_alone': len(made(widths[:1])),
    }
