"""What each width says of every image of a split."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int

from slimjax.insight.inputs import normalized, with_places
from slimjax.train.losses import correct_in_top
from slimjax.train.trained import Trained
from slimjax.width import widest_first, width_name


class Said(NamedTuple):
    """What one width says.

    Attributes:
        classes: `[images]`, the class with the largest logit.
        confidence: `[images]`, its probability.
        top1: `[images]`, whether the label is first, as evaluation counts it.
        top5: `[images]`, whether it is among the first five.
    """

    classes: np.ndarray
    confidence: np.ndarray
    top1: np.ndarray
    top5: np.ndarray


@dataclasses.dataclass(frozen=True)
class Predictions:
    """What the widths say of a split.

    Attributes:
        split: its name.
        places: `[images]`, of each readable image in the split.
        labels: `[images]`.
        said: of each width's name, widest first.
    """

    split: str
    places: np.ndarray
    labels: np.ndarray
    said: Mapping[str, Said]

    def scores(self) -> dict[str, dict[str, float]]:
        """Returns the accuracies of each width, as fractions."""
        return {
            name: {'top1': float(own.top1.mean()), 'top5': float(own.top5.mean())}
            for name, own in self.said.items()
        }

    def only_wider(self, width: str) -> np.ndarray:
        """Returns the images that the widest has right and a width does not.

        They are numbers of this object's arrays; first what the widest is surest of.
        """
        widest, own = next(iter(self.said.values())), self.said[width]
        lost = np.flatnonzero(widest.top1 & ~own.top1)
        return lost[np.argsort(-widest.confidence[lost], kind='stable')]


def predict(trained: Trained, split: str) -> Predictions:
    """Returns what each width says of every image of a split, each counted once.

    Args:
        trained: what `open_run` returns.
        split: `'train'`, `'validation'` or `'test'`.

    Raises:
        ValueError: there is no such split, or no image in it.
    """

    def say(logits, labels):
        return Said(
            logits.argmax(-1),
            jax.nn.softmax(logits).max(-1),
            correct_in_top(logits, labels, 1) > 0,
            correct_in_top(logits, labels, 5) > 0,
        )

    return Predictions(split, *of_every_image(trained, split, say))


def of_every_image(
    trained: Trained, split: str, say: Callable[[jax.Array, jax.Array], Any]
) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    """Returns something of the logits of every image, each counted once.

    Args:
        trained: what `open_run` returns.
        split: `'train'`, `'validation'` or `'test'`.
        say: makes of logits, `[batch, classes]`, and labels, `[batch]`, an array or a
            tuple of arrays, `[batch, ...]`.

    Returns:
        The place of each readable image in the split, the labels, and what `say` makes
        of all images at each width, widest first.

    Raises:
        ValueError: there is no such split, or no image in it.
    """
    run, model, variables, _ = trained
    widths = widest_first(model.widths)
    preprocess = normalized(run, model)

    @functools.partial(jax.jit, static_argnames='width')
    def compute(variables, images, labels, width):
        logits = model.apply(variables, preprocess(images), width=width, train=False)
        return say(logits, labels)

    places, labels, said = [], [], {width_name(width): [] for width in widths}
    variables = jax.device_put(variables)
    reader = run.eval_reader(run.source(split))
    try:
        for batch, kept, own_places in with_places(reader):
            places.append(own_places)
            labels.append(batch['label'][kept])
            for width in widths:
                own = compute(variables, batch['image'], batch['label'], width)
                said[width_name(width)].append(
                    jax.tree.map(
                        lambda values, kept=kept: np.asarray(values)[kept], own
                    )
                )
    finally:
        reader.close()
    if not sum(map(len, places)):
        raise ValueError(f'there is no image in the split {split}')
    return (
        np.concatenate(places),
        np.concatenate(labels),
        {
            name: jax.tree.map(lambda *all_parts: np.concatenate(all_parts), *parts)
            for name, parts in said.items()
        },
    )


def confusion(
    labels: Int[np.ndarray, ' images'], said: Int[np.ndarray, ' images'], classes: int
) -> Int[np.ndarray, 'classes classes']:
    """Returns how often each class (row) was called each class (column).

    Example:
        >>> confusion(np.array([0, 1, 1]), np.array([0, 1, 0]), 2).tolist()
        [[1, 0], [1, 1]]
    """
    flat = np.bincount(labels * classes + said, minlength=classes * classes)
    return flat.reshape(classes, classes)


def class_accuracy(
    counts: Int[np.ndarray, 'classes classes'],
) -> Float[np.ndarray, ' classes']:
    """Returns each class's share of right answers; NaN for one without images.

    Args:
        counts: what `confusion` returns.

    Example:
        >>> class_accuracy(np.array([[3, 1], [0, 2]])).tolist()
        [0.75, 1.0]
    """
    images = counts.sum(1)
    return np.where(images, counts.diagonal() / np.maximum(images, 1), np.nan)
