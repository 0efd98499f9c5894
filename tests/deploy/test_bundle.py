"""A bundle that is loaded computes what JAX computes, or says what is wrong with it."""

import concurrent.futures
import functools
import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

import slimjax.deploy
from slimjax.deploy.backends import StableHloBackend
from slimjax.deploy.bundle import export_bundle
from slimjax.deploy.manifest import MANIFEST
from tests.commands import ROOT, environment
from tests.deploy.networks import IMAGE, tiny

WIDTHS = ('1.0', '0.5', '0.25')
RUNTIMES = {'onnx': 'onnxruntime', 'litert': 'ai_edge_litert'}


def images(count):
    drawn = np.random.default_rng(1).normal(size=(count, *IMAGE))
    return drawn.astype(np.float32)


@pytest.fixture(scope='module')
def network():
    return tiny()


@pytest.fixture(scope='module')
def bundles(network, tmp_path_factory):
    """A bundle of each kind, made when it is asked for."""

    @functools.cache
    def made(kind):
        if kind in RUNTIMES:
            pytest.importorskip(RUNTIMES[kind], reason=f'needs the extra {kind!r}')
        output = tmp_path_factory.mktemp('made') / kind
        export_bundle(
            output,
            *network,
            to=kind,
            image_shape=IMAGE,
            class_names=list('abcde'),
            score=lambda runtime: dict.fromkeys(runtime.widths, 0.5),
            repeats=5,
            time_alone=kind == 'onnx',
        )
        return output

    return made


@pytest.fixture
def copied(bundles, tmp_path):
    """A bundle that may be damaged."""

    def copy(kind):
        for path in bundles(kind).iterdir():
            tmp_path.joinpath(path.name).write_bytes(path.read_bytes())
        return tmp_path

    return copy


def changed(folder, change):
    """Changes a manifest."""
    path = folder / MANIFEST
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


KINDS = pytest.mark.parametrize('kind', ['onnx', 'stablehlo', 'litert'])


@KINDS
def test_every_width_is_that_of_jax(bundles, network, kind):
    model, variables = network
    runtime = slimjax.deploy.load(bundles(kind), batch_sizes=(2,))
    assert runtime.widths == WIDTHS
    assert runtime.width == '1.0'
    for width in model.widths:
        runtime.set_width(width)
        logits = runtime.infer(images(2))
        apply = jax.jit(functools.partial(model.apply, width=width))
        expected = apply(variables, images(2))
        np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5)
        np.testing.assert_array_equal(runtime.infer(images(2), str(width)), logits)


@KINDS
def test_the_manifest_says_what_was_measured(bundles, kind):
    folder = bundles(kind)
    manifest = json.loads(folder.joinpath(MANIFEST).read_text())
    files = [path for path in folder.iterdir() if path.name != MANIFEST]
    assert manifest['bytes'] == sum(path.stat().st_size for path in files)
    assert set(manifest['files']) == {path.name for path in files}
    assert 0 < manifest['bytes_widest_alone'] < manifest['bytes']
    assert list(manifest['widths']) == list(WIDTHS)
    for own in manifest['widths'].values():
        assert own['max_abs_diff'] < 1e-5
        assert 0 < own['latency_ms_p50'] <= own['latency_ms_p95']
        assert own['top1'] == 0.5
        assert (own.get('latency_ms_p50_alone', 0) > 0) == (kind == 'onnx')
    macs = [own['macs'] for own in manifest['widths'].values()]
    assert sorted(macs, reverse=True) == macs


@KINDS
def test_what_is_asked_wrongly_is_refused(bundles, kind):
    runtime = slimjax.deploy.load(bundles(kind))
    for width in (0.3, '0.3', 'wide', -1.0):
        with pytest.raises(ValueError, match='width'):
            runtime.set_width(width)
    assert runtime.width == '1.0'
    with pytest.raises(ValueError, match=r'images are float64'):
        runtime.infer(images(1).astype(np.float64))
    with pytest.raises(ValueError, match=r'images are list'):
        runtime.infer(images(1).tolist())
    for wrong in (images(1)[0], images(1)[:, :31], images(1)[..., :1], images(1)[:0]):
        with pytest.raises(ValueError, match=r'\[batch, 32, 32, 3\] is expected'):
            runtime.infer(wrong)


@KINDS
def test_threads_get_the_width_that_they_ask_for(bundles, kind):
    runtime = slimjax.deploy.load(bundles(kind), threads=1)
    asked = images(1)
    expected = {name: runtime.infer(asked, name) for name in WIDTHS}

    def request(number):
        name = WIDTHS[number % 3]
        runtime.set_width(name)  # Some other thread may come between.
        found = runtime.infer(asked)
        np.testing.assert_array_equal(runtime.infer(asked, name), expected[name])
        return any(np.array_equal(found, each) for each in expected.values())

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(pool.map(request, range(96)))


@KINDS
@pytest.mark.parametrize('keep', [0, 100, -1])
def test_a_file_that_is_cut_short_is_refused(copied, kind, keep):
    folder = copied(kind)
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        path.write_bytes(content[:keep] if keep >= 0 else content[:-2])
        with pytest.raises(ValueError, match=path.name):
            slimjax.deploy.load(folder)
        path.write_bytes(content)


@KINDS
def test_a_changed_or_lost_file_is_refused(copied, kind):
    folder = copied(kind)
    for path in sorted(folder.iterdir()):
        if path.name == MANIFEST:
            continue
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(ValueError, match=f'{path.name}: damaged or replaced'):
            slimjax.deploy.load(folder)
        path.unlink()
        with pytest.raises(ValueError, match=f'{path.name}: missing'):
            slimjax.deploy.load(folder)
        path.write_bytes(content)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda m: m.update(format_version=9), 'format_version=9'),
        (lambda m: m.update(kind='pickle'), "kind='pickle'"),
        (lambda m: m.update(widths={}), 'no widths'),
        (lambda m: m.pop('num_classes'), 'num_classes'),
        (lambda m: m.update(image_shape=[32, 32]), 'image_shape'),
        (lambda m: m['widths']['0.5'].pop('file'), 'file'),
        (lambda m: m['widths']['0.5'].update(file='../x.onnx'), 'no file of'),
        (lambda m: m['files'].update({'/etc/hostname': {}}), 'no file of'),
        (lambda m: m['files']['model.onnx'].pop('sha256'), 'without a hash'),
        (lambda m: m['widths']['0.5'].update(width_index=7), 'not those of manifest'),
        (lambda m: m['widths']['0.5'].update(width_index=0), 'not those of manifest'),
        (lambda m: m['files'].update({'model.onnx': ['sha256', 'bytes']}), 'a hash'),
        (lambda m: m.update(num_classes=6), 'gives float32'),
    ],
)
def test_a_manifest_that_is_wrong_is_refused(copied, change, message):
    folder = copied('onnx')
    changed(folder, change)
    with pytest.raises(ValueError, match=message):
        slimjax.deploy.load(folder)


def rehashed(folder):
    """Makes a manifest believe in the files as they are, as who made them would."""
    from slimjax.deploy.folder import fingerprint

    def change(manifest):
        for name in manifest['files']:
            manifest['files'][name] = fingerprint(folder / name)

    changed(folder, change)


@KINDS
def test_files_that_no_runtime_reads_are_refused(copied, kind):
    folder = copied(kind)
    for path in sorted(folder.iterdir()):
        if path.name == MANIFEST or '.other.' in path.name:
            continue
        content = path.read_bytes()
        path.write_bytes(b'no program, no weights')
        rehashed(folder)
        with pytest.raises(ValueError, match=path.name):
            slimjax.deploy.load(folder)
        path.write_bytes(content)


def test_a_program_that_calls_code_is_refused(copied):
    """A custom call may be a Python callback; here it is a harmless one of LAPACK's."""
    folder = copied('stablehlo')
    manifest = json.loads(folder.joinpath(MANIFEST).read_text())

    def program(variables, images):
        return jnp.linalg.cholesky(images[0, :5, :5, 0])[:1]

    shape = jax.ShapeDtypeStruct((1, *IMAGE), jnp.float32)
    content = export.export(jax.jit(program))({}, shape).serialize()
    name = manifest['widths']['0.5']['graphs']['cpu']
    folder.joinpath(name).write_bytes(content)
    rehashed(folder)
    with pytest.raises(ValueError, match='it calls lapack'):
        slimjax.deploy.load(folder)


def test_batches_of_the_sizes_asked_for_are_made_ready(bundles, monkeypatch):
    folder, asked = bundles('stablehlo'), []
    run = StableHloBackend.run

    def counted(self, name, images):
        asked.append((name, len(images)))
        return run(self, name, images)

    monkeypatch.setattr(StableHloBackend, 'run', counted)
    runtime = slimjax.deploy.load(folder, batch_sizes=(1, 3))
    assert asked == [(name, size) for size in (1, 3) for name in WIDTHS]
    programs = [program for program, _ in runtime._backend._programs.values()]
    assert [program._cache_size() for program in programs] == [2, 2, 2]
    for size in (1, 3):
        runtime.infer(images(size), '0.5')
    assert [program._cache_size() for program in programs] == [2, 2, 2]
    with pytest.raises(ValueError, match=r'batch_sizes=\(0,\)'):
        slimjax.deploy.load(folder, batch_sizes=(0,))


def test_stablehlo_is_read_where_only_jax_is_installed(bundles, network):
    """The lines of docs/deploy.md, without this package, flax and safetensors."""
    page = ROOT.joinpath('docs', 'deploy.md').read_text()
    recipe = page.partition('<!-- jax alone -->\n```python\n')[2].partition('```')[0]
    folder = bundles('stablehlo')
    program = (
        'import sys\n'
        "for name in ('slimjax', 'flax', 'safetensors'): sys.modules[name] = None\n"
        f'folder, width = {str(folder)!r}, "0.5"\n'
        'import numpy\n'
        f'images = numpy.ones((3, *{IMAGE}), numpy.float32)\n'
        f'{recipe}\n'
        'print(logits.tolist())\n'
    )
    done = subprocess.run(
        [sys.executable, '-c', program],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    model, variables = network
    apply = jax.jit(model.apply, static_argnames='width')
    expected = apply(variables, np.ones((3, *IMAGE), np.float32), width=0.5)
    found = np.array(json.loads(done.stdout))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_a_wrong_export_is_never_written(network, tmp_path, monkeypatch):
    pytest.importorskip('onnxruntime', reason="needs the extra 'onnx'")
    model, variables = network

    def other(model, variables, *arguments, **keywords):
        from slimjax.deploy.onnx_file import onnx_model

        return onnx_model(
            model, jax.tree.map(lambda v: 1.01 * v, variables), *arguments, **keywords
        )

    monkeypatch.setattr('slimjax.deploy.onnx_bundle._makers', lambda: (other, None))
    with pytest.raises(ValueError, match=r'width 1\.0 differs from JAX by'):
        export_bundle(
            tmp_path / 'wrong', model, variables, to='onnx', image_shape=IMAGE
        )
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_exported_is_said_first(network, tmp_path):
    export_to = functools.partial(export_bundle, tmp_path / 'new', *network)
    with pytest.raises(
        ValueError, match="to='tflite'; allowed are stablehlo, onnx, litert"
    ):
        export_to(to='tflite')
    with pytest.raises(ValueError, match="storage='int4'"):
        export_to(to='onnx', storage='int4')
    with pytest.raises(ValueError, match='allowed for stablehlo are float32'):
        export_to(to='stablehlo', storage='float16')
    with pytest.raises(ValueError, match='allowed for stablehlo are float32'):
        export_to(to='stablehlo', storage='w8a8', calibration=images(1))
    for kind in ('onnx', 'litert'):
        with pytest.raises(ValueError, match='calibration is missing'):
            export_to(to=kind, storage='w8a8')
    with pytest.raises(ValueError, match='for ONNX with all widths in one file'):
        export_to(to='onnx', storage='w8a8', calibration=images(1), time_alone=True)
    with pytest.raises(ValueError, match='calibration is given'):
        export_to(to='litert', calibration=images(1))
    with pytest.raises(ValueError, match=r'calibration is float64\[1, 32, 32, 3\]'):
        export_to(to='litert', storage='w8a8', calibration=images(1).astype(float))
    with pytest.raises(ValueError, match='exists'):
        export_bundle(tmp_path, *network, to='onnx')
