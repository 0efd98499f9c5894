"""What a compiled program says of itself: its arrays as they lie, its collectives.

XLA prints programs as text (`compiled.as_text()`), and that text is the only place
where layouts and padding are told.
"""

import dataclasses
import math
import re

_ITEM_BITS = {'pred': 8, 'bf16': 16, 'c64': 64, 'c128': 128}
_ARRAY = re.compile(
    r'\b(pred|bf16|[fsuc]\d+(?:e\dm\d\w*)?)\[([\d,]*)\](?:\{([\d,]*)(?::([^}]*))?\})?'
)
_COMPUTATION = re.compile(r'(ENTRY )?%?([\w.\-]+) .*\{$')
_INSTRUCTION = re.compile(r'\s+(?:ROOT )?%?([\w.\-]+) = (.*?) ([\w\-]+)\((.*)$')
_ENTERED = ('conditional', 'while', 'call')
# Their results lie where others put them, or are told of by the `-done` that follows.
_WRITES_NOTHING = (
    'parameter',
    'tuple',
    'get-tuple-element',
    'bitcast',
    'after-all',
    'opt-barrier',
    'partition-id',
    *_ENTERED,
)


@dataclasses.dataclass(frozen=True)
class HloArray:
    """An array as it lies in memory.

    Attributes:
        shape: as the program sees it.
        order: its axes from the one whose elements are neighbours outwards.
        tile: sizes of a tile along the last of the reversed `order`; the array is
            padded to whole tiles. () where it is not.
        item_bits: of an element.
        on_chip: whether it lies in a chip's own fast memory instead of the large one.
    """

    shape: tuple[int, ...]
    order: tuple[int, ...]
    tile: tuple[int, ...]
    item_bits: int
    on_chip: bool

    @property
    def multiples(self) -> tuple[int, ...]:
        """For each axis, the multiple that its size is padded to."""
        sizes = [1] * len(self.shape)
        for axis, size in zip(self.order, reversed(self.tile), strict=False):
            sizes[axis] = size
        return tuple(sizes)

    @property
    def padded_shape(self) -> tuple[int, ...]:
        """The shape with every axis padded."""
        return tuple(
            -(-size // multiple) * multiple
            for size, multiple in zip(self.shape, self.multiples, strict=True)
        )

    @property
    def bytes(self) -> int:
        """Bytes of the elements."""
        return math.prod(self.shape) * self.item_bits // 8

    @property
    def padded_bytes(self) -> int:
        """Bytes of memory."""
        return math.prod(self.padded_shape) * self.item_bits // 8


@dataclasses.dataclass(frozen=True)
class Instruction:
    """A line of a program.

    Attributes:
        opcode: such as `'fusion'`.
        results: the arrays it returns.
        rest: operands and attributes, as text.
    """

    opcode: str
    results: tuple[HloArray, ...]
    rest: str

    @property
    def writes(self) -> bool:
        """Whether the results are new arrays."""
        return not (
            self.opcode in _WRITES_NOTHING
            or self.opcode.endswith(('-start', '-update'))
            or 'custom_call_target="ConcatBitcast"' in self.rest
        )

    @property
    def op_name(self) -> str:
        """Where in the Python program it comes from, such as `'jit(step)/psum'`."""
        found = re.search(r'op_name="([^"]*)"', self.rest)
        return found.group(1) if found else ''


def parse_arrays(text: str) -> tuple[HloArray, ...]:
    """Returns the arrays of a type as XLA prints it.

    Example:
        >>> (array,) = parse_arrays('bf16[128,7,7,58]{3,0,2,1:T(8,128)(2,1)S(1)}')
        >>> array.padded_shape, array.bytes, array.padded_bytes, array.on_chip
        ((128, 7, 7, 128), 727552, 1605632, True)
    """
    return tuple(
        HloArray(
            shape=_numbers(shape),
            order=_numbers(order),
            tile=_numbers((re.match(r'T\(([\d,]+)\)', rest or '') or ('', ''))[1]),
            item_bits=_ITEM_BITS.get(kind) or int(re.search(r'\d+', kind).group()),
            on_chip=re.search(r'S\([1-9]\d*\)', rest or '') is not None,
        )
        for kind, shape, order, rest in _ARRAY.findall(text)
    )


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(',') if number)


def computations(text: str) -> dict[str, list[Instruction]]:
    """Returns the computations that a program runs, those inside of fusions left out.

    Args:
        text: `compiled.as_text()`.

    Returns:
        `{name: instructions}`, the entry computation first; then what its conditionals
        and loops run.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> program = jax.jit(lambda x: x @ x).lower(jnp.ones((8, 8))).compile()
        >>> len(computations(program.as_text()))
        1
    """
    found, entry, lines = {}, '', []
    for line in text.splitlines():
        if header := _COMPUTATION.match(line):
            found[header.group(2)] = lines = []
            entry = header.group(2) if header.group(1) else entry
        elif parts := _INSTRUCTION.match(line):
            _, kind, opcode, rest = parts.groups()
            lines.append((opcode, kind, rest))
    run, waiting = {}, [entry]
    while waiting:
        name = waiting.pop(0)
        if name in run:
            continue
        run[name] = [
            Instruction(opcode, parse_arrays(kind), rest)
            for opcode, kind, rest in found[name]
        ]
        for instruction in run[name]:
            if instruction.opcode in _ENTERED:
                attributes = instruction.rest.partition('), ')[2]
                named = re.findall(r'%([\w.\-]+)', attributes)
                waiting += [each for each in named if each in found]
    return run


def all_reduces(text: str) -> list[int]:
    """Returns the bytes that each all-reduce of a program sums over devices.

    One instruction may sum many arrays; it is one exchange between the devices.

    Args:
        text: `compiled.as_text()`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> program = jax.jit(lambda x: x @ x).lower(jnp.ones((8, 8))).compile()
        >>> all_reduces(program.as_text())
        []
    """
    return [
        sum(array.bytes for array in instruction.results)
        for instructions in computations(text).values()
        for instruction in instructions
        if instruction.opcode in ('all-reduce', 'all-reduce-done')
    ]
