"""A traced program as ONNX nodes: the few operations that networks of images have."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from slimjax.deploy.onnx_rules import RULES, Value, convolution, product, sizes
from slimjax.deploy.onnx_scope import Scope
from slimjax.deploy.onnx_values import Bounded, Tensor, Waiting
from slimjax.deploy.parts import CUTS, Cut

_ARITHMETIC = {'add': 'Add', 'sub': 'Sub', 'mul': 'Mul', 'div': 'Div'}
_BOUNDS = {'max': 'Max', 'min': 'Min'}
_CALLS = ('jit', 'custom_jvp_call', 'custom_vjp_call', 'remat')
_SAME = ('copy', 'stop_gradient', 'optimization_barrier')


class Emitter:
    """Adds the nodes of a program to a scope.

    Args:
        scope: of the graph.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from slimjax.deploy.onnx_scope import SharedWeights
        >>> program = jax.make_jaxpr(jax.nn.relu)(jnp.ones((1, 3)))
        >>> scope = Scope('', SharedWeights({}))
        >>> images = Tensor('images', (1, 3), (0, 1))
        >>> [output] = Emitter(scope).run(program.jaxpr, program.consts, [images])
        >>> output.tensor(scope).name, scope.nodes[0].op_type
        ('0', 'Relu')
    """

    def __init__(self, scope: Scope):
        self.scope = scope

    def run(
        self, program: Jaxpr, consts: Sequence[Any], inputs: Sequence[Value]
    ) -> list[Value]:
        """Returns the program's outputs.

        Raises:
            ValueError: an operation that ONNX files of slimjax do not have.
        """
        known = dict(zip(program.constvars, map(np.asarray, consts), strict=True))
        known.update(zip(program.invars, inputs, strict=True))

        def read(atom):
            return np.asarray(atom.val) if isinstance(atom, Literal) else known[atom]

        for equation in program.eqns:
            name = equation.primitive.name
            arguments = [read(atom) for atom in equation.invars]
            inner = equation.params.get('jaxpr', equation.params.get('call_jaxpr'))
            if name in _CALLS and isinstance(inner, ClosedJaxpr):
                results = self.run(inner.jaxpr, inner.consts, arguments)
            elif name in _CALLS:
                results = self.run(inner, [], arguments)
            elif name in _SAME:
                results = arguments
            else:
                try:
                    results = [self._equation(name, equation, arguments)]
                except ValueError as error:
                    raise ValueError(f'no ONNX for {name}: {error}') from error
            known.update(zip(equation.outvars, results, strict=True))
        return [read(atom) for atom in program.outvars]

    def tensor(self, value: Value) -> Tensor:
        """Returns a computed value as the output of a node."""
        return value if isinstance(value, Tensor) else value.tensor(self.scope)

    def _equation(self, name: str, equation: JaxprEqn, arguments: list[Value]) -> Value:
        if all(isinstance(each, np.ndarray) for each in arguments):
            return np.asarray(equation.primitive.bind(*arguments, **equation.params))
        if all(isinstance(each, Cut) for each in arguments):
            cut = self._cut(name, equation, arguments)
            if cut is not None:
                return cut
        if name in ('conv_general_dilated', 'dot_general'):
            rule = {'conv_general_dilated': convolution, 'dot_general': product}[name]
            return rule(self, equation, *arguments)
        arguments = [
            self._values(each) if isinstance(each, Cut) else each for each in arguments
        ]
        if all(isinstance(each, np.ndarray) for each in arguments):
            return np.asarray(equation.primitive.bind(*arguments, **equation.params))
        if name in _ARITHMETIC:
            return self._arithmetic(name, equation, *arguments)
        if name in _BOUNDS:
            return self._bound(name, equation, *arguments)
        if name not in RULES:
            raise ValueError('an operation that slimjax does not export')
        return RULES[name](self, equation, *arguments)

    def _values(self, weight: Cut) -> np.ndarray:
        """The numbers of a weight that is not used as a kernel."""
        part = weight.part()
        return self.scope.weights.stored[part.path].restored()[np.ix_(*part.indices)]

    def _cut(self, name, equation, arguments: list[Cut]) -> Cut | None:
        shape = sizes(equation.outvars[0].aval.shape)
        if name in CUTS:
            return arguments[0].again(name, shape, equation.params)
        if name == 'concatenate' and len({each.path for each in arguments}) == 1:
            return Cut.joined(arguments, equation.params['dimension'], shape)
        return None

    def _arithmetic(self, name: str, equation: JaxprEqn, left, right) -> Value:
        for value, constant, first in ((left, right, False), (right, left, True)):
            if isinstance(constant, np.ndarray) and isinstance(value, Waiting):
                found = value.with_constant(name, constant, first)
                if found is not None:
                    return found
        return self._together(_ARITHMETIC[name], equation, left, right)

    def _bound(self, name: str, equation: JaxprEqn, left, right) -> Value:
        for value, bound in ((left, right), (right, left)):
            if not isinstance(bound, np.ndarray) or bound.size != 1:
                continue
            if name == 'max':
                return Bounded(self.tensor(value), bound.item())
            if isinstance(value, Bounded) and value.high is None:
                return Bounded(value.values, value.low, bound.item())
        return self._together(_BOUNDS[name], equation, left, right)

    def _together(self, operator: str, equation: JaxprEqn, *values: Value) -> Tensor:
        """Adds a node that computes element by element."""
        shape = sizes(equation.outvars[0].aval.shape)
        made = [v if isinstance(v, np.ndarray) else self.tensor(v) for v in values]
        tensors = [each for each in made if isinstance(each, Tensor)]
        order = max((each.order for each in tensors), key=len)
        names = [_in_order(each, order, self.scope) for each in made]
        return Tensor(self.scope.add(operator, names), shape, order)


def _in_order(value: Tensor | np.ndarray, order: Sequence[int], scope: Scope) -> str:
    if isinstance(value, Tensor):
        return value.arranged(order, scope)
    array = value.astype(np.float32)
    if array.ndim:
        others = [axis for axis in range(array.ndim) if axis not in order]
        if any(array.shape[axis] > 1 for axis in others):
            raise ValueError(f'a constant of shape {array.shape} widens its partner')
        turned = array.transpose((*order, *others))
        array = turned.reshape(turned.shape[: len(order)])
    return scope.constant(array)
