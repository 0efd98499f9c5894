"""Memory that narrow channels waste on a TPU, of each width.

A TPU keeps an array in tiles, such as 8 x 128 elements, and pads it to whole ones. The
compiler lays either the channels or the images of a batch along the 128, and the other
along the 8: so what is lost depends on both, and is read off the compiled program.
"""

import collections
import contextlib
import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import Any

import flax.linen as nn
import jax

from slimjax.insight.hlo import HloArray, Instruction, computations
from slimjax.width import width_name

_SCOPE = 'width='


@dataclasses.dataclass(frozen=True)
class Padding:
    """What a width's passes write to a chip's large memory in a step.

    Attributes:
        array_bytes: of the elements.
        padding_bytes: written besides, to fill tiles.
        rounding: for multiples of channels, the bytes of padding that would go if all
            channels were such multiples; the other padding is of other axes.
        losses: the sizes of channels that lose most: `(channels, padded, bytes)`.
    """

    array_bytes: int
    padding_bytes: int
    rounding: dict[int, int]
    losses: tuple[tuple[int, int, int], ...]

    def results(self) -> dict[str, Any]:
        """Returns it as `--json` writes it."""
        return {
            'array_bytes': self.array_bytes,
            'padding_bytes': self.padding_bytes,
            'rounding': {str(each): size for each, size in self.rounding.items()},
            'losses': [
                {'channels': size, 'padded_to': padded, 'bytes': lost}
                for size, padded, lost in self.losses
            ],
        }


@contextlib.contextmanager
def named_widths() -> Iterator[None]:
    """Has programs traced inside say which width an instruction belongs to."""

    def interceptor(call, args, kwargs, context):
        if context.module.path or kwargs.get('width') is None:
            return call(*args, **kwargs)
        with jax.named_scope(f'{_SCOPE}{width_name(kwargs["width"])}'):
            return call(*args, **kwargs)

    with nn.intercept_methods(interceptor):
        yield


def padding_by_width(text: str, channels: Sequence[int]) -> dict[str, Padding]:
    """Returns the padding of each width, by its name.

    Args:
        text: `compiled.as_text()` of a program traced under `named_widths`.
        channels: the sizes of axes that count as channels.

    Example:
        >>> import jax.numpy as jnp, slimjax
        >>> layer, images = slimjax.SlimConv(8, 3), jnp.ones((1, 8, 8, 3))
        >>> variables = layer.init(jax.random.key(0), images)
        >>> with named_widths():
        ...     program = jax.jit(lambda x: layer.apply(variables, x, width=0.5)
        ...                      ).lower(images).compile()
        >>> padding_by_width(program.as_text(), (4, 8))['0.5'].padding_bytes
        0
    """
    written = collections.defaultdict(list)
    for name, instructions in computations(text).items():
        own = collections.Counter(filter(None, map(_width_of, instructions)))
        rest = own.most_common(1)[0][0] if own else None
        # A computation of its own is one width's, from its first copy to its last sum.
        # In the main program stand the augmentation and the update as well, but what
        # has no name there is the compiler's moving of the widest's activations.
        is_main = name == next(iter(computations(text)))
        for instruction in instructions:
            width = _width_of(instruction)
            if not (is_main and instruction.op_name):
                width = width or rest
            if width and instruction.writes:
                written[width] += [
                    array for array in instruction.results if not array.on_chip
                ]
    return {
        width: _padding(arrays, frozenset(channels))
        for width, arrays in written.items()
    }


def _width_of(instruction: Instruction) -> str | None:
    found = re.search(rf'{_SCOPE}([^/()]+)', instruction.op_name)
    return found.group(1) if found else None


def _padding(arrays: list[HloArray], channels: frozenset[int]) -> Padding:
    losses = collections.Counter()
    rounding = collections.Counter()
    for array in arrays:
        axes = zip(array.shape, array.padded_shape, array.multiples, strict=True)
        for size, padded, multiple in axes:
            if size in channels and padded > size:
                lost = array.padded_bytes - array.padded_bytes * size // padded
                losses[size, padded] += lost
                rounding[multiple] += lost
    total = 0
    for multiple in sorted(rounding):
        total += rounding[multiple]
        rounding[multiple] = total
    return Padding(
        array_bytes=sum(array.bytes for array in arrays),
        padding_bytes=sum(array.padded_bytes - array.bytes for array in arrays),
        rounding=dict(sorted(rounding.items())),
        losses=tuple((*sizes, lost) for sizes, lost in losses.most_common(3)),
    )
