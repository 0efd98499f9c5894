"""Which parts of the stored variables a width uses, without any of their values."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from flax.traverse_util import flatten_dict
from jax.extend.core import Jaxpr, JaxprEqn, Var

from slimjax.deploy.extract import narrowed
from slimjax.insight.cost import plain_convolutions
from slimjax.tie_labels import MOVES, joined, labelled
from slimjax.width import Width

# Of a value that a program cuts out of a variable: for each of the variable's axes,
# where its elements stood, as an array that broadcasts to the value's shape.
Places = list[np.ndarray]

CUTS = ('slice', 'reshape', 'squeeze', 'transpose')


class Part(NamedTuple):
    """Of a stored variable.

    Attributes:
        path: of the variable, from its collection's name on.
        indices: along each axis, which positions are used, in their order.
    """

    path: tuple[str, ...]
    indices: tuple[np.ndarray, ...]

    def runs(self) -> list[list[tuple[slice, slice]]]:
        """Along each axis: neighbours, as where they come from and where they go.

        Example:
            >>> [runs] = Part(('params', 'a'), (np.array([0, 1, 4, 5]),)).runs()
            >>> runs[1]
            (slice(4, 6, None), slice(2, 4, None))
        """
        return [_runs(each) for each in self.indices]


class Cut(NamedTuple):
    """A value of a traced program that was cut out of a stored variable.

    Attributes:
        path: of the variable.
        shape: of the value.
        places: see `Places`.
    """

    path: tuple[str, ...]
    shape: tuple[int, ...]
    places: Places

    @classmethod
    def whole(cls, path: tuple[str, ...], shape: Sequence[int]) -> 'Cut':
        """Returns a variable uncut."""
        axes = range(len(shape))
        places = [
            np.arange(shape[axis]).reshape([-1 if each == axis else 1 for each in axes])
            for axis in axes
        ]
        return cls(path, tuple(shape), places)

    def again(self, primitive: str, shape: Sequence[int], params) -> 'Cut':
        """Returns what one of the primitives `CUTS` makes of it."""
        move = MOVES[primitive]
        places = [move(each, self.shape, shape, params) for each in self.places]
        return Cut(self.path, tuple(shape), places)

    @staticmethod
    def joined(parts: Sequence['Cut'], axis: int, shape: Sequence[int]) -> 'Cut':
        """Returns parts of one variable behind one another."""
        places = [
            # What does not differ along the axis is the same in all parts.
            joined(each, axis) if each[0].shape[axis] > 1 else each[0]
            for each in zip(*(part.places for part in parts), strict=True)
        ]
        return Cut(parts[0].path, tuple(shape), places)

    def part(self) -> Part:
        """Returns where it stands in the variable.

        Raises:
            ValueError: its axes are not those of the variable.
        """
        indices = tuple(each.reshape(-1) for each in self.places)
        turned = any(labelled(each) - {axis} for axis, each in enumerate(self.places))
        if turned or tuple(map(len, indices)) != self.shape:
            raise ValueError(f'{"/".join(self.path)} is not used axis by axis')
        return Part(self.path, indices)


def width_parts(
    model: nn.Module, variables: Any, width: Width | str, shape: tuple[int, int, int]
) -> tuple[nn.Module, dict[str, Any]]:
    """Returns a model of one width, and where its variables stand in the wide one's.

    Args:
        model: a network of slimjax's layers, with a field `widths`.
        variables: of the model, or their shapes.
        width: one of `model.widths`, or the name of one.
        shape: of an image, height, width and channels.

    Returns:
        The narrow model, and a tree of its variables with a `Part` for each.

    Raises:
        ValueError: the model has no such width, or uses variables in another way than
            by cutting them.

    Example:
        >>> import jax.numpy as jnp, slimjax
        >>> model = slimjax.create_model('resnet14', num_classes=10, widths=(0.5, 1.0))
        >>> images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
        >>> shapes = jax.eval_shape(model.init, jax.random.key(0), images)
        >>> _, parts = width_parts(model, shapes, 0.5, (32, 32, 3))
        >>> [len(axis) for axis in parts['params']['classifier']['kernel'].indices]
        [1024, 10]
    """
    narrow, cut = narrowed(model, width, shape)
    leaves = flatten_dict(dict(variables))
    with plain_convolutions():
        program, outputs = jax.make_jaxpr(cut, return_shape=True)(variables)
    order = jax.tree_util.tree_leaves_with_path(variables)
    paths = [tuple(entry.key for entry in path) for path, _ in order]
    whole = [Cut.whole(path, leaves[path].shape) for path in paths]
    reader = _Reader(program.jaxpr, whole)
    parts = [reader.find(variable).part() for variable in program.jaxpr.outvars]
    return narrow, jax.tree.unflatten(jax.tree.structure(outputs), parts)


class _Reader:
    """Follows a value of a program back to the variable that it is cut from."""

    def __init__(self, program: Jaxpr, inputs: Sequence[Cut]):
        self._known = dict(zip(program.invars, inputs, strict=True))
        self._made = {
            variable: equation
            for equation in program.eqns
            for variable in equation.outvars
        }

    def find(self, variable: Var) -> Cut:
        if variable not in self._known:
            self._known[variable] = self._cut(self._made[variable], variable)
        return self._known[variable]

    def _cut(self, equation: JaxprEqn, variable: Var) -> Cut:
        name, params = equation.primitive.name, equation.params
        sources = [self.find(each) for each in equation.invars]
        shape, path = variable.aval.shape, sources[0].path
        if name == 'jit':
            inner = params['jaxpr'].jaxpr
            position = equation.outvars.index(variable)
            return _Reader(inner, sources).find(inner.outvars[position])
        if name in CUTS:
            return sources[0].again(name, shape, params)
        if name == 'concatenate' and all(each.path == path for each in sources):
            return Cut.joined(sources, params['dimension'], shape)
        raise ValueError(f'{"/".join(path)} is used by {name}, not just cut')


def _runs(indices: np.ndarray) -> list[tuple[slice, slice]]:
    breaks = np.flatnonzero(np.diff(indices) != 1) + 1
    bounds = pairwise([0, *breaks.tolist(), len(indices)])
    return [
        (slice(int(indices[start]), int(indices[end - 1]) + 1), slice(start, end))
        for start, end in bounds
    ]
