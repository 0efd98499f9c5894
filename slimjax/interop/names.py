"""Where each tensor of a PyTorch state dict stands in slimjax's variables."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from slimjax.models.common import SlimmableClassifier
from slimjax.models.inverted_residual import InvertedResidualNetwork
from slimjax.models.mobilenet_v1 import MobileNetV1
from slimjax.models.mobilenet_v2 import MobileNetV2
from slimjax.models.resnet import ResNet
from slimjax.models.shufflenet import ShuffleNet
from slimjax.norm import SHARED_STATS, stats_collection
from slimjax.width import widest_first, width_name

# PyTorch's names of what a norm holds, and ours.
_AFFINE = {'weight': 'scale', 'bias': 'bias'}
_STATS = {'running_mean': 'mean', 'running_var': 'var'}
# The layers of a block in the order in which they run; a block has some of them.
_LAYERS = ('expand', 'depthwise', 'pointwise', 'project', 'conv1', 'conv2', 'conv3')


class Entry(NamedTuple):
    """One tensor of a state dict.

    Attributes:
        key: its name there.
        path: of the array that holds it in the variables, collection first.
        group: which of `groups` equal parts of the array's last axis it is: the
            published ShuffleNet has a convolution for each group.
        groups: number of such parts.
        layout: how it is laid out there, one of `slimjax.interop.layouts`.
    """

    key: str
    path: tuple[str, ...]
    group: int = 0
    groups: int = 1
    layout: str = 'plain'


class Unit(NamedTuple):
    """A convolution and its norm: our path, and PyTorch's names, one a group."""

    path: tuple[str, ...]
    convolutions: tuple[str, ...]
    norms: tuple[str, ...]


def published_entries(
    model: SlimmableClassifier, variables: Mapping[str, Any]
) -> list[Entry]:
    """Returns the tensors that the published code keeps for a model.

    Args:
        model: a slimmable classifier of one of the published families.
        variables: its variables, or their shapes.

    Raises:
        ValueError: the published code has no such model.

    Example:
        >>> import jax, jax.numpy as jnp, slimjax
        >>> model = slimjax.create_model('s_mobilenet_v1')
        >>> images = jnp.ones((1, 32, 32, 3))
        >>> variables = jax.eval_shape(model.init, jax.random.key(0), images)
        >>> published_entries(model, variables)[0].key
        'features.0.0.weight'
    """
    params = variables['params']
    if isinstance(model, ShuffleNet):
        units = _shufflenet_units(params)
    elif isinstance(model, MobileNetV1 | InvertedResidualNetwork | ResNet):
        units = _chain_units(params)
    else:
        raise ValueError(f'{type(model).__name__} is no model of the published code')
    # The published lists of norms run from the narrowest width to the widest.
    suffixes = {
        width_name(width): f'.bn.{place}'
        for place, width in enumerate(reversed(widest_first(model.widths)))
    }
    collections = {stats_collection(name): bn for name, bn in suffixes.items()}
    collections[SHARED_STATS] = suffixes['affine'] = ''
    entries = []
    for unit in units:
        entries += _convolution_entries(unit, params)
        where = (*unit.path, 'norm')
        arrays = {
            **{('params', *where, own): suffixes[own] for own in _at(params, where)},
            **{
                (collection, *where): suffix
                for collection, suffix in collections.items()
                if _at(variables.get(collection, {}), where)
            },
        }
        for group, norm in enumerate(unit.norms):
            for path, suffix in arrays.items():
                entries += _norm_entries(norm + suffix, path, group, len(unit.norms))
    return entries + _classifier_entries('classifier.0', params)


def torchvision_entries(
    model: SlimmableClassifier, variables: Mapping[str, Any]
) -> list[Entry]:
    """Returns the tensors that torchvision keeps for a network, as width 1.0 of ours.

    Args:
        model: a `ResNet` or `MobileNetV2` with private norms and a width 1.0.
        variables: its variables, or their shapes.

    Raises:
        ValueError: another model, or one without a width 1.0 of its own.
    """
    if not isinstance(model, ResNet | MobileNetV2):
        raise ValueError(f'torchvision has no {type(model).__name__}')
    widths = [width_name(width) for width in widest_first(model.widths)]
    if model.norm != 'private' or '1.0' not in widths:
        raise ValueError(
            f'norm={model.norm!r}, widths={tuple(widths)}: a network of torchvision '
            "becomes width 1.0 of one with norm='private'"
        )
    params = variables['params']
    resnet = isinstance(model, ResNet)
    units = _torchvision_resnet_units if resnet else _torchvision_mobilenet_units
    entries = []
    for unit in units(params):
        entries += _convolution_entries(unit, params)
        where = (*unit.path, 'norm')
        if 'affine' in _at(params, where):
            paths = (('params', *where, 'affine'), (SHARED_STATS, *where))
        else:
            paths = (('params', *where, '1.0'), (stats_collection(1.0), *where))
        for path in paths:
            entries += _norm_entries(unit.norms[0], path)
    return entries + _classifier_entries('fc' if resnet else 'classifier.1', params)


def _chain_units(params) -> Iterator[Unit]:
    """The published MobileNets, MNasNet and ResNet: a list of blocks."""
    yield Unit(('stem',), ('features.0.0',), ('features.0.1',))
    blocks = _blocks(params)
    for number, block in enumerate(blocks, start=1):
        name = f'features.{number}'
        for place, layer in enumerate(_layers(params[block])):
            yield Unit(
                (block, layer),
                (f'{name}.body.{3 * place}',),
                (f'{name}.body.{3 * place + 1}',),
            )
        if 'shortcut' in params[block]:
            yield Unit(
                (block, 'shortcut'), (f'{name}.shortcut.0',), (f'{name}.shortcut.1',)
            )
    if 'tail' in params:
        name = f'features.{len(blocks) + 1}'
        yield Unit(('tail',), (f'{name}.0',), (f'{name}.1',))


def _shufflenet_units(params) -> Iterator[Unit]:
    """The published ShuffleNet: a convolution for each group."""
    groups = range(3)
    for group in groups:
        yield Unit((f'stem{group}',), (f'head_{group}.0',), (f'head_{group}.1',))
    for number, block in enumerate(_blocks(params)):
        name = f'features.{number}'
        squeezes, squeeze_norms, expands, expand_norms = (
            tuple(f'{name}.{letter}_{group}.{part}' for group in groups)
            for letter, part in (('a', 0), ('a', 1), ('c', 0), ('c', 1))
        )
        if 'squeeze' in params[block]:
            yield Unit((block, 'squeeze'), squeezes, squeeze_norms)
        else:
            for group, conv, norm in zip(groups, squeezes, squeeze_norms, strict=True):
                yield Unit((block, f'squeeze{group}'), (conv,), (norm,))
        yield Unit((block, 'depthwise'), (f'{name}.b.1',), (f'{name}.b.2',))
        yield Unit((block, 'expand'), expands, expand_norms)


def _torchvision_resnet_units(params) -> Iterator[Unit]:
    yield Unit(('stem',), ('conv1',), ('bn1',))
    for block in _blocks(params):
        stage, number = map(int, re.findall(r'\d+', block))
        name = f'layer{stage}.{number - 1}'
        for place, layer in enumerate(_layers(params[block]), start=1):
            yield Unit((block, layer), (f'{name}.conv{place}',), (f'{name}.bn{place}',))
        if 'shortcut' in params[block]:
            conv, norm = f'{name}.downsample.0', f'{name}.downsample.1'
            yield Unit((block, 'shortcut'), (conv,), (norm,))


def _torchvision_mobilenet_units(params) -> Iterator[Unit]:
    yield Unit(('stem',), ('features.0.0',), ('features.0.1',))
    blocks = _blocks(params)
    for number, block in enumerate(blocks, start=1):
        name = f'features.{number}.conv'
        *inner, last = _layers(params[block])
        for place, layer in enumerate(inner):
            yield Unit((block, layer), (f'{name}.{place}.0',), (f'{name}.{place}.1',))
        place = len(inner)
        yield Unit((block, last), (f'{name}.{place}',), (f'{name}.{place + 1}',))
    name = f'features.{len(blocks) + 1}'
    yield Unit(('tail',), (f'{name}.0',), (f'{name}.1',))


def _convolution_entries(unit: Unit, params) -> list[Entry]:
    where = (*unit.path, 'conv')
    (kernel,) = _at(params, where)
    path, groups = ('params', *where, kernel), len(unit.convolutions)
    return [
        Entry(f'{name}.weight', path, group, groups)
        for group, name in enumerate(unit.convolutions)
    ]


def _norm_entries(
    name: str, path: tuple[str, ...], group: int = 0, groups: int = 1
) -> list[Entry]:
    leaves = _AFFINE if path[0] == 'params' else _STATS
    return [
        Entry(f'{name}.{theirs}', (*path, ours), group, groups)
        for theirs, ours in leaves.items()
    ]


def _classifier_entries(name: str, params) -> list[Entry]:
    if 'classifier' not in params:
        return []
    return [
        Entry(f'{name}.weight', ('params', 'classifier', 'kernel')),
        Entry(f'{name}.bias', ('params', 'classifier', 'bias')),
    ]


def _blocks(params) -> list[str]:
    """The names of the blocks in the order in which they run."""
    names = [name for name in params if name.startswith(('block', 'stage'))]
    return sorted(names, key=lambda name: [*map(int, re.findall(r'\d+', name))])


def _layers(block) -> list[str]:
    return [layer for layer in _LAYERS if layer in block]


def _at(tree, path):
    for name in path:
        tree = tree.get(name, {})
    return tree
