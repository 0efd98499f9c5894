"""Which layers of a network change their channels together, and in what steps."""

import dataclasses
import itertools
import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from slimjax.layers import SlimConv, SlimDense
from slimjax.tie_labels import FIXED
from slimjax.tie_reader import Ties
from slimjax.width import order, widest

# Layers of so many channels are searched in multiples of 8, which hardware likes.
_LARGE = 64
_MULTIPLE = 8
# Widths at which a layer is asked for its channels, to see what they are multiples of.
_SAMPLES = 33


class Segment(NamedTuple):
    """Channels that the same layers have.

    Attributes:
        layers: all that have them. The first has no others, and tells their number.
        channels: what they are called in the ties.
    """

    layers: tuple[str, ...]
    channels: frozenset[int]


@dataclasses.dataclass(frozen=True)
class Variable:
    """A number of channels that a search changes.

    Attributes:
        segments: all have this number of channels; several where a grouped convolution
            reads them behind one another, and has whole groups of them only together.
        whole: the number in the whole network.
        least: below this it must not fall.
        chunk: by so many it changes at a time.
    """

    segments: tuple[Segment, ...]
    whole: int
    least: int
    chunk: int

    @property
    def name(self) -> str:
        """Returns the layers that tell the number."""
        return ' = '.join(segment.layers[0] for segment in self.segments)

    @property
    def most_removed(self) -> int:
        """Returns how many chunks can go.

        Example:
            >>> Variable((), whole=48, least=8, chunk=16).most_removed
            2
        """
        return (self.whole - self.least) // self.chunk


def find_segments(given: Mapping[str, np.ndarray]) -> tuple[Segment, ...]:
    """Returns the channels that can be switched off, by the layers that have them.

    In none are channels that must stay, that a layer has twice, or of which no layer
    has nothing else.

    Args:
        given: the output channels of each layer, as the ties call them.

    Example:
        >>> given = {'stem': np.array([1, 2]), 'last': np.array([1, 2, 3]),
        ...          'branch': np.array([3]), 'classes': np.array([FIXED])}
        >>> [segment.layers for segment in find_segments(given)]
        [('stem', 'last'), ('branch', 'last')]
    """
    having, twice = {}, {FIXED}
    for layer, channels in given.items():
        for channel in channels.tolist():
            layers = having.setdefault(channel, [])
            if layer in layers:
                twice.add(channel)
            layers.append(layer)
    together: dict[tuple[str, ...], set[int]] = {}
    for channel, layers in having.items():
        if channel not in twice:
            together.setdefault(tuple(layers), set()).add(channel)
    parts = {}
    for layers in together:
        for layer in layers:
            parts[layer] = parts.get(layer, 0) + 1
    segments = []
    for layers, channels in together.items():
        owner = next((layer for layer in layers if parts[layer] == 1), None)
        if owner is not None:
            rest = tuple(layer for layer in layers if layer != owner)
            segments.append(Segment((owner, *rest), frozenset(channels)))
    return tuple(segments)


def find_variables(
    layers: Mapping[str, SlimConv | SlimDense],
    ties: Ties,
    given: Mapping[str, np.ndarray],
    chunks: int,
) -> tuple[Variable, ...]:
    """Returns what a search may change, in the order of the layers.

    A chunk is about one part in `chunks` of the channels, and a multiple of what the
    layer's rounding gives multiples of, up to 8; of 8 where the layer has 64 or more;
    and of the groups of the convolutions that read or give the channels.

    Args:
        layers: those whose channels the width decides, with all the network's widths.
        ties: of the whole network.
        given: as in `find_segments`.
        chunks: about how many there are of each number of channels.
    """
    segments = find_segments(given)
    groups, joined = _grouped(segments, ties)
    variables = []
    for together in joined:
        parts = tuple(segments[index] for index in together)
        layer = layers[parts[0].layers[0]]
        widths = layer.widths
        whole = len(parts[0].channels)
        least = layer.output_channels(min(widths, key=order))
        unit = _unit(layer, whole)
        for index in together:
            unit = math.lcm(unit, groups[index])
        chunk = max(1, round(whole / chunks / unit)) * unit
        variables.append(Variable(parts, whole, min(least, whole), chunk))
    return tuple(variables)


def _unit(layer: SlimConv | SlimDense, whole: int) -> int:
    if whole >= _LARGE and whole % _MULTIPLE == 0:
        return _MULTIPLE
    # Not the narrowest, where the MobileNets' rounding has exceptions.
    end = order(widest(layer.widths))
    middle = (end + min(map(order, layer.widths))) / 2
    counts = (layer.output_channels(w) for w in np.linspace(middle, end, _SAMPLES))
    return math.gcd(_MULTIPLE, *counts)


def _grouped(
    segments: tuple[Segment, ...], ties: Ties
) -> tuple[list[int], list[list[int]]]:
    """For each segment what it must be a multiple of, and which have equal numbers."""
    groups = [1] * len(segments)
    joined = [[index] for index in range(len(segments))]
    for _, read, channels in ties.multiply_adds:
        parts, each = read.shape
        if parts == 1 or each == 1:  # Depthwise: any number goes.
            continue
        for own in (_within(segments, read), _within(segments, channels)):
            broken = [i for i in own if len(segments[i].channels) % parts]
            for index in own:
                if index not in broken:
                    groups[index] = math.lcm(groups[index], parts)
            # Together they have whole groups, and keep them if all lose the same.
            for index in broken:
                share = parts // math.gcd(parts, len(broken))
                groups[index] = math.lcm(groups[index], share)
            joined = _merged(joined, broken)
    return groups, joined


def _within(segments: tuple[Segment, ...], channels: np.ndarray) -> list[int]:
    known = frozenset(channels.ravel().tolist())
    return [i for i, segment in enumerate(segments) if segment.channels & known]


def _merged(joined: list[list[int]], indices: Iterable[int]) -> list[list[int]]:
    indices = set(indices)
    touched = [own for own in joined if indices & set(own)]
    if len(touched) < 2:
        return joined
    rest = [own for own in joined if own not in touched]
    return sorted([*rest, sorted(itertools.chain.from_iterable(touched))])
