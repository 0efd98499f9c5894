"""A narrow width first, and a wider one for the images that it is not sure of."""

import math
import os
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from slimjax.deploy.runtime import Runtime
from slimjax.json_file import read_json


class Cascade(NamedTuple):
    """When a wider width is asked.

    Attributes:
        widths: their names, in the order in which they are asked.
        threshold: an answer of at least this probability stands.
        temperatures: by which the logits of each are divided.
    """

    widths: tuple[str, ...]
    threshold: float
    temperatures: Mapping[str, float]


class Answers(NamedTuple):
    """What a cascade says of images.

    Attributes:
        probabilities: float32 `[batch, classes]`.
        stages: `[batch]`, the number of the width that each answer is of, 0 for the
            first.
    """

    probabilities: np.ndarray
    stages: np.ndarray


def probabilities(
    logits: Float[np.ndarray, 'images classes'], temperature: float = 1.0
) -> Float[np.ndarray, 'images classes']:
    """Returns what the logits say of each class, after a division by a temperature.

    Example:
        >>> probabilities(np.array([[0.0, 2 * np.log(3)]]), temperature=2.0).round(3)
        array([[0.25, 0.75]])
    """
    # By hand, as scipy's softmax would make `import slimjax` slower.
    scaled = logits / temperature
    parts = np.exp(scaled - scaled.max(-1, keepdims=True))
    return parts / parts.sum(-1, keepdims=True)


class CascadeRuntime:
    """Runs a bundle as a cascade.

    The images that go on are a batch of another size: ONNX Runtime takes any, while
    StableHLO compiles each that is new.

    Args:
        runtime: of a bundle.
        cascade: of some of its widths.

    Raises:
        ValueError: the bundle lacks a width of it.

    Example:
        ::

            runtime = slimjax.deploy.load('bundle')
            cascade = slimjax.deploy.load_cascade('runs/digits/cascade.json', runtime)
            said, stages = cascade.infer(images)
    """

    def __init__(self, runtime: Runtime, cascade: Cascade):
        unknown = set(cascade.widths) - set(runtime.widths)
        if unknown:
            raise ValueError(
                f'the cascade has width {", ".join(sorted(unknown))}; the widths of '
                f'this bundle are {", ".join(runtime.widths)}'
            )
        self.cascade = cascade
        self._runtime = runtime

    def infer(self, images: np.ndarray) -> Answers:
        """Returns probabilities, and at which width each image was answered.

        Args:
            images: as `Runtime.infer` takes them.

        Raises:
            ValueError: an array of another type or shape.
        """
        said = self._said(images, 0)
        stages = np.zeros(len(images), int)
        for number in range(1, len(self.cascade.widths)):
            # What stood at an earlier width is sure, and stays so.
            unsure = np.flatnonzero(said.max(-1) < self.cascade.threshold)
            if not len(unsure):
                break
            said[unsure] = self._said(images[unsure], number)
            stages[unsure] = number
        return Answers(said, stages)

    def _said(self, images: np.ndarray, number: int) -> np.ndarray:
        width = self.cascade.widths[number]
        logits = self._runtime.infer(images, width)
        return probabilities(logits, self.cascade.temperatures[width])


def load_cascade(path: str | os.PathLike, runtime: Runtime) -> CascadeRuntime:
    """Returns a bundle as the cascade that `scripts/cascade.py` chose.

    Args:
        path: the JSON file that it wrote.
        runtime: of a bundle of the same network.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a file of another kind, or of widths that the bundle lacks.
    """
    try:
        found = read_json(path)['cascade']
        cascade = Cascade(
            tuple(found['widths']),
            float(found['threshold']),
            {name: float(found['temperatures'][name]) for name in found['widths']},
        )
        if not cascade.widths or not 0 <= cascade.threshold <= 1:
            raise ValueError(f'widths {cascade.widths}, threshold {cascade.threshold}')
        if not all(0 < value < math.inf for value in cascade.temperatures.values()):
            raise ValueError(f'temperatures {cascade.temperatures}')
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f'{path}: no cascade: {error}') from error
    return CascadeRuntime(runtime, cascade)
