"""A width in 8-bit integers is a file of its own, and computes in nothing else."""

import collections
import functools
import json

import numpy as np
import pytest

import slimjax.deploy
from slimjax.deploy.demo_page import write_demo_page
from slimjax.deploy.manifest import MANIFEST
from slimjax.deploy.onnx_bundle import write_onnx
from tests.deploy.networks import FAMILIES, IMAGE, drawn, pictures, tiny, write_bundle

onnxruntime = pytest.importorskip('onnxruntime', reason="needs the extra 'onnx'")
onnx = pytest.importorskip('onnx', reason="needs the extra 'onnx'")

from slimjax.deploy.onnx_file import onnx_model  # noqa: E402
from slimjax.deploy.onnx_integers import in_integers  # noqa: E402

FIELDS = {'widths': (0.5, 1.0), 'stage_sizes': (1,)}


@pytest.fixture(scope='module')
def floats():
    model, variables = tiny(**FIELDS)
    return onnx_model(model, variables, IMAGE, widths=(0.5,))


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp('made') / 'bundle'
    write = functools.partial(write_onnx, storage='w8a8', calibration=pictures(8))
    prepared = {'preprocessing': {'mean': [0.5], 'std': [0.5]}}
    write_bundle(folder, *tiny(**FIELDS), IMAGE, write=write, **prepared)
    return folder


@pytest.fixture
def copied(made, tmp_path):
    """A bundle that may be damaged."""
    for path in made.iterdir():
        tmp_path.joinpath(path.name).write_bytes(path.read_bytes())
    return tmp_path


def constants(model):
    return {
        each.name: onnx.numpy_helper.to_array(each) for each in model.graph.initializer
    }


def steps(model):
    """The scale of each place in the network, in the order of its nodes."""
    known = constants(model)
    return np.array(
        [known[n.input[1]] for n in model.graph.node if n.op_type == 'QuantizeLinear']
    )


def computed(model, path):
    """What ONNX Runtime computes, as counts of operations."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3  # It warns that the file is for this machine.
    onnxruntime.InferenceSession(model.SerializeToString(), options)
    return collections.Counter(each.op_type for each in onnx.load(path).graph.node)


def assert_near(model, floats, images):
    """Within what a bundle may be away from JAX, to which `floats` is equal."""
    found, expected = (
        onnxruntime.InferenceSession(each.SerializeToString()).run(
            None, {'images': images}
        )[0]
        for each in (model, floats)
    )
    difference = np.sqrt(np.square(found - expected).mean())
    assert 0 < difference < 0.1 * np.sqrt(np.square(expected).mean())


def test_kernels_and_values_are_integers_and_so_is_what_is_computed(floats, tmp_path):
    model = in_integers(floats, pictures(8))
    kernels = [each for each in constants(model).values() if each.ndim > 1]
    assert len(kernels) == 6
    for kernel in kernels:
        assert kernel.dtype == np.int8
        # Two products with values of 8 bits, 2 x 64 x 255, fit 16 bits, all that some
        # processors add up in. Output channels come first, but in the classifier.
        inputs = (1, 2, 3) if kernel.ndim == 4 else 0
        assert (np.abs(kernel).max(inputs) == 64).all()
    assert dict(computed(model, tmp_path / 'optimised.onnx')) == {
        'QuantizeLinear': 1,
        'QLinearConv': 5,
        'QLinearAdd': 1,
        'QLinearGlobalAveragePool': 1,
        'Transpose': 1,
        'Flatten': 1,
        'QGemm': 1,
        'DequantizeLinear': 1,
    }
    assert_near(model, floats, pictures(8))


def test_ranges_are_those_of_all_images_for_calibration(floats):
    images = pictures(8)
    first = steps(in_integers(floats, images))
    low, high = min(images.min(), 0), max(images.max(), 0)
    assert first[0] == pytest.approx((high - low) / 255, rel=1e-6)
    images[3] *= 40
    second = steps(in_integers(floats, images))
    assert second[0] == pytest.approx((images.max() - images.min()) / 255, rel=1e-6)
    assert (second > 3 * first).all()


def test_every_width_has_a_file_of_its_own(made):
    manifest = json.loads(made.joinpath(MANIFEST).read_text())
    widths = manifest['widths']
    assert {name: own['file'] for name, own in widths.items()} == {
        '1.0': 'width_1.0.onnx',
        '0.5': 'width_0.5.onnx',
    }
    widest = made.joinpath('width_1.0.onnx').stat().st_size
    assert manifest['bytes_widest_alone'] == widest
    assert sorted(manifest['files']) == ['width_0.5.onnx', 'width_1.0.onnx']


def test_a_width_whose_file_is_lost_or_damaged_is_refused(copied):
    for name in ('width_0.5.onnx', 'width_1.0.onnx'):
        path = copied / name
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(ValueError, match=f'{name}: damaged or replaced'):
            slimjax.deploy.load(copied)
        path.unlink()
        with pytest.raises(ValueError, match=f'{name}: missing'):
            slimjax.deploy.load(copied)
        path.write_bytes(content)
    slimjax.deploy.load(copied)


@pytest.mark.parametrize(
    'change',
    [
        lambda widths: widths['0.5'].update(file='width_1.0.onnx'),
        lambda widths: widths['0.5'].update(width_index=1),
        lambda widths: widths.update({'0.25': widths.pop('0.5')}),
    ],
)
def test_a_file_of_another_width_is_refused(copied, change):
    path = copied / MANIFEST
    manifest = json.loads(path.read_text())
    change(manifest['widths'])
    path.write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match='not those of manifest'):
        slimjax.deploy.load(copied)


def test_a_page_runs_one_file_and_says_so(made, tmp_path):
    with pytest.raises(ValueError, match='each width has a file of its own'):
        write_demo_page(made, tmp_path / 'page')
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(('name', 'widths'), FAMILIES)
def test_every_family_computes_in_integers(name, widths, tmp_path):
    model = slimjax.create_model(name, num_classes=10, widths=widths)
    floats = onnx_model(model, drawn(model), IMAGE, widths=model.widths[:1])
    images = pictures(8)
    integers = in_integers(floats, images)
    count = computed(integers, tmp_path / 'optimised.onnx')
    assert count.pop('QuantizeLinear') == count.pop('DequantizeLinear') == 1
    moves = {'Transpose', 'Flatten', 'Reshape', 'NhwcMaxPool', 'MaxPool'}
    assert all(kind.startswith('Q') for kind in set(count) - moves)
    assert_near(integers, floats, images)
