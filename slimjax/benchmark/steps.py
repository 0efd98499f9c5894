"""What is known of training steps, of a classifier or a detector, and told of them."""

import datetime
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from slimjax.benchmark.device import device_name
from slimjax.benchmark.training import TrainingStep
from slimjax.insight.timing import Estimate, estimate, interleaved
from slimjax.train.report import git_commit

Estimates = Mapping[str, Estimate | Mapping[str, Estimate]]


def compiled_figures(
    slimmable: TrainingStep, alone: Mapping[str, TrainingStep]
) -> dict[str, Any]:
    """Returns what is known of the compiled steps before they are timed.

    Args:
        slimmable: of all widths.
        alone: of each width, widest first.
    """
    widest = next(iter(alone.values()))
    compile_s = {width: step.compile_s for width, step in alone.items()}
    found = {
        'temp_bytes': slimmable.temporary_bytes,
        'temp_bytes_widest': widest.temporary_bytes,
        'parameter_bytes': slimmable.parameter_bytes,
        'ratio_memory': slimmable.temporary_bytes / widest.temporary_bytes,
        # What is over the widest's own is the summed gradient, of the weights' size.
        'ratio_memory_less_gradient': (
            slimmable.temporary_bytes - slimmable.parameter_bytes
        )
        / widest.temporary_bytes,
        'compile_s': slimmable.compile_s,
        'individual_compile_s': compile_s,
        'ratio_compile': slimmable.compile_s / sum(compile_s.values()),
    }
    if slimmable.peak_bytes is not None:
        found |= {
            'peak_bytes': slimmable.peak_bytes,
            'peak_bytes_widest': widest.peak_bytes,
        }
    return found


def timed_steps(
    slimmable: TrainingStep,
    alone: Mapping[str, TrainingStep],
    rivals: Mapping[str, Callable[[], object]],
    repeats: int,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Times all steps in turn.

    Args:
        slimmable: of all widths.
        alone: of each width.
        rivals: further steps, by names of their own.
        repeats: timed runs of each.

    Returns:
        The estimates `slimmable_step_ms`, `ratio_to_sum`, `dispatch_ms` and, a width
        each, `individual_step_ms`; and all milliseconds, those of all widths together
        as `'slimmable'`.
    """
    runs = {'slimmable': slimmable, 'dispatch': slimmable.empty(), **alone}
    times = interleaved({**runs, **rivals}, repeats)
    estimates = {
        'slimmable_step_ms': estimate(times['slimmable']),
        'ratio_to_sum': estimate(
            times['slimmable'] / sum(times[width] for width in alone)
        ),
        'dispatch_ms': estimate(times['dispatch']),
        'individual_step_ms': {width: estimate(times[width]) for width in alone},
    }
    return estimates, times


def measured(
    estimates: Estimates,
    inference: Mapping[int, Mapping[str, Mapping[str, Estimate]]],
    *,
    batch: int,
    repeats: int,
) -> dict[str, Any]:
    """Returns what was timed, as `--json` holds it, and where and when.

    Args:
        estimates: what `timed_steps` returns, and others.
        inference: what `inference_ms` returns, a number of images each.
        batch: images of a device in a step.
        repeats: timed runs of each.
    """

    def of_widths(value: Callable[[Mapping[str, Estimate]], Any]) -> dict[str, Any]:
        return {
            width: {
                f'batch_{number}': value(each[width])
                for number, each in inference.items()
            }
            for width in estimates['individual_step_ms']
        }

    step_s = estimates['slimmable_step_ms'].median / 1000
    return {
        **{name: _median(value) for name, value in estimates.items()},
        'images_per_s': batch * jax.local_device_count() / step_s,
        'inference': of_widths(_median),
        'spread': {
            **{name: _interval(value) for name, value in estimates.items()},
            'inference_ratio': of_widths(lambda each: _interval(each['ratio'])),
        },
        'device': device_name(),
        'repeats': repeats,
        'git_commit': git_commit(),
        'date': datetime.date.today().isoformat(),
    }


def _median(value: Estimate | Mapping[str, Estimate]):
    if isinstance(value, Estimate):
        return value.median
    return {name: each.median for name, each in value.items()}


def _interval(value: Estimate | Mapping[str, Estimate]):
    if isinstance(value, Estimate):
        return [value.low, value.high]
    return {name: [each.low, each.high] for name, each in value.items()}
