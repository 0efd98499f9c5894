"""Copies slices of a slimmable network into an independently written narrow one.

Both networks create their layers in the order in which they are called, but for a
ResNet's shortcut; so the layers are paired by that order.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np

from slimjax.width import width_name


def natural(name):
    return [int(part) if part.isdigit() else part for part in re.split(r'(\d+)', name)]


# The order in which a block calls its layers.
_CALLS = [
    *('stem', 'squeeze', 'expand_v2', 'depthwise', 'expand', 'pointwise', 'project'),
    *('conv1', 'conv2', 'conv3', 'shortcut', 'tail'),
]


def units(params):
    """Paths of all convolutions with norm, in the order in which they are called."""
    found = set()
    for path, _ in jax.tree_util.tree_leaves_with_path(params):
        names = [entry.key for entry in path]
        if 'conv' in names:
            found.add(tuple(names[: names.index('conv')]))
    v2 = any('project' in path for path in found)

    def order(path):
        block, layer = path[0], path[-1]
        place = {'stem': 0, 'tail': 2}.get(re.sub(r'\d+$', '', block), 1)
        kind = re.sub(r'\d+$', '', layer) if 'conv' not in layer else layer
        kind = 'expand_v2' if kind == 'expand' and v2 else kind
        kind = kind if len(path) > 1 else re.sub(r'\d+$', '', kind)
        return place, natural(block), _CALLS.index(kind), natural(layer)

    return sorted(found, key=order)


def at(tree, path):
    for name in path:
        tree = tree[name]
    return tree


def narrow_shape_slices(kernel, shape, groups):
    """The stored kernel cut to `shape`; `groups` parts are cut each by itself."""
    if kernel.shape[2] == shape[2] == 1:
        return kernel[..., : shape[3]]
    parts = kernel.reshape(*kernel.shape[:3], groups, -1)
    parts = parts[:, :, : shape[2], :, : shape[3] // groups]
    return parts.reshape(shape)


def copied(tree, template, width, take):
    """A tree like `template` (of the narrow network) with slices of `tree`.

    Args:
        tree: params or gradients of the slimmable network.
        template: params of the narrow network.
        width: that of the narrow network.
        take: called with the whole array, the narrow array's shape and the number of
            groups, for kernels.
    """
    narrow = iter([name for name in sorted(template, key=natural) if 'Unit' in name])
    result = {}
    for path in units(tree):
        unit = at(tree, path)
        (stored,) = unit['conv'].values()
        norm = unit['norm'].get(width_name(width)) or unit['norm']['affine']
        groups = 3 if _is_grouped(path, tree) else 1
        names = [next(narrow) for _ in range(groups)]
        shapes = [template[name]['Conv_0']['kernel'].shape for name in names]
        whole = (*shapes[0][:3], groups * shapes[0][3])
        kernels = jnp.split(take(stored, whole, groups), groups, axis=-1)
        scales, biases = (jnp.split(norm[leaf], groups) for leaf in ('scale', 'bias'))
        for name, kernel, scale, bias in zip(
            names, kernels, scales, biases, strict=True
        ):
            result[name] = {
                'Conv_0': {'kernel': kernel},
                'BatchNorm_0': {'scale': scale, 'bias': bias},
            }
    classifier = tree['classifier']
    rows = template['Dense_0']['kernel'].shape[0]
    result['Dense_0'] = {
        'kernel': classifier['kernel'][:rows],
        'bias': classifier['bias'],
    }
    assert next(narrow, None) is None
    return result


def _is_grouped(path, tree):
    shuffle = 'stem0' in tree
    return shuffle and path[-1] in ('squeeze', 'expand')


def outside_slice(stored, shape, groups):
    """Whether each element of a stored kernel lies outside of the narrow slice."""
    places = jnp.arange(stored.size).reshape(stored.shape)
    outside = np.ones(stored.size, bool)
    outside[np.asarray(narrow_shape_slices(places, shape, groups)).ravel()] = False
    return outside.reshape(stored.shape)
