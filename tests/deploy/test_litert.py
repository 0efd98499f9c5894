"""One LiteRT model with a signature a width computes what JAX computes."""

import doctest
import functools
import json

import jax
import numpy as np
import pytest

import slimjax.deploy
from slimjax.deploy.litert_bundle import write_litert
from slimjax.deploy.manifest import MANIFEST
from tests.deploy.networks import FAMILIES, IMAGE, drawn, pictures, tiny, write_bundle

interpreters = pytest.importorskip(
    'ai_edge_litert.interpreter', reason="needs the extra 'litert'"
)
pytest.importorskip('litert_converter', reason="needs the extra 'litert'")

from slimjax.deploy import litert_file  # noqa: E402
from slimjax.deploy.litert_file import litert_model  # noqa: E402


def operators(content):
    """Of the network of each width, in the order of the file."""
    running = interpreters.Interpreter(
        model_content=content,
        experimental_op_resolver_type=interpreters.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    return [each['op_name'] for each in running._get_ops_details()]


def assert_equal_to_jax(model, variables, content):
    running = interpreters.Interpreter(model_content=content)
    images = pictures(1)
    for width in model.widths:
        runner = running.get_signature_runner(f'width_{slimjax.width_name(width)}')
        logits = runner(images=images)['logits']
        apply = jax.jit(functools.partial(model.apply, width=width))
        expected = np.asarray(apply(variables, images))
        scale = max(1, np.abs(expected).max())
        np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize(
    'norm',
    [
        'private',
        pytest.param('shared_affine', marks=pytest.mark.slow),
        pytest.param('shared', marks=pytest.mark.slow),
    ],
)
def test_every_width_equals_jax_and_norms_are_part_of_kernels(norm):
    model, variables = tiny(norm=norm, widths=(0.5, 1.0))
    content = litert_model(model, variables, IMAGE, widths=model.widths)
    assert_equal_to_jax(model, variables, content)
    kinds = operators(content)
    assert kinds.count('CONV_2D') == 9
    assert set(kinds) == {'CONV_2D', 'ADD', 'PAD', 'MEAN', 'FULLY_CONNECTED'}


def test_the_examples_are_right():
    found = doctest.testmod(litert_file)
    assert found.attempted > 3
    assert found.failed == 0


@pytest.mark.slow
@pytest.mark.parametrize(('name', 'widths'), FAMILIES)
def test_every_family_equals_jax(name, widths):
    model = slimjax.create_model(name, num_classes=10, widths=widths)
    variables = drawn(model)
    content = litert_model(model, variables, IMAGE, widths=model.widths)
    assert_equal_to_jax(model, variables, content)


@pytest.fixture(scope='module')
def integers(tmp_path_factory):
    """A bundle in 8 bits that was neither compared with JAX nor measured."""
    model, variables = tiny(widths=(0.5, 1.0), stage_sizes=(1,))
    folder = tmp_path_factory.mktemp('made')
    write = functools.partial(write_litert, calibration=pictures(2))
    write_bundle(folder / 'w8a8', model, variables, IMAGE, kind='litert', write=write)
    return folder / 'w8a8'


def test_integers_are_what_is_computed_with(integers):
    content = integers.joinpath('model.tflite').read_bytes()
    running = interpreters.Interpreter(model_content=content)
    types = [each['dtype'] for each in running.get_tensor_details()]
    assert types.count(np.int8) > 10
    # What comes in, and what goes out.
    assert types.count(np.float32) == 2
    kinds = operators(content)
    assert kinds.count('QUANTIZE') == kinds.count('DEQUANTIZE') == 1


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda m: m['widths']['0.5'].update(signature='width_1.0'), 'signature'),
        (lambda m: m['widths'].pop('0.5'), 'not what manifest.json says'),
        (lambda m: m.update(image_shape=[64, 64, 3]), r'takes \[1, 32, 32, 3\]'),
        (lambda m: m.update(num_classes=6), 'gives float32'),
    ],
)
def test_a_manifest_of_another_model_is_refused(integers, tmp_path, change, message):
    manifest = json.loads(integers.joinpath(MANIFEST).read_text())
    change(manifest)
    tmp_path.joinpath(MANIFEST).write_text(json.dumps(manifest))
    content = integers.joinpath('model.tflite').read_bytes()
    tmp_path.joinpath('model.tflite').write_bytes(content)
    with pytest.raises(ValueError, match=message):
        slimjax.deploy.load(tmp_path)
