"""Scores of any number of candidate networks, by one program.

A candidate is a few numbers of channels, which the program takes as arguments: whole
kernels are computed with, and what a candidate lacks is set to zero. See
`slimjax.masking`.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict
from jax import Array, lax

from slimjax.insight.memory import temporary_bytes
from slimjax.masking import CHANNELS
from slimjax.search.space import SearchSpace
from slimjax.train.losses import correct_in_top, example_losses
from slimjax.train.parallel import abstract_over_devices, pmapped, replicated
from slimjax.width import widest

# A device computes candidates together until they have so many pixels: small ones fill
# it only together, and large ones need its memory.
_PIXELS = 2**18


class Scores(NamedTuple):
    """Means over the images, one for each candidate.

    Attributes:
        loss: cross-entropy with the labels.
        error: the share of images whose label is not the largest logit.
    """

    loss: np.ndarray
    error: np.ndarray


class Evaluator:
    """Evaluates candidates on the same images, normalised by their own statistics.

    BatchNorms take the statistics of each batch, as in training, so that no candidate
    must be calibrated. The candidates are shared between the devices.

    Args:
        model: the universally slimmable network.
        params: of the model.
        space: the candidates, see `search_space`.
        batches: `image`, `[batches, size, height, width, channels]`, and `label`,
            `[batches, size]`. They are held on every device.
        preprocess: makes the model's input of the images of a batch, on the device.

    Attributes:
        images: their number.
        compilations: how often a program was compiled: once, with the first candidates.

    Example:
        >>> import slimjax
        >>> from slimjax.search.space import search_space
        >>> fields = {'widths': (0.25, 1.0), 'stage_sizes': (1,), 'base_features': 4}
        >>> model = slimjax.create_model('resnet14', num_classes=10,
        ...                              norm='shared_affine', **fields)
        >>> images = jax.random.normal(jax.random.key(0), (1, 8, 16, 16, 3))
        >>> variables = jax.jit(model.init)(jax.random.key(1), images[0])
        >>> space = search_space(model, (16, 16, 3))
        >>> batches = {'image': images, 'label': jnp.zeros((1, 8), int)}
        >>> evaluator = Evaluator(model, variables['params'], space, batches)
        >>> scores = evaluator(np.stack([space.whole, space.least]))
        >>> scores.loss.shape, evaluator.compilations
        ((2,), 1)
    """

    def __init__(
        self,
        model: nn.Module,
        params: Any,
        space: SearchSpace,
        batches: Mapping[str, Array | np.ndarray],
        *,
        preprocess: Callable[[Array], Array] = lambda images: images,
    ):
        self._params, self._batches = replicated((params, dict(batches)))
        self.images = int(np.prod(batches['label'].shape))
        pixels = int(np.prod(batches['image'].shape[1:-1]))
        self._together = max(1, _PIXELS // pixels)
        self._program = pmapped(
            _make_program(model, space, preprocess),
            in_axes=(None, None, 0),
            out_axes=0,
        )
        self._compiled, self.compilations = None, 0

    @property
    def temporary_bytes(self) -> int | None:
        """Returns the memory that the program needs besides what it is given."""
        return self._compiled and temporary_bytes(self._compiled)

    def __call__(self, counts: np.ndarray) -> Scores:
        """Returns the scores of `[candidates, variables]` networks."""
        devices = jax.local_device_count()
        size = devices * self._together
        found = []
        for start in range(0, len(counts), size):
            part = np.asarray(counts[start : start + size], np.int32)
            # The program takes no fewer: the first one again fills it up.
            missing = np.repeat(part[:1], size - len(part), axis=0)
            whole = np.concatenate([part, missing]).reshape(devices, self._together, -1)
            sums = jax.device_get(self._run(whole))
            found.append({name: sums[name].ravel()[: len(part)] for name in sums})
        means = {
            name: np.concatenate([np.float64(sums[name]) for sums in found])
            / self.images
            for name in Scores._fields
        }
        return Scores(**means)

    def _run(self, counts: np.ndarray) -> dict[str, Array]:
        if self._compiled is None:
            self._compiled = self._program.lower(
                self._params, self._batches, abstract_over_devices(counts)
            ).compile()
            self.compilations += 1
        return self._compiled(self._params, self._batches, counts)


def _make_program(model: nn.Module, space: SearchSpace, preprocess) -> Callable:
    end = widest(model.widths)
    whole = model.clone(widths=(end,), axis_name=None, norm_batch='device')
    start, parts = (jnp.asarray(each, jnp.int32) for each in space.channels)
    paths = [tuple(layer.split('/')) for layer in space.layers]

    def scores(params, batches, counts):
        """Sums over all images of one candidate."""
        channels = unflatten_dict(dict(zip(paths, start + parts @ counts, strict=True)))
        variables = {'params': params, CHANNELS: channels}

        def add(sums, batch):
            logits = whole.apply(variables, preprocess(batch['image']), train=True)
            labels = batch['label']
            return {
                'loss': sums['loss'] + example_losses(logits, labels).sum(),
                'error': sums['error'] + (1 - correct_in_top(logits, labels, 1)).sum(),
            }, None

        zeros = dict.fromkeys(Scores._fields, jnp.zeros(()))
        return lax.scan(add, zeros, batches)[0]

    return jax.vmap(scores, in_axes=(None, None, 0))
