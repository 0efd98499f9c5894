"""How much of memory a program's arrays need at once, before they are packed into it.

What a compiler plans is more: arrays of all sizes come and go, and leave gaps.
"""

import collections
import itertools
import re
from collections.abc import Iterator, Sequence
from typing import Any

from slimjax.insight.hlo import ENTERED, Instruction, computations

# An array is told by its place in the list of all; a tuple holds several. None is what
# takes no memory of the program's own: its arguments, and what lies in a fast memory.
_Value = Any
_SAME = ('bitcast', 'opt-barrier')


def peak_live_bytes(text: str) -> int:
    """Returns the most bytes that a program's own arrays hold at any one moment.

    Those in the large memory count, with their padding, from the instruction that
    writes them (of a copy, its end) to the last that reads them. The arguments do not,
    nor does what the program returns, which mostly takes their place. Of a
    conditional's branches all are followed, one after another, and the largest result
    is kept.

    Args:
        text: `compiled.as_text()`, in the order in which it runs.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> program = jax.jit(lambda x: x @ x @ x).lower(jnp.ones((8, 8))).compile()
        >>> peak_live_bytes(program.as_text())
        256
    """
    program = _Program(text)
    changes = collections.Counter()
    for size, first, last in program.arrays:
        changes[first] += size
        changes[last + 1] -= size
    sizes = itertools.accumulate(changes[moment] for moment in sorted(changes))
    return max(sizes, default=0)


class _Program:
    """Follows a program, and notes the first and last use of each array.

    Attributes:
        arrays: `[bytes, first, last]` of each, in instructions from the start.
    """

    def __init__(self, text: str):
        self._computations = computations(text)
        self.arrays: list[list[int]] = []
        self._moment = 0
        for place in _leaves(self._follow(next(iter(self._computations)), [])):
            self.arrays[place][0] = 0

    def _follow(self, name: str, arguments: Sequence[_Value]) -> _Value:
        values: dict[str, _Value] = {}
        for instruction in self._computations[name]:
            self._moment += 1
            operands = [values[each] for each in instruction.operands]
            self._use(operands)
            values[instruction.name] = self._result(instruction, operands, arguments)
        # A computation ends with its result.
        return values[instruction.name]

    def _result(
        self,
        instruction: Instruction,
        operands: list[_Value],
        arguments: Sequence[_Value],
    ) -> _Value:
        opcode, rest = instruction.opcode, instruction.rest
        if opcode == 'parameter':
            place = int(re.match(r'\d+', rest).group())
            return arguments[place] if arguments else None
        if opcode == 'get-tuple-element':
            place = int(re.search(r'index=(\d+)', rest).group(1))
            return operands[0][place] if isinstance(operands[0], list) else operands[0]
        if opcode in _SAME:
            return operands[0]
        if opcode in ENTERED:
            return self._entered(instruction, operands)
        if not instruction.writes:
            return operands
        written = [
            None if array.on_chip else self._new(array.padded_bytes)
            for array in instruction.results
        ]
        return written[0] if len(written) == 1 else written

    def _entered(self, instruction: Instruction, operands: list[_Value]) -> _Value:
        called = [each for each in instruction.called if each in self._computations]
        if instruction.opcode == 'conditional':
            given = [[each] for each in operands[1:]]
        else:
            given = [operands] * len(called)
        results = [self._follow(*each) for each in zip(called, given, strict=True)]
        return max(results, key=lambda each: sum(self._sizes(each)))

    def _new(self, size: int) -> int:
        self.arrays.append([size, self._moment, self._moment])
        return len(self.arrays) - 1

    def _use(self, value: _Value) -> None:
        for place in _leaves(value):
            self.arrays[place][2] = self._moment

    def _sizes(self, value: _Value) -> Iterator[int]:
        return (self.arrays[place][0] for place in _leaves(value))


def _leaves(value: _Value) -> Iterator[int]:
    if isinstance(value, list):
        for each in value:
            yield from _leaves(each)
    elif value is not None:
        yield value
