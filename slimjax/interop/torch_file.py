"""PyTorch's files of state dicts, read and written without PyTorch."""

import collections
import functools
import io
import os
import pathlib
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from slimjax.interop import torch_pickle

# Files by PyTorch before 1.6 begin so, and end with their storages.
_MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
_LEGACY_VERSION = 1001
_ZIP_MAGIC = b'PK\3\4'
# An older PyTorch runs what some files tell it, `weights_only` or not: CVE-2025-32434.
_SAFE_TORCH = (2, 6)
_ALIGNMENT = 64
_ZIP_HEADER = 30


def read_torch_file(path: str | os.PathLike) -> Any:
    """Reads what `torch.save` has written, of PyTorch 1.0 and newer.

    PyTorch is used where it is installed, but not needed. The file may come from
    anyone: nothing in it is run, and it is checked whole before memory is taken.

    Args:
        path: of the file; its tensors may come from a GPU.

    Returns:
        What was saved: dicts, lists, tuples, strings, numbers, and in place of tensors
        and parameters numpy arrays with their dtypes (bfloat16 is ml_dtypes's). The
        arrays cannot be written to: as the tensors did, they may share memory.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is none of `torch.save`, is damaged, or holds more than that,
            such as a whole model; the message names the file and what is wrong.

    Example:
        >>> import tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp(), 'network.pt')
        >>> write_torch_file(path, {'fc.bias': np.arange(3, dtype=np.float32)})
        >>> read_torch_file(path)['fc.bias']
        array([0., 1., 2.], dtype=float32)
    """
    path = pathlib.Path(path)
    if path.is_dir():
        raise ValueError(f'{path}: a folder, and not a file of torch.save')
    with path.open('rb') as file:
        try:
            return _read(file)
        except RecursionError:
            raise ValueError(f'{path}: nested too deeply, or within itself') from None
        except ValueError as error:
            raise ValueError(f'{path}: {error}') from error
        # Whatever else a damaged file leads to, in this module, zipfile or PyTorch.
        except Exception as error:
            name = type(error).__name__
            raise ValueError(f'{path}: damaged ({name}: {error})') from error


def _read(file: BinaryIO) -> Any:
    start = file.read(len(_MAGIC))
    file.seek(0)
    if start.startswith(_ZIP_MAGIC):
        saved, contents = _open_zip(file)
    elif start == _MAGIC:
        saved, contents = _open_legacy(file)
    else:
        raise ValueError('not a file of torch.save, or by PyTorch before 0.1.10')
    torch = _torch()
    if torch is None:
        contents = functools.cache(contents)
        return _with_arrays(saved, lambda t: _from_bytes(t, contents), {})
    file.seek(0)
    saved = torch.load(file, map_location='cpu', weights_only=True)
    return _with_arrays(saved, lambda tensor: _from_torch(tensor, torch), {})


def _torch() -> Any | None:
    try:
        import torch
    except ImportError:
        return None
    version = tuple(int(number) for number in torch.__version__.split('.')[:2])
    return torch if version >= _SAFE_TORCH else None


def _open_zip(file: BinaryIO) -> tuple[Any, Callable[[str], bytes]]:
    """Returns what the file holds, and a function from a storage's key to its bytes."""
    archive = zipfile.ZipFile(file)
    members = archive.infolist()
    sizes = {member.filename: member.file_size for member in members}
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise ValueError('a compressed zip file, which torch.save does not write')
    if len(sizes) < len(members) or sum(sizes.values()) > file.seek(0, os.SEEK_END):
        raise ValueError('a zip file with files over one another')
    if broken := archive.testzip():
        raise ValueError(f'{broken} in it is damaged')
    folder = members[0].filename.partition('/')[0] if members else ''
    if f'{folder}/data.pkl' not in sizes:
        raise ValueError('a zip file, but not of torch.save: it has no data.pkl')
    order = f'{folder}/byteorder'
    if order in sizes and archive.read(order) != b'little':
        raise ValueError('written by a big-endian machine, which is not supported')
    data = archive.read(f'{folder}/data.pkl')
    saved, storages = torch_pickle.load(io.BytesIO(data))
    for key, (dtype, size) in storages.items():
        claimed, held = size * dtype.itemsize, sizes.get(f'{folder}/data/{key}', 0)
        if claimed != held:
            raise ValueError(
                f'storage {key!r} should have {claimed} bytes and has {held}'
            )
    return saved, lambda key: archive.read(f'{folder}/data/{key}')


def _open_legacy(file: BinaryIO) -> tuple[Any, Callable[[str], bytes]]:
    """Returns what the file holds, and a function from a storage's key to its bytes."""
    _, version, system = (torch_pickle.load(file)[0] for _ in range(3))
    if type(version) is not int or version != _LEGACY_VERSION:
        raise ValueError(f'of an unknown version; {_LEGACY_VERSION} is known')
    if not system['little_endian']:
        raise ValueError('written by a big-endian machine, which is not supported')
    saved, storages = torch_pickle.load(file)
    keys, _ = torch_pickle.load(file)
    if not all(type(key) is str for key in keys) or sorted(keys) != sorted(storages):
        raise ValueError('its storages are not those of its tensors')
    begin = file.tell()
    end = file.seek(0, os.SEEK_END)
    places = {}
    for key in keys:
        dtype, size = storages[key]
        file.seek(begin)
        (held,) = struct.unpack('<q', file.read(8))
        if held != size:
            raise ValueError(f'storage {key!r} should have {size} numbers, not {held}')
        places[key] = begin + 8, size * dtype.itemsize
        begin += 8 + size * dtype.itemsize
        if begin > end:
            raise ValueError(f'it ends at byte {end}, in storage {key!r} up to {begin}')

    def contents(key: str) -> bytes:
        place, count = places[key]
        file.seek(place)
        return file.read(count)

    return saved, contents


def _with_arrays(value: Any, to_array: Callable[[Any], np.ndarray], done: dict) -> Any:
    """Returns `value` with arrays for tensors; what it shares stays shared."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    # Each only once: lists of lists of one list could be exponentially many.
    if id(value) not in done:
        change = functools.partial(_with_arrays, to_array=to_array, done=done)
        if isinstance(value, dict):
            ordered = isinstance(value, collections.OrderedDict)
            made = collections.OrderedDict() if ordered else {}
            made.update((key, change(item)) for key, item in value.items())
        elif isinstance(value, list):
            made = [change(item) for item in value]
        elif isinstance(value, tuple):
            made = tuple([change(item) for item in value])
        else:
            made = to_array(value)
            made.flags.writeable = False
        done[id(value)] = made
    return done[id(value)]


def _from_bytes(tensor: Any, contents: Callable[[str], bytes]) -> np.ndarray:
    if not isinstance(tensor, torch_pickle.Tensor):
        name = getattr(tensor, 'name', 'a storage')
        raise ValueError(f'it holds {name}, and not in a tensor')
    if 0 in tensor.shape:
        return np.empty(tensor.shape, tensor.dtype)
    # numpy also checks that the view lies within the bytes.
    return np.ndarray(
        tensor.shape, tensor.dtype, contents(tensor.key), tensor.offset, tensor.strides
    )


def _from_torch(tensor: Any, torch: Any) -> np.ndarray:
    if not isinstance(tensor, torch.Tensor):
        raise ValueError(f'it holds {tensor}, and not in a tensor')
    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def write_torch_file(
    path: str | os.PathLike, tensors: Mapping[str, np.ndarray]
) -> None:
    """Writes a state dict that `torch.load` reads, of any PyTorch since 1.6.

    The file is written under a temporary name and renamed, so that it is either whole
    or not there; equal tensors give equal files.

    Args:
        path: of the file, which is replaced if it exists.
        tensors: arrays of any shape by name, in the order of the state dict. In
            PyTorch they will be an OrderedDict of tensors on the CPU.

    Raises:
        ValueError: a name is no string, or PyTorch has no tensors of an array's dtype
            (uint16 and its like came later); nothing is written.

    Example:
        >>> import tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp(), 'network.pt')
        >>> write_torch_file(path, {'bn.num_batches_tracked': np.int64(7)})
        >>> int(read_torch_file(path)['bn.num_batches_tracked'])
        7
    """
    path = pathlib.Path(path)
    arrays = {name: _little_endian(name, array) for name, array in tensors.items()}
    temporary = path.with_name(f'{path.name}.writing')
    try:
        with temporary.open('wb') as file:
            with zipfile.ZipFile(file, 'w') as archive:
                _add(archive, 'data.pkl', torch_pickle.dump(arrays))
                _add(archive, 'byteorder', b'little')
                for key, array in enumerate(arrays.values()):
                    _add(archive, f'data/{key}', array.tobytes())
                _add(archive, 'version', b'3\n')
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _little_endian(name: str, array: np.ndarray) -> np.ndarray:
    array = np.asarray(array)
    array = array.astype(array.dtype.newbyteorder('<'), copy=False)
    if not isinstance(name, str):
        raise ValueError(f'a tensor is named {name!r}; a string is needed')
    if array.dtype not in torch_pickle.STORAGE_OF_DTYPE:
        raise ValueError(
            f'tensor {name!r} is of {array.dtype}, which not every PyTorch has; it '
            f'has {", ".join(map(str, torch_pickle.STORAGE_OF_DTYPE))}'
        )
    return array


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    # ZipInfo's date is always the same.
    member = zipfile.ZipInfo(f'archive/{name}')
    # As PyTorch does, so that a storage can be mapped into memory: an extra field FB
    # moves it to a multiple of 64 bytes.
    start = archive.fp.tell() + _ZIP_HEADER + len(member.filename) + 4
    padding = -start % _ALIGNMENT
    member.extra = struct.pack('<2sH', b'FB', padding) + padding * b'Z'
    archive.writestr(member, data)
