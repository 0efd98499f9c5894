"""Puts the important channels of a trained network first (OFA, section 3.2).

The narrow networks are made of the first channels of every layer. In a network that was
trained at one width these are as good as any others; sorted, they are the best.
"""

from collections.abc import Mapping
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from slimjax.insight.passes import pass_keywords
from slimjax.tie_labels import FIXED
from slimjax.tie_reader import Axis, Path
from slimjax.ties import channel_ties
from slimjax.train.losses import cross_entropy
from slimjax.variables import split_variables
from slimjax.width import ChannelTable, widest

Criterion = Literal['l1', 'bn_scale', 'taylor']
CRITERIA = ('l1', 'bn_scale', 'taylor')


def sort_channels(
    model: nn.Module,
    variables: Mapping[str, Any],
    by: Criterion = 'l1',
    *,
    batch: Mapping[str, jax.Array] | None = None,
    image_shape: tuple[int, int, int] = (224, 224, 3),
) -> dict[str, Any]:
    """Returns `variables` with the channels reordered, the important ones first.

    At the widest width the network computes what it did before. At narrower ones it is
    another network, whose norms must be calibrated or trained; those that are private
    to narrower widths are left as they are.

    Channels that are tied move together, and channels of grouped convolutions within
    their groups; see `slimjax.ties`.

    Args:
        model: called with images; a slimmable one at its widest width.
        variables: of the model.
        by: what makes a channel important, summed over the layers that it is tied to:
            `'l1'`, the sum of the absolute weights of the filters that give it (Li et
            al., 2017); `'bn_scale'`, the absolute scale of its norms (Liu et al.,
            2017); `'taylor'`, the squared first-order change of the loss if its norms'
            scale and bias were zero (Molchanov et al., 2019, section 3.2).
        batch: `image`, `[batch, height, width, channels]` as the model takes them, and
            `label`, `[batch]`; `'taylor'` needs it.
        image_shape: height and width in pixels, and channels, where there is no batch;
            nothing is computed with it.

    Raises:
        ValueError: another criterion, `'taylor'` without a batch, a network without
            norms by which they should be sorted, or channel tables of which a smaller
            one has more channels in a layer than the widest.

    Example:
        >>> import slimjax
        >>> fields = {'widths': (0.5, 1.0), 'stage_sizes': (1,)}
        >>> model = slimjax.create_model('resnet14', num_classes=10, **fields)
        >>> images = jax.random.normal(jax.random.key(1), (2, 32, 32, 3))
        >>> variables = jax.jit(model.init)(jax.random.key(0), images)
        >>> by_l1 = slimjax.sort_channels(model, variables, image_shape=(32, 32, 3))
        >>> apply = jax.jit(model.apply)
        >>> before, after = (apply(v, images) for v in (variables, by_l1))
        >>> bool(jnp.allclose(before, after, atol=1e-3))
        True
    """
    if by not in CRITERIA:
        raise ValueError(f'by={by!r}; allowed are {", ".join(CRITERIA)}')
    if by == 'taylor' and batch is None:
        raise ValueError("by='taylor' needs batch={'image': ..., 'label': ...}")
    if batch is not None:
        image_shape = tuple(batch['image'].shape[1:])
    _check_widest(model)
    keywords = next(iter(pass_keywords(model).values()))
    axes = channel_ties(model, variables, image_shape, **keywords).axes
    leaves = {path: np.asarray(leaf) for path, leaf in _flat(variables).items()}
    weights = _weights(model, variables, by, batch, keywords)
    scores = np.zeros(1 + max(int(axis.channels.max()) for axis in axes))
    for axis in axes:
        own = weights.get(axis.path)
        if own is not None and axis.axis == own.ndim - 1:
            np.add.at(scores, axis.channels, own.reshape(-1, own.shape[-1]).sum(0))
    if not scores.any():
        raise ValueError(f'by={by!r}: {type(model).__name__} has nothing to sort by')
    source = _order(axes, leaves, scores)
    for axis in axes:
        leaves[axis.path] = _reordered(leaves[axis.path], axis, source)
    return unflatten_dict({path: jnp.asarray(leaf) for path, leaf in leaves.items()})


def _check_widest(model: nn.Module) -> None:
    """Channels that the widest width has not would not be told from each other."""
    widths = getattr(model, 'widths', ())
    tables = [width for width in widths if isinstance(width, ChannelTable)]
    for table in tables:
        for path, count in table.channels:
            if count > widest(tables).of(path):
                raise ValueError(
                    f'{path} has {count} channels at width {table.name}, more than at '
                    f'the widest, {widest(tables).name}: only what that has is sorted'
                )


def _flat(variables) -> dict[Path, Any]:
    return flatten_dict(dict(variables))


def _weights(model, variables, by, batch, keywords) -> dict[Path, np.ndarray]:
    """What each element of a variable adds to the importance of its last axis."""
    params, stats = split_variables(variables)
    found = {('params', *path): leaf for path, leaf in _flat(params).items()}
    if by == 'l1':
        kernels = {path: leaf for path, leaf in found.items() if path[-1] == 'kernel'}
        return {path: np.abs(np.float64(leaf)) for path, leaf in kernels.items()}
    scales = {path for path in found if path[-1] == 'scale'}
    if by == 'bn_scale':
        return {path: np.abs(np.float64(found[path])) for path in scales}

    def loss(params):
        logits = model.apply({'params': params, **stats}, batch['image'], **keywords)
        return cross_entropy(logits, batch['label'])

    gradients = _flat(jax.jit(jax.grad(loss))(params))
    changes = {}
    for path in scales:
        changes[path] = np.zeros(found[path].shape)
        for leaf in (path, (*path[:-1], 'bias')):
            if leaf in found:
                changes[path] += np.float64(found[leaf]) * gradients[leaf[1:]]
    return {path: change**2 for path, change in changes.items()}


def _order(
    axes: tuple[Axis, ...], leaves: Mapping[Path, np.ndarray], scores: np.ndarray
) -> np.ndarray:
    """Returns for each channel's places the channel that moves there."""
    grouped = {each.path: each.channels for each in axes if each.channels.ndim == 2}
    # Channels may change places if they stand along the same axes equally often, of a
    # grouped kernel in the same group.
    places: dict[int, list] = {}
    first: dict[int, tuple[int, int]] = {}
    for number, axis in enumerate(axes):
        groups = np.zeros_like(axis.channels)
        if axis.channels.ndim == 2:
            groups += np.arange(axis.channels.shape[1])
        elif axis.path in grouped and axis.axis == leaves[axis.path].ndim - 1:
            parts = grouped[axis.path].shape[1]
            groups += np.arange(len(groups)) // (len(groups) // parts)
        given = axis.path[-1] == 'kernel' and axis.axis == leaves[axis.path].ndim - 1
        for position, (channel, group) in enumerate(
            zip(axis.channels.ravel(), groups.ravel(), strict=True)
        ):
            places.setdefault(int(channel), []).append((number, int(group)))
            if given:
                first.setdefault(int(channel), (number, position))
    cells: dict[tuple, list[int]] = {}
    for channel in sorted(first, key=first.get):
        if channel != FIXED:
            cells.setdefault(tuple(sorted(places[channel])), []).append(channel)
    source = np.arange(len(scores))
    for channels in cells.values():
        ranks = np.argsort(-scores[channels], kind='stable')
        source[channels] = np.array(channels)[ranks]
    return source


def _reordered(leaf: np.ndarray, axis: Axis, source: np.ndarray) -> np.ndarray:
    if axis.channels.ndim == 1:
        return np.take(leaf, _positions(axis.channels, source), axis.axis)
    groups = axis.channels.shape[1]
    return np.concatenate(
        [
            np.take(part, _positions(axis.channels[:, group], source), axis.axis)
            for group, part in enumerate(np.split(leaf, groups, -1))
        ],
        axis=-1,
    )


def _positions(channels: np.ndarray, source: np.ndarray) -> np.ndarray:
    """From where each position takes what it holds from now on."""
    order = np.argsort(channels, kind='stable')
    wanted = source[channels]
    # The n-th place of a channel takes from the n-th place of its source.
    taken = np.empty_like(order)
    taken[np.argsort(wanted, kind='stable')] = order
    result = np.arange(len(channels))
    moved = channels != FIXED
    result[moved] = taken[moved]
    return result
