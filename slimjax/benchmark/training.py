"""The training step of a network, compiled and ready to be timed."""

import time
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
import optax

from slimjax.config import check, complete
from slimjax.insight.memory import temporary_bytes
from slimjax.models import SlimmableClassifier
from slimjax.train.optimizer import make_optimizer
from slimjax.train.parallel import AXIS, pmapped, replicated, split_over_devices
from slimjax.train.state import create_state
from slimjax.train.step import make_train_step, metric_names
from slimjax.width import widest_first, width_name

CLASSES = 1000


def benchmark_config(model: str, batch: int, size: int, dtype: str) -> Mapping:
    """Returns the config of the step: SGD with momentum, no colour jitter.

    Args:
        model: a name of `slimjax.models.MODELS`, at its own widths.
        batch: images of each device.
        size: height and width of an image in pixels.
        dtype: type of the computation.

    Raises:
        ValueError: no such model or type, or images too small for it.

    Example:
        >>> benchmark_config('s_shufflenet', 4, 64, 'float32').batch_size % 4
        0
    """
    config = complete(
        {
            'model': model,
            'widths': (),
            'norm': 'own',
            'num_classes': CLASSES,
            'image_size': size,
            'batch_size': batch * jax.local_device_count(),
            'dtype': dtype,
            'optimizer': 'sgd',
            'momentum': 0.9,
            'nesterov': True,
            'weight_decay': 1e-4,
            'jitter': 0.0,
            'lighting': 'none',
        }
    )
    check(config)
    return config


class TrainingStep:
    """A network's pmapped training step on a batch of its own.

    Attributes:
        compile_s: seconds that tracing and compiling took.
        temporary_bytes: of one device, from the compiler's plan.
        peak_bytes: most memory that the first device was seen to use in a step, less
            what it held before; None where it does not tell, as a CPU.
        parameter_bytes: of the weights.
    """

    def __init__(self, config: Mapping[str, Any], model: SlimmableClassifier):
        held = _memory('bytes_in_use')
        optimizer = make_optimizer(config, optax.constant_schedule(0.01))
        size = config['image_size']
        shape = (size, size, config['image_channels'])
        names = metric_names(model.widths)
        mapped = model.clone(axis_name=AXIS)
        state = create_state(model, optimizer, shape, names, seed=0)
        self._state = replicated(state)
        drawn = np.random.default_rng(0)
        count = config['batch_size']
        self._batch = split_over_devices(
            {
                'image': drawn.integers(0, 256, (count, *shape), np.uint8),
                'label': drawn.integers(0, CLASSES, count, np.int32),
            }
        )
        step = pmapped(make_train_step(mapped, optimizer, config), donate=True)
        start = time.perf_counter()
        self._step = step.lower(self._state, self._batch).compile()
        self.compile_s = time.perf_counter() - start
        self.temporary_bytes = temporary_bytes(self._step)
        self.parameter_bytes = sum(
            leaf.nbytes for leaf in jax.tree.leaves(state.params)
        )
        self()
        peak = _memory('peak_bytes_in_use')
        self.peak_bytes = None if peak is None else peak - held

    def __call__(self) -> None:
        """Makes one step and waits for it."""
        self._state, metrics = self._step(self._state, self._batch)
        jax.block_until_ready(metrics)

    def empty(self):
        """Returns a step over the same state and batch that computes nothing."""

        def nothing(state, batch):
            return state, {'read': batch['label'][0]}

        state = replicated(jax.device_get(self._state))
        step = pmapped(nothing, donate=True)

        def run():
            nonlocal state
            state, metrics = step(state, self._batch)
            jax.block_until_ready(metrics)

        return run


def _memory(name: str) -> int | None:
    return (jax.local_devices()[0].memory_stats() or {}).get(name)


def training_steps(
    config: Mapping[str, Any], model: SlimmableClassifier
) -> tuple[TrainingStep, dict[str, TrainingStep]]:
    """Returns the step of all widths, and the steps of each as a network of its own.

    The latter, `{width name: TrainingStep}`, widest first, have physically narrow
    kernels in the same layers' code.
    """
    alone = {
        width_name(width): TrainingStep(config, model.clone(widths=(width,)))
        for width in widest_first(model.widths)
    }
    return TrainingStep(config, model), alone
