"""The training step of a network, compiled and ready to be timed."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import optax

from slimjax.config import check, complete
from slimjax.insight.memory import temporary_bytes
from slimjax.models import SlimmableClassifier
from slimjax.train.optimizer import make_optimizer
from slimjax.train.parallel import AXIS, pmapped, replicated, split_over_devices
from slimjax.train.state import TrainState, create_state
from slimjax.train.step import Batch, make_train_step, metric_names
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

    Args:
        create: returns the step as a plain function, the state at step 0, and a batch
            of all devices.

    Attributes:
        compile_s: seconds that tracing and compiling took.
        temporary_bytes: of one device, from the compiler's plan.
        peak_bytes: most memory that the first device was seen to use in a step, less
            what it held before; None where it does not tell, as a CPU, or where another
            step of this process had used more.
        parameter_bytes: of the weights.
    """

    def __init__(self, create: Callable[[], tuple[Callable, TrainState, Batch]]):
        held, highest = _memory('bytes_in_use'), _memory('peak_bytes_in_use')
        function, state, batch = create()
        self._state, self._batch = replicated(state), split_over_devices(batch)
        step = pmapped(function, donate=True)
        start = time.perf_counter()
        self._step = step.lower(self._state, self._batch).compile()
        self.compile_s = time.perf_counter() - start
        self.temporary_bytes = temporary_bytes(self._step)
        self.parameter_bytes = sum(
            leaf.nbytes for leaf in jax.tree.leaves(state.params)
        )
        self()
        peak = _memory('peak_bytes_in_use')
        self.peak_bytes = peak - held if peak is not None and peak > highest else None

    def __call__(self) -> None:
        """Makes one step and waits for it."""
        self._state, metrics = self._step(self._state, self._batch)
        jax.block_until_ready(metrics)

    def empty(self) -> Callable[[], None]:
        """Returns a step over the same state and batch that computes nothing."""

        def nothing(state, batch):
            return state, {'read': jax.tree.leaves(batch)[0].reshape(-1)[0]}

        state = replicated(jax.device_get(self._state))
        step = pmapped(nothing, donate=True).lower(state, self._batch).compile()

        def run():
            nonlocal state
            state, metrics = step(state, self._batch)
            jax.block_until_ready(metrics)

        return run


def _memory(name: str) -> int | None:
    return (jax.local_devices()[0].memory_stats() or {}).get(name)


def classifier_step(
    config: Mapping[str, Any], model: SlimmableClassifier
) -> TrainingStep:
    """Returns the step of a classifier on images and labels drawn at random."""

    def create():
        optimizer = make_optimizer(config, optax.constant_schedule(0.01))
        size = config['image_size']
        shape = (size, size, config['image_channels'])
        names = metric_names(model.widths)
        state = create_state(model, optimizer, shape, names, seed=0)
        mapped = model.clone(axis_name=AXIS)
        drawn, count = np.random.default_rng(0), config['batch_size']
        batch = {
            'image': drawn.integers(0, 256, (count, *shape), np.uint8),
            'label': drawn.integers(0, CLASSES, count, np.int32),
        }
        return make_train_step(mapped, optimizer, config), state, batch

    return TrainingStep(create)


def training_steps(
    config: Mapping[str, Any],
    model: Any,
    step_of: Callable[[Mapping[str, Any], Any], TrainingStep] = classifier_step,
) -> tuple[TrainingStep, dict[str, TrainingStep]]:
    """Returns the step of all widths, and the steps of each as a network of its own.

    The latter, `{width name: TrainingStep}`, widest first, have physically narrow
    kernels in the same layers' code.
    """
    alone = {
        width_name(width): step_of(config, model.clone(widths=(width,)))
        for width in widest_first(model.widths)
    }
    return step_of(config, model), alone
