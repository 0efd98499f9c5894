"""Files from anyone: what is wrong with one ends in a ValueError, and runs nothing."""

import functools
import io
import itertools
import json
import os
import pathlib
import pickle
import struct
import tarfile
import tempfile
from types import SimpleNamespace

import hypothesis
import jax
import numpy as np
import pytest
from hypothesis import strategies as st

from slimjax.channel_file import channels_text, load_channels
from slimjax.data.coco_format.annotations import read_annotations
from slimjax.data.inventory import list_train, list_val
from slimjax.deploy.cascade import load_cascade
from slimjax.deploy.costs import read_costs
from slimjax.deploy.decision_log import replay
from slimjax.deploy.manifest import MANIFEST, read_manifest, write_manifest
from slimjax.deploy.pretrained import CONFIG, from_pretrained, save_pretrained
from slimjax.deploy.weights import read_weights, write_weights
from slimjax.interop.torch_file import read_torch_file, write_torch_file
from slimjax.json_file import parse_json
from slimjax.width import ChannelTable
from tests.deploy.networks import IMAGE, tiny

# What a value of a JSON file is replaced by, as text.
BOMBS = (
    '[' * 100_000,
    '[' * 100_000 + ']' * 100_000,
    '{"a":' * 50_000 + '1' + '}' * 50_000,
    '9' * 5000,
    '-1',
    '0',
    '1e999',
    '1e308',
    '0.5',
    'NaN',
    '-Infinity',
    'null',
    'true',
    '[]',
    '{}',
    '""',
    '"\\ud800"',
    '"../../etc/passwd"',
    '"/etc/passwd"',
    '{"a": 1, "a": 2}',
    '[1, 2, 3]',
    '18446744073709551616',
    '1000000000000',
)
MARK = '"the place of the bomb"'


@functools.cache
def network_folder() -> pathlib.Path:
    folder = pathlib.Path(tempfile.mkdtemp(), 'network')
    save_pretrained(folder, *tiny(), image_shape=IMAGE)
    return folder


def read_network(path):
    """Reads a changed config.json beside the weights that it was written for."""
    with tempfile.TemporaryDirectory() as folder:
        for each in network_folder().iterdir():
            pathlib.Path(folder, each.name).symlink_to(each)
        pathlib.Path(folder, CONFIG).unlink()
        pathlib.Path(folder, CONFIG).write_bytes(pathlib.Path(path).read_bytes())
        return from_pretrained(folder)


def read_bundle(path):
    """Reads a changed manifest beside a file."""
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, 'graph').write_bytes(b'abc')
        pathlib.Path(folder, MANIFEST).write_bytes(pathlib.Path(path).read_bytes())
        return read_manifest(folder)


@functools.cache
def manifest_text() -> str:
    own = {'weights': 'graph', 'graphs': {'cpu': 'graph'}, 'variables': ['a']}
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, 'graph').write_bytes(b'abc')
        facts = {'kind': 'stablehlo', 'image_shape': [8, 8, 3], 'num_classes': 2}
        write_manifest(pathlib.Path(folder), {**facts, 'widths': {'1.0': own}})
        return pathlib.Path(folder, MANIFEST).read_text()


def coco_text() -> str:
    box = {'id': 3, 'image_id': 1, 'category_id': 2, 'bbox': [1, 2, 3, 4], 'area': 12}
    return json.dumps(
        {
            'images': [{'id': 1, 'file_name': 'a.jpg', 'height': 9, 'width': 9}],
            'categories': [{'id': 2, 'name': 'cat'}],
            'annotations': [{**box, 'iscrowd': 0}],
        }
    )


def costs_text() -> str:
    own = {'macs': 5, 'latency_ms_p50': 1.0, 'latency_ms_p95': 1.5}
    return json.dumps({'widths': {'0.5': own}})


def cascade_text() -> str:
    own = {'widths': ['0.5'], 'threshold': 0.5, 'temperatures': {'0.5': 1.0}}
    return json.dumps({'cascade': own})


def log_text() -> str:
    head = {'costs': {'0.5': [1.0, 2.0]}, 'budget': 5.0, 'rule': {}}
    seen = {'width': '0.5', 'cost': 1.0, 'time': 0.0}
    return f'{json.dumps(head)}\n{json.dumps(seen)}\n'


RUNTIME = SimpleNamespace(widths=('0.5',))
# Of each kind of file: what it holds, and who reads it.
DOCUMENTS = {
    'channels': (
        lambda: channels_text([ChannelTable('1', (('stem/conv', 8),), 9)]),
        load_channels,
    ),
    'costs': (costs_text, read_costs),
    'cascade': (cascade_text, lambda path: load_cascade(path, RUNTIME)),
    'decision log': (log_text, replay),
    'manifest': (manifest_text, read_bundle),
    'config of a network': (
        lambda: network_folder().joinpath(CONFIG).read_text(),
        read_network,
    ),
    'COCO annotations': (coco_text, read_annotations),
}


def places(value, path=()):
    """The paths to all values within a JSON document."""
    yield path
    pairs = value.items() if isinstance(value, dict) else []
    pairs = enumerate(value) if isinstance(value, list) else pairs
    for key, each in pairs:
        yield from places(each, (*path, key))


def with_bomb(text, place, bomb):
    """A document of which one value is another."""
    first, *rest = text.splitlines() if text.count('\n{') else [text]
    value = json.loads(first)
    path = list(places(value))[place % len(list(places(value)))]
    mark = json.loads(MARK)
    if path:
        holder = functools.reduce(lambda holder, key: holder[key], path[:-1], value)
        holder[path[-1]] = mark
    else:
        value = mark
    return '\n'.join([json.dumps(value).replace(MARK, bomb), *rest])


def refused(read, content: bytes) -> bool:
    """Whether a file is refused, by the documented error alone."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, 'file')
        path.write_bytes(content)
        try:
            read(path)
        except ValueError:
            return True
    return False


json_changes = st.tuples(
    st.sampled_from(sorted(DOCUMENTS)),
    st.integers(0, 1000),
    st.sampled_from(BOMBS),
)


def explode(change):
    kind, place, bomb = change
    text, read = DOCUMENTS[kind]
    return refused(read, with_bomb(text(), place, bomb).encode())


def flipped(content: bytes, flips) -> bytes:
    found = bytearray(content)
    for place, value in flips:
        found[place % len(found)] = value
    return bytes(found)


flips = st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=4)

# How files by PyTorch before 1.6 begin.
LEGACY = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
ARRAY = np.arange(6, dtype=np.float32).reshape(2, 3)
SHAPES = {'params': {'kernel': jax.ShapeDtypeStruct((2, 3), np.float32)}}


@functools.cache
def written(write, suffix) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, f'file{suffix}')
        write(path)
        return path.read_bytes()


def torch_content():
    return written(lambda path: write_torch_file(path, {'weight': ARRAY}), '.pt')


def safetensors_content():
    return written(
        lambda path: write_weights(path, {'params': {'kernel': ARRAY}}), '.safetensors'
    )


class Hostile:
    """Leaves a trace where it is run."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return (os.mkdir, (str(self.trace),))


def header(**own) -> bytes:
    """A safetensors file that says `own` of its one array."""
    facts = {'dtype': 'F32', 'shape': [2, 3], 'data_offsets': [0, 24], **own}
    text = json.dumps({'params/kernel': facts}).encode()
    return struct.pack('<Q', len(text)) + text + ARRAY.tobytes()


LIES = {
    'offsets beyond the file': header(data_offsets=[0, 2**40]),
    'offsets backwards': header(data_offsets=[24, 0]),
    'offsets below 0': header(data_offsets=[-24, 0]),
    'a shape of another size': header(shape=[2**20, 2**20]),
    'a shape that overflows': header(shape=[2**63, 2]),
    'a shape below 0': header(shape=[-2, -3]),
    'a dtype of another size': header(dtype='F64'),
    'an unknown dtype': header(dtype='PICKLE'),
    'a header of exabytes': struct.pack('<Q', 2**62) + b'{}',
    'a header beyond the file': struct.pack('<Q', 100) + b'{}',
    'nesting': struct.pack('<Q', 200_000) + b'[' * 200_000,
    'nothing': b'',
}


def tar_of(*members) -> bytes:
    """A tar of (name, type, link or content)."""
    found = io.BytesIO()
    with tarfile.open(fileobj=found, mode='w') as tar:
        for name, kind, content in members:
            info = tarfile.TarInfo(name)
            info.type = kind
            if kind == tarfile.REGTYPE:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            else:
                info.linkname = content
                tar.addfile(info)
    return found.getvalue()


@pytest.mark.parametrize('kind', sorted(DOCUMENTS))
def test_a_document_that_is_right_is_read(kind):
    text, read = DOCUMENTS[kind]
    assert not refused(read, text().encode())


@pytest.mark.parametrize('bomb', BOMBS[:4])
def test_a_json_bomb_is_refused(bomb):
    with pytest.raises(ValueError, match='nested too deeply|too large|Expecting'):
        parse_json(bomb)


@hypothesis.settings(max_examples=60, derandomize=True, database=None)
@hypothesis.given(json_changes)
def test_a_json_file_is_read_or_refused(change):
    explode(change)


def test_no_code_of_a_pickle_runs(tmp_path):
    trace = tmp_path / 'ran'
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        content = pickle.dumps({'weight': Hostile(trace)}, protocol=protocol)
        assert refused(read_torch_file, content)
        assert refused(read_torch_file, LEGACY + content)
        # Behind a whole file, or in it, they are bytes.
        refused(read_torch_file, torch_content() + content)
    assert not trace.exists()


@pytest.mark.parametrize('lie', sorted(LIES))
def test_a_lying_header_is_refused(lie):
    assert refused(lambda path: read_weights(path, SHAPES), LIES[lie])


def test_members_of_a_tar_never_leave_it(tmp_path):
    inner = tar_of(
        ('../../outside.jpg', tarfile.REGTYPE, b'image'),
        ('/etc/absolute.jpg', tarfile.REGTYPE, b'image'),
        ('link.jpg', tarfile.SYMTYPE, '/etc/passwd'),
        ('hard.jpg', tarfile.LNKTYPE, '../../outside.jpg'),
        ('device.jpg', tarfile.CHRTYPE, ''),
    )
    path = tmp_path / 'train.tar'
    path.write_bytes(
        tar_of(
            ('../../n01.tar', tarfile.REGTYPE, inner),
            ('n02.tar', tarfile.SYMTYPE, '/etc/n02.tar'),
            ('n03.tar', tarfile.DIRTYPE, ''),
        )
    )
    items = list_train(path)
    assert [(item.class_name, item.name) for item in items] == [
        ('n01', 'absolute.jpg'),
        ('n01', 'outside.jpg'),
    ]
    assert {item.read() for item in items} == {b'image'}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize('content', [b'', b'no tar', b'\x1f\x8b\x08' + 50 * b'x'])
def test_what_is_no_tar_is_refused(content):
    assert refused(list_train, content)
    assert refused(lambda path: list_val(path, None), content)


# What is fuzzed, and how one example of it is made and read.
FUZZED = {
    'a JSON file with a bomb': (json_changes, explode),
    'a .pt file with changed bytes': (
        flips,
        lambda each: refused(read_torch_file, flipped(torch_content(), each)),
    ),
    'a safetensors file with changed bytes': (
        flips,
        lambda each: refused(
            lambda path: read_weights(path, SHAPES),
            flipped(safetensors_content(), each),
        ),
    ),
    'a pickle of random instructions': (
        st.binary(max_size=40),
        lambda each: refused(read_torch_file, LEGACY + each),
    ),
    'a tar with changed bytes': (
        flips,
        lambda each: refused(
            list_train,
            flipped(tar_of(('a.tar', tarfile.REGTYPE, tar_of())), each),
        ),
    ),
}


@pytest.mark.slow
@pytest.mark.torture
@pytest.mark.parametrize('kind', sorted(FUZZED))
def test_fuzzed_files_are_read_or_refused(kind, ledger, seed, has_time):
    strategy, read = FUZZED[kind]
    for turn in itertools.count(1_000_000 * seed):
        if not has_time():
            return

        @hypothesis.seed(turn)
        @hypothesis.settings(
            max_examples=200,
            database=None,
            phases=[hypothesis.Phase.generate],
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(strategy)
        def run(change):
            try:
                read(change)
            except Exception as error:
                ledger.record('untrusted', kind, False, lost=f'{change!r}: {error!r}')
                raise
            ledger.record('untrusted', kind, True)

        run()
