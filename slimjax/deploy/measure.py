"""What a bundle is measured by: its distance from JAX, and its latency."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from slimjax.deploy.runtime import Runtime
from slimjax.deploy.storage import as_restored
from slimjax.insight.timing import interleaved
from slimjax.width import Width, width_name

# How far a bundle may be from JAX, in units of its largest logit; where it computes in
# integers, the quadratic mean of the differences in units of that of the logits.
TOLERANCE, INTEGER_TOLERANCE = 1e-4, 0.1
# Compared at a time.
IMAGES = 4

Run = Callable[[np.ndarray], np.ndarray]


def compared_with_jax(
    runtime: Runtime,
    model: nn.Module,
    variables: Mapping[str, Any],
    widths: Sequence[Width],
    storage: str,
    images: np.ndarray | None = None,
) -> dict[str, dict[str, float]]:
    """Returns how far each width is from JAX.

    Args:
        runtime: of the bundle.
        model: that was exported.
        variables: of the model.
        widths: of the model.
        storage: of the bundle.
        images: at which they are compared; None for random ones.

    Returns:
        `{name: {'max_abs_diff': from JAX with these variables,
        'max_abs_diff_as_stored': from JAX with them as they are stored, which nothing
        but w8a8 lacks, 'max_abs_logit': of JAX}}`.

    Raises:
        ValueError: one is further away than rounding takes it.
    """
    if images is None:
        shape = IMAGES, *runtime.image_shape
        images = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    # Integers are made of kernels that norms are part of: not to be told here.
    integers = storage == 'w8a8'
    kept, found = variables if integers else as_restored(variables, storage), {}
    for width in widths:
        name = width_name(width)
        apply = jax.jit(partial(model.apply, width=width, train=False))
        outputs = jax.tree.leaves(runtime.infer(images, name))
        same = jax.device_get(jax.tree.leaves(apply(kept, images)))
        for output, expected in zip(outputs, same, strict=True):
            _check(name, output, expected, integers)
        whole = same
        if storage not in ('float32', 'w8a8'):
            whole = jax.device_get(jax.tree.leaves(apply(variables, images)))
        found[name] = {
            'max_abs_diff': _largest_difference(outputs, whole),
            'max_abs_logit': max(map(_largest, whole)),
        }
        if not integers:
            as_stored = _largest_difference(outputs, same)
            found[name]['max_abs_diff_as_stored'] = as_stored
    return found


def _check(name: str, found: np.ndarray, expected: np.ndarray, integers: bool) -> None:
    size = _quadratic_mean if integers else _largest
    allowed = (INTEGER_TOLERANCE if integers else TOLERANCE) * size(expected)
    difference = size(found - expected)
    if not difference <= allowed:  # NaN is not.
        raise ValueError(
            f'width {name} differs from JAX by {difference:.2g}; {allowed:.2g} is '
            'allowed: '
            + ('8 bits are too few for it' if integers else 'the export is wrong')
        )


def _largest(values: np.ndarray) -> float:
    return float(np.abs(values).max())


def _quadratic_mean(values: np.ndarray) -> float:
    return float(np.sqrt(np.square(values).mean()))


def _largest_difference(found, expected) -> float:
    pairs = zip(found, expected, strict=True)
    return max(_largest(one - other) for one, other in pairs)


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
