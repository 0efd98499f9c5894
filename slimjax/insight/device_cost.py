"""What each width costs on this device: time, memory and energy.

What `scripts/cost.py` writes, what the report shows, and what the run-time controller
chooses a width by.
"""

import datetime
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from slimjax.benchmark.device import device_name
from slimjax.insight.cost import cost_results
from slimjax.insight.energy import NoMeterError, energy_meter, joules_a_run
from slimjax.insight.latency import Pass, inference_passes
from slimjax.insight.timing import interleaved
from slimjax.models import SlimmableClassifier
from slimjax.train.report import git_commit, silent, versions
from slimjax.width import Width, width_name

BATCHES = (1, 4, 16, 64)


def device_costs(
    model: SlimmableClassifier,
    variables: Mapping[str, Any],
    image_shape: tuple[int, int, int],
    *,
    batches: Sequence[int] = BATCHES,
    repeats: int = 50,
    say: Callable[[str], None] = silent,
) -> dict[str, Any]:
    """Measures what each width costs on this device.

    Args:
        model: a slimmable classifier.
        variables: of the model.
        image_shape: height and width in pixels, and channels.
        batches: how many images are run together; the first one is the latency's.
        repeats: timed runs of each width and batch; the widths take turns.
        say: tells a person what is being done.

    Returns:
        `{'widths': {'0.25': {...}}, 'stored_bytes', 'device', 'energy': {'source',
        'reason'}, ...}`, widest first. A width has what `cost_results` says and

        - `latency_ms_p50`, `latency_ms_p95`: median and 95th percentile of the
          milliseconds that the first of `batches` takes, as a whole,
        - `images_per_s`: the most of any batch,
        - `weight_bytes`: of a network that has only this width,
        - `temporary_bytes`: what the first batch needs beside that; None where the
          compiler does not tell,
        - `energy_mj`: millijoules an image at the batch of the most images a second;
          None where no counter can be read, and `energy.reason` says why,
        - `batches`: the same by number of images, `{'1': {...}, '4': {...}}`.

    Raises:
        ValueError: no batch, or less than one image or run.
    """
    if not batches:
        raise ValueError('batches=() is empty; at least one number is needed')
    results = cost_results(model, image_shape)
    for number in batches:
        say(f'{repeats} x {len(results["widths"])} widths at {number} images a batch')
        passes = inference_passes(model, variables, image_shape, batch_size=number)
        times = interleaved(passes, repeats)
        for width, milliseconds in times.items():
            of = results['widths'][width_name(width)].setdefault('batches', {})
            of[str(number)] = {
                'latency_ms_p50': float(np.median(milliseconds)),
                'latency_ms_p95': float(np.quantile(milliseconds, 0.95)),
                'images_per_s': float(1000 * number / np.median(milliseconds)),
                'temporary_bytes': passes[width].temporary_bytes,
                'energy_mj': None,
            }
    energy = _measure_energy(model, variables, image_shape, results['widths'], say)
    for width in model.widths:
        own = results['widths'][width_name(width)]
        first, best = own['batches'][str(batches[0])], _best(own['batches'])
        own |= {
            'latency_ms_p50': first['latency_ms_p50'],
            'latency_ms_p95': first['latency_ms_p95'],
            'images_per_s': own['batches'][best]['images_per_s'],
            'weight_bytes': _weight_bytes(model, width, image_shape),
            'temporary_bytes': first['temporary_bytes'],
            'energy_mj': own['batches'][best]['energy_mj'],
        }
    return results | {
        'stored_bytes': sum(leaf.nbytes for leaf in jax.tree.leaves(variables)),
        'image_shape': list(image_shape),
        'dtype': jnp.dtype(model.dtype).name,
        'batches': list(batches),
        'repeats': repeats,
        'device': device_name(),
        'energy': energy,
        'versions': versions(),
        'git_commit': git_commit(),
        'date': datetime.date.today().isoformat(),
    }


def _best(batches: Mapping[str, Mapping[str, Any]]) -> str:
    """The batch of the most images a second."""
    return max(batches, key=lambda number: batches[number]['images_per_s'])


def _measure_energy(
    model, variables, image_shape, widths, say
) -> dict[str, str | None]:
    """Adds the energy of each width at its best batch; returns what was counted."""
    try:
        meter = energy_meter()
    except NoMeterError as error:
        return {'source': None, 'reason': str(error)}
    for width in model.widths:
        batches = widths[width_name(width)]['batches']
        best = _best(batches)
        say(f'energy of width {width_name(width)} at {best} images a batch')
        passes: dict[Width, Pass] = inference_passes(
            model, variables, image_shape, widths=[width], batch_size=int(best)
        )
        joules = joules_a_run(meter, passes[width])
        batches[best]['energy_mj'] = 1000 * joules / int(best)
    return {'source': meter.source, 'reason': None}


def _weight_bytes(model, width: Width, image_shape) -> int:
    narrow = model.clone(widths=(width,))
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    init = partial(narrow.init, jax.random.key(0))
    return sum(
        math.prod(leaf.shape) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(jax.eval_shape(init, images))
    )
