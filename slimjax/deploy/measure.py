"""What a bundle is measured by: its distance from JAX, and its latency."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from slimjax.deploy.runtime import Runtime
from slimjax.deploy.storage import Storage, as_restored
from slimjax.insight.timing import interleaved
from slimjax.models import SlimmableClassifier
from slimjax.width import Width, width_name

# How far a bundle may be from JAX, in units of its largest logit.
TOLERANCE = 1e-4
# Compared at a time.
IMAGES = 4

Run = Callable[[np.ndarray], np.ndarray]


def compared_with_jax(
    runtime: Runtime,
    model: SlimmableClassifier,
    variables: Mapping[str, Any],
    widths: Sequence[Width],
    storage: Storage,
) -> dict[str, dict[str, float]]:
    """Returns how far each width is from JAX, on random images.

    Args:
        runtime: of the bundle.
        model: that was exported.
        variables: of the model.
        widths: of the model.
        storage: of the bundle.

    Returns:
        `{name: {'max_abs_diff': from JAX with these variables,
        'max_abs_diff_as_stored': from JAX with them as they are stored,
        'max_abs_logit': of JAX}}`.

    Raises:
        ValueError: one is further away than rounding takes it.
    """
    generator = np.random.default_rng(0)
    images = generator.normal(size=(IMAGES, *runtime.image_shape)).astype(np.float32)
    kept, found = as_restored(variables, storage), {}
    for width in widths:
        apply = jax.jit(partial(model.apply, width=width, train=False))
        logits = runtime.infer(images, width_name(width))
        same = np.asarray(apply(kept, images))
        allowed = TOLERANCE * float(np.abs(same).max())
        difference = float(np.abs(logits - same).max())
        if not difference <= allowed:  # NaN is not.
            raise ValueError(
                f'width {width_name(width)} differs from JAX by {difference:.2g}; '
                f'{allowed:.2g} is allowed: the export is wrong'
            )
        whole = same if storage == 'float32' else np.asarray(apply(variables, images))
        found[width_name(width)] = {
            'max_abs_diff': float(np.abs(logits - whole).max()),
            'max_abs_diff_as_stored': difference,
            'max_abs_logit': float(np.abs(whole).max()),
        }
    return found


def latencies(
    runs: Mapping[str, Run], image_shape: tuple[int, int, int], repeats: int
) -> dict[str, dict[str, float]]:
    """Returns the latency of one image in milliseconds, measured in turns.

    Args:
        runs: by the name of a width, or by `NAME alone` for a file of its own.
        image_shape: height and width in pixels, and channels.
        repeats: timed runs of each.

    Returns:
        `{name: {'latency_ms_p50', 'latency_ms_p95'}}`, and the same with `_alone`.

    Example:
        >>> found = latencies({'1.0': np.sum, '1.0 alone': np.sum}, (8, 8, 3), 5)
        >>> list(found['1.0'])[1:3]
        ['latency_ms_p95', 'latency_ms_p50_alone']
    """
    image = np.zeros((1, *image_shape), np.float32)
    turns = {name: partial(run, image) for name, run in runs.items()}
    found = {}
    for name, times in interleaved(turns, repeats).items():
        width, _, alone = name.partition(' ')
        end = '_alone' if alone else ''
        own = found.setdefault(width, {})
        for share in (50, 95):
            own[f'latency_ms_p{share}{end}'] = float(np.percentile(times, share))
    return found
