"""What a network takes on this device, by a table of what its layers take.

Each layer is timed by itself at a few numbers of channels, and between them its time is
interpolated: a search asks for thousands of networks, which nobody can compile. Norms
and activations come in by a factor: what the whole network takes over what its layers
do.
"""

import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from slimjax.benchmark.device import device_name
from slimjax.commands import write_json
from slimjax.deploy.extract import extract
from slimjax.insight.latency import Pass, latency_ms
from slimjax.insight.timing import interleaved
from slimjax.layers import SlimConv, SlimDense
from slimjax.search.space import SearchSpace
from slimjax.width import truncate, widest

# Numbers of channels at which a layer is timed, on each of its sides.
_POINTS = 3
_REPEATS = 20
_WHOLE = 'the whole network'


class Call(NamedTuple):
    """A layer as a network calls it.

    Attributes:
        layer: what is called.
        shape: of its input, for one image.
    """

    layer: SlimConv | SlimDense
    shape: tuple[int, ...]

    @property
    def groups(self) -> int:
        return getattr(self.layer, 'feature_group_count', 1)

    @property
    def depthwise(self) -> bool:
        return getattr(self.layer, 'depthwise', False)

    def narrow(self, inputs: int, outputs: int) -> tuple[nn.Module, jax.Array]:
        """Returns a layer of so many channels, and what it is called with."""
        fields = {'features': outputs, 'widths': (1.0,), 'in_features': None}
        if self.depthwise:
            fields['feature_group_count'] = outputs
        layer = self.layer.clone(rounding=truncate, slim_output=False, **fields)
        return layer, jnp.ones((1, *self.shape[1:-1], inputs))

    def text(self, inputs: int, outputs: int) -> str:
        """Returns what is timed, in words."""
        of = self.layer
        if isinstance(of, SlimDense):
            return f'dense {inputs} -> {outputs}'
        size = 'x'.join(map(str, self.shape[1:-1]))
        groups = outputs if self.depthwise else self.groups
        return (
            f'kernel {of.kernel_size}, stride {of.strides}, {groups} groups, {size} px'
            f', {inputs} -> {outputs}'
        )


class Latency:
    """Seconds an image of networks of a space, on this device.

    Args:
        model: the network whose space it is.
        variables: of the model.
        space: see `search_space`.
        image_shape: height and width in pixels, and channels.
        path: of a JSON file that keeps what was timed, so that a search that goes on
            has the same times.
        say: prints a line for a person.

    Raises:
        ValueError: the network computes convolutions or products outside of its
            `SlimConv` and `SlimDense` layers.
    """

    def __init__(
        self,
        model: nn.Module,
        variables: Mapping[str, Any],
        space: SearchSpace,
        image_shape: tuple[int, int, int],
        path: str | pathlib.Path,
        say: Callable[[str], None] = print,
    ):
        self._space = space
        end = widest(model.widths)
        calls = _calls(model, variables, image_shape, end)
        each, inputs, outputs = space.multiply_adds
        if len(calls) != len(each):
            raise ValueError(
                f'{type(model).__name__} computes {len(each)} convolutions and matrix '
                f'products, of which {len(calls)} are SlimConv or SlimDense layers; '
                'only these are timed'
            )
        groups = np.array([1 if call.depthwise else call.groups for call in calls])
        sides = [inputs.of(space.least) * groups, inputs.of(space.whole) * groups]
        ends = [outputs.of(space.least), outputs.of(space.whole)]
        self._grids = []
        for number, call in enumerate(calls):
            out = _points(ends[0][number], ends[1][number], groups[number])
            own = _points(sides[0][number], sides[1][number], groups[number])
            self._grids.append((call, [1] if call.depthwise else own, out))

        def whole_network():
            narrow, own = extract(model, variables, end, image_shape=image_shape)
            return latency_ms(narrow, own, image_shape, repeats=_REPEATS)[end] / 1000

        dtype = str(jnp.dtype(model.dtype))
        kind = f'{device_name()}, {dtype}'
        whole = f'{_WHOLE}, {"x".join(map(str, image_shape))}'
        path = pathlib.Path(path)
        times = _kept(path, kind, self._wanted(), whole, whole_network, say)
        self._times = [
            np.array([[times[_text(call, i, o)] for o in outs] for i in ins])
            for call, ins, outs in self._grids
        ]
        self._groups, self._factor = groups, 1.0
        self._factor = times[whole] / float(self(space.whole))

    def __call__(self, counts: np.ndarray) -> np.ndarray:
        """Returns the seconds of `[..., variables]` networks."""
        _, inputs, outputs = self._space.multiply_adds
        ins, outs = inputs.of(counts) * self._groups, outputs.of(counts)
        seconds = 0.0
        for k, (_, own, out) in enumerate(self._grids):
            seconds += interpolated(own, out, self._times[k], ins[..., k], outs[..., k])
        return self._factor * seconds

    def _wanted(self) -> dict[str, tuple[Call, int, int]]:
        return {
            _text(call, i, o): (call, i, o)
            for call, ins, outs in self._grids
            for i in ins
            for o in outs
        }


def _text(call: Call, inputs: int, outputs: int) -> str:
    return call.text(outputs if call.depthwise else inputs, outputs)


def _calls(model, variables, image_shape, width) -> list[Call]:
    found = []

    def interceptor(call, args, kwargs, context):
        layer = context.module
        if (
            isinstance(layer, SlimConv | SlimDense)
            and context.method_name == '__call__'
        ):
            found.append(Call(layer.clone(parent=None), args[0].shape))
        return call(*args, **kwargs)

    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    with nn.intercept_methods(interceptor):
        jax.eval_shape(
            lambda variables, images: model.apply(variables, images, width=width),
            variables,
            images,
        )
    return found


def _points(least: float, most: float, groups: int) -> list[int]:
    """A few numbers of channels from the least to the most, of whole groups."""
    points = np.linspace(least, most, _POINTS)
    return sorted({max(1, round(point / groups)) * int(groups) for point in points})


def _kept(path, kind, wanted, whole, whole_network, say) -> dict[str, float]:
    """The times of what is wanted; what the file lacks for this device is measured."""
    tables = json.loads(path.read_text()) if path.exists() else {}
    times = tables.setdefault(kind, {})
    missing = {text: own for text, own in wanted.items() if text not in times}
    if missing or whole not in times:
        say(f'timing {len(missing)} layers on {kind}')
        times |= _measured(missing)
        # Measured together: what else the machine does hits both.
        if whole not in times:
            times[whole] = whole_network()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, tables)
    return times


def _measured(wanted: Mapping[str, tuple[Call, int, int]]) -> dict[str, float]:
    runs = {}
    for text, (call, inputs, outputs) in wanted.items():
        layer, images = call.narrow(outputs if call.depthwise else inputs, outputs)
        variables = jax.jit(layer.init)(jax.random.key(0), images)
        runs[text] = Pass(layer, variables, images, {})
    times = interleaved(runs, _REPEATS)
    return {text: float(np.median(each)) / 1000 for text, each in times.items()}


def interpolated(
    ins: Sequence[int],
    outs: Sequence[int],
    times: np.ndarray,
    inputs: np.ndarray,
    outputs: np.ndarray,
) -> np.ndarray:
    """Returns what a table says between its points, bilinearly.

    Args:
        ins: rising numbers of input channels, the rows of the table.
        outs: rising numbers of output channels, its columns.
        times: `[rows, columns]`.
        inputs: `[...]`, input channels of which the time is wanted.
        outputs: `[...]`, their output channels.

    Example:
        >>> table = np.array([[1.0, 2.0], [3.0, 4.0]])
        >>> interpolated([8, 16], [8, 16], table, np.array(12), np.array(8)).item()
        2.0
    """
    rows = np.stack([np.interp(outputs, outs, row) for row in times])
    if len(ins) == 1:
        return rows[0]
    row = np.clip(np.searchsorted(ins, inputs) - 1, 0, len(ins) - 2)
    low, high = np.take(ins, row), np.take(ins, row + 1)
    share = np.clip((inputs - low) / (high - low), 0, 1)
    at = np.take_along_axis(rows, row[None], 0)[0]
    after = np.take_along_axis(rows, row[None] + 1, 0)[0]
    return at + share * (after - at)
