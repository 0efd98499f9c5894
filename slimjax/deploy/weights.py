"""Variables in a safetensors file: written whole, read whole or a width at a time."""

import itertools
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import ml_dtypes
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from slimjax.deploy.parts import Part

_DTYPES = {
    'F64': np.float64,
    'F32': np.float32,
    'F16': np.float16,
    'BF16': ml_dtypes.bfloat16,
}


def write_weights(path: str | os.PathLike, variables: Mapping[str, Any]) -> None:
    """Writes variables; names are paths, such as `params/stem/conv/kernel`.

    Example:
        >>> import tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp(), 'model.safetensors')
        >>> write_weights(path, {'params': {'bias': np.arange(3.0)}})
        >>> shapes = {'params': {'bias': jax.ShapeDtypeStruct((3,), np.float64)}}
        >>> read_weights(path, shapes)
        {'params': {'bias': array([0., 1., 2.])}}
    """
    # safetensors writes wrong values of arrays that are not contiguous, and by
    # itself makes files that nobody else may read.
    arrays = {
        name: np.asarray(jax.device_get(leaf), order='C')
        for name, leaf in flatten_dict(dict(variables), sep='/').items()
    }
    pathlib.Path(path).write_bytes(save(arrays, metadata={'format': 'slimjax'}))


def read_weights(
    path: str | os.PathLike, shapes: Mapping[str, Any], parts: Any = None
) -> dict[str, Any]:
    """Reads variables, all or only the parts that a width uses.

    Args:
        path: of the file.
        shapes: of all variables that must be in it, a tree.
        parts: a tree with a `Part` for each variable to be returned; None for all.

    Returns:
        A tree of numpy arrays, like `parts` or like `shapes`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged or cut short, or holds other variables; the message
            names them.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f'{os.fspath(path)}: there is no such file')
    try:
        with safe_open(path, framework='numpy') as file:
            return _read(file, flatten_dict(dict(shapes), sep='/'), parts)
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise ValueError(f'{os.fspath(path)}: damaged or cut short: {error}') from error
    except ValueError as error:
        raise ValueError(f'{os.fspath(path)}: {error}') from error


def _read(file, shapes: Mapping[str, Any], parts: Any) -> dict[str, Any]:
    names = set(file.keys())
    lacking, more = sorted(set(shapes) - names), sorted(names - set(shapes))
    if lacking or more:
        raise ValueError(
            f'holds another network: {_some(lacking)} missing, {_some(more)} of no use'
        )
    for name, leaf in shapes.items():
        held = file.get_slice(name)
        found = (_DTYPES.get(held.get_dtype()), tuple(held.get_shape()))
        if found[0] is None or (np.dtype(found[0]), found[1]) != (
            np.dtype(leaf.dtype),
            tuple(leaf.shape),
        ):
            raise ValueError(
                f'{name} is {held.get_dtype()}{held.get_shape()}, needed is '
                f'{np.dtype(leaf.dtype)}{list(leaf.shape)}'
            )
    if parts is None:
        whole = {name: file.get_tensor(name) for name in shapes}
        return unflatten_dict(whole, sep='/')
    return jax.tree.map(
        lambda part: _read_part(file.get_slice('/'.join(part.path)), part),
        parts,
        is_leaf=lambda each: isinstance(each, Part),
    )


def _read_part(held, part: Part) -> np.ndarray:
    found = np.empty([len(each) for each in part.indices], _DTYPES[held.get_dtype()])
    for runs in itertools.product(*part.runs()):
        sources, places = zip(*runs, strict=True)
        found[places] = held[sources]
    return found


def _some(names: list[str]) -> str:
    more = f' and {len(names) - 3} others' if len(names) > 3 else ''
    return (', '.join(names[:3]) or 'nothing') + more
