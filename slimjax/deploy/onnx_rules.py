"""How the operations that networks of images have become ONNX nodes."""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jax.extend.core import JaxprEqn

from slimjax.deploy.onnx_values import UNKNOWN, Bounded, Tensor, Waiting
from slimjax.deploy.parts import Cut

if TYPE_CHECKING:
    from slimjax.deploy.onnx_emitter import Emitter

# An array is known already; a weight is cut out of a file's; the rest is computed.
Value = np.ndarray | Cut | Tensor | Waiting | Bounded


def sizes(shape: Sequence[Any]) -> tuple[int, ...]:
    """Returns a shape in numbers, with `UNKNOWN` for the number of images."""
    return tuple(size if isinstance(size, int) else UNKNOWN for size in shape)


def _kernel(emitter: 'Emitter', kernel: Value, axes, factor: np.ndarray) -> str:
    """A kernel with its axes as ONNX has them, and its outputs multiplied."""
    outputs = kernel.shape[-1]
    scale = None if np.all(factor == 1) else np.broadcast_to(factor, (outputs,))
    if isinstance(kernel, Cut):
        return emitter.scope.weight(kernel.part(), axes, scale)
    array = kernel if scale is None else kernel * scale
    return emitter.scope.constant(array.transpose(axes).astype(np.float32))


def convolution(emitter: 'Emitter', equation: JaxprEqn, images, kernel) -> Waiting:
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


def product(emitter: 'Emitter', equation: JaxprEqn, left, right) -> Waiting:
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


def _scaled(emitter: 'Emitter', tensor: Tensor, factor, summand) -> Tensor:
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

    def rule(emitter: 'Emitter', equation: JaxprEqn, images: Value) -> Value:
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


def _sum(emitter: 'Emitter', equation: JaxprEqn, images: Value) -> Value:
    shape, axes = sizes(equation.outvars[0].aval.shape), equation.params['axes']
    if len(images.shape) != 4 or tuple(axes) != (1, 2) or UNKNOWN in images.shape[1:]:
        raise ValueError('only sums over height and width are exported')

    def make(factor, summand):
        turned = emitter.tensor(images).arranged((0, 3, 1, 2), emitter.scope)
        pooled = emitter.scope.add('GlobalAveragePool', [turned])
        name = emitter.scope.add('Flatten', [pooled])
        return _scaled(emitter, Tensor(name, shape, (0, 1)), factor, summand)

    return Waiting((shape,), 1, make, np.array(float(math.prod(images.shape[1:3]))))


def _reshape(emitter: 'Emitter', equation: JaxprEqn, value: Value, *_) -> Value:
    shape = sizes(equation.outvars[0].aval.shape)
    if isinstance(value, Waiting):
        found = value.reshaped(shape)
        if found is not None:
            return found
    return emitter.tensor(value).reshaped(shape, emitter.scope)


def _broadcast(emitter: 'Emitter', equation: JaxprEqn, value: Value, *_) -> Value:
    dimensions = equation.params['broadcast_dimensions']
    shape = sizes(equation.outvars[0].aval.shape)
    before = [1] * len(shape)
    for axis, size in zip(dimensions, value.shape, strict=True):
        before[axis] = size
    if tuple(before) == shape:
        return _reshape(emitter, equation, value)
    tensor = emitter.tensor(value).reshaped(before, emitter.scope)
    # A new axis stands right behind the one before it, with which it may become one.
    order = list(tensor.order)
    for axis in range(len(shape)):
        if axis not in order:
            order.insert(order.index(axis - 1) + 1 if axis else 0, axis)
    name = tensor.arranged(order, emitter.scope)
    times = [shape[a] if shape[a] != before[a] else 1 for a in order]
    if UNKNOWN in times:
        raise ValueError('values are not repeated for each image')
    repeated = emitter.scope.constant(np.array(times, np.int64))
    return Tensor(emitter.scope.add('Expand', [name, repeated]), shape, tuple(order))


def _slice(emitter: 'Emitter', equation: JaxprEqn, value: Value) -> Tensor:
    params, shape = equation.params, sizes(equation.outvars[0].aval.shape)
    tensor = emitter.tensor(value)
    limits = sizes(params['limit_indices'])
    steps = params['strides'] or (1,) * len(shape)
    bounds = [
        (axis, start, limit, step)
        for axis, (start, limit, step) in enumerate(
            zip(params['start_indices'], limits, steps, strict=True)
        )
        if (start, limit, step) != (0, tensor.shape[axis], 1)
    ]
    if any(UNKNOWN in each or each[0] not in tensor.order for each in bounds):
        raise ValueError('a cut through the images of a batch, or an axis of size 1')
    if not bounds:
        return tensor
    axes, *others = zip(*bounds, strict=True)
    starts, ends, steps, axes = (
        emitter.scope.constant(np.array(each, np.int64))
        for each in (*others, [tensor.order.index(axis) for axis in axes])
    )
    name = emitter.scope.add('Slice', [tensor.name, starts, ends, axes, steps])
    return Tensor(name, shape, tensor.order)


def _transpose(emitter: 'Emitter', equation: JaxprEqn, value: Value) -> Tensor:
    return emitter.tensor(value).transposed(equation.params['permutation'])


def _concatenate(emitter: 'Emitter', equation: JaxprEqn, *values: Value) -> Tensor:
    shape = sizes(equation.outvars[0].aval.shape)
    tensors = [emitter.tensor(each) for each in values]
    order = tensors[0].order
    names = [each.arranged(order, emitter.scope) for each in tensors]
    axis = order.index(equation.params['dimension'])
    return Tensor(emitter.scope.add('Concat', names, axis=axis), shape, order)


def _converted(emitter: 'Emitter', equation: JaxprEqn, value: Value) -> Value:
    if equation.params['new_dtype'] != np.float32:
        raise ValueError(f'a conversion to {equation.params["new_dtype"]}')
    return value


RULES = {
    'broadcast_in_dim': _broadcast,
    'concatenate': _concatenate,
    'convert_element_type': _converted,
    'reduce_sum': _sum,
    'reduce_window_max': _pool('MaxPool'),
    'reduce_window_sum': _pool('AveragePool', count_include_pad=1),
    'reshape': _reshape,
    'slice': _slice,
    'squeeze': _reshape,
    'transpose': _transpose,
}
