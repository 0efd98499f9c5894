"""What a traced program computes, read off its equations without running it.

No layer is known by name: shapes tell the multiply-adds, and the slices that are cut
from a parameter before any arithmetic tell which of its elements are used.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain, pairwise
from typing import Any

import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

# Numbers the elements of a parameter, in the arrangement that a value of the program
# has; called only when the value is computed with, so that few are held at a time.
View = Callable[[], np.ndarray]


def multiply_adds(equation: JaxprEqn) -> int:
    """Returns the multiply-adds of a convolution or matrix product, 0 for all else.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> program = jax.make_jaxpr(jnp.dot)(jnp.ones((2, 3)), jnp.ones((3, 4)))
        >>> multiply_adds(program.eqns[0])
        24
    """
    if equation.primitive.name == 'conv_general_dilated':
        kernel = equation.invars[1].aval.shape
        outputs = kernel[equation.params['dimension_numbers'].rhs_spec[0]]
        return equation.outvars[0].aval.size * math.prod(kernel) // outputs
    if equation.primitive.name == 'dot_general':
        (contracted, _), _ = equation.params['dimension_numbers']
        left = equation.invars[0].aval.shape
        return equation.outvars[0].aval.size * math.prod(left[i] for i in contracted)
    return 0


def pooled_elements(equation: JaxprEqn) -> int:
    """Returns the elements that enter an average pool, 0 for all else.

    An average pool is a sum over windows, or the sum over axes 1 and 2 of an array
    with four axes.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> program = jax.make_jaxpr(lambda x: x.mean((1, 2)))(jnp.ones((1, 7, 7, 8)))
        >>> sum(map(pooled_elements, program.eqns))
        392
    """
    name = equation.primitive.name
    if name not in ('reduce_window_sum', 'reduce_sum'):
        return 0
    inputs = equation.invars[0].aval
    over_space = inputs.ndim == 4 and tuple(equation.params.get('axes', ())) == (1, 2)
    return inputs.size if name == 'reduce_window_sum' or over_space else 0


def total(program: Jaxpr, count: Callable[[JaxprEqn], int]) -> int:
    """Returns the sum of `count` over all equations that a program runs.

    What is computed from constants alone counts nothing. A scan counts as often as it
    runs, a `while` loop once, and a `cond` as its costliest branch.

    Args:
        program: such as `jax.make_jaxpr(f)(...).jaxpr`.
        count: a number for one equation, such as `multiply_adds`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> steps = lambda x, w: jax.lax.scan(lambda c, w: (c @ w, None), x, w)[0]
        >>> program = jax.make_jaxpr(steps)(jnp.ones((1, 8)), jnp.ones((3, 8, 8)))
        >>> total(program.jaxpr, multiply_adds)
        192
    """
    result, constants = 0, set(program.constvars)
    for equation in program.eqns:
        if all(isinstance(v, Literal) or v in constants for v in equation.invars):
            constants.update(equation.outvars)
            continue
        parts = [total(inner, count) for inner in _inner_programs(equation)]
        if not parts:
            result += count(equation)
        elif equation.primitive.name == 'cond':
            result += max(parts)
        else:
            result += _repeats(equation) * sum(parts)
    return result


def used_elements(program: Jaxpr, shapes: Sequence[tuple[int, ...]]) -> list[int]:
    """Returns how many elements of its first inputs a program computes with.

    Slices, splits, concatenations and rearrangements are followed, also into `jit`,
    `remat`, `scan` and `cond`; everything else uses all elements of what it is given.
    An element that is used several times counts once.

    Args:
        program: such as `jax.make_jaxpr(f)(...).jaxpr`.
        shapes: of its first inputs, the parameters.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> program = jax.make_jaxpr(lambda kernel: 2 * kernel[:, :2])(jnp.ones((3, 4)))
        >>> used_elements(program.jaxpr, [(3, 4)])
        [6]
    """
    ends = np.cumsum([0, *map(math.prod, shapes)])
    used = np.zeros(ends[-1], bool)

    def numbered(start, shape):
        return np.arange(start, start + math.prod(shape)).reshape(shape)

    def mark(view: View):
        used[view().reshape(-1)] = True

    views = [
        partial(numbered, start, shape)
        for start, shape in zip(ends[:-1], shapes, strict=True)
    ]
    others = [None] * (len(program.invars) - len(views))
    for view in filter(None, _follow(program, [*views, *others], mark)):
        mark(view)
    return [int(used[start:end].sum()) for start, end in pairwise(ends)]


def _follow(
    program: Jaxpr, inputs: list[View | None], mark: Callable[[View], None]
) -> list[View | None]:
    """Marks what the equations use; returns what of the parameters comes out."""
    views = dict(zip(program.invars, inputs, strict=True))

    def known(variables):
        return [None if isinstance(v, Literal) else views.get(v) for v in variables]

    for equation in program.eqns:
        arguments = known(equation.invars)
        if not any(arguments):
            continue
        rearrange = _REARRANGE.get(equation.primitive.name)
        if rearrange and all(arguments):
            outputs = [
                partial(_rearranged, rearrange, arguments, equation.params, position)
                for position in range(len(equation.outvars))
            ]
            views.update(zip(equation.outvars, outputs, strict=True))
            continue
        outputs = [
            _follow(inner, inner_inputs, mark)
            for inner, inner_inputs in _calls(equation, arguments)
        ]
        if not outputs:
            outputs = [arguments]
        elif len(outputs) == 1 and _repeats(equation) == 1:
            views.update(zip(equation.outvars, outputs[0], strict=True))
            continue
        for view in filter(None, chain.from_iterable(outputs)):
            mark(view)
    return known(program.outvars)


def _calls(
    equation: JaxprEqn, arguments: list[View | None]
) -> Iterator[tuple[Jaxpr, list[View | None]]]:
    """Yields the programs that an equation runs, each with what it is given."""
    inner = _inner_programs(equation)
    if equation.primitive.name == 'cond':
        for branch in inner:
            yield branch, arguments[1:]
    elif len(inner) == 1 and len(inner[0].invars) == len(arguments):
        outer = [variable.aval.shape for variable in equation.invars]
        own = [variable.aval.shape for variable in inner[0].invars]
        if outer == own:
            yield inner[0], arguments
        elif equation.primitive.name == 'scan':
            # What is scanned over has the steps as its first axis.
            for step in range(equation.params['length']):
                yield (
                    inner[0],
                    [
                        partial(_step, view, step) if view and a != b else view
                        for view, a, b in zip(arguments, outer, own, strict=True)
                    ],
                )


def _inner_programs(equation: JaxprEqn) -> list[Jaxpr]:
    found = []
    for value in equation.params.values():
        for each in value if isinstance(value, tuple | list) else (value,):
            if isinstance(each, ClosedJaxpr):
                found.append(each.jaxpr)
            elif isinstance(each, Jaxpr):
                found.append(each)
    return found


def _repeats(equation: JaxprEqn) -> int:
    return equation.params['length'] if equation.primitive.name == 'scan' else 1


def _step(view: View, step: int) -> np.ndarray:
    return view()[step]


def _rearranged(rearrange, views: list[View], params: dict[str, Any], position: int):
    return rearrange([view() for view in views], params)[position]


def _slice(arrays, params):
    strides = params['strides'] or (1,) * arrays[0].ndim
    bounds = zip(params['start_indices'], params['limit_indices'], strides, strict=True)
    return [arrays[0][tuple(slice(*each) for each in bounds)]]


def _split(arrays, params):
    return np.split(arrays[0], np.cumsum(params['sizes'])[:-1], params['axis'])


def _same(arrays, _):
    return arrays


# Primitives that only move elements about: the numbered elements in, and out.
_REARRANGE = {
    'slice': _slice,
    'split': _split,
    'concatenate': lambda arrays, p: [np.concatenate(arrays, p['dimension'])],
    'reshape': lambda arrays, p: [arrays[0].reshape(p['new_sizes'])],
    'squeeze': lambda arrays, p: [arrays[0].squeeze(p['dimensions'])],
    'transpose': lambda arrays, p: [arrays[0].transpose(p['permutation'])],
    'rev': lambda arrays, p: [np.flip(arrays[0], p['dimensions'])],
    'convert_element_type': _same,
    'optimization_barrier': _same,
    'copy': _same,
}
