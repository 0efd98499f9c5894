"""A search by one program beside one that compiles each candidate."""

import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from slimjax.benchmark.device import device_name
from slimjax.models import create_model
from slimjax.search.evaluator import Evaluator
from slimjax.search.space import search_space
from slimjax.train.losses import cross_entropy
from slimjax.train.report import git_commit

# configs/digits.py:supernet.
_SHAPE = (12, 12, 1)
_FIELDS = {'small_images': True, 'base_features': 16, 'widths': (0.1875, 1.0, 1.5)}


def benchmark_search(
    images: int, candidates: int, compiled: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Times candidates of the digits network, as a search evaluates them.

    Both ways take turns: after each part of the candidates that the one program scores,
    one more is cut out, compiled and run by itself. What they return is compared.

    Args:
        images: on which each candidate is evaluated.
        candidates: that the one program scores.
        compiled: how many of them are compiled too, each by itself.
        say: prints a line for a person.

    Returns:
        `{'candidates', 'images', 'seconds': {'first', 'candidate', 'compiled'},
        'compilations', 'temporary_bytes', 'ratio', 'device'}`: the seconds of the first
        call, which compiles, of each further candidate, and of a compiled one;
        `ratio` is what all candidates take by compilation over what they took here,
        the first call included.
    """
    model = create_model('resnet14', num_classes=10, norm='shared_affine', **_FIELDS)
    rng = np.random.default_rng(0)
    pixels = rng.normal(size=(1, images, *_SHAPE)).astype(np.float32)
    labels = rng.integers(0, 10, (1, images))
    params = jax.jit(model.init)(jax.random.key(0), pixels[0, :1])['params']
    space = search_space(model, _SHAPE)
    evaluator = Evaluator(model, params, space, {'image': pixels, 'label': labels})
    counts = space.random(rng, candidates)
    start = time.perf_counter()
    evaluator(counts[:1])
    first = time.perf_counter() - start
    masked, sliced = 0.0, []
    for number, part in enumerate(np.array_split(counts[1:], compiled)):
        start = time.perf_counter()
        scores = evaluator(part)
        masked += time.perf_counter() - start
        start = time.perf_counter()
        loss = _compiled_loss(model, params, space, part[0], pixels[0], labels[0])
        sliced.append(time.perf_counter() - start)
        np.testing.assert_allclose(loss, scores.loss[0], rtol=1e-4)
        say(f'{number + 1}/{compiled} compiled: {sliced[-1]:.2f} s')
    alone = float(np.median(sliced))
    return {
        'candidates': candidates,
        'images': images,
        'seconds': {
            'first': first,
            'candidate': masked / (candidates - 1),
            'compiled': alone,
        },
        'compilations': evaluator.compilations,
        'temporary_bytes': evaluator.temporary_bytes,
        'ratio': candidates * alone / (first + masked),
        'device': device_name(),
        'git_commit': git_commit(),
    }


def _compiled_loss(model, params, space, counts, images, labels) -> float:
    """The loss of one candidate, cut out of the kernels and compiled."""
    whole, own = space.table(space.whole, 'whole'), space.table(counts, 'candidate')
    model = model.clone(widths=(whole, own))
    shapes = jax.eval_shape(lambda key: model.init(key, images[:1]), jax.random.key(0))
    stats = {
        name: jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), tree)
        for name, tree in shapes.items()
        if name == 'batch_stats_candidate'
    }

    @jax.jit
    def loss(params, stats, images, labels):
        logits, _ = model.apply(
            {'params': params, **stats},
            images,
            width='candidate',
            train=True,
            mutable=list(stats),
        )
        return cross_entropy(logits, labels)

    return float(loss(params, stats, images, labels))
