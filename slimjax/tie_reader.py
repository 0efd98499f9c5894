"""Reads the ties between channels off a program, equation by equation.

Every position along every axis of the variables gets a label of its own, which is
followed through the program. Where two labels meet, they are one channel.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from slimjax.tie_labels import FIXED, MOVES, Labels, fixed_labels, joined, labelled

Path = tuple[str, ...]

_CALLS = """
jit pjit closed_call core_call remat checkpoint custom_jvp_call custom_vjp_call
custom_vjp_call_jaxpr
"""
_REDUCTIONS = 'reduce_sum reduce_max reduce_min reduce_prod'
_WINDOWS = 'reduce_window_sum reduce_window_max reduce_window_min'
_ELEMENTWISE = """
abs add add_any and cbrt ceil clamp convert_element_type copy cos div eq erf erfc exp
exp2 expm1 floor ge gt integer_pow is_finite le log log1p logistic lt max min mul ne neg
nextafter not or pow reduce_precision rem round rsqrt select_n sign sin sqrt square
stop_gradient sub tan tanh xor
"""
# What is done with the labels of an equation's inputs, by its primitive.
_KINDS = {
    name: kind
    for kind, names in (
        ('call', _CALLS),
        ('reduction', _REDUCTIONS),
        ('window', _WINDOWS),
        ('elementwise', _ELEMENTWISE),
        ('move', ' '.join(MOVES)),
    )
    for name in names.split()
}


@dataclasses.dataclass(frozen=True)
class Axis:
    """The channels along one axis of a variable.

    Attributes:
        path: of the variable in the tree of variables, its collection first.
        axis: which of its axes.
        channels: for each position the number of its channel, or `[positions, groups]`
            on the input side of a grouped kernel, whose columns belong to the groups.
    """

    path: Path
    axis: int
    channels: np.ndarray


@dataclasses.dataclass(frozen=True)
class Ties:
    """The channels of a network.

    Attributes:
        axes: every axis of every variable that has channels; a channel that must stay
            where it is, as that of a colour or a class, is called `FIXED`.
        multiply_adds: for each convolution and matrix product the multiply-adds that
            one output channel takes for one of the input channels it sees; the
            channels that it reads, by groups, and those that it gives.
    """

    axes: tuple[Axis, ...]
    multiply_adds: tuple[tuple[int, np.ndarray, np.ndarray], ...]

    def of(self, path: Path, axis: int) -> np.ndarray:
        """Returns the channels along one axis of a variable.

        Raises:
            KeyError: it has none.
        """
        for each in self.axes:
            if (each.path, each.axis) == (path, axis):
                return each.channels
        raise KeyError((path, axis))


class TieReader:
    """Follows the labels through a program and notes which of them are one channel."""

    def __init__(self, groups: Mapping[Path, int]):
        self.groups = dict(groups)
        self._count = 1  # FIXED is there already.
        self._pairs, self._axes, self._products = [], [], []
        self._owner = {}

    def variable(self, path: Path, shape: Sequence[int]) -> Labels:
        """Labels every axis of a variable that has more than one position."""
        labels = []
        for axis, size in enumerate(shape):
            if size == 1:
                continue
            groups = self.groups.get(path, 1) if axis == len(shape) - 2 else 1
            own = self._new(size * groups).reshape(size, groups)
            self._axes.append((path, axis, own if groups > 1 else own[:, 0]))
            at = [1] * len(shape)
            at[axis] = size
            if groups > 1:
                at[-1] = shape[-1]
                own = np.repeat(own, shape[-1] // groups, axis=1)
            labels.append(own.reshape(at))
            self._owner[int(own.flat[0])] = path
        return labels

    def fix(self, labels: Labels) -> None:
        for each in labels:
            self._tie(each, np.array(FIXED))

    def ties(self) -> Ties:
        """Returns what was found, each channel by one number."""
        pairs = np.concatenate([np.zeros((0, 2), int), *self._pairs])
        shape = (self._count, self._count)
        graph = coo_array((np.ones(len(pairs), bool), pairs.T), shape=shape)
        _, channels = connected_components(graph, directed=False)
        # The component of FIXED is called FIXED.
        channels = np.where(channels == channels[FIXED], FIXED, channels + 1)
        return Ties(
            tuple(Axis(path, axis, channels[own]) for path, axis, own in self._axes),
            tuple(
                (each, channels[inputs], channels[outputs])
                for each, inputs, outputs in self._products
            ),
        )

    def run(
        self, program: Jaxpr, consts: Sequence[Any], inputs: Sequence[Labels]
    ) -> list[Labels]:
        """Returns the labels of a program's outputs."""
        known = dict(zip(program.invars, inputs, strict=True))
        for variable, value in zip(program.constvars, consts, strict=True):
            known[variable] = self._constant(value)

        def labels(atom):
            return [] if isinstance(atom, Literal) else known[atom]

        for equation in program.eqns:
            found = self._equation(equation, [labels(atom) for atom in equation.invars])
            known.update(zip(equation.outvars, found, strict=True))
        return [labels(atom) for atom in program.outvars]

    def _constant(self, value) -> Labels:
        value = np.asarray(value)
        if value.size == 0 or (value == value.flat[0]).all():
            return []
        return [np.full(value.shape, FIXED)]

    def _new(self, count: int) -> np.ndarray:
        self._count += count
        return np.arange(self._count - count, self._count)

    def _tie(self, one: np.ndarray, other: np.ndarray) -> None:
        pairs = np.broadcast_arrays(one, other)
        self._pairs.append(np.stack([each.ravel() for each in pairs], axis=1))

    def _equation(self, equation: JaxprEqn, inputs: list[Labels]) -> list[Labels]:
        name, params = equation.primitive.name, equation.params
        kind = _KINDS.get(name)
        inner = params.get('jaxpr', params.get('call_jaxpr'))
        if kind == 'call' and inner is not None:
            if isinstance(inner, ClosedJaxpr):
                return self.run(inner.jaxpr, inner.consts, inputs)
            return self.run(inner, [], inputs)
        if not any(inputs):
            axes = _uneven_axes(equation, kind)
            return [fixed_labels(atom.aval.shape, axes) for atom in equation.outvars]
        shapes = [atom.aval.shape for atom in equation.invars]
        if name == 'conv_general_dilated':
            return [self._convolution(equation, *inputs)]
        if name == 'dot_general':
            return [self._product(equation, *inputs)]
        if kind == 'elementwise':
            return [self._together(inputs)]
        if name == 'concatenate':
            return [self._concatenated(inputs, shapes, params['dimension'])]
        if kind == 'move':
            move = MOVES[name]
            out = equation.outvars[0].aval.shape
            return [[move(each, shapes[0], out, params) for each in inputs[0]]]
        if kind == 'reduction':
            return [self._reduced(inputs[0], params['axes'])]
        if kind == 'window':
            window = params['window_dimensions']
            axes = {axis for axis, size in enumerate(window) if size > 1}
            out = equation.outvars[0].aval.shape
            return [self._kept(inputs[0], axes) + fixed_labels(out, axes)]
        for labels in inputs:
            self.fix(labels)
        return [fixed_labels(atom.aval.shape) for atom in equation.outvars]

    def _together(self, inputs: Sequence[Labels]) -> Labels:
        """The labels of what is computed from several values element by element."""
        found = []
        for labels in inputs:
            for each in labels:
                axes = labelled(each)
                same = [i for i, known in enumerate(found) if labelled(known) == axes]
                over = [i for i, known in enumerate(found) if labelled(known) & axes]
                for index in same or over:
                    self._tie(found[index], each)
                if not over:
                    found.append(each)
                elif not same:
                    wide = np.broadcast_arrays(found[over[0]], each)[0]
                    found[over[0]] = wide
        return found

    def _concatenated(self, inputs, shapes, dimension) -> Labels:
        along = []
        for labels, shape in zip(inputs, shapes, strict=True):
            own = [each for each in labels if dimension in labelled(each)]
            self.fix(own[1:])
            each = own[0] if own else np.full((1,) * len(shape), FIXED)
            size = list(each.shape)
            size[dimension] = shape[dimension]
            along.append(np.broadcast_to(each, size))
        across = [
            [each for each in labels if dimension not in labelled(each)]
            for labels in inputs
        ]
        return [joined(along, dimension), *self._together(across)]

    def _kept(self, labels: Labels, axes: set[int]) -> Labels:
        """The labels along other axes; those along `axes` must stay as they are."""
        self.fix([each for each in labels if labelled(each) & axes])
        return [each for each in labels if not labelled(each) & axes]

    def _reduced(self, labels: Labels, axes: Sequence[int]) -> Labels:
        kept = []
        for each in labels:
            over = labelled(each) & set(axes)
            if over and labelled(each) - set(axes):
                self.fix([each])
            elif not over:
                kept.append(np.squeeze(each, tuple(axes)))
        return kept

    def _convolution(
        self, equation: JaxprEqn, images: Labels, kernel: Labels
    ) -> Labels:
        numbers = equation.params['dimension_numbers']
        groups = equation.params['feature_group_count']
        out_axis, in_axis = numbers.rhs_spec[:2]
        kernel_shape = equation.invars[1].aval.shape
        inputs, outputs = kernel_shape[in_axis], kernel_shape[out_axis]
        axis = numbers.lhs_spec[1]
        self._kept(images, set(numbers.lhs_spec[2:]))
        self._kept(kernel, set(numbers.rhs_spec[2:]))
        read = self._only(images, {axis}, groups * inputs).reshape(groups, inputs)
        given = self._only(
            [each for each in kernel if labelled(each) == {out_axis}],
            {out_axis},
            outputs,
        )
        own = [each for each in kernel if in_axis in labelled(each)]
        for each in own:
            columns = np.moveaxis(each, (in_axis, out_axis), (0, 1))
            if columns.size != math.prod(columns.shape[:2]):
                self.fix([each, *images])
                continue
            columns = columns.reshape(columns.shape[:2])
            if groups > 1 and columns.shape[1] == 1:
                self._regroup(columns, groups)
                continue
            columns = np.broadcast_to(columns, (inputs, outputs))
            columns = columns.reshape(inputs, groups, outputs // groups)
            self._tie(columns, read.T[:, :, None])
        if inputs == 1 and groups > 1:
            # Depthwise: what it gives is what it reads.
            self._tie(given.reshape(groups, -1), read)
        taps = math.prod(kernel_shape) // (inputs * outputs)
        places = equation.outvars[0].aval.size // outputs
        self._products.append((places * taps, read, given))
        out = equation.outvars[0].aval.shape
        at = [1] * len(out)
        at[numbers.out_spec[1]] = outputs
        return [given.reshape(at), *fixed_labels(out, numbers.out_spec[2:])]

    def _regroup(self, columns: np.ndarray, groups: int) -> None:
        path = self._owner.get(int(columns.flat[0]))
        if path is None:
            self.fix([columns])
        else:
            self.groups[path] = groups

    def _only(self, labels: Labels, axes: set[int], count: int) -> np.ndarray:
        """The labels along one axis, all others being left where they are."""
        own = [each for each in labels if labelled(each) == axes]
        # Of several, one can move, such as the channels beside pixels in a row.
        own.sort(key=lambda each: not (each != FIXED).any())
        self.fix(own[1:])
        for each in labels:
            if labelled(each) != axes and labelled(each) & axes:
                self.fix([each])
                own = [np.full(count, FIXED)]
        return own[0].reshape(-1) if own else np.full(count, FIXED)

    def _product(self, equation: JaxprEqn, left: Labels, right: Labels) -> Labels:
        (contracted, batched) = equation.params['dimension_numbers']
        shapes = [atom.aval.shape for atom in equation.invars]
        out = equation.outvars[0].aval.shape
        if any(batched) or any(len(axes) != 1 for axes in contracted):
            for labels in (left, right):
                self.fix(labels)
            return fixed_labels(out)
        size = shapes[0][contracted[0][0]]
        read = [
            self._only(labels, set(axes), size)
            for labels, axes in zip((left, right), contracted, strict=True)
        ]
        self._tie(*read)
        found, free = [], []
        for labels, shape, axes in zip((left, right), shapes, contracted, strict=True):
            kept = [axis for axis in range(len(shape)) if axis not in axes]
            free.append(math.prod(shape[axis] for axis in kept))
            start = 0 if not free[1:] else len(out) - len(kept)
            for each in labels:
                own = labelled(each)
                if own & set(axes):
                    continue
                at = [1] * len(out)
                for place, axis in enumerate(kept):
                    at[start + place] = each.shape[axis]
                found.append(each.reshape(at))
        if found and labelled(found[-1]) == {len(out) - 1}:
            given = found[-1].reshape(-1)
            places = math.prod(out[:-1])
        else:
            given, places = np.full(1, FIXED), math.prod(out)
        self._products.append((places, read[0][None], given))
        return found


def _uneven_axes(equation: JaxprEqn, kind: str | None) -> Sequence[int] | None:
    """The axes along which a result may differ whose inputs are the same everywhere.

    None for all: of what is not known, as a cumulative sum.
    """
    name, params = equation.primitive.name, equation.params
    if name == 'pad':
        return [axis for axis, at in enumerate(params['padding_config']) if any(at)]
    if kind in ('elementwise', 'move', 'reduction') or name == 'dot_general':
        return ()
    if kind == 'window':
        window = params['window_dimensions']
        return [axis for axis, size in enumerate(window) if size > 1]
    if name in ('concatenate', 'iota'):
        return [params['dimension']]
    if name == 'conv_general_dilated':
        return params['dimension_numbers'].out_spec[2:]
    return None
