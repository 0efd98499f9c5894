"""A bundle at work: one network that changes its width while it is asked."""

import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from slimjax.deploy.backends import (
    Backend,
    LiteRtBackend,
    OnnxBackend,
    StableHloBackend,
)
from slimjax.deploy.manifest import LOGITS, outputs_of, read_manifest
from slimjax.width import Width, width_name


def load(
    folder: str | os.PathLike, *, batch_sizes: Sequence[int] = (1,), threads: int = 0
) -> 'Runtime':
    """Loads a bundle that `scripts/export.py` wrote, and runs every width once.

    Its files are checked against the hashes in its manifest, and nothing in it can run
    code. It may come from anyone, but for LiteRT, which one that was made for it may
    bring down.

    Args:
        folder: the bundle.
        batch_sizes: numbers of images for which every width is made ready now. Others
            work too; with StableHLO the first request of a new number compiles.
        threads: how many of ONNX Runtime or LiteRT compute a request; 0 for one a
            core. JAX decides for itself.

    Raises:
        FileNotFoundError: there is no bundle.
        ImportError: an ONNX or LiteRT bundle, whose runtime is not installed.
        ValueError: a file is damaged, cut short, replaced, or gives what its manifest
            does not say; or batches of none.

    Example:
        >>> load('nowhere')
        Traceback (most recent call last):
        FileNotFoundError: [Errno 2] No such file or directory: 'nowhere/manifest.json'
    """
    if any(size < 1 for size in batch_sizes):
        raise ValueError(f'batch_sizes={batch_sizes}: each is to be 1 or more')
    folder = pathlib.Path(folder)
    manifest = read_manifest(folder)
    if manifest['kind'] == 'stablehlo':
        backend = StableHloBackend(folder, manifest)
    else:
        make = {'onnx': OnnxBackend, 'litert': LiteRtBackend}[manifest['kind']]
        backend = make(folder, manifest, threads)
    runtime = Runtime(manifest, backend)
    for size in batch_sizes:
        blank = np.zeros((size, *runtime.image_shape), np.float32)
        for name in runtime.widths:
            try:
                runtime.infer(blank, name)
            except Exception as error:
                raise ValueError(f'{folder}: width {name} fails: {error}') from error
    return runtime


class Runtime:
    """Runs a network at a width that may change between two requests.

    Any number of threads may call it: a request runs to its end at the width that was
    set when it came.

    Attributes:
        manifest: what the bundle says of itself: costs, latency and accuracy of each
            width, class names, how images are prepared.
        widths: their names, widest first.
        image_shape: height and width in pixels, and channels.

    Example:
        ::

            runtime = slimjax.deploy.load('bundle')
            runtime.set_width(0.25)
            logits = runtime.infer(images)
    """

    def __init__(self, manifest: dict[str, Any], backend: Backend):
        self.manifest = manifest
        self.widths = tuple(manifest['widths'])
        self.image_shape = tuple(manifest['image_shape'])
        self._backend = backend
        self._width = self.widths[0]

    @property
    def width(self) -> str:
        """The name of the width at which the next request runs; at first the widest."""
        return self._width

    def set_width(self, width: Width | str) -> None:
        """Sets the width of the requests to come.

        Args:
            width: one of `widths`, by its name or as a number.

        Raises:
            ValueError: the bundle has no such width.
        """
        # One assignment of a name: no thread ever sees half of a change.
        self._width = self._named(width)

    def infer(
        self, images: np.ndarray, width: Width | str | None = None
    ) -> np.ndarray | dict[str, np.ndarray]:
        """Returns logits, or the maps of a backbone.

        Args:
            images: float32 `[batch, height, width, channels]`, prepared as the manifest
                says.
            width: for this request alone; None for the one that is set.

        Returns:
            float32 `[batch, classes]`; of a detector's backbone, the maps by the names
            of their levels, `{'p2': [batch, height, width, features], ...}`.

        Raises:
            ValueError: an unknown width, or an array of another type or shape.
        """
        name = self._width if width is None else self._named(width)
        shape, dtype = getattr(images, 'shape', None), getattr(images, 'dtype', None)
        if shape is None or dtype != np.float32:
            raise ValueError(
                f'images are {dtype or type(images).__name__}: an array of float32 is '
                'expected, of normalised pixels'
            )
        if len(shape) != 4 or shape[1:] != self.image_shape or not shape[0]:
            raise ValueError(
                f'images of shape {list(shape)}: [batch, '
                f'{", ".join(map(str, self.image_shape))}] is expected, of at least one'
            )
        stated = outputs_of(self.manifest)
        found = dict(
            zip(stated, self._backend.run(name, np.asarray(images)), strict=True)
        )
        for output, values in found.items():
            expected = (shape[0], *stated[output])
            if values.shape != expected or values.dtype != np.float32:
                raise ValueError(
                    f'the bundle gives {values.dtype}{list(values.shape)} where '
                    f'float32{list(expected)} is stated'
                )
        return found if 'outputs' in self.manifest else found[LOGITS]

    def _named(self, width: Width | str) -> str:
        name = width if isinstance(width, str) else width_name(width)
        if name not in self.widths:
            raise ValueError(
                f'width={name!r}: the widths of this bundle are '
                + ', '.join(self.widths)
            )
        return name
