"""A traced program as ONNX nodes: the few operations that networks of images have."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from slimjax.deploy.onnx_scope import Scope
from slimjax.deploy.onnx_values import UNKNOWN, Bounded, Tensor, Waiting
from slimjax.deploy.parts import CUTS, Cut

# An array is known already; a weight is cut out of a file's; the rest is computed.
Value = np.ndarray | Cut | Tensor | Waiting | Bounded

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
            rule = {'conv_general_dilated': _convolution, 'dot_general': _product}[name]
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
        if name not in _RULES:
            raise ValueError('an operation that slimjax does not export')
        return _RULES[name](self, equation, *arguments)

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


def sizes(shape: Sequence[Any]) -> tuple[int, ...]:
    """Returns a shape in numbers, with `UNKNOWN` for the number of images."""
    return tuple(size if isinstance(size, int) else UNKNOWN for size in shape)


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


def _kernel(emitter: Emitter, kernel: Value, axes, factor: np.ndarray) -> str:
    """A kernel with its axes as ONNX has them, and its outputs multiplied."""
    outputs = kernel.shape[-1]
    scale = None if np.all(factor == 1) else np.broadcast_to(factor, (outputs,))
    if isinstance(kernel, Cut):
        return emitter.scope.weight(kernel.part(), axes, scale)
    array = kernel if scale is None else kernel * scale
    return emitter.scope.constant(array.transpose(axes).astype(np.float32))


def _convolution(emitter: Emitter, equation: JaxprEqn, images, kernel) -> Waiting:
    params, shape = equation.params, sizes(equation.outvars[0].aval.shape)
    numbers = params['dimension_numbers']
    if isinstance(images, np.ndarray | Cut) or not isinstance(kernel, np.ndarray | Cut):
        raise ValueError('its kernel is computed from the images')
    if params['batch_group_count'] > 1 or max(params['lhs_dilation']) > 1:
        raise ValueError('batch_group_count and lhs_dilation are not exported')
    if numbers.rhs_spec[0] != len(kernel.shape) - 1:
        raise ValueError('a kernel whose last axis are not its outputs')
    before, after = zip(*params['padding'], strict=True)

    def make(factor, summand):
        inputs = [
            emitter.tensor(images).arranged(numbers.lhs_spec, emitter.scope),
            _kernel(emitter, kernel, numbers.rhs_spec, factor),
        ]
        if np.any(summand):
            bias = np.broadcast_to(summand, kernel.shape[-1:]).astype(np.float32)
            inputs.append(emitter.scope.constant(bias))
        name = emitter.scope.add(
            'Conv',
            inputs,
            strides=params['window_strides'],
            pads=(*before, *after),
            dilations=params['rhs_dilation'],
            group=params['feature_group_count'],
        )
        return Tensor(name, shape, numbers.out_spec)

    return Waiting((shape,), numbers.out_spec[1], make)


def _product(emitter: Emitter, equation: JaxprEqn, left, right) -> Waiting:
    shape = sizes(equation.outvars[0].aval.shape)
    contracted, batched = equation.params['dimension_numbers']
    known = isinstance(right, np.ndarray | Cut)
    if not known or len(shape) != 2 or any(batched) or contracted != ((1,), (0,)):
        raise ValueError('only vectors of features times a matrix are exported')

    def make(factor, summand):
        inputs = [
            emitter.tensor(left).arranged((0, 1), emitter.scope),
            _kernel(emitter, right, (0, 1), factor),
        ]
        if np.any(summand):
            bias = np.broadcast_to(summand, shape[1:]).astype(np.float32)
            inputs.append(emitter.scope.constant(bias))
        return Tensor(emitter.scope.add('Gemm', inputs), shape, (0, 1))

    return Waiting((shape,), 1, make)


def _scaled(emitter: Emitter, tensor: Tensor, factor, summand) -> Tensor:
    """What was computed, after arithmetic that is no part of any kernel."""
    name = tensor.name
    behind = len(tensor.order) - 1 - tensor.order.index(len(tensor.shape) - 1)
    for operator, vector, nothing in (('Mul', factor, 1), ('Add', summand, 0)):
        if np.all(vector == nothing):
            continue
        vector = vector.reshape(-1, *(1,) * behind).astype(np.float32)
        name = emitter.scope.add(operator, [name, emitter.scope.constant(vector)])
    return Tensor(name, tensor.shape, tensor.order)


def _pool(operator: str, **attributes) -> Callable[..., Value]:
    """A rule for a reduction over windows of images."""

    def rule(emitter: Emitter, equation: JaxprEqn, images: Value) -> Value:
        params, shape = equation.params, sizes(equation.outvars[0].aval.shape)
        window, pads = params['window_dimensions'], params['padding']
        if len(shape) != 4 or window[0] != 1 or window[3] != 1:
            raise ValueError('only windows over height and width are exported')
        if max(*params['base_dilation'], *params['window_dilation']) > 1:
            raise ValueError('windows with gaps are not exported')
        taps = math.prod(window)

        def make(factor, summand):
            name = emitter.scope.add(
                operator,
                [emitter.tensor(images).arranged((0, 3, 1, 2), emitter.scope)],
                kernel_shape=window[1:3],
                strides=params['window_strides'][1:3],
                pads=(pads[1][0], pads[2][0], pads[1][1], pads[2][1]),
                **attributes,
            )
            return _scaled(emitter, Tensor(name, shape, (0, 3, 1, 2)), factor, summand)

        if operator == 'MaxPool':
            return make(np.array(1.0), np.array(0.0))
        return Waiting((shape,), 3, make, np.array(float(taps)))

    return rule


def _sum(emitter: Emitter, equation: JaxprEqn, images: Value) -> Value:
    shape, axes = sizes(equation.outvars[0].aval.shape), equation.params['axes']
    if len(images.shape) != 4 or tuple(axes) != (1, 2) or UNKNOWN in images.shape[1:]:
        raise ValueError('only sums over height and width are exported')

    def make(factor, summand):
        turned = emitter.tensor(images).arranged((0, 3, 1, 2), emitter.scope)
        pooled = emitter.scope.add('GlobalAveragePool', [turned])
        name = emitter.scope.add('Flatten', [pooled])
        return _scaled(emitter, Tensor(name, shape, (0, 1)), factor, summand)

    return Waiting((shape,), 1, make, np.array(float(math.prod(images.shape[1:3]))))


def _reshape(emitter: Emitter, equation: JaxprEqn, value: Value, *_) -> Value:
    shape = sizes(equation.outvars[0].aval.shape)
    if isinstance(value, Waiting):
        found = value.reshaped(shape)
        if found is not None:
            return found
    return emitter.tensor(value).reshaped(shape, emitter.scope)


def _broadcast(emitter: Emitter, equation: JaxprEqn, value: Value, *_) -> Value:
    dimensions = equation.params['broadcast_dimensions']
    shape = sizes(equation.outvars[0].aval.shape)
    if tuple(shape[axis] for axis in dimensions) != value.shape or any(
        size != 1 for axis, size in enumerate(shape) if axis not in dimensions
    ):
        raise ValueError('computed values are not repeated')
    return _reshape(emitter, equation, value)


def _transpose(emitter: Emitter, equation: JaxprEqn, value: Value) -> Tensor:
    return emitter.tensor(value).transposed(equation.params['permutation'])


def _concatenate(emitter: Emitter, equation: JaxprEqn, *values: Value) -> Tensor:
    shape = sizes(equation.outvars[0].aval.shape)
    tensors = [emitter.tensor(each) for each in values]
    order = tensors[0].order
    names = [each.arranged(order, emitter.scope) for each in tensors]
    axis = order.index(equation.params['dimension'])
    return Tensor(emitter.scope.add('Concat', names, axis=axis), shape, order)


def _converted(emitter: Emitter, equation: JaxprEqn, value: Value) -> Value:
    if equation.params['new_dtype'] != np.float32:
        raise ValueError(f'a conversion to {equation.params["new_dtype"]}')
    return value


_RULES = {
    'broadcast_in_dim': _broadcast,
    'concatenate': _concatenate,
    'convert_element_type': _converted,
    'reduce_sum': _sum,
    'reduce_window_max': _pool('MaxPool'),
    'reduce_window_sum': _pool('AveragePool', count_include_pad=1),
    'reshape': _reshape,
    'squeeze': _reshape,
    'transpose': _transpose,
}
