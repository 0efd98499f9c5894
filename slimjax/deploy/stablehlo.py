"""A network as StableHLO: the weights once, and a small program for each width."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import export

from slimjax.deploy.parts import Part, width_parts
from slimjax.deploy.weights import write_weights
from slimjax.width import Width, width_name

WEIGHTS = 'model.safetensors'
# How convolutions are written is not the same for the CPU and for all others.
_FORMS = {'cpu': ('products', ('cpu',)), 'other': ('plain', ('cpu', 'cuda', 'tpu'))}


def write_stablehlo(
    folder: pathlib.Path,
    model: nn.Module,
    variables: Mapping[str, Any],
    image_shape: tuple[int, int, int],
    widths: Sequence[Width],
) -> dict[str, Any]:
    """Writes `model.safetensors`, and two programs a width by `jax.export`.

    A program takes a dictionary of those variables that its width uses, by their names
    in the file, and images, of any number. One of the two is made for the CPU, the
    other for CUDA and TPUs.

    Args:
        folder: to write to.
        model: as it is to run, called with images and `width=`.
        variables: of the model.
        image_shape: height and width in pixels, and channels.
        widths: which of the model's.

    Returns:
        What the manifest tells of the files: `{'widths': {name: {'weights': file,
        'graphs': {'cpu': file, 'other': file}, 'variables': names}},
        'bytes_widest_alone': of the first width's part of the weights, and programs}`.
    """
    leaves = {
        name: np.asarray(leaf)
        for name, leaf in flatten_dict(dict(variables), sep='/').items()
    }
    write_weights(folder / WEIGHTS, variables)
    batch = export.symbolic_shape('batch')
    images = jax.ShapeDtypeStruct((*batch, *image_shape), jnp.float32)
    found, alone = {}, None
    for width in widths:
        _, parts = width_parts(model, variables, width, image_shape)
        used = jax.tree.leaves(parts, is_leaf=lambda each: isinstance(each, Part))
        names = sorted({'/'.join(part.path) for part in used})
        # Those that are not used would be arguments all the same.
        shapes = {
            name: jax.ShapeDtypeStruct(leaves[name].shape, leaves[name].dtype)
            for name in names
        }
        graphs, size = {}, 0
        for target, (form, platforms) in _FORMS.items():
            own = model.clone(conv_form=form)

            def run(variables, images, own=own, width=width):
                tree = unflatten_dict(dict(variables), sep='/')
                return own.apply(tree, images, width=width, train=False)

            made = export.export(jax.jit(run), platforms=platforms)(shapes, images)
            graphs[target] = f'width_{width_name(width)}.{target}.jaxexport'
            size += folder.joinpath(graphs[target]).write_bytes(made.serialize())
        found[width_name(width)] = {
            'weights': WEIGHTS,
            'graphs': graphs,
            'variables': names,
        }
        if alone is None:
            alone = size + sum(_bytes(leaves, part) for part in used)
    return {'widths': found, 'bytes_widest_alone': alone}


def _bytes(leaves: Mapping[str, np.ndarray], part: Part) -> int:
    size = np.prod([len(each) for each in part.indices], dtype=int)
    return int(size) * leaves['/'.join(part.path)].dtype.itemsize
