"""Copies slices of a slimmable network into an independently written narrow one.

A network is taken apart into its units, a convolution and its BatchNorm each, in the
order in which they run. A grouped unit of the slimmable network is as many units of
the narrow one, which has a convolution for each group, as published.
"""

import re
from typing import NamedTuple

import jax
import numpy as np

from slimjax.width import width_name

# The layers of a block in the order in which they run, those that it has.
LAYERS = {
    'mobilenet_v1': ('depthwise', 'pointwise'),
    'mobilenet_v2': ('expand', 'depthwise', 'project'),
    'shufflenet': (
        *('squeeze', 'squeeze0', 'squeeze1', 'squeeze2', 'depthwise', 'expand'),
    ),
    'resnet14': ('conv1', 'conv2', 'conv3', 'shortcut'),
    'resnet50': ('conv1', 'conv2', 'conv3', 'shortcut'),
}


class Unit(NamedTuple):
    """A convolution and its norm in the slimmable network, and its groups."""

    path: tuple[str, ...]
    groups: int


def natural(name):
    return [int(part) if part.isdigit() else part for part in re.split(r'(\d+)', name)]


def units(name, params):
    """The units of the slimmable network `name`, in the order in which they run."""
    names = sorted(params, key=natural)
    found = [Unit((block,), 1) for block in names if block.startswith('stem')]
    for block in names:
        if block.startswith(('block', 'stage')):
            for layer in LAYERS[name]:
                grouped = name == 'shufflenet' and layer in ('squeeze', 'expand')
                if layer in params[block]:
                    found.append(Unit((block, layer), 3 if grouped else 1))
    if 'tail' in params:
        found.append(Unit(('tail',), 1))
    return found


def at(tree, path):
    for name in path:
        tree = tree[name]
    return tree


def kernel_of(params, path):
    (kernel,) = at(params, path)['conv'].values()
    return kernel


def affine_of(params, path, width):
    """Scale and bias at `width`; the tail of MobileNet v2 has one pair for all."""
    norm = at(params, path)['norm']
    return norm['affine'] if 'affine' in norm else norm[width_name(width)]


def statistics_of(stats, path, width):
    """Running mean and variance at `width`, in its own collection or the shared."""
    shared = 'tail' in path and 'tail' in stats.get('batch_stats', {})
    collection = 'batch_stats' if shared else f'batch_stats_{width_name(width)}'
    return at(stats[collection], path)['norm']


def cut(kernel, shape, groups):
    """The stored kernel cut to `shape`; the output groups are cut each by itself."""
    if kernel.shape[2] == shape[2] == 1:  # Depthwise.
        return kernel[..., : shape[3]]
    parts = kernel.reshape(*kernel.shape[:3], groups, -1)
    return parts[:, :, : shape[2], :, : shape[3] // groups].reshape(shape)


def outside(array, shape, groups):
    """What lies outside of the slice that `cut` takes."""
    places = np.arange(array.size).reshape(array.shape)
    return np.delete(np.ravel(array), cut(places, shape, groups).ravel())


def copied(name, params, template, width):
    """The narrow network's parameters, cut from the slimmable one's (or gradients).

    Args:
        name: of the model.
        params: parameters of the slimmable network, or a tree like them.
        template: parameters of the narrow network, whose shapes are used.
        width: that of the narrow network.
    """
    result, number = {}, 0
    for path, groups in units(name, params):
        names = [f'Unit_{number + group}' for group in range(groups)]
        number += groups
        *rest, last = template[names[0]]['Conv_0']['kernel'].shape
        kernel = cut(kernel_of(params, path), (*rest, groups * last), groups)
        affine = affine_of(params, path, width)
        leaves = (kernel, affine['scale'], affine['bias'])
        parts = zip(*(np.split(leaf, groups, -1) for leaf in leaves), strict=True)
        for narrow, (kernel, scale, bias) in zip(names, parts, strict=True):
            result[narrow] = {
                'Conv_0': {'kernel': kernel},
                'BatchNorm_0': {'scale': scale, 'bias': bias},
            }
    rows = template['Dense_0']['kernel'].shape[0]
    classifier = params['classifier']
    result['Dense_0'] = {
        'kernel': classifier['kernel'][:rows],
        'bias': classifier['bias'],
    }
    assert jax.tree.map(np.shape, result) == jax.tree.map(np.shape, template)
    return result


def copied_statistics(name, params, stats, width):
    """The narrow network's running statistics."""
    result, number = {}, 0
    for path, groups in units(name, params):
        leaves = statistics_of(stats, path, width)
        means, variances = (np.split(leaves[key], groups) for key in ('mean', 'var'))
        for mean, var in zip(means, variances, strict=True):
            result[f'Unit_{number}'] = {'BatchNorm_0': {'mean': mean, 'var': var}}
            number += 1
    return result


def unused(name, params, template, width):
    """All values of a tree like `params` that the narrow network has no part in."""
    number = 0
    for path, groups in units(name, params):
        *rest, last = template[f'Unit_{number}']['Conv_0']['kernel'].shape
        number += groups
        yield path, outside(kernel_of(params, path), (*rest, groups * last), groups)
        for key, leaves in at(params, path)['norm'].items():
            if key not in ('affine', width_name(width)):
                yield path, np.concatenate([leaves['scale'], leaves['bias']])
    rows = template['Dense_0']['kernel'].shape[0]
    yield 'classifier', np.ravel(params['classifier']['kernel'][rows:])
