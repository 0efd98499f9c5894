"""The figures of one network, put together as `scripts/benchmark.py` writes them."""

import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from slimjax.benchmark.device import matrix_tflops
from slimjax.benchmark.inference import inference_ms
from slimjax.benchmark.steps import compiled_figures, measured, timed_steps
from slimjax.benchmark.training import benchmark_config, training_steps
from slimjax.insight.cost import width_costs
from slimjax.insight.timing import estimate
from slimjax.train.network import build_model
from slimjax.train.report import versions
from slimjax.width import width_name

# Floating point operations for a multiply-add: two, once forward and twice backward.
_OPERATIONS = 6
_INFERENCE_BATCHES = (1, 16)


def check_rival(against: str | None, model: str) -> None:
    """Raises what is wrong with a comparison before anything is compiled.

    Raises:
        ImportError: PyTorch is not installed.
        ValueError: there is no PyTorch loop of this model.
    """
    if against is None:
        return
    if importlib.util.find_spec('torch') is None:
        raise ImportError('--against=torch: PyTorch is not installed here')
    from slimjax.benchmark.torch_loop import NETWORKS

    if model not in NETWORKS:
        raise ValueError(
            f'--model={model}: --against=torch has {", ".join(sorted(NETWORKS))}'
        )


def benchmark(
    model: str,
    *,
    batch: int,
    size: int,
    dtype: str = 'float32',
    against: str | None = None,
    repeats: int = 20,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Measures one network.

    Args:
        model: a name of `slimjax.models.MODELS`.
        batch: images of each device in a training step.
        size: height and width of an image in pixels.
        dtype: type of the computation.
        against: `'torch'` runs the same loop in PyTorch in between.
        repeats: timed steps of each kind, which take turns.
        say: tells a person what is being done.

    Returns:
        What `--json` holds; see `docs/performance.md`. All times are medians, `spread`
        holds the 95 % intervals by the same names.

    Raises:
        ImportError: PyTorch is asked for and not installed.
        ValueError: a model, type, size or number that does not go.
    """
    check_rival(against, model)
    config = benchmark_config(model, batch, size, dtype)
    network = build_model(config)
    shape = (size, size, 3)
    macs = {
        width_name(width): cost.macs
        for width, cost in width_costs(network, shape).items()
    }
    say(f'{model}: compiling {1 + len(macs)} training steps')
    slimmable, alone = training_steps(config, network)
    results = compiled_figures(slimmable, alone)
    say(f'{model}: {repeats} x {2 + len(alone)} steps in turn')
    rivals = _rivals(against, model, network.widths, batch, size, dtype)
    estimates, times = timed_steps(slimmable, alone, rivals, repeats)
    if rivals:
        estimates |= _against(times, rivals)
    del rivals, slimmable, alone
    say(f'{model}: inference at {len(macs)} widths')
    inference = {
        number: inference_ms(network, shape, batch=number, repeats=max(repeats, 30))
        for number in _INFERENCE_BATCHES
    }
    step_s = estimates['slimmable_step_ms'].median / 1000
    tflops = _OPERATIONS * batch * sum(macs.values()) / step_s / 1e12
    ceiling = matrix_tflops(dtype)
    return {
        'model': model,
        'batch': batch,
        'size': size,
        'dtype': dtype,
        **results,
        'tflops': tflops,
        'matrix_tflops': ceiling,
        'share_of_matrix_tflops': tflops / ceiling,
        'macs': macs,
        **measured(estimates, inference, batch=batch, repeats=repeats),
        'versions': versions_with(against),
    }


def _rivals(against, model, widths, batch, size, dtype) -> dict[str, Callable]:
    if against is None:
        return {}
    from slimjax.benchmark import torch_loop

    return {
        f'torch, {name}': torch_loop.training_step(
            model, widths, batch=batch, size=size, **options
        )[1]
        for name, options in torch_loop.variants(dtype == 'bfloat16').items()
    }


def _against(times: Mapping[str, np.ndarray], rivals) -> dict[str, Any]:
    best = min(rivals, key=lambda name: np.median(times[name]))
    return {
        'torch_step_ms': estimate(times[best]),
        'ratio_to_torch': estimate(times['slimmable'] / times[best]),
        'torch_variants_ms': {
            name.removeprefix('torch, '): estimate(times[name]) for name in rivals
        },
    }


def versions_with(against: str | None) -> dict[str, str]:
    """Returns the versions of what was measured, PyTorch's too where that runs."""
    found = dict(versions())
    if against:
        import torch

        found['torch'] = torch.__version__
    return found
