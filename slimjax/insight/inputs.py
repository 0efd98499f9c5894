"""The images of a run, as its network takes them."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

import flax.linen as nn
import numpy as np
from jax import Array

from slimjax.data.augment import normalize
from slimjax.data.base import Subset
from slimjax.train.run import Run


def chosen_images(
    run: Run, split: str, places: Collection[int]
) -> dict[int, np.ndarray]:
    """Returns images of a split by their place in it.

    Args:
        run: whose images.
        split: `'train'`, `'validation'` or `'test'`.
        places: of readable images.

    Returns:
        `[height, width, colours]` each, uint8, cut out as in evaluation.
    """
    chosen = sorted(set(places))
    if not chosen:
        return {}
    reader = run.eval_reader(Subset(run.source(split), chosen))
    try:
        shown = [image for batch in reader for image in batch['image']]
    finally:
        reader.close()
    return dict(zip(chosen, shown, strict=False))  # the last batch is padded


def with_places(
    batches: Iterable[Mapping[str, np.ndarray]],
) -> Iterator[tuple[Mapping[str, np.ndarray], np.ndarray, np.ndarray]]:
    """Yields batches, which of their images could be read, and the places of these.

    Args:
        batches: of a split in its order; padding and broken images have `mask` 0.

    Example:
        >>> batches = 2 * [{'image': np.zeros((2, 8, 8, 3)), 'mask': np.array([0, 1])}]
        >>> [places.tolist() for _, _, places in with_places(batches)]
        [[1], [3]]
    """
    first = 0
    for batch in batches:
        size = len(batch['image'])
        readable = np.flatnonzero(batch.get('mask', np.ones(size)) > 0)
        yield batch, readable, first + readable
        first += size


def normalized(run: Run, model: nn.Module) -> Callable[[Array], Array]:
    """Returns what makes the network's input of a batch's images."""
    config = run.config
    return lambda images: normalize(images, config.mean, config.std, model.dtype)
