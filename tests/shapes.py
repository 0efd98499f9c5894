"""Checks the array shapes and types that slimjax's signatures state, under pytest.

`conftest.py` has every function of the package that states arrays decorated with
`check_shapes` as it is imported. Only arrays are checked: what is no array is the
functions' own to refuse.
"""

import contextlib
import functools
import inspect
import typing

import jax
import jaxtyping


def check_what_is_imported():
    """Checks what is imported from slimjax from now on.

    jaxtyping decorates every function, which takes a quarter of the time of tracing. So
    those that state no array, 24 of 25 calls, are left as they are.
    """
    jaxtyping.jaxtyped = _jaxtyped_where_stated(jaxtyping.jaxtyped)
    jaxtyping.install_import_hook('slimjax', f'{__name__}.{check_shapes.__name__}')


def _jaxtyped_where_stated(jaxtyped):
    def decorator(*, typechecker):
        decorated = jaxtyped(typechecker=typechecker)
        return lambda item: decorated(item) if _states_arrays(item) else item

    return decorator


def _states_arrays(item):
    annotations = getattr(item, '__annotations__', {}).values()
    return any(_array_type(annotation) is not None for annotation in annotations)


def check_shapes(function):
    """Raises a TypeError where an array is not as annotated."""
    signature = inspect.signature(function)
    stated = {
        name: array_type
        for name, parameter in signature.parameters.items()
        if (array_type := _array_type(parameter.annotation)) is not None
    }
    returned = _array_type(signature.return_annotation)

    @functools.wraps(function)
    def checked(*args, **kwargs):
        given = signature.bind(*args, **kwargs).arguments
        for name in stated.keys() & given.keys():
            _check(given[name], stated[name], name)
        result = function(*args, **kwargs)
        _check(result, returned, 'the result')
        return result

    return checked


@contextlib.contextmanager
def unchecked():
    """Leaves wrong arrays to the package's own errors."""
    jaxtyping.config.update('jaxtyping_disable', True)
    try:
        yield
    finally:
        jaxtyping.config.update('jaxtyping_disable', False)


def _array_type(annotation):
    """The array type in an annotation, if it states one and no other."""
    options = typing.get_args(annotation) or (annotation,)
    found = [
        option
        for option in options
        if isinstance(option, type) and issubclass(option, jaxtyping.AbstractArray)
    ]
    return found[0] if len(found) == 1 else None


def _check(value, array_type, name):
    if array_type is None or not isinstance(value, jax.Array):
        return
    if not isinstance(value, array_type):
        raise TypeError(f'{name}: {value.dtype}{value.shape} is not {array_type}')
