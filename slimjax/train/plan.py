"""What a run would need on a TPU slice, told by its compiler before it is rented."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from slimjax.insight.hlo import all_reduces, memory_traffic
from slimjax.insight.liveness import peak_live_bytes
from slimjax.insight.memory import format_bytes
from slimjax.insight.padding import named_widths, padding_by_width
from slimjax.insight.topology import (
    ChipMemory,
    OutOfMemoryError,
    chip_memory,
    compile_step,
    largest_batch,
    memory_limit,
    topology_devices,
)
from slimjax.train.network import build_model
from slimjax.train.optimizer import make_optimizer
from slimjax.train.parallel import AXIS
from slimjax.train.state import abstract_variables, create_state
from slimjax.train.step import make_train_step, metric_names

# Nobody trains with more on a chip, and the compiler takes ever longer.
_MOST_IMAGES = 4096
# Batches that wait on a device for their turn, see `slimjax.train.parallel`.
_WAITING = 2


class Plan:
    """The training step of a config, compiled for chips that are not here.

    Args:
        config: a complete, checked config.
        topology: such as `'v5e:2x2'`.
        say: prints a line for a person.

    Raises:
        ImportError: libtpu is not installed.
        ValueError: no such topology, or chips that the batch does not divide over.

    Example:
        >>> import importlib.util
        >>> from slimjax.config import complete
        >>> if importlib.util.find_spec('libtpu'):
        ...     assert Plan(complete({}), 'v5e:2x2', print).batch == 64
    """

    def __init__(
        self, config: Mapping[str, Any], topology: str, say: Callable[[str], None]
    ):
        if config['sandwich']:
            raise ValueError(
                f'config.sandwich={config["sandwich"]}: a plan is made for a step that '
                'is one program; set sandwich=0, and widths to those of one step'
            )
        self.config, self.topology, self.say = config, topology, say
        self.devices = topology_devices(topology)
        self.batch = _shared(config, topology, len(self.devices))
        model = build_model(config, axis_name=AXIS)
        if model.conv_form == 'auto':
            # Which would ask what this machine computes with.
            model = model.clone(conv_form='plain')
        self.model = model

    def results(self) -> dict[str, Any]:
        """Compiles, several times, and returns what `--json` writes.

        Returns:
            `{'name': str, 'chip': str, 'chips': int, 'batch_a_chip': int,
            'memory': {'limit_bytes': int, 'needed_bytes': int, ...}, 'fits': bool,
            'largest_batch_a_chip': int, 'live_bytes': int,
            'all_reduce_bytes': [int, ...], 'traffic_bytes': int,
            'padding': {'0.25': {...}, ...}}`; of a batch that does not fit, the last
            four and the parts of the memory are not known.
        """
        chips, kind = len(self.devices), self.devices[0].device_kind
        limit = memory_limit(self.devices)
        self.say(
            f'{self.topology}: {chips} x {kind}, {format_bytes(limit)} each; compiling '
            f'for {self.batch} images a chip, which takes minutes'
        )
        found = {
            'name': self.topology,
            'chip': kind,
            'chips': chips,
            'batch_a_chip': self.batch,
        }
        try:
            compiled = self._compile(self.batch)
        except OutOfMemoryError as error:
            needed = error.needed
            found['memory'] = {'limit_bytes': limit}
        else:
            memory = chip_memory(compiled)
            needed = self._needed(memory, self.batch)
            found['memory'] = self._memory(memory, limit)
            found |= self._program(compiled.as_text())
        if math.isfinite(needed):
            found['memory']['needed_bytes'] = needed
        found['fits'] = needed <= limit
        self.say(_memory_line(found))
        if 'padding' in found:
            for line in _program_lines(found):
                self.say(line)
        found['largest_batch_a_chip'] = self._largest(needed, limit)
        self.say(_largest_line(found))
        return found

    def _compile(self, batch: int) -> jax.stages.Compiled:
        config = self.config
        optimizer = make_optimizer(
            config, optax.constant_schedule(config['learning_rate'])
        )
        shape = self._image_shape
        names = metric_names(self.model.widths, config)
        state = jax.eval_shape(
            lambda: create_state(
                self.model.clone(axis_name=None),
                optimizer,
                shape,
                names,
                seed=0,
                average=bool(config['ema_decay']),
            )
        )
        whole = batch * len(self.devices)
        examples = {
            'image': jax.ShapeDtypeStruct((whole, *shape), jnp.uint8),
            'label': jax.ShapeDtypeStruct((whole,), jnp.int32),
        }
        step = make_train_step(self.model, optimizer, config)
        with named_widths():
            return compile_step(step, state, examples, self.devices, AXIS)

    @property
    def _image_shape(self) -> tuple[int, int, int]:
        size = self.config['image_size']
        return size, size, self.config['image_channels']

    def _variables(self):
        return abstract_variables(self.model.clone(axis_name=None), self._image_shape)

    def _batch_bytes(self, batch: int) -> int:
        return batch * (math.prod(self._image_shape) + 4)

    def _needed(self, memory: ChipMemory, batch: int) -> int:
        return memory.needed + _WAITING * self._batch_bytes(batch)

    def _memory(self, memory: ChipMemory, limit: int) -> dict[str, int]:
        return {
            'limit_bytes': limit,
            'argument_bytes': memory.arguments,
            'temporary_bytes': memory.temporaries,
            'result_bytes': memory.results,
            'code_bytes': memory.code,
            'waiting_batch_bytes': _WAITING * self._batch_bytes(self.batch),
        }

    def _program(self, text: str) -> dict[str, Any]:
        _, stats = self._variables()
        channels = {leaf.shape[0] for leaf in jax.tree.leaves(stats)}
        padding = padding_by_width(text, channels)
        return {
            'live_bytes': peak_live_bytes(text),
            'all_reduce_bytes': all_reduces(text),
            'traffic_bytes': memory_traffic(text),
            'padding': {width: each.results() for width, each in padding.items()},
        }

    def _largest(self, needed: float, limit: int) -> int:
        def compiled_bytes(batch):
            self.say(f'trying {batch} images a chip')
            try:
                return self._needed(chip_memory(self._compile(batch)), batch)
            except OutOfMemoryError as error:
                return error.needed

        # Weights, their gradients and their momentum are there at any batch.
        params, _ = self._variables()
        fixed = 3 * sum(
            leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(params)
        )
        known = {0: fixed, self.batch: needed}
        group = self.config['norm_batch']
        unit = self.config['accumulate_steps'] * (group if type(group) is int else 1)
        # The images of a batch lie along one side of a tile, which is 8 x 128.
        for side in (128, 8) if self.batch >= 128 else (8,):
            step = math.lcm(side, unit)
            found = largest_batch(
                compiled_bytes, limit, known, step=step, most=_MOST_IMAGES
            )
            if found:
                return found
        return 0


def _shared(config: Mapping[str, Any], topology: str, chips: int) -> int:
    """The examples of each chip."""
    batch, parts = config['batch_size'], config['accumulate_steps']
    if batch % (chips * parts):
        unit = chips * parts
        below = batch // unit * unit
        of = f' in accumulate_steps={parts} parts' if parts > 1 else ''
        raise ValueError(
            f'batch_size={batch} does not divide over the {chips} chips of {topology}'
            f'{of}; try {f"{below} or " if below else ""}{below + unit}'
        )
    return batch // chips


def _memory_line(found: Mapping[str, Any]) -> str:
    memory = found['memory']
    limit = format_bytes(memory['limit_bytes'])
    needed = memory.get('needed_bytes')
    text = 'more' if needed is None else format_bytes(needed)
    line = f'memory a chip: {text} of {limit}'
    if 'temporary_bytes' not in memory:
        return f'{line}: {found["batch_a_chip"]} images do not fit'
    parts = {
        'arguments': memory['argument_bytes'] + memory['result_bytes'],
        'temporaries': memory['temporary_bytes'],
        'program': memory['code_bytes'],
        'waiting batches': memory['waiting_batch_bytes'],
    }
    told = ', '.join(f'{name} {format_bytes(size)}' for name, size in parts.items())
    return f'{line} = {told}'


def _program_lines(found: Mapping[str, Any]) -> list[str]:
    sums = found['all_reduce_bytes']
    lines = [
        f'of the temporaries {format_bytes(found["live_bytes"])} are in use at once; '
        'the rest are gaps between them',
        f'all-reduces a step: {len(sums)}, of '
        + ', '.join(map(format_bytes, sums))
        + ', for all widths together',
        f'a step reads and writes {format_bytes(found["traffic_bytes"])} of memory',
    ]
    for width, padding in found['padding'].items():
        lost, whole = padding['padding_bytes'], padding['array_bytes']
        share = 100 * lost / max(whole + lost, 1)
        line = (
            f'width {width} writes {format_bytes(whole + lost)} a step, of which '
            f'{format_bytes(lost)} ({share:.1f} %) is padding'
        )
        for multiple, saved in padding['rounding'].items():
            line += f'; channels in multiples of {multiple} save {format_bytes(saved)}'
        lines.append(line)
    return lines


def _largest_line(found: Mapping[str, Any]) -> str:
    largest = found['largest_batch_a_chip']
    if not largest:
        return 'no batch fits a chip'
    or_more = ' or more' if largest == _MOST_IMAGES else ''
    return (
        f'largest batch that fits: {largest} images a chip{or_more}, '
        f'--config.batch_size={largest * found["chips"]}'
    )
