"""The networks among which a search chooses, and what each of them costs."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import flax.linen as nn
import numpy as np
from flax.traverse_util import flatten_dict

from slimjax.layers import SlimConv, SlimDense
from slimjax.models.slim_layers import layers_and_shapes
from slimjax.search.masked_layers import check_masked, noting_masked
from slimjax.search.variables import Variable, find_variables
from slimjax.tie_labels import FIXED
from slimjax.ties import channel_ties
from slimjax.width import ChannelTable, Width, widest, width_name

# Changes of a variable at a time, as published.
CHUNKS = 12


class Linear(NamedTuple):
    """Numbers of channels of which some are counts of variables: `start + parts @ n`.

    Attributes:
        start: `[size]`, those that no variable changes.
        parts: `[size, variables]`.
    """

    start: np.ndarray
    parts: np.ndarray

    def of(self, counts: np.ndarray) -> np.ndarray:
        """Returns `[..., size]` numbers for `[..., variables]` counts."""
        return self.start + counts @ self.parts.T


@dataclasses.dataclass(frozen=True)
class SearchSpace:
    """Networks that have the first channels of each layer of a whole network.

    A network is `[variables]` whole numbers, its counts; functions take and return any
    number of networks, `[..., variables]`.

    Attributes:
        variables: the numbers of channels that change.
        layers: by their paths those whose channels the width decides.
        channels: of each of these layers.
        multiply_adds: of each convolution and matrix product, an output channel's for
            one channel of its input; its inputs a group; its outputs.
        sizes: of each parameter, the length of each of its axes.
    """

    variables: tuple[Variable, ...]
    layers: Mapping[str, SlimConv | SlimDense]
    channels: Linear
    multiply_adds: tuple[np.ndarray, Linear, Linear]
    sizes: tuple[Linear, ...]

    @property
    def whole(self) -> np.ndarray:
        """Returns the network with all channels."""
        return np.array([variable.whole for variable in self.variables])

    @property
    def chunks(self) -> np.ndarray:
        """Returns by how much each number changes at a time."""
        return np.array([variable.chunk for variable in self.variables])

    @property
    def least(self) -> np.ndarray:
        """Returns the smallest network."""
        most = np.array([variable.most_removed for variable in self.variables])
        return self.whole - most * self.chunks

    def fewer(self, counts: np.ndarray) -> np.ndarray:
        """Returns all networks that lack one chunk more than a network."""
        found = counts - np.diag(self.chunks)
        return found[(found >= self.least).all(1)]

    def more(self, counts: np.ndarray) -> np.ndarray:
        """Returns all networks that have one chunk more than a network."""
        found = counts + np.diag(self.chunks)
        return found[(found <= self.whole).all(1)]

    def random(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Returns `[count, variables]` networks, each number drawn by itself."""
        most = (self.whole - self.least) // self.chunks
        return self.whole - rng.integers(0, most + 1, (count, len(most))) * self.chunks

    def macs(self, counts: np.ndarray) -> np.ndarray:
        """Returns the multiply-adds of an image."""
        each, inputs, outputs = self.multiply_adds
        return (each * inputs.of(counts) * outputs.of(counts)).sum(-1)

    def params(self, counts: np.ndarray) -> np.ndarray:
        """Returns the number of parameters, scales and biases of one width included."""
        return sum(size.of(counts).prod(-1) for size in self.sizes)

    def table(self, counts: np.ndarray, name: str) -> ChannelTable:
        """Returns one network as a width."""
        channels = self.channels.of(counts).astype(int).tolist()
        macs = int(self.macs(counts))
        return ChannelTable(
            name, tuple(zip(self.layers, channels, strict=True)), macs=macs
        )

    def uniform(self, width: Width) -> np.ndarray:
        """Returns the network of a width multiplier."""
        channels = {
            path: layer.output_channels(width) for path, layer in self.layers.items()
        }
        return np.array(
            [channels[each.segments[0].layers[0]] for each in self.variables]
        )


def search_space(
    model: nn.Module, image_shape: tuple[int, int, int], chunks: int = CHUNKS
) -> SearchSpace:
    """Returns the networks between the ends of a universally slimmable network.

    Args:
        model: a slimmable module with a field `widths`, multipliers of which the
            narrowest and the widest are the ends.
        image_shape: height and width in pixels, and channels.
        chunks: about how many changes lead from all channels of a layer to none.

    Raises:
        ValueError: a network without a range, or whose layers no table can name.

    Example:
        >>> import slimjax
        >>> model = slimjax.create_model('resnet14', widths=(0.25, 1.0),
        ...                              norm='shared_affine', base_features=8)
        >>> space = search_space(model, (32, 32, 3))
        >>> [(each.name, each.whole, each.chunk) for each in space.variables[:2]]
        [('stem/conv', 8, 1), ('stage1_block1/conv1/conv', 8, 1)]
        >>> int(space.macs(space.least)) < int(space.macs(space.whole))
        True
    """
    _check_range(model)
    with noting_masked() as masked:
        layers, variables = layers_and_shapes(model, image_shape)
    check_masked(layers, masked)
    end = widest(model.widths)
    shapes = flatten_dict(variables['params'])
    layers = _named_by_tables(model, layers, end, image_shape, shapes)
    ties = channel_ties(model, variables, image_shape, width=end)
    axes = {(axis.path[1:], axis.axis): axis.channels for axis in ties.axes}
    given = {}
    for layer in layers:
        path = (*layer.split('/'), 'kernel')
        *_, size = shapes[path].shape
        fixed = np.full(size, FIXED)
        given[layer] = axes.get((path, len(shapes[path].shape) - 1), fixed)
    variables = find_variables(layers, ties, given, chunks)
    counted = functools.partial(_counted, variables)
    sizes = tuple(
        counted([axes.get((path, axis), size) for axis, size in enumerate(leaf.shape)])
        for path, leaf in shapes.items()
    )
    each, inputs, outputs = zip(*ties.multiply_adds, strict=True)
    return SearchSpace(
        variables,
        layers,
        counted(list(given.values())),
        # Each group of a grouped convolution reads its own inputs.
        (np.array(each), counted([read.T for read in inputs]), counted(outputs)),
        sizes,
    )


def _counted(variables: Sequence[Variable], axes: Sequence[np.ndarray | int]) -> Linear:
    """The lengths of axes, whose channels are known, or which no variable changes.

    Of `[positions, groups]` channels the positions are counted.
    """
    start, parts = np.zeros(len(axes)), np.zeros((len(axes), len(variables)))
    for row, channels in enumerate(axes):
        if isinstance(channels, int):
            start[row] = channels
            continue
        groups = 1 if channels.ndim == 1 else channels.shape[1]
        start[row] = channels.size / groups
        if channels.ndim == 2 and len(channels) == 1:  # Depthwise.
            continue
        for column, variable in enumerate(variables):
            own = frozenset().union(*(each.channels for each in variable.segments))
            found = np.isin(channels, list(own)).sum()
            parts[row, column] = found / variable.whole / groups
            start[row] -= found / groups
    return Linear(start, parts)


def _check_range(model: nn.Module) -> None:
    names = tuple(map(width_name, model.widths))
    if len(names) < 2 or isinstance(widest(model.widths), ChannelTable):
        raise ValueError(
            f'widths={names}: a search needs two width multipliers or more, between '
            'whose ends the network was trained'
        )
    norm = getattr(model, 'norm', None)
    if norm != 'shared_affine':
        raise ValueError(
            f'norm={norm!r}: a search runs networks that have no scale and bias '
            "of their own; allowed is 'shared_affine'"
        )


def _named_by_tables(model, layers, end, image_shape, shapes):
    """The layers whose channels a table states.

    Those of MobileNet v2's tail, for example, it does not, unless the tail is slim.
    """
    counts = [(path, layer.output_channels(end)) for path, layer in layers.items()]
    named = model.clone(widths=(ChannelTable('whole', tuple(counts)),))
    known, variables = layers_and_shapes(named, image_shape)
    for path, leaf in flatten_dict(variables['params']).items():
        if leaf.shape != shapes[path].shape:
            raise ValueError(
                f'{"/".join(path)} has the shape {shapes[path].shape} at width '
                f'{width_name(end)}, but {leaf.shape} where channel tables are the '
                'widths: train the network with model_fields.slim_tail=True'
            )
    return {path: layer for path, layer in layers.items() if path in known}
