"""The pickles within PyTorch's files: read without being run, and written.

A pickle is a program that calls what it names. Here `pickletools` takes it apart, and
the few instructions that make up state dicts are carried out on plain data; every
other instruction and name is refused. A `pickle.Unpickler` with a list of names would
still be crashed by the hash of a tuple nested a million deep, as `torch.load` with
`weights_only=True` is, and would let a file set attributes of what the list holds.
"""

import collections
import dataclasses
import math
import pickle
import pickletools
import reprlib
import sys
from collections.abc import Mapping
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

_DTYPE_OF_STORAGE = {
    'torch.FloatStorage': np.dtype(np.float32),
    'torch.DoubleStorage': np.dtype(np.float64),
    'torch.HalfStorage': np.dtype(np.float16),
    'torch.BFloat16Storage': np.dtype(ml_dtypes.bfloat16),
    'torch.ComplexFloatStorage': np.dtype(np.complex64),
    'torch.ComplexDoubleStorage': np.dtype(np.complex128),
    'torch.LongStorage': np.dtype(np.int64),
    'torch.IntStorage': np.dtype(np.int32),
    'torch.ShortStorage': np.dtype(np.int16),
    'torch.CharStorage': np.dtype(np.int8),
    'torch.ByteStorage': np.dtype(np.uint8),
    'torch.BoolStorage': np.dtype(np.bool_),
}
# What every PyTorch since 1.6 has tensors of.
STORAGE_OF_DTYPE = {dtype: name for name, dtype in _DTYPE_OF_STORAGE.items()}
# Types younger than those lie in bytes, and the tensor names its own.
_BYTES = {'torch.storage.UntypedStorage': np.dtype(np.uint8)}
_DTYPES = {f'torch.{name}': np.dtype(name) for name in ('uint16', 'uint32', 'uint64')}
_NEW = {
    'NONE': lambda: None,
    'NEWTRUE': lambda: True,
    'NEWFALSE': lambda: False,
    'EMPTY_TUPLE': tuple,
    'EMPTY_LIST': list,
    'EMPTY_DICT': dict,
}
_MOST_DIMENSIONS = 64  # numpy's limit


@dataclasses.dataclass(frozen=True, eq=False)
class Tensor:
    """A view of a storage that is known to lie within it.

    Attributes:
        key: that the file has the storage under.
        dtype: of the elements.
        offset: of the first element in the storage, in bytes.
        shape: as numpy has it.
        strides: in bytes.

    Example:
        >>> Tensor('0', np.dtype(np.float32), 0, (2, 3), (12, 4)).shape
        (2, 3)
    """

    key: str
    dtype: np.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class _Global:
    """What a pickle names, such as `torch.FloatStorage`; nothing is imported."""

    name: str


@dataclasses.dataclass(frozen=True, eq=False)
class _Storage:
    """Numbers in a row under a key, from number `start` on."""

    key: str
    dtype: np.dtype
    start: int
    size: int


def load(file: BinaryIO) -> tuple[Any, dict[str, tuple[np.dtype, int]]]:
    """Reads one pickle, and leaves the file at its end.

    Args:
        file: at the pickle's start.

    Returns:
        What was saved, with each tensor as a `Tensor`; and the dtype and the number of
        elements of every storage by its key.

    Raises:
        ValueError: it is more than a state dict, is cut off, or a tensor is not within
            its storage.
        Exception: what a pickle in disorder leads to: a TypeError, a KeyError.

    Example:
        >>> import io
        >>> load(io.BytesIO(pickle.dumps({'epochs': [1, 2]}, protocol=2)))
        ({'epochs': [1, 2]}, {})
    """
    stack, outer, memo, storages = [], [], {}, {}
    for instruction, value, _ in pickletools.genops(file):
        match instruction.name:
            case 'PROTO':
                pass
            case 'BININT' | 'BININT1' | 'BININT2' | 'LONG1' | 'BINFLOAT' | 'BINUNICODE':
                stack.append(value)
            case name if name in _NEW:
                stack.append(_NEW[name]())
            case 'BINPUT' | 'LONG_BINPUT':
                memo[value] = stack[-1]
            case 'BINGET' | 'LONG_BINGET':
                stack.append(memo[value])
            case 'TUPLE1' | 'TUPLE2' | 'TUPLE3':
                items = [stack.pop() for _ in range(int(instruction.name[-1]))]
                stack.append(tuple(reversed(items)))
            case 'MARK':
                outer.append(stack)
                stack = []
            case 'TUPLE':
                items, stack = tuple(stack), outer.pop()
                stack.append(items)
            case 'APPEND':
                item = stack.pop()
                _extend(stack[-1], [item])
            case 'APPENDS':
                items, stack = stack, outer.pop()
                _extend(stack[-1], items)
            case 'SETITEM':
                item, key = stack.pop(), stack.pop()
                _set_items(stack[-1], [key, item])
            case 'SETITEMS':
                items, stack = stack, outer.pop()
                _set_items(stack[-1], items)
            case 'GLOBAL':
                stack.append(_named(value.replace(' ', '.')))
            case 'REDUCE' | 'NEWOBJ':
                arguments, called = stack.pop(), stack.pop()
                stack.append(_FUNCTIONS[called.name](*arguments))
            case 'BUILD':
                # Of `_metadata`, the versions of the modules, which no array needs.
                stack.pop()
                if type(stack[-1]) is not collections.OrderedDict:
                    raise ValueError('it sets attributes, and not of an OrderedDict')
            case 'BINPERSID':
                storage, total = _storage(*stack.pop())
                if storages.setdefault(storage.key, total) != total:
                    raise ValueError(f'it has two kinds of storage {storage.key!r}')
                stack.append(storage)
            case 'STOP':
                return stack.pop(), storages
            case 'INST':
                raise _refusal(value.replace(' ', '.'))
            case other:
                raise _refusal(f'the pickle instruction {other}')
    raise AssertionError('genops ends with STOP or raises')


def _refusal(what: str) -> ValueError:
    return ValueError(
        f'it holds {what}, which is refused; a state dict of tensors is needed, as '
        'torch.save(model.state_dict(), path) writes it'
    )


def _named(name: str) -> _Global:
    if not any(name in known for known in (_FUNCTIONS, *_DTYPE_TABLES)):
        raise _refusal(name)
    return _Global(name)


def _extend(target: Any, items: list) -> None:
    if type(target) is not list:
        raise ValueError(f'it appends to a {type(target).__name__}')
    target.extend(items)


def _set_items(target: Any, items: list) -> None:
    if not isinstance(target, dict):
        raise ValueError(f'it sets items of a {type(target).__name__}')
    for key, value in zip(items[::2], items[1::2], strict=True):
        # The hash of a tuple recurses without a limit.
        if not (key is None or isinstance(key, str | int | float)):
            raise ValueError(f'a {type(key).__name__} is the key of a dict')
        target[key] = value


def _storage(
    kind: str,
    type_: _Global,
    key: str,
    location: str,
    total: int,
    view: tuple[str, int, int] | None = None,
) -> tuple[_Storage, tuple[np.dtype, int]]:
    """Returns a storage, and the dtype and number of all elements under its key.

    Wherever it was, on the CPU or a GPU, is of no matter. In files before PyTorch 1.6
    a storage can be a `view` of another one: its key, the start and the size.
    """
    _, start, size = view or (None, 0, total)
    if not (kind == 'storage' and type(key) is str and _are_counts(total, start, size)):
        raise ValueError(f'it holds a {reprlib.repr(kind)} in place of a storage')
    dtype = (_DTYPE_OF_STORAGE | _BYTES)[type_.name]
    if start + size > total:
        raise ValueError(f'elements {start} to {start + size} of {total} are a storage')
    return _Storage(key, dtype, start, size), (dtype, total)


def _tensor(
    storage: _Storage,
    offset: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    requires_grad: bool = False,
    backward_hooks: Any = None,
    metadata: Any = None,
    dtype: str | None = None,
) -> Tensor:
    """Returns a tensor after PyTorch's `_rebuild_tensor` and `_rebuild_tensor_v2`.

    The check is here, as numpy's own overflows at huge strides.
    """
    if metadata:
        raise ValueError('a tensor is the conjugate or the negative of a storage')
    dtype = _DTYPES[dtype] if dtype else storage.dtype
    if not (
        len(shape) == len(strides) <= _MOST_DIMENSIONS
        and _are_counts(offset, *shape, *strides)
        and math.prod(max(n, 1) for n in shape) * dtype.itemsize <= sys.maxsize
    ):
        raise ValueError(
            f'a tensor has offset {reprlib.repr(offset)}, shape {reprlib.repr(shape)} '
            f'and strides {reprlib.repr(strides)}'
        )
    steps = sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    end = (offset + steps + 1) * dtype.itemsize if 0 not in shape else 0
    held = storage.size * storage.dtype.itemsize
    if end > held:
        raise ValueError(
            f'a tensor of shape {shape} with strides {strides} takes bytes up to {end} '
            f'of storage {storage.key!r}, which has {held}'
        )
    return Tensor(
        storage.key,
        dtype,
        storage.start * storage.dtype.itemsize + offset * dtype.itemsize,
        tuple(shape),
        tuple(stride * dtype.itemsize for stride in strides),
    )


def _are_counts(*numbers: int) -> bool:
    return all(type(number) is int and number >= 0 for number in numbers)


# All that a file can call.
_FUNCTIONS = {
    'collections.OrderedDict': lambda: collections.OrderedDict(),
    'torch.Size': lambda sizes=(): tuple(sizes),
    'torch._utils._rebuild_tensor': _tensor,
    'torch._utils._rebuild_tensor_v2': _tensor,
    'torch._utils._rebuild_tensor_v3': (
        lambda storage, offset, shape, strides, grad, hooks, dtype, metadata=None: (
            _tensor(storage, offset, shape, strides, grad, hooks, metadata, dtype.name)
        )
    ),
    'torch._utils._rebuild_parameter': lambda data, requires_grad, hooks: data,
}
_DTYPE_TABLES = (_DTYPE_OF_STORAGE, _BYTES, _DTYPES)


def dump(tensors: Mapping[str, np.ndarray]) -> bytes:
    """Returns the pickle of an OrderedDict of tensors, whose storages are '0', '1' etc.

    Args:
        tensors: of the dtypes in `STORAGE_OF_DTYPE`.

    Example:
        >>> import io
        >>> saved, storages = load(io.BytesIO(dump({'weight': np.ones((3, 2))})))
        >>> saved['weight'].shape, storages
        ((3, 2), {'0': (dtype('float64'), 6)})
    """
    parts = [pickle.PROTO, b'\2', _EMPTY_ORDERED_DICT, pickle.MARK]
    for key, (name, array) in enumerate(tensors.items()):
        strides = tuple(math.prod(array.shape[i + 1 :]) for i in range(array.ndim))
        parts += [_literal(name), _global('torch._utils._rebuild_tensor_v2')]
        parts += [pickle.MARK]
        parts += [pickle.MARK, _literal('storage')]
        parts += [_global(STORAGE_OF_DTYPE[array.dtype])]
        parts += [_literal(str(key)), _literal('cpu'), _literal(array.size)]
        parts += [pickle.TUPLE, pickle.BINPERSID]
        # The offset, the shape, the strides, requires_grad and the backward hooks.
        parts += [_literal(0), _literal(array.shape), _literal(strides)]
        parts += [pickle.NEWFALSE, _EMPTY_ORDERED_DICT]
        parts += [pickle.TUPLE, pickle.REDUCE]
    return b''.join([*parts, pickle.SETITEMS, pickle.STOP])


def _global(name: str) -> bytes:
    module, _, attribute = name.rpartition('.')
    return pickle.GLOBAL + f'{module}\n{attribute}\n'.encode()


def _literal(value: str | int | tuple[int, ...]) -> bytes:
    # Without PROTO and its argument in front, and STOP at the end.
    return pickle.dumps(value, protocol=2)[2:-1]


_EMPTY_ORDERED_DICT = (
    _global('collections.OrderedDict') + pickle.EMPTY_TUPLE + pickle.REDUCE
)
