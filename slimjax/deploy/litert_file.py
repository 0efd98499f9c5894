"""All widths of a network as one LiteRT (TensorFlow Lite) model, a signature each.

LiteRT computes with kernels that are cut and multiplied by their norms already, so that
each width has kernels of its own in the file: weights cannot be shared.
"""

import contextlib
import io
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ai_edge_quantizer import recipe
from ai_edge_quantizer.calibrator import Calibrator
from ai_edge_quantizer.quantizer import Quantizer
from ai_edge_quantizer.recipe_manager import RecipeManager
from ai_edge_quantizer.utils.qsv_utils import min_max_update
from flax.traverse_util import flatten_dict
from jax import export
from jaxtyping import Float
from litert_converter import _stablehlo, converter_api_ext
from litert_converter.mlir import ir, passmanager

from slimjax.deploy.manifest import IMAGES, LOGITS, signature_name
from slimjax.deploy.parts import Part, width_parts
from slimjax.moments import norms_visited
from slimjax.width import Width, width_name


def litert_model(
    model: nn.Module,
    variables: Mapping[str, Any],
    image_shape: tuple[int, int, int],
    *,
    widths: Sequence[Width],
) -> bytes:
    """Returns a LiteRT model with a signature `width_NAME` for each width.

    A signature has the input `images`, one image, and the output `logits`, or those of
    a network that returns a dictionary, all float32.

    Args:
        model: a network that computes in float32, called with images and `width=`.
        variables: of the model.
        image_shape: height and width in pixels, and channels.
        widths: which of the model's.

    Raises:
        ValueError: an operation that LiteRT does not have.

    Example:
        >>> import slimjax
        >>> fields = {'stage_sizes': (1,), 'base_features': 8, 'widths': (0.5, 1.0)}
        >>> model = slimjax.create_model('resnet14', num_classes=10, **fields)
        >>> variables = model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
        >>> found = litert_model(model, variables, (8, 8, 3), widths=(0.5, 1.0))
        >>> found[4:8]
        b'TFL3'
    """
    leaves = {path: np.asarray(v) for path, v in flatten_dict(dict(variables)).items()}
    context = ir.Context()
    converter_api_ext.prepare_mlir_context(context)
    with context, ir.Location.unknown():
        modules = []
        for width in widths:
            program, names = _program(model, variables, leaves, image_shape, width)
            module = _stablehlo.deserialize_portable_artifact(
                context, program.mlir_module_serialized
            )
            signature = signature_name(width_name(width))
            converter_api_ext.set_signature(
                module.operation, signature, [IMAGES], names
            )
            modules.append(module)
        whole = converter_api_ext.merge_modules(modules)
        try:
            converter_api_ext.run_convert_to_tfl_passes(
                whole, passmanager.PassManager(), converter_api_ext.ConvertToTFLConfig()
            )
        except Exception as error:
            raise ValueError(f'no LiteRT model of this network: {error}') from error
        return converter_api_ext.export_flatbuffer_to_bytes(whole.operation)


def _program(model, variables, leaves, image_shape, width):
    """An exported program of a width, and the names of its outputs."""
    narrow, parts = width_parts(model, variables, width, image_shape)
    # Arrays of numpy are constants of the program, which jax's own would be slowly.
    own = jax.tree.map(
        lambda part: leaves[part.path][np.ix_(*part.indices)],
        parts,
        is_leaf=lambda each: isinstance(each, Part),
    )
    narrow = narrow.clone(conv_form='plain')
    names = [LOGITS]

    def run(images):
        outputs = narrow.apply(own, images, train=False)
        if isinstance(outputs, Mapping):
            names[:] = outputs
            outputs = list(outputs.values())
        return outputs

    # A batch of one; the runtime takes another for some networks only.
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    with norms_visited(_folded):
        return export.export(jax.jit(run), platforms=['cpu'])(images), names


def _folded(layer, inputs, again):
    """A norm as a factor and a summand, which become part of the kernel before it."""
    trees = dict(layer.variables)
    [affine] = trees.pop('params').values()
    [running] = trees.values()
    factor = affine['scale'] / np.sqrt(running['var'] + layer.epsilon)
    summand = affine['bias'] - running['mean'] * factor
    others = tuple(range(inputs.ndim - 1))
    return inputs * np.expand_dims(factor, others) + np.expand_dims(summand, others)


def in_integers(
    content: bytes, images: Float[np.ndarray, 'batch height width channels']
) -> bytes:
    """Returns a LiteRT model whose kernels and values are 8-bit integers.

    Its inputs and outputs stay float32. Kernels have a scale for each output channel,
    values one for each place in the network, made of the largest and smallest there.

    Args:
        content: what `litert_model` returned.
        images: of the kind that the model will see, prepared alike.

    Raises:
        ValueError: an operation that LiteRT's quantiser does not take.
    """
    kept = {'regex': '.*', 'algorithm_key': 'no_quantize', 'op_config': {}}
    rules = recipe.static_wi8_ai8()
    rules += [{**kept, 'operation': each} for each in ('INPUT', 'OUTPUT')]
    manager = RecipeManager()
    manager.load_quantization_recipe(rules)
    one_by_one = [{IMAGES: image[None]} for image in images]
    with contextlib.ExitStack() as quiet:
        # It draws bars, prints sizes and warns of its own way to see all values.
        quiet.enter_context(warnings.catch_warnings())
        warnings.filterwarnings('ignore', '.*experimental_preserve_all_tensors')
        for redirect in (contextlib.redirect_stdout, contextlib.redirect_stderr):
            quiet.enter_context(redirect(io.StringIO()))
        # By itself it takes a moving average of the extremes, which in a test cut the
        # larger logits off.
        observer = Calibrator(content, qsv_update_func=min_max_update)
        try:
            observer.calibrate(
                dict.fromkeys(observer.get_signature_list(), one_by_one), manager
            )
            worker = Quantizer(bytearray(content), rules)
            return bytes(worker.quantize(observer.get_model_qsvs()).quantized_model)
        except Exception as error:
            raise ValueError(
                f"LiteRT's quantiser does not take this network; float32 does: {error}"
            ) from error
