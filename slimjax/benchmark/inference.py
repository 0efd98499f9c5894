"""How long a width of a slimmable network takes, beside a network of that size."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import numpy as np

from slimjax.insight.latency import Pass
from slimjax.insight.timing import Estimate, estimate, interleaved
from slimjax.models import SlimmableClassifier
from slimjax.train.state import initial_variables
from slimjax.width import widest_first, width_name


def inference_ms(
    model: SlimmableClassifier,
    image_shape: tuple[int, int, int],
    *,
    batch: int,
    repeats: int,
) -> dict[str, dict[str, Estimate]]:
    """Returns the milliseconds a batch takes at every width, widest first.

    Args:
        model: the slimmable network.
        image_shape: height and width in pixels, and channels.
        batch: images that are run together.
        repeats: timed runs of each.

    Returns:
        `{'0.25': {'ms': Estimate, 'narrow_ms': Estimate, 'ratio': Estimate}}`: of the
        slimmable network as it is, of one that has only this width (which
        `slimjax.extract` makes of it), and run by run of the two.
    """
    drawn = np.random.default_rng(0)
    images = jax.device_put(drawn.random((batch, *image_shape), np.float32))
    shared = _placed(model, image_shape)
    runs = {}
    for width in widest_first(model.widths):
        name = width_name(width)
        narrow = model.clone(widths=(width,))
        keywords = {'width': width, 'train': False}
        runs[name] = Pass(model, shared, images, keywords)
        runs[f'{name} alone'] = Pass(
            narrow, _placed(narrow, image_shape), images, keywords
        )
    times = interleaved(runs, repeats)
    results = {}
    for width in map(width_name, widest_first(model.widths)):
        own, narrow = times[width], times[f'{width} alone']
        results[width] = {
            'ms': estimate(own),
            'narrow_ms': estimate(narrow),
            'ratio': estimate(own / narrow),
        }
    return results


def _placed(model, image_shape) -> Mapping[str, Any]:
    create = jax.jit(partial(initial_variables, model, image_shape))
    params, stats = create(jax.random.key(0))
    return {'params': params, **stats}
