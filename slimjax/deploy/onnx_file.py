"""All widths of a network as one ONNX model, in which every weight stands once.

Each width is a branch that an input chooses, and cuts its kernels out of the weights
that all branches share; a runtime does so once, when it loads the file. Scale and shift
of a width's norms are part of its convolutions.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import onnx
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import export
from onnx import TensorProto, helper

from slimjax.deploy.manifest import IMAGES, LOGITS
from slimjax.deploy.onnx_emitter import Emitter
from slimjax.deploy.onnx_rules import sizes
from slimjax.deploy.onnx_scope import Scope, SharedWeights
from slimjax.deploy.onnx_values import UNKNOWN, Tensor
from slimjax.deploy.parts import Cut
from slimjax.deploy.storage import Storage, stored
from slimjax.insight.cost import plain_convolutions
from slimjax.version import __version__
from slimjax.width import Width, width_name

# Read by the runtimes of phones that are some years old.
_OPSET, _IR_VERSION = 17, 10
INDEX = 'width_index'


def onnx_model(
    model: nn.Module,
    variables: Mapping[str, Any],
    image_shape: tuple[int, int, int],
    *,
    widths: Sequence[Width],
    storage: Storage = 'float32',
) -> onnx.ModelProto:
    """Returns an ONNX model with the input `images` and the output `logits`.

    Of a network that returns a dictionary, the outputs have its names.

    Args:
        model: a network that computes in float32, called with images and `width=`.
        variables: of the model.
        image_shape: height and width in pixels, and channels.
        widths: which of the model's. Of several, the input `width_index`, an int64
            scalar, chooses one by its place here; a place that is none is an error.
        storage: how kernels are kept; all is computed in float32.

    Raises:
        ValueError: an operation that slimjax does not export to ONNX.

    Example:
        >>> import slimjax
        >>> layer = slimjax.SlimConv(8, 3, widths=(0.5, 1.0))
        >>> variables = layer.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
        >>> found = onnx_model(layer, variables, (8, 8, 3), widths=(0.5, 1.0))
        >>> [each.name for each in found.graph.input]
        ['images', 'width_index']
    """
    leaves = {
        path: np.asarray(leaf, np.float32)
        for path, leaf in flatten_dict(dict(variables)).items()
    }
    weights = SharedWeights({p: stored(leaf, storage) for p, leaf in leaves.items()})
    main = Scope('', weights)
    batch = jax.ShapeDtypeStruct(
        (*export.symbolic_shape('batch'), *image_shape), jnp.float32
    )
    # All branches read the images as ONNX has them.
    images = Tensor(IMAGES, sizes(batch.shape), (0, 1, 2, 3))
    images = Tensor(images.arranged((0, 3, 1, 2), main), images.shape, (0, 3, 1, 2))
    branches = []
    for number, width in enumerate(widths):
        scope = main if len(widths) == 1 else Scope(f'{number}_', weights)
        program, names = _program(model, leaves, batch, width)
        inputs = [_input(path, leaf) for path, leaf in sorted(leaves.items())]
        emitter = Emitter(scope)
        values = emitter.run(program.jaxpr, program.consts, [*inputs, images])
        outputs = [emitter.tensor(value) for value in values]
        # As JAX has the axes; they are the same at all widths.
        results = [each.arranged(range(len(each.shape)), scope) for each in outputs]
        branches.append((scope, results))
    shapes = [each.shape for each in outputs]
    if len(widths) > 1:
        results = _chosen(main, branches, shapes)
    for result, name in zip(results, names, strict=True):
        main.nodes.append(helper.make_node('Identity', [result], [name]))
    inputs = [_info(IMAGES, sizes(batch.shape))]
    if len(widths) > 1:
        inputs.append(helper.make_tensor_value_info(INDEX, TensorProto.INT64, []))
    graph = helper.make_graph(
        main.nodes,
        'slimjax',
        inputs,
        list(map(_info, names, shapes)),
        [*weights.initializers, *main.initializers],
    )
    found = helper.make_model(
        graph,
        producer_name='slimjax',
        producer_version=__version__,
        opset_imports=[helper.make_opsetid('', _OPSET)],
        ir_version=_IR_VERSION,
    )
    helper.set_model_props(found, {'widths': ','.join(map(width_name, widths))})
    onnx.checker.check_model(found)
    return found


def _program(model, leaves, batch, width):
    def run(leaves, images):
        return model.apply(unflatten_dict(leaves), images, width=width)

    shapes = {
        path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype)
        for path, leaf in leaves.items()
    }
    with plain_convolutions():
        program, outputs = jax.make_jaxpr(run, return_shape=True)(shapes, batch)
    # JAX puts a dictionary in the order of its keys.
    return program, sorted(outputs) if isinstance(outputs, Mapping) else [LOGITS]


def _input(path: tuple[str, ...], leaf: np.ndarray) -> Cut | np.ndarray:
    """Kernels are cut out of those in the file; vectors are computed with here."""
    return Cut.whole(path, leaf.shape) if leaf.ndim > 1 else leaf


def _chosen(
    main: Scope, branches: Sequence[tuple[Scope, list[str]]], shapes
) -> list[str]:
    """Adds what chooses a branch, halving them: readers take only so deep a nest.

    Returns:
        The names of the outputs.
    """
    # A place that is none would otherwise read as the last. Those below 0 count from
    # the end, for Gather.
    places = main.constant(np.arange(len(branches)))
    below = main.add('Less', [INDEX, main.constant(np.array(0))])
    none = main.constant(np.array(len(branches)))
    place = main.add('Gather', [places, main.add('Where', [below, none, INDEX])])
    before = {
        number: main.add('Less', [place, main.constant(np.array(number))])
        for number in range(1, len(branches))
    }

    def halves(low: int, high: int) -> dict[str, onnx.GraphProto]:
        middle = (low + high) // 2
        return {'then_branch': graph(low, middle), 'else_branch': graph(middle, high)}

    def graph(low: int, high: int) -> onnx.GraphProto:
        name = f'width_{low}' if high - low == 1 else f'widths_{low}_to_{high - 1}'
        if high - low == 1:
            scope, results = branches[low]
            nodes, constants = scope.nodes, scope.initializers
        else:
            nodes, constants = [choice(low, high)], []
            results = nodes[0].output
        outputs = list(map(_info, results, shapes))
        return helper.make_graph(nodes, name, [], outputs, constants)

    def choice(low: int, high: int) -> onnx.NodeProto:
        results = [f'{low}_to_{high - 1}_{number}' for number in range(len(shapes))]
        test = before[(low + high) // 2]
        return helper.make_node('If', [test], results, **halves(low, high))

    main.nodes.append(choice(0, len(branches)))
    return list(main.nodes[-1].output)


def _info(name: str, shape: Sequence[int]) -> onnx.ValueInfoProto:
    named = ['batch' if size == UNKNOWN else size for size in shape]
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, named)
