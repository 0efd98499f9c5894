"""The distinct networks between two widths.

Rounding makes many widths one network: between 0.25 and 1.0, MobileNet v1 has 187. They
are found here before anything is compiled, each with one width that stands for it.
"""

import dataclasses
import functools
from collections.abc import Sequence

import flax.linen as nn

from slimjax.models.slim_layers import slim_layers
from slimjax.width import ChannelTable, Rounding, widest_first, width_name

# What a width can be: a whole number of these, see `slimjax.width.canonical`.
_UNIT = 1_000_000
# More than there are distinct networks.
_MOST_POINTS = 10_000
# No rounding of a usable network goes up and down again within so small a step.
_COARSE = 250


@dataclasses.dataclass(frozen=True)
class WidthGrid:
    """The distinct networks of a range of widths.

    Attributes:
        widths: one for each network, narrowest first: its shortest decimal in a range,
            its first on a grid; the ends of the range stand for their own.
        shares: the probability that a width drawn from the range, or from the points of
            the grid, is each of these networks.
        aliases: the points of a grid that have the same channels as one of `widths`,
            and which.
    """

    widths: tuple[float, ...]
    shares: tuple[float, ...]
    aliases: tuple[tuple[float, float], ...] = ()

    def line(self) -> str:
        """Returns what a person is told.

        Example:
            >>> WidthGrid((0.5, 1.0), (0.5, 0.5), ((0.51, 0.5),)).line()
            '2 distinct networks from 0.5 to 1.0: 0.5, 1.0 (also 0.51 = 0.5)'
        """
        names = [width_name(width) for width in self.widths]
        line = (
            f'{len(names)} distinct networks from {names[0]} to {names[-1]}: '
            + ', '.join(names)
        )
        if self.aliases:
            pairs = ', '.join(
                f'{width_name(width)} = {width_name(own)}'
                for width, own in self.aliases
            )
            line += f' (also {pairs})'
        return line


def width_grid(
    model: nn.Module, image_shape: tuple[int, int, int], step: float = 0.0
) -> WidthGrid:
    """Returns the distinct networks between the narrowest and the widest of a model.

    Args:
        model: a slimmable module with a field `widths`, all of whose layers that change
            with the width are `SlimConv` and `SlimDense`.
        image_shape: height and width in pixels, and channels.
        step: the grid: both ends, and the multiples of `step` between them, such as
            1/16; 0 for any width there is.

    Raises:
        ValueError: widths that are channel tables, or only one, or all one network; or
            a step that is negative, no shorter than the range, or less than a
            10,000th of it.

    Example:
        >>> import slimjax
        >>> model = slimjax.create_model('mobilenet_v1', widths=(0.25, 1.0))
        >>> len(width_grid(model, (224, 224, 3)).widths)
        187
        >>> width_grid(model, (224, 224, 3), 0.25).widths
        (0.25, 0.5, 0.75, 1.0)
    """
    known = widest_first(model.widths)
    if len(known) < 2 or isinstance(known[0], ChannelTable):
        raise ValueError(
            f'widths={tuple(map(width_name, known))}: a range takes two width '
            'multipliers, its ends'
        )
    high, low = (round(known[end] * _UNIT) for end in (0, -1))
    if not 0 <= step < (high - low) / _UNIT:
        raise ValueError(
            f'width_grid={step}: allowed is 0, for any width, to below '
            f'{(high - low) / _UNIT}, which is {high / _UNIT} - {low / _UNIT}'
        )
    if step and (high - low) / _UNIT > _MOST_POINTS * step:
        raise ValueError(
            f'width_grid={step}: more than {_MOST_POINTS:,} points lie between '
            f'{low / _UNIT} and {high / _UNIT}; take a coarser grid, or 0, for any '
            'width'
        )
    rules = _rules(model, image_shape)
    if _channels(rules, low) == _channels(rules, high):
        raise ValueError(
            f'widths={tuple(map(width_name, known))}: the ends of the range have the '
            'same channels in every layer'
        )
    if step:
        return _of_points(_multiples(low, high, step), rules)
    return _of_range(low, high, rules)


def _rules(model, image_shape) -> tuple[tuple[int, Rounding], ...]:
    """The features and the rounding of each layer whose channels the width decides."""
    layers = slim_layers(model, image_shape).values()
    return tuple({(layer.features, layer.rounding) for layer in layers})


def _channels(rules, units: int) -> tuple[int, ...]:
    width = units / _UNIT
    return tuple(rounding(features, width) for features, rounding in rules)


def _multiples(low: int, high: int, step: float) -> list[int]:
    count = int(high / _UNIT / step) + 1
    inside = {round(number * step * _UNIT) for number in range(count + 1)}
    return sorted({low, high, *(units for units in inside if low < units < high)})


def _of_points(points: Sequence[int], rules) -> WidthGrid:
    groups = {}
    for units in points:
        groups.setdefault(_channels(rules, units), []).append(units)
    ends = (points[-1], points[0])
    chosen = {}
    for group in groups.values():
        own = next((end for end in ends if end in group), group[0])
        chosen[own] = group
    chosen = dict(sorted(chosen.items()))
    return WidthGrid(
        tuple(units / _UNIT for units in chosen),
        tuple(len(group) / len(points) for group in chosen.values()),
        tuple(
            (other / _UNIT, own / _UNIT)
            for own, group in chosen.items()
            for other in group
            if other != own
        ),
    )


def _of_range(low: int, high: int, rules) -> WidthGrid:
    # Where each next network begins.
    starts = {low}
    for rule in rules:
        starts |= _changes(low, high, functools.partial(_channels, (rule,)))
    starts = sorted(starts)
    ends = [start - 1 for start in starts[1:]] + [high]
    # A channel count that returns to an earlier one is the earlier network again.
    groups = {}
    for start, end in zip(starts, ends, strict=True):
        groups.setdefault(_channels(rules, start), []).append((start, end))
    widths = {}
    for parts in groups.values():
        own = _shortest(*parts[0])
        for special in (high, low):
            if any(start <= special <= end for start, end in parts):
                own = special
        widths[own / _UNIT] = sum(end - start + 1 for start, end in parts)
    widths = dict(sorted(widths.items()))
    total = high - low + 1
    return WidthGrid(tuple(widths), tuple(size / total for size in widths.values()))


def _changes(low: int, high: int, channels) -> set[int]:
    """The points above `low` at which a step function takes another value."""
    found = set()

    def search(left, right, at_left, at_right):
        if at_left == at_right:
            return
        if right - left == 1:
            found.add(right)
            return
        middle = (left + right) // 2
        at_middle = channels(middle)
        search(left, middle, at_left, at_middle)
        search(middle, right, at_middle, at_right)

    points = [*range(low, high, _COARSE), high]
    values = [channels(point) for point in points]
    for index in range(len(points) - 1):
        search(*points[index : index + 2], *values[index : index + 2])
    return found


def _shortest(start: int, end: int) -> int:
    """The number from `start` to `end` that ends in the most zeros; the first such."""
    for power in range(6, -1, -1):
        unit = 10**power
        first = -(-start // unit) * unit
        if first <= end:
            return first
    return start
