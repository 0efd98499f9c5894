"""What the values of a traced program are while they become ONNX nodes.

JAX has channels last, ONNX first: a value keeps note of which of its axes stands where,
so that arrays are turned only where an operation needs it. Sums, products and bounds
wait for what comes next: a norm becomes part of the convolution before it.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from slimjax.deploy.onnx_scope import Scope

# The size of an axis that is known only at run time, the images' number.
UNKNOWN = -1


@dataclasses.dataclass(frozen=True)
class Tensor:
    """An output of a node.

    Attributes:
        name: in the graph.
        shape: as JAX has it.
        order: which of those axes the tensor's axes are; those it lacks have size 1.
    """

    name: str
    shape: tuple[int, ...]
    order: tuple[int, ...]

    def arranged(self, order: Sequence[int], scope: Scope) -> str:
        """Returns the name of the same values with the axes in another order."""
        order = tuple(order)
        if self.order == order:
            return self.name
        common = [axis for axis in order if axis in self.order]
        others = [axis for axis in self.order if axis not in order]
        if any(self.shape[axis] != 1 for axis in others):
            raise ValueError(f'axes {others} of {self.shape} cannot be left out')
        name, turned = self.name, (*common, *others)
        if turned != self.order:
            perm = [self.order.index(axis) for axis in turned]
            name = scope.add('Transpose', [name], perm=perm)
        if turned == order:
            return name
        return scope.reshape(name, [self.shape[axis] for axis in order])

    def reshaped(self, shape: Sequence[int], scope: Scope) -> 'Tensor':
        """Returns the values in another shape, turned as little as possible."""
        shape = tuple(shape)
        groups = matched(self.shape, shape)
        stored = [axis for axis in self.order if self.shape[axis] != 1]
        units = len(self.order) - len(stored)
        new_units = [axis for axis, size in enumerate(shape) if size == 1]
        alike = all(len(old) == len(new) == 1 for old, new in groups)
        if alike and units <= len(new_units):
            renamed = {old[0]: new[0] for old, new in groups}
            left = new_units[len(new_units) - units :]
            order = tuple(
                renamed[axis] if self.shape[axis] != 1 else left.pop(0)
                for axis in self.order
            )
            return Tensor(self.name, shape, order)
        # Axes that become one must stand side by side.
        of = {axis: number for number, (old, _) in enumerate(groups) for axis in old}
        turns = [
            groups[number] for number in dict.fromkeys(of[each] for each in stored)
        ]
        wanted = [axis for old, _ in turns for axis in old]
        order = tuple(axis for _, new in turns for axis in new)
        name = self.name
        if wanted != stored:
            rest = [axis for axis in self.order if self.shape[axis] == 1]
            name = self.arranged((*wanted, *rest), scope)
        return Tensor(scope.reshape(name, [shape[a] for a in order]), shape, order)

    def transposed(self, permutation: Sequence[int]) -> 'Tensor':
        """Returns the same tensor, whose axes are called otherwise."""
        shape = tuple(self.shape[axis] for axis in permutation)
        order = tuple(permutation.index(axis) for axis in self.order)
        return Tensor(self.name, shape, order)


def matched(
    old: Sequence[int], new: Sequence[int]
) -> list[tuple[list[int], list[int]]]:
    """Returns the smallest groups of axes that a reshape turns into one another.

    Axes of size 1 belong to no group.

    Raises:
        ValueError: an axis of unknown size would be split or merged.

    Example:
        >>> matched((UNKNOWN, 4, 1, 6), (UNKNOWN, 4, 2, 3))
        [([0], [0]), ([1], [1]), ([3], [2, 3])]
    """
    left = [axis for axis, size in enumerate(old) if size != 1]
    right = [axis for axis, size in enumerate(new) if size != 1]
    groups = []
    while left and right:
        group = [left.pop(0)], [right.pop(0)]
        sizes = [old[group[0][0]], new[group[1][0]]]
        while sizes[0] != sizes[1]:
            side = int(sizes[1] < sizes[0])
            source, of = (left, old) if side == 0 else (right, new)
            if UNKNOWN in sizes or not source or of[source[0]] == UNKNOWN:
                raise ValueError(f'a reshape of {tuple(old)} to {tuple(new)}')
            sizes[side] *= of[source[0]]
            group[side].append(source.pop(0))
        groups.append(group)
    if left or right:
        raise ValueError(f'a reshape of {tuple(old)} to {tuple(new)}')
    return groups


@dataclasses.dataclass(eq=False)
class Waiting:
    """A result that a factor and a summand for each channel may still become part of.

    Attributes:
        shapes: as the operation gives it, and then as it was reshaped.
        channel: its axis, in the last of those shapes.
        make: adds the nodes, given `[channels]` or numbers (factor, summand).
        factor, summand: so far.
    """

    shapes: tuple[tuple[int, ...], ...]
    channel: int
    make: Callable[[np.ndarray, np.ndarray], Tensor]
    factor: np.ndarray = dataclasses.field(default_factory=lambda: np.array(1.0))
    summand: np.ndarray = dataclasses.field(default_factory=lambda: np.array(0.0))
    made: Tensor | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.shapes[-1]

    def tensor(self, scope: Scope) -> Tensor:
        if self.made is None:
            made = self.make(self.factor, self.summand)
            for shape in self.shapes[1:]:
                made = made.reshaped(shape, scope)
            self.made = made
        return self.made

    def reshaped(self, shape: tuple[int, ...]) -> 'Waiting | None':
        """Returns it with axes of size 1 added or left out; None for other shapes."""
        groups = matched(self.shape, shape)
        known = {old[0]: new[0] for old, new in groups if len(old) == len(new) == 1}
        if len(known) < len(groups) or self.channel not in known:
            return None
        return dataclasses.replace(
            self, shapes=(*self.shapes, shape), channel=known[self.channel], made=None
        )

    def with_constant(self, name: str, constant: np.ndarray, first: bool):
        """Returns it after arithmetic with a constant for each channel, or None.

        Args:
            name: `'add'`, `'sub'`, `'mul'` or `'div'`.
            constant: of one value, or one for each channel.
            first: whether the constant stands before the operator.
        """
        sizes = constant.shape
        along = [axis for axis, size in enumerate(sizes) if size > 1]
        if along not in ([], [self.channel]) or (first and name == 'div'):
            return None
        vector = np.asarray(constant, np.float64).reshape(-1 if along else ())
        factor, summand = self.factor, self.summand
        if name == 'sub':
            factor, summand = (-factor, -summand) if first else (factor, summand)
            summand = summand + (vector if first else -vector)
        elif name == 'add':
            summand = summand + vector
        elif name == 'mul':
            factor, summand = factor * vector, summand * vector
        else:
            factor, summand = factor / vector, summand / vector
        return dataclasses.replace(self, factor=factor, summand=summand, made=None)


@dataclasses.dataclass(eq=False)
class Bounded:
    """Values that are not to be under `low`, nor above `high`."""

    values: Tensor
    low: float
    high: float | None = None
    made: Tensor | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    def tensor(self, scope: Scope) -> Tensor:
        if self.made is None:
            name = self.values.name
            if self.low == 0 and self.high is None:
                name = scope.add('Relu', [name])
            else:
                bounds = (self.low, np.inf if self.high is None else self.high)
                limits = [scope.constant(np.array(each, np.float32)) for each in bounds]
                name = scope.add('Clip', [name, *limits])
            self.made = dataclasses.replace(self.values, name=name)
        return self.made
