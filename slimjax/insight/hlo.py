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
# They run other computations.
ENTERED = ('conditional', 'while', 'call')
# Their results lie where others put them, or are told of by the `-done` that follows.
_WRITES_NOTHING = (
    'parameter',
    'tuple',
    'get-tuple-element',
    'bitcast',
    'after-all',
    'opt-barrier',
    'partition-id',
    *ENTERED,
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
        name: such as `'fusion.12'`.
        opcode: such as `'fusion'`.
        results: the arrays it returns.
        rest: operands and attributes, as text.
    """

    name: str
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
    def operands(self) -> tuple[str, ...]:
        """The names of the instructions whose results it takes."""
        return tuple(re.findall(r'%([\w.\-]+)', self.rest.partition(')')[0]))

    @property
    def called(self) -> tuple[str, ...]:
        """The computations that its attributes name, and other instructions there."""
        return tuple(re.findall(r'%([\w.\-]+)', self.rest.partition('), ')[2]))

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
            lines.append(parts.groups())
    run, waiting = {}, [entry]
    while waiting:
        name = waiting.pop(0)
        if name in run:
            continue
        run[name] = [
            Instruction(own_name, opcode, parse_arrays(kind), rest)
            for own_name, kind, opcode, rest in found[name]
        ]
        for instruction in run[name]:
            if instruction.opcode in ENTERED:
                waiting += [each for each in instruction.called if each in found]
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


def memory_traffic(text: str) -> int:
    """Returns the bytes that a program reads and writes in a chip's large memory.

    Each instruction reads its operands and writes its results, whole and with their
    padding; what lies in a fast memory does not count. Of a conditional's branches the
    one that moves most counts, and a loop's body counts once.

    Args:
        text: `compiled.as_text()`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> program = jax.jit(lambda x: x + 1).lower(jnp.ones((8, 8))).compile()
        >>> memory_traffic(program.as_text())
        512
    """
    run = computations(text)

    def moved(name):
        named = {each.name: each for each in run[name]}
        total = 0
        for instruction in run[name]:
            if instruction.opcode in ENTERED:
                total += max(moved(each) for each in instruction.called if each in run)
            elif instruction.writes:
                written = _in_large_memory(instruction.results)
                asked = instruction
                if instruction.opcode.endswith('-done'):
                    asked = named[instruction.operands[0]]
                sources = [named[each].results for each in asked.operands]
                read = sum(_in_large_memory(each) for each in sources)
                if asked.opcode == 'slice-start':
                    read = min(read, _padded(instruction.results))
                total += written + read
        return total

    return moved(next(iter(run)))


def _padded(arrays: tuple[HloArray, ...]) -> int:
    return sum(array.padded_bytes for array in arrays)


def _in_large_memory(arrays: tuple[HloArray, ...]) -> int:
    return _padded(tuple(array for array in arrays if not array.on_chip))
