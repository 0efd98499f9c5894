"""Checkpoints of the published networks and of torchvision, in and out."""

import functools
import json
import pathlib
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slimjax.interop.pytorch import export_torch, load_torch, torch_state_dict
from slimjax.interop.torch_file import read_torch_file, write_torch_file
from slimjax.models import create_model
from tests.models import golden
from tests.slow import slow_but

# Of each published checkpoint: its tensors, and the checksum of their sorted names
# and shapes (1,000 classes, norm counters included, without `module.`).
PUBLISHED = {
    's_mobilenet_v1': (569, 3434613041),
    's_mobilenet_v2': (1079, 802252501),
    's_shufflenet': (1842, 289080163),
    's_resnet50': (1115, 554457983),
    'us_mobilenet_v1': (2594, 1398234175),
    'us_mobilenet_v2': (4292, 2177470310),
    'autoslim_mobilenet_v1': (434, 253539232),
    'autoslim_mobilenet_v2': (834, 1269011913),
    'autoslim_mnasnet': (834, 1206484070),
    'autoslim_resnet': (1115, 3305485540),
}
TORCHVISION = json.loads(
    pathlib.Path(__file__).with_name('torchvision.json').read_text()
)


def checksum(shapes):
    lines = sorted(f'{key} {tuple(shape)}' for key, shape in shapes.items())
    return zlib.crc32('\n'.join(lines).encode())


@functools.cache
def small(name='s_mobilenet_v1'):
    """A network of ten classes and the published state dict for it."""
    model = create_model(name, num_classes=10)
    return model, {
        key: golden.draw(key, shape).astype(np.float32)
        for key, shape in golden.shapes(model).items()
        if shape
    }


def assert_equal(tree, other):
    assert jax.tree.structure(tree) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, tree, other)


@pytest.mark.parametrize('name', PUBLISHED)
def test_names_and_shapes_are_the_published_ones(name):
    shapes = golden.shapes(create_model(name))
    assert (len(shapes), checksum(shapes)) == PUBLISHED[name]


@pytest.mark.parametrize(
    'name', slow_but(PUBLISHED, 's_shufflenet', 'autoslim_mobilenet_v1')
)
def test_what_is_read_is_written_again(name):
    model, state = small(name)
    written = torch_state_dict(load_torch(state, model), model)
    counters = {key for key in written if key.endswith('num_batches_tracked')}
    assert written.keys() - counters == state.keys()
    for key, array in state.items():
        np.testing.assert_array_equal(written[key], array, err_msg=key)


@pytest.mark.parametrize('prefix', ['', 'module.'])
@pytest.mark.parametrize('wrapper', [None, 'model', 'state_dict'])
def test_prefix_and_wrapper_do_not_matter(prefix, wrapper):
    model, state = small()
    prefixed = {prefix + key: array for key, array in state.items()}
    prefixed[prefix + 'features.0.1.bn.0.num_batches_tracked'] = np.int64(7)
    wrapped = {wrapper: prefixed, 'epoch': 3} if wrapper else prefixed
    assert_equal(load_torch(wrapped, model), load_torch(state, model))


def test_a_file_that_is_written_is_read_again(tmp_path):
    model, state = small()
    variables = load_torch(state, model)
    export_torch(tmp_path / 'model.pt', variables, model)
    found = read_torch_file(tmp_path / 'model.pt')
    assert all(key.startswith('module.') for key in found)
    assert_equal(load_torch(tmp_path / 'model.pt', model), variables)


def test_missing_and_unused_tensors_are_both_listed():
    model, state = small()
    state = dict(state)
    del state['features.3.body.0.weight'], state['classifier.0.bias']
    state['features.14.body.0.weight'] = state['features.0.0.weight']
    missing = r'missing, 2: classifier\.0\.bias, features\.3\.body\.0\.weight'
    unused = r'of no use, 1: features\.14\.body\.0\.weight'
    with pytest.raises(ValueError, match=f'{missing}\n{unused}'):
        load_torch(state, model)


def test_other_widths_or_classes_are_refused_with_the_shapes():
    _, state = small()
    wide = create_model('s_mobilenet_v1', num_classes=1000)
    with pytest.raises(ValueError, match=r'classifier.0.bias is \[10\], .*\[1000\]'):
        load_torch(state, wide)
    other = create_model('mobilenet_v1', num_classes=10, widths=(0.5, 1.0))
    with pytest.raises(ValueError, match=r'of no use, 216: .*bn.3.running_var'):
        load_torch(state, other)


@pytest.mark.parametrize(
    ('state', 'message'),
    [
        ({}, 'holds no tensors by name'),
        ({'epoch': np.int64(3)}, "int64 at 'epoch'"),
        ([np.ones(3)], 'holds no tensors by name'),
    ],
)
def test_what_is_no_state_dict_is_refused(state, message):
    with pytest.raises(ValueError, match=message):
        load_torch(state, small()[0])


def test_half_precision_becomes_the_models_type(tmp_path):
    model, state = small()
    half = {key: array.astype(np.float16) for key, array in state.items()}
    write_torch_file(tmp_path / 'half.pt', half)
    variables = load_torch(tmp_path / 'half.pt', model)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {np.dtype('float32')}


def torchvision_shapes(name):
    """Names and shapes that torchvision's network has, by its own plan."""
    if name.startswith('resnet'):
        yield from unit('conv1', 'bn1', (64, 3, 7, 7))
        inputs = 64
        sizes = {'resnet14': (1, 1, 1, 1), 'resnet50': (3, 4, 6, 3)}[name]
        for stage, blocks in enumerate(sizes, start=1):
            planes = 64 * 2 ** (stage - 1)
            for block in range(blocks):
                at = f'layer{stage}.{block}'
                kernels = [(planes, inputs, 1, 1), (planes, planes, 3, 3)]
                kernels.append((4 * planes, planes, 1, 1))
                for place, kernel in enumerate(kernels, start=1):
                    yield from unit(f'{at}.conv{place}', f'{at}.bn{place}', kernel)
                if block == 0:
                    down = f'{at}.downsample'
                    yield from unit(
                        f'{down}.0', f'{down}.1', (4 * planes, inputs, 1, 1)
                    )
                inputs = 4 * planes
        yield from {'fc.weight': (10, 2048), 'fc.bias': (10,)}.items()
        return
    yield from unit('features.0.0', 'features.0.1', (32, 3, 3, 3))
    inputs, block = 32, 0
    for t, channels, blocks in (
        *((1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4)),
        *((6, 96, 3), (6, 160, 3), (6, 320, 1)),
    ):
        for _ in range(blocks):
            block += 1
            at, hidden = f'features.{block}.conv', t * inputs
            kernels = [(hidden, inputs, 1, 1)] if t > 1 else []
            kernels.append((hidden, 1, 3, 3))
            for place, kernel in enumerate(kernels):
                yield from unit(f'{at}.{place}.0', f'{at}.{place}.1', kernel)
            last = len(kernels)
            kernel = (channels, hidden, 1, 1)
            yield from unit(f'{at}.{last}', f'{at}.{last + 1}', kernel)
            inputs = channels
    yield from unit('features.18.0', 'features.18.1', (1280, 320, 1, 1))
    yield from {'classifier.1.weight': (10, 1280), 'classifier.1.bias': (10,)}.items()


def unit(conv, norm, kernel):
    yield f'{conv}.weight', kernel
    for leaf in ('weight', 'bias', 'running_mean', 'running_var'):
        yield f'{norm}.{leaf}', kernel[:1]


@pytest.mark.parametrize('name', slow_but(TORCHVISION, 'mobilenet_v2'))
def test_a_network_of_torchvision_becomes_width_one(name):
    expected, shapes = TORCHVISION[name], dict(torchvision_shapes(name))
    assert (len(shapes), checksum(shapes)) == (expected['tensors'], expected['names'])
    with jax.enable_x64(True):
        model = golden.model(name, widths=(0.5, 1.0))
        state = {key: golden.draw(key, shape) for key, shape in shapes.items()}
        variables = load_torch(state, model)
        images = golden.images()[:2]
        logits = jax.jit(model.apply)(variables, images)
    np.testing.assert_allclose(logits, expected['logits'], rtol=1e-7, atol=1e-8)
    # The other widths start as slices of it, to be calibrated.
    narrow = variables['batch_stats_0.5']['stem']['norm']['mean']
    wide = variables['batch_stats_1.0']['stem']['norm']['mean']
    assert jnp.array_equal(narrow, wide[: len(narrow)])


@pytest.mark.parametrize(
    ('name', 'by'),
    slow_but([('resnet14', 'l1'), ('mobilenet_v2', 'bn_scale')], ('resnet14', 'l1')),
)
def test_a_sorted_network_is_the_same_at_width_one_with_its_best_channels_first(
    name, by
):
    state = {key: golden.draw(key, shape) for key, shape in torchvision_shapes(name)}
    with jax.enable_x64(True):
        model = golden.model(name, widths=(0.5, 1.0))
        images = golden.images()[:2]
        plain = load_torch(state, model)
        ordered = load_torch(state, model, sort_by=by)
        apply = jax.jit(model.apply)
        before, after = apply(plain, images), apply(ordered, images)
    np.testing.assert_allclose(after, before, rtol=1e-9, atol=1e-9)
    # Only the convolutions that it feeds hang on the stem, at ResNet.
    if name == 'resnet14' and by == 'l1':
        kernel = ordered['params']['stem']['conv']['kernel']
        assert np.all(np.diff(np.abs(kernel).sum((0, 1, 2))) <= 0)
    norms = ordered['params']['stem']['norm']
    assert not np.array_equal(
        norms['1.0']['scale'], plain['params']['stem']['norm']['1.0']['scale']
    )
    # What is private to the narrow width moved along.
    narrow = norms['0.5']['scale']
    np.testing.assert_array_equal(narrow, norms['1.0']['scale'][: len(narrow)])


def test_a_network_that_was_trained_at_its_widths_is_not_sorted():
    model, state = small()
    with pytest.raises(ValueError, match="sort_by='l1' is for networks of torchvision"):
        load_torch(state, model, sort_by='l1')


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        ({'name': 'resnet50', 'widths': (0.25, 0.5)}, "widths=\\('0.5', '0.25'\\)"),
        ({'name': 'resnet50', 'norm': 'shared_affine'}, "norm='shared_affine'"),
        ({'name': 'mobilenet_v1'}, 'torchvision has no MobileNetV1'),
    ],
)
def test_a_network_that_torchvisions_cannot_become_is_refused(fields, message):
    state = {key: np.zeros(shape) for key, shape in torchvision_shapes('resnet50')}
    with pytest.raises(ValueError, match=message):
        load_torch(state, create_model(**fields))
