"""One ONNX model computes what JAX computes at every width, and holds weights once."""

import collections
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slimjax
from slimjax.deploy.storage import as_restored
from slimjax.layers import SlimConv
from slimjax.pooling import average_pool
from tests.deploy.networks import IMAGE, drawn, tiny
from tests.slow import slow_but

onnxruntime = pytest.importorskip('onnxruntime', reason="needs the extra 'onnx'")
onnx = pytest.importorskip('onnx', reason="needs the extra 'onnx'")

from slimjax.deploy.onnx_file import onnx_model  # noqa: E402


def session(found):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(found.SerializeToString(), options)


def pictures(count, shape=IMAGE):
    return np.random.default_rng(1).normal(size=(count, *shape)).astype(np.float32)


def assert_equal_to_jax(
    model, variables, found, shape=IMAGE, storage='float32', places=None
):
    images, running = pictures(3, shape), session(found)
    kept = as_restored(variables, storage)
    for place in range(len(model.widths)) if places is None else places:
        width = model.widths[place]
        inputs = {'images': images}
        if len(model.widths) > 1:
            inputs['width_index'] = np.array(place)
        [logits] = running.run(None, inputs)
        expected = jax.jit(functools.partial(model.apply, width=width))(kept, images)
        assert np.isfinite(expected).all()
        scale = max(1, np.abs(expected).max())
        np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize(
    'norm', slow_but(['private', 'shared_affine', 'shared'], 'shared_affine', 'shared')
)
def test_every_width_equals_jax(norm):
    model, variables = tiny(norm=norm, small_images=norm == 'shared')
    found = onnx_model(model, variables, IMAGE, widths=model.widths)
    assert_equal_to_jax(model, variables, found)


@pytest.mark.parametrize('storage', ['float16', 'int8'])
def test_small_storage_is_exactly_the_rounded_weights(storage):
    model, variables = tiny()
    export = functools.partial(onnx_model, model, variables, IMAGE, widths=model.widths)
    found = export(storage=storage)
    assert_equal_to_jax(model, variables, found, storage=storage)
    size, whole = found.ByteSize(), export().ByteSize()
    kernels = sum(
        leaf.size for leaf in jax.tree.leaves(variables['params']) if leaf.ndim > 1
    )
    saved = kernels * {'float16': 2, 'int8': 3}[storage]
    # A width's nodes that turn its kernels into float32 take a little.
    assert whole - saved <= size < whole - saved + 2000 * len(model.widths)


@pytest.mark.parametrize(
    ('name', 'widths'),
    [
        ('mobilenet_v1', (0.25, 1.0)),
        pytest.param('mobilenet_v2', (0.35, 1.0), marks=pytest.mark.slow),
        pytest.param('shufflenet', (0.5, 1.0), marks=pytest.mark.slow),
        pytest.param('mnasnet', (0.5, 1.0), marks=pytest.mark.slow),
        pytest.param('autoslim_mobilenet_v2', ('1', '3'), marks=pytest.mark.slow),
        pytest.param('resnet50', (0.25, 0.5, 0.75, 1.0), marks=pytest.mark.slow),
    ],
)
def test_weights_stand_once_in_the_file_of_every_family(name, widths):
    """At most the widest alone, vectors of norms, and 64 KiB a width."""
    model = slimjax.create_model(name, num_classes=10, widths=widths)
    variables = drawn(model)
    found = onnx_model(model, variables, IMAGE, widths=model.widths)
    alone = onnx_model(model, variables, IMAGE, widths=model.widths[-1:])
    # What is left of a norm is a factor and a summand, out of four vectors.
    vectors = 4 * sum(v.size for v in jax.tree.leaves(variables) if v.ndim == 1) // 2
    budget = alone.ByteSize() + vectors + 64 * 1024 * len(widths)
    assert found.ByteSize() <= budget
    # JAX takes long to compile them, and what is not sliced at 1.0 tells less.
    assert_equal_to_jax(model, variables, found, places=[0])


class Odd(nn.Module):
    """What none of the families has, put together of what all have."""

    widths: tuple = (0.5, 1.0)

    @nn.compact
    def __call__(self, images, *, width=None, train=False):
        maps = SlimConv(6, (3, 1), widths=self.widths)(images, width=width)
        first = 3 - maps / 2
        second = jnp.minimum(2 / (jnp.maximum(maps, 0.25) + 1), first)
        third = average_pool(first * second, count_padding=False)
        fourth = average_pool(jnp.maximum(maps, second), count_padding=True)
        fourth = slimjax.SwitchableBatchNorm(self.widths)(fourth, width=width)
        both = jnp.concatenate([third, nn.relu6(fourth), third - 1], -1)
        return both.transpose(0, 2, 1, 3).reshape(both.shape[0], -1) + 1


def test_arithmetic_around_convolutions_is_kept():
    model, shape = Odd(), (4, 6, 3)
    variables = drawn(model, shape)
    found = onnx_model(model, variables, shape, widths=model.widths)
    assert_equal_to_jax(model, variables, found, shape)


def test_what_cannot_be_exported_is_named():
    class Unknown(nn.Module):
        widths: tuple = (1.0,)

        @nn.compact
        def __call__(self, images, *, width=None, train=False):
            return jnp.sin(images).mean((1, 2))

    with pytest.raises(ValueError, match='no ONNX for sin'):
        onnx_model(Unknown(), {'params': {}}, IMAGE, widths=(1.0,))


def test_a_kernel_that_is_turned_is_not_mistaken_for_itself():
    class Turned(nn.Module):
        widths: tuple = (1.0,)

        @nn.compact
        def __call__(self, images, *, width=None, train=False):
            kernel = self.param('kernel', nn.initializers.normal(), (3, 3))
            return images.mean((1, 2)) @ kernel.T

    model = Turned()
    with pytest.raises(ValueError, match='kernel is not used axis by axis'):
        onnx_model(model, drawn(model), IMAGE, widths=(1.0,))


def test_a_place_of_no_width_is_an_error():
    model, variables = tiny()
    running = session(onnx_model(model, variables, IMAGE, widths=model.widths))
    assert [each.name for each in running.get_inputs()] == ['images', 'width_index']
    for place in (3, -1, -3):
        with pytest.raises(Exception, match='out of data bounds'):
            running.run(None, {'images': pictures(1), 'width_index': np.array(place)})


def test_many_widths_are_no_deep_nest():
    model, variables = tiny(widths=(0.25, 0.375, 0.5, 0.75, 1.0))
    found = onnx_model(model, variables, IMAGE, widths=model.widths)
    assert_equal_to_jax(model, variables, found, places=[1])

    def depth(graph):
        inner = [each.g for node in graph.node for each in node.attribute if each.g]
        return 1 + max((depth(each) for each in inner if each.node), default=0)

    assert depth(found.graph) == 1 + 3


def test_the_graph_is_as_short_as_one_made_by_hand():
    """A norm is part of its convolution, and images are turned once."""
    model, variables = tiny(widths=(1.0,))
    found = onnx_model(model, variables, IMAGE, widths=(1.0,))
    count = {}
    for node in found.graph.node:
        count[node.op_type] = count.get(node.op_type, 0) + 1
    assert count == {
        'Transpose': 1,
        'Mul': 9,  # A norm's factor and its kernel, computed when the file is loaded.
        'Conv': 9,
        'Add': 2,
        'Relu': 7,
        'GlobalAveragePool': 1,
        'Flatten': 1,
        'Gemm': 1,
        'Identity': 1,
    }


def optimised(found, path):
    """What ONNX Runtime makes of the network of each width, as counts of operations."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 3  # It warns that the file is for this machine.
    onnxruntime.InferenceSession(found.SerializeToString(), options)

    def networks(graph):
        inner = [
            each.g for node in graph.node for each in node.attribute if each.g.node
        ]
        return [each for one in inner for each in networks(one)] or [graph]

    counts = [
        collections.Counter(node.op_type for node in graph.node)
        for graph in networks(onnx.load(path).graph)
    ]
    return [{**each, 'Transpose': 0} for each in counts]  # Once, for all widths.


def test_a_width_among_all_runs_as_many_operations_as_alone(tmp_path):
    """So that it takes as long, which a busy machine cannot measure."""
    model, variables = tiny()
    export = functools.partial(onnx_model, model, variables, IMAGE)
    path = tmp_path / 'optimised.onnx'
    alone = [optimised(export(widths=[w]), path)[0] for w in model.widths]
    assert optimised(export(widths=model.widths), path) == alone
    assert alone[0]['Conv'] == 9
    assert 'Mul' not in alone[0]
