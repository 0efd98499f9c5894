"""PyTorch's files: read as PyTorch reads them, from anyone, and written for it.

`data/*.pt` are `torch.save(everything(torch, names))` by the PyTorch that they are
named after; that of 1.0.1, before zip files, has its tensors on `'cuda:0'`.
"""

import importlib.util
import io
import os
import pathlib
import pickle
import struct
import sys
import tempfile
import types
import zipfile
from collections import OrderedDict

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from slimjax.interop.torch_file import read_torch_file, write_torch_file

DATA = pathlib.Path(__file__).parent / 'data'
FILES = sorted(DATA.glob('*.pt'), key=lambda path: path.name)
WRITABLE = [
    *(np.float16, np.float32, np.float64, ml_dtypes.bfloat16),
    *(np.uint8, np.int8, np.int16, np.int32, np.int64, np.bool_),
    *(np.complex64, np.complex128),
]
MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)


def everything(torch, names):
    """What the files of `data` hold, as PyTorch has it."""
    network = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 1), torch.nn.BatchNorm2d(3))
    for index, value in enumerate(network.state_dict().values()):
        value.copy_(torch.arange(value.numel()).reshape(value.shape) + index)
    grid = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
    return {
        'model': network.state_dict(),
        'types': {
            name: torch.tensor([0, 1, 7]).to(getattr(torch, name)) for name in names
        },
        'views': [
            grid,
            grid.transpose(0, 2),
            grid[1, :, 1::2],
            grid[0, 1, :1].expand(2, 5),
        ],
        'parameter': torch.nn.Parameter(torch.tensor([1.5, -2.0])),
        'scalar': torch.tensor(2.5),
        'empty': torch.zeros(0, 3),
        'size': torch.Size([3, 2]),
        'plain': (1, -1, 300, 70000, 2**40, 1.5, True, None, 'ü', [], {2: ()}),
    }


def everything_in_numpy(names):
    shapes = {
        '0.weight': (3, 2, 1, 1),
        '0.bias': (3,),
        '1.weight': (3,),
        '1.bias': (3,),
        '1.running_mean': (3,),
        '1.running_var': (3,),
        '1.num_batches_tracked': (),
    }
    model = OrderedDict(
        (name, np.arange(np.prod(shape), dtype=np.float32).reshape(shape) + index)
        for index, (name, shape) in enumerate(shapes.items())
    )
    model['1.num_batches_tracked'] = np.array(6)
    grid = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    return {
        'model': model,
        'types': {name: np.array([0, 1, 7]).astype(name) for name in names},
        'views': [
            grid,
            grid.transpose(2, 1, 0),
            grid[1, :, 1::2],
            np.full((2, 5), 4, np.float32),
        ],
        'parameter': np.array([1.5, -2], np.float32),
        'scalar': np.array(2.5, np.float32),
        'empty': np.zeros((0, 3), np.float32),
        'size': (3, 2),
        'plain': (1, -1, 300, 70000, 2**40, 1.5, True, None, 'ü', [], {2: ()}),
    }


def assert_same(found, expected):
    """The same values of the same types, in the same order."""
    assert type(found) is type(expected)
    if isinstance(expected, dict):
        assert list(found) == list(expected)
        assert_same(list(found.values()), list(expected.values()))
    elif isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    elif isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype
        assert found.shape == expected.shape
        assert found.tobytes() == expected.tobytes()
    else:
        assert found == expected


HAS_TORCH = importlib.util.find_spec('torch') is not None


@pytest.fixture(autouse=True, params=['with torch'] * HAS_TORCH + ['without torch'])
def _torch(request, monkeypatch):
    """All here holds with PyTorch, where it is installed, and without."""
    if request.param == 'without torch':
        monkeypatch.setitem(sys.modules, 'torch', None)


@pytest.fixture
def without_torch(monkeypatch):
    return lambda: monkeypatch.setitem(sys.modules, 'torch', None)


def literal(value):
    """The part of a pickle that makes a value."""
    return pickle.dumps(value, protocol=2)[2:-1]


# Stands for the None that the old format has there, and the new one has not.
NO_VIEW = b'<no view>'


def storage(key='0', count=4, kind='torch\nFloatStorage', view=NO_VIEW, where='cpu'):
    parts = [literal('storage'), f'c{kind}\n'.encode(), literal(key), literal(where)]
    return b'(' + b''.join(parts) + literal(count) + view + b'tQ'


def tensor(offset=0, shape=(4,), strides=(1,), stored=None, rest=b'\x89N'):
    function = b'ctorch._utils\n_rebuild_tensor_v2\n'
    arguments = literal(offset) + literal(shape) + literal(strides) + rest
    return function + b'(' + (stored or storage()) + arguments + b'tR'


FOUR = np.arange(4, dtype='<f4')


def zip_file(body, storages=None, order=b'little', compression=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', compression) as archive:
        pickled = b'\x80\2' + body.replace(NO_VIEW, b'') + b'.'
        archive.writestr('x/data.pkl', pickled)
        archive.writestr('x/byteorder', order)
        for key, data in (storages or {'0': FOUR.tobytes()}).items():
            archive.writestr(f'x/data/{key}', data)
        archive.writestr('x/version', b'3\n')
    return file.getvalue()


def legacy_file(body, counts=None, data=None, **parts):
    counts = {'0': 4} if counts is None else counts
    parts = {
        'version': literal(1001),
        'system': literal({'protocol_version': 1001, 'little_endian': True}),
        'body': body.replace(NO_VIEW, b'N'),
        'keys': literal(list(counts)),
    } | parts
    file = MAGIC + b''.join(b'\x80\2' + part + b'.' for part in parts.values())
    for count in counts.values():
        file += struct.pack('<q', count) + (FOUR.tobytes() if data is None else data)
    return file


def with_storage(body):
    """A list of `body` and of a sound tensor, whose storage the file has."""
    return b'](' + body + tensor() + b'e'


def read(data, tmp_path):
    path = tmp_path / 'x.pt'
    path.write_bytes(data)
    return read_torch_file(path)


def assert_refused(data, tmp_path, match=''):
    with pytest.raises(ValueError, match=rf'x\.pt: .*{match}'):
        read(data, tmp_path)


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.name)
def test_what_pytorch_saved_is_read(path):
    found = read_torch_file(path)
    names = list(found['types'])
    assert len(names) >= 8
    assert_same(found, everything_in_numpy(names))


def test_both_formats_are_among_the_files():
    assert [path.name for path in FILES] == [
        'torch_1.0.1_legacy.pt',
        'torch_1.6.0_zip.pt',
        'torch_2.13.0_legacy.pt',
        'torch_2.13.0_zip.pt',
    ]
    assert b'cuda:0' in FILES[0].read_bytes()


def test_an_old_pytorch_is_not_trusted_with_a_file(monkeypatch):
    def load(*_, **__):
        raise AssertionError('CVE-2025-32434')

    old = types.SimpleNamespace(__version__='2.5.1+cpu', load=load)
    monkeypatch.setitem(sys.modules, 'torch', old)
    assert read_torch_file(FILES[0])['size'] == (3, 2)


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.name)
def test_the_bytes_of_a_file_cannot_be_changed_through_its_arrays(path):
    for array in read_torch_file(path)['views']:
        with pytest.raises(ValueError, match='read-only'):
            array[...] = 0


def test_reading_with_pytorch_and_without_is_the_same(without_torch, tmp_path):
    torch = pytest.importorskip('torch')
    names = [str(np.dtype(dtype)) for dtype in WRITABLE]
    for number, zipped in enumerate([True, False]):
        path = tmp_path / f'{number}.pt'
        more = ['uint16', 'uint32', 'uint64'] * zipped
        torch.save(
            everything(torch, names + more),
            path,
            _use_new_zipfile_serialization=zipped,
        )
    paths = [*FILES, tmp_path / '0.pt', tmp_path / '1.pt']
    expected = [read_torch_file(path) for path in paths]
    without_torch()
    for path, one in zip(paths, expected, strict=True):
        assert_same(read_torch_file(path), one)


@pytest.mark.parametrize('weights_only', [True, False])
def test_pytorch_reads_what_is_written(tmp_path, weights_only):
    torch = pytest.importorskip('torch')
    arrays = everything_in_numpy([])['model'] | {
        str(np.dtype(dtype)): np.arange(-3, 3).astype(dtype).reshape(2, 3)
        for dtype in WRITABLE
    }
    arrays |= {'empty': np.zeros((2, 0, 3), np.float32), 'none': np.zeros((), bool)}
    write_torch_file(tmp_path / 'x.pt', arrays)
    found = torch.load(tmp_path / 'x.pt', weights_only=weights_only)
    assert type(found) is OrderedDict
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert str(found[name].dtype).removeprefix('torch.') == str(array.dtype)
        assert found[name].shape == array.shape
        assert found[name].is_contiguous()
        assert bytes(found[name].contiguous().untyped_storage()) == array.tobytes()
    network = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 1), torch.nn.BatchNorm2d(3))
    network.load_state_dict({name: found[name] for name in network.state_dict()})


@given(
    st.dictionaries(
        st.text(max_size=5),
        st.sampled_from(WRITABLE).flatmap(
            lambda dtype: hnp.arrays(
                np.float32,
                hnp.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=3),
                elements=st.integers(-100, 100),
            ).map(lambda array: array.astype(np.int8).astype(dtype).T)
        ),
        max_size=4,
    )
)
def test_what_is_written_is_read(tensors):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, 'x.pt')
        write_torch_file(path, tensors)
        found = read_torch_file(path)
        assert os.listdir(folder) == ['x.pt']
    assert_same(found, OrderedDict(tensors))


def test_big_endian_arrays_and_numbers_are_written(tmp_path):
    tensors = {'big': np.arange(3, dtype='>f4'), 'count': np.int64(2**40)}
    write_torch_file(tmp_path / 'x.pt', tensors)
    found = read_torch_file(tmp_path / 'x.pt')
    expected = {'big': np.arange(3, dtype='f4'), 'count': np.array(2**40)}
    assert_same(found, OrderedDict(expected))


def test_equal_tensors_give_equal_files_with_aligned_storages(tmp_path):
    for name in ('a.pt', 'b.pt'):
        tensors = {'x' * n: np.full(n, n, np.float32) for n in range(1, 12)}
        write_torch_file(tmp_path / name, tensors)
    data = (tmp_path / 'a.pt').read_bytes()
    assert data == (tmp_path / 'b.pt').read_bytes()
    for n in range(1, 12):
        numbers = np.full(n, n, np.float32).tobytes() + b'PK'
        assert data.index(numbers) % 64 == 0


@pytest.mark.parametrize(
    ('tensors', 'match'),
    [
        ({'a': np.array(['text'])}, "tensor 'a' is of <U4"),
        ({'ok': FOUR, 'a': np.array([1], np.uint16)}, "tensor 'a' is of uint16"),
        ({3: FOUR}, 'named 3; a string'),
    ],
)
def test_what_pytorch_has_no_tensors_of_is_not_written(tmp_path, tensors, match):
    write_torch_file(tmp_path / 'x.pt', {'old': FOUR})
    with pytest.raises(ValueError, match=match):
        write_torch_file(tmp_path / 'x.pt', tensors)
    assert os.listdir(tmp_path) == ['x.pt']
    assert_same(read_torch_file(tmp_path / 'x.pt'), OrderedDict(old=FOUR))


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    write_torch_file(tmp_path / 'x.pt', {'old': FOUR})

    def full(_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(OSError, match='No space'):
        write_torch_file(tmp_path / 'x.pt', {'new': FOUR})
    assert os.listdir(tmp_path) == ['x.pt']
    assert_same(read_torch_file(tmp_path / 'x.pt'), OrderedDict(old=FOUR))


class Trap:
    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def traps(marker):
    """Pickles that make a file when they are run, and what must be refused in them."""
    command = f'touch {marker}'
    argument = literal(command)
    python = literal(f'__import__("os").system("{command}")')
    return {
        'reduce': (literal(Trap(command)), 'posix.system'),
        'eval': (b'cbuiltins\neval\n' + python + b'\x85R', 'builtins.eval'),
        'python 2': (b'c__builtin__\neval\n' + python + b'\x85R', '__builtin__.eval'),
        'getattr': (
            b'cbuiltins\ngetattr\ncbuiltins\n__import__\n'
            + (literal('os') + b'\x85R' + literal('system') + b'\x86R')
            + (argument + b'\x85R'),
            'builtins.getattr',
        ),
        'inst': (b'(' + argument + b'ios\nsystem\n', 'os.system'),
        'obj': (b'(cos\nsystem\n' + argument + b'o', 'os.system'),
        'stack global': (
            literal('os') + literal('system') + b'\x93' + argument + b'\x85R',
            'STACK_GLOBAL',
        ),
        'setstate': (
            b'ccollections\nOrderedDict\n)R'
            + (b'}' + literal('__setstate__') + b'cos\nsystem\ns')
            + (b'b' + argument + b'b'),
            'os.system',
        ),
        'dotted': (
            b'\x80\4' + literal('collections') + literal('abc.sys.modules') + b'\x93'
            b'0' + literal(Trap(command)),
            'STACK_GLOBAL',
        ),
    }


@pytest.mark.parametrize('place', ['zip', 'body', 'version', 'system', 'keys', 'id'])
@pytest.mark.parametrize('kind', traps(''))
def test_nothing_in_a_file_is_run(tmp_path, kind, place):
    marker = tmp_path / 'marker'
    trap, name = traps(marker)[kind]
    file = {
        'zip': lambda: zip_file(with_storage(trap)),
        'id': lambda: zip_file(with_storage(trap + b'Q')),
        'body': lambda: legacy_file(with_storage(trap)),
    }.get(place, lambda: legacy_file(tensor(), **{place: trap}))()
    assert_refused(file, tmp_path, f'{name}.*refused; a state dict of tensors is')
    assert not marker.exists()
    if place == 'zip' and kind not in ('python 2', 'dotted'):
        # They are no duds.
        pickle.loads(b'\x80\4' + trap + b'.')
        assert marker.exists()


def test_the_magic_number_is_not_run(tmp_path):
    marker = tmp_path / 'marker'
    data = pickle.dumps(Trap(f'touch {marker}'), protocol=2)
    assert_refused(data, tmp_path, 'not a file of torch.save')
    assert not marker.exists()


@pytest.mark.parametrize(
    ('body', 'match'),
    [
        (b'ctorch\nload\n', 'torch.load.* refused'),
        (b'ctorch.nn.modules.linear\nLinear\n)\x81', 'torch.nn.modules.linear.Linear'),
        (
            b'ctorch._utils\n_rebuild_sparse_tensor\n',
            '_rebuild_sparse_tensor.* refused',
        ),
        (b'ctorch\nFloatStorage\n', 'and not in a tensor'),
        (b'ctorch\nFloatStorage\n)R', 'torch.FloatStorage'),
        (storage(count=0), ''),
        (b'ctorch._utils\n_rebuild_tensor_v2\n}' + literal('a') + b'Nsb', 'attributes'),
        (b'ccollections\nOrderedDict\n}' + literal('a') + b'Nsb', 'attributes'),
        (b'(' + literal('module') + b'NNNNtQ', 'module'),
        (b'NQ', ''),
        (b'NN\x85R', ''),
        (b'0', 'POP'),
        (b'h\x05', ''),
        (b')Na', 'tuple'),
        (b')(NNe', 'tuple'),
        (b'](NNu', 'list'),
        (b'}(Nu', ''),
        (b'}' + literal((1, 2)) + b'Ns', 'tuple is the key'),
        (b'', ''),
    ],
)
def test_a_pickle_of_something_else_is_refused(tmp_path, body, match):
    assert_refused(zip_file(body, {}), tmp_path, match)
    assert_refused(legacy_file(body, {}), tmp_path, match)


BAD_TENSORS = [
    (tensor(shape=(5,)), 'shape .5,. with strides .1,. takes bytes up to 20 '),
    (tensor(offset=1), 'takes bytes up to 20 of storage .0., which has 16'),
    (tensor(offset=2**80), 'takes bytes up to'),
    (tensor(shape=(2,), strides=(4,)), 'takes bytes up to 20 '),
    # 4 * 2**62 wraps around to 0 in 64 bits.
    (tensor(shape=(5,), strides=(2**62,)), 'takes bytes up to'),
    (tensor(shape=(2, 2), strides=(2**63, 2**63)), 'takes bytes up to'),
    (tensor(offset=-1), 'offset -1'),
    (tensor(offset=3, strides=(-1,)), 'strides .-1,.'),
    (tensor(shape=(-4,)), 'shape .-4,.'),
    (tensor(shape=(2**40, 2**40), strides=(0, 0)), 'shape .1099511627776, '),
    (tensor(shape=(0, 2**40, 2**40), strides=(1, 1, 1)), 'shape .0, 1099511627776, '),
    (tensor(shape=(1,) * 65, strides=(1,) * 65), 'shape'),
    (tensor(shape=(1,) * 10**5, strides=(1,) * 10**5), 'shape'),
    (tensor(shape=(2, 2)), 'shape .2, 2. and strides .1,.'),
    (tensor(shape=(2.0,)), 'shape .2.0,.'),
    (tensor(shape=(True,)), 'shape .True,.'),
    (tensor(shape=4), ''),
    (tensor(stored=b'N'), ''),
    (tensor(rest=b'\x89N}' + literal('conj') + b'\x88s'), 'conjugate'),
    (tensor(stored=storage(count=10**12)), '0.* should have '),
    (tensor(stored=storage(count=3)), ''),
    (tensor(stored=storage(count=-4)), 'in place of a storage'),
    (tensor(stored=storage(key='1')), ''),
    (tensor(stored=storage(key='../../0')), ''),
    (tensor(stored=storage(key=('0',))), 'in place of a storage'),
    (tensor(stored=storage(kind='torch\nDoubleStorage')), ''),
    (tensor(stored=storage(kind='torch\nQInt8Storage')), 'torch.QInt8Storage'),
    (tensor(stored=storage(kind='torch._utils\n_rebuild_tensor')), ''),
    (b'](' + tensor() + tensor(stored=storage(count=2)) + b'e', 'two kinds'),
]


@pytest.mark.parametrize(('body', 'match'), BAD_TENSORS)
def test_a_tensor_that_is_not_within_its_storage_is_refused(tmp_path, body, match):
    assert_refused(zip_file(body), tmp_path, match)
    assert_refused(legacy_file(body), tmp_path, match)


def test_a_file_made_by_hand_is_read(tmp_path):
    """Without this the tests that refuse would prove nothing."""
    for make in (zip_file, legacy_file):
        assert_same(read(make(tensor()), tmp_path), FOUR)
        cuda = tensor(stored=storage(where='cuda:3'))
        assert_same(read(make(cuda), tmp_path), FOUR)


def test_old_files_have_storages_within_storages(tmp_path):
    for view, shape in (((1, 3), (3,)), ((0, 2), (2,))):
        stored = storage(view=literal(('v', *view)))
        found = read(legacy_file(tensor(shape=shape, stored=stored)), tmp_path)
        assert_same(found, FOUR[view[0] : sum(view)])
    stored = storage(view=literal(('v', 1, 3)))
    body = tensor(shape=(4,), stored=stored)
    assert_refused(legacy_file(body), tmp_path, 'which has 12')
    for view in ((1, 4), (-1, 2), (0, 2**70)):
        stored = storage(view=literal(('v', *view)))
        assert_refused(legacy_file(tensor(stored=stored, shape=(1,))), tmp_path)


def test_a_large_view_of_one_number_takes_no_memory(tmp_path):
    body = tensor(shape=(2**20, 2**20), strides=(0, 0))
    found = read(zip_file(body), tmp_path)
    assert found.shape == (2**20, 2**20)
    assert found[5, 7] == 0


def test_nesting_does_not_overflow(tmp_path):
    deep = 5 * 10**4
    bodies = [
        b')' + b'\x85' * deep,
        # The hash of such a key overflows the stack of pickle.Unpickler and torch.
        b'})' + b'\x85' * deep + b'Ns',
        b']' * deep + b'a' * (deep - 1),
        b'}' + (literal('a') + b'}') * deep + b's' * deep,
        b']q\0h\0a',
        b'(' * deep,
    ]
    for body in bodies:
        assert_refused(zip_file(body, {}), tmp_path)
    assert_refused(legacy_file(bodies[1], {}), tmp_path)
    # As a list of keys, or for a key, too.
    keys = b']' + bodies[0] + b'a'
    assert_refused(legacy_file(tensor(), keys=keys), tmp_path, 'not those of')
    body = b'(' + literal('storage') + b'ctorch\nFloatStorage\n' + bodies[0]
    body += literal('cpu') + literal(4) + b'tQ'
    assert_refused(zip_file(tensor(stored=body)), tmp_path, 'in place of a storage')


def test_sharing_is_kept_and_does_not_explode(tmp_path):
    level = b']q\0'
    for number in range(1, 60):
        level = b'](' + level + b'h' + bytes([number - 1]) + b'eq' + bytes([number])
    found = read(zip_file(level, {}), tmp_path)
    for _ in range(59):
        assert found[0] is found[1]
        found = found[0]
    assert found == []


def test_a_file_that_claims_much_takes_no_memory(tmp_path):
    huge = tensor(shape=(2**40,), stored=storage(count=2**40))
    assert_refused(zip_file(huge), tmp_path, 'should have 4398046511104 bytes')
    assert_refused(legacy_file(huge), tmp_path, 'should have 1099511627776 numbers')
    file = legacy_file(huge, counts={'0': 2**40})
    assert_refused(file, tmp_path, 'ends at byte .* up to 4398')
    text = b'X' + struct.pack('<I', 2**32 - 1)
    long = [b'\x8d', b'\x8e', b'\x96']  # Text, bytes and bytearray of 2**62.
    for body in [text, *(code + struct.pack('<Q', 2**62) for code in long)]:
        assert_refused(zip_file(body, {}), tmp_path)
        assert_refused(legacy_file(body, {}), tmp_path)
    # The memo of pickle.Unpickler would have a place for each number up to this one.
    body = tensor() + b'r' + struct.pack('<I', 2**32 - 1)
    assert_same(read(zip_file(body), tmp_path), FOUR)


def test_legacy_storages_must_be_those_of_the_tensors(tmp_path):
    match = 'storages are not those of its tensors'
    for counts in ({}, {'0': 4, '1': 4}, {'1': 4}):
        assert_refused(legacy_file(tensor(), counts), tmp_path, match)
    twice = literal(['0', '0'])
    assert_refused(legacy_file(tensor(), keys=twice), tmp_path, match)
    for number in (3, 5, -4, 2**62):
        file = legacy_file(tensor(), {'0': number})
        assert_refused(file, tmp_path, f'should have 4 numbers, not {number}')


@pytest.mark.parametrize(
    ('file', 'match'),
    [
        (b'', 'not a file of torch.save'),
        (b'\x89PNG' * 50, 'not a file of torch.save'),
        (MAGIC, ''),
        (b'PK\3\4' * 20, 'BadZipFile'),
        (zip_file(tensor(), order=b'big'), 'big-endian'),
        (legacy_file(tensor(), version=literal(1000)), 'version'),
        (legacy_file(tensor(), system=literal({'little_endian': False})), 'big-endian'),
        (legacy_file(tensor(), system=literal([])), ''),
        (zip_file(tensor(), compression=zipfile.ZIP_DEFLATED), 'compressed'),
        (zip_file(tensor(), {'0': bytes(12)}), 'should have 16 bytes and has 12'),
        (zip_file(tensor(), {'0': bytes(20)}), 'should have 16 bytes and has 20'),
        (zip_file(tensor(), {'1': bytes(16)}), 'should have 16 bytes and has 0'),
        (zip_file(tensor()).replace(b'data.pkl', b'data.pk_'), 'no data.pkl'),
    ],
)
def test_a_file_in_disorder_is_refused(tmp_path, file, match):
    assert_refused(file, tmp_path, match)


def test_a_zip_bomb_of_overlapping_files_is_refused(tmp_path):
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w') as archive:
        archive.writestr(
            'x/data.pkl', b'\x80\2' + tensor(stored=storage(view=b'')) + b'.'
        )
        archive.writestr('x/data/0', bytes(2**16))
        (member,) = (m for m in archive.filelist if m.filename.endswith('0'))
        for key in range(1, 50):
            copy = zipfile.ZipInfo(f'x/data/{key}')
            for name in ('CRC', 'file_size', 'compress_size', 'header_offset'):
                setattr(copy, name, getattr(member, name))
            archive.filelist.append(copy)
    assert_refused(file.getvalue(), tmp_path, 'over one another')


def test_two_zip_members_of_one_name_are_refused(tmp_path):
    data = zip_file(tensor(), {'0': FOUR.tobytes(), '1': bytes(16)})
    data = data.replace(b'x/data/1', b'x/data/0')
    assert_refused(data, tmp_path, 'over one another')


def test_a_folder_and_no_file_are_told_apart(tmp_path):
    with pytest.raises(ValueError, match='a folder'):
        read_torch_file(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_torch_file(tmp_path / 'x.pt')


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.name)
def test_a_file_that_is_cut_off_is_refused(tmp_path, path):
    data = path.read_bytes()
    for length in {*range(0, len(data), 61), *range(len(data) - 30, len(data))}:
        assert_refused(data[:length], tmp_path)


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.name)
def test_a_flipped_bit_is_refused_or_changes_a_value(tmp_path, path):
    data = path.read_bytes()
    generator = np.random.default_rng(0)
    for place in range(0, len(data), 13):
        flipped = bytearray(data)
        flipped[place] ^= 1 << generator.integers(8)
        try:
            found = read(bytes(flipped), tmp_path)
        except ValueError:
            continue
        # Every number of it can be read.
        str(found)


def test_a_flipped_bit_of_a_zip_file_changes_no_value(tmp_path):
    write_torch_file(tmp_path / 'x.pt', {'a': FOUR})
    data = (tmp_path / 'x.pt').read_bytes()
    for place in range(len(data)):
        flipped = bytearray(data)
        flipped[place] ^= 1 << place % 8
        try:
            found = read(bytes(flipped), tmp_path)
        except ValueError:
            continue
        assert_same(found, OrderedDict(a=FOUR))
