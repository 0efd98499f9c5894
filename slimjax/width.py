"""What a width is: its canonical form, its name, and the channels it stands for.

A width is either a float, the *width multiplier* that scales every layer alike
(Yu et al., ICLR 2019, section 3), or a `ChannelTable`, which gives every layer its
own number of channels. Widths are plain hashable values, static under `jax.jit`.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

# A width multiplier keeps six decimals, so that 0.1 + 0.2 and 0.3 are one width.
_DECIMALS = 6
_HALF_UNIT = 0.5 * 10**-_DECIMALS

Rounding = Callable[[int, float], int]


@dataclasses.dataclass(frozen=True, order=True)
class ChannelTable:
    """A width that states the output channels of each layer.

    Attributes:
        name: what collections, metrics and files are called after, and what a model
            is asked for; never the name of a width multiplier, such as `'1.0'`.
        channels: pairs of a layer's path in the parameter tree, such as
            `'block1/pointwise/conv'`, and its number of output channels.
        macs: multiply-adds of the whole network for one image, by which the tables
            of a model are ordered; 0 where they are not known, in which case the sum
            of all channels orders them.

    Raises:
        ValueError: a name that is a width multiplier's or no plain word, a path given
            twice, or a count under 1.

    Example:
        >>> table = ChannelTable('150M', (('stem/conv', 16), ('block1/conv', 32)))
        >>> table.of('stem/conv')
        16
    """

    name: str
    channels: tuple[tuple[str, int], ...]
    macs: int = 0

    def __post_init__(self):
        object.__setattr__(
            self, 'channels', tuple((str(p), int(c)) for p, c in self.channels)
        )
        plain = self.name and not set(self.name) - _NAME_CHARACTERS
        if not plain or _is_multiplier(self.name):
            raise ValueError(
                f'a channel table is named {self.name!r}: use letters, digits and '
                "'._-', and not the name of a width multiplier"
            )
        if len(dict(self.channels)) != len(self.channels):
            raise ValueError(f'channel table {self.name!r} states one layer twice')
        for path, count in self.channels:
            if count < 1:
                raise ValueError(
                    f'channel table {self.name!r} gives {path!r} {count} channels; '
                    'at least 1 is needed'
                )
        if self.macs < 0:
            raise ValueError(f'channel table {self.name!r}: macs={self.macs}')

    def of(self, path: str) -> int:
        """Returns the output channels of the layer at `path`.

        Raises:
            ValueError: the table does not know the layer.
        """
        for known, count in self.channels:
            if known == path:
                return count
        raise ValueError(f'channel table {self.name!r} has no layer {path!r}')

    @property
    def size(self) -> int:
        """By which tables are ordered."""
        return self.macs or sum(count for _, count in self.channels)


_NAME_CHARACTERS = frozenset(
    'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-'
)

Width = float | ChannelTable


def _is_multiplier(text: str) -> bool:
    """Whether `text` reads as a multiplier; the published switches `'1'` do not."""
    try:
        float(text)
    except ValueError:
        return False
    return not text.isdigit()


def canonical(width: Width) -> Width:
    """Returns `width` in the one form under which it is looked up and compiled.

    Args:
        width: a multiplier of any number type, rounded here to six decimals, or a
            `ChannelTable`, which is returned as it is.

    Raises:
        ValueError: not a positive finite number.

    Example:
        >>> canonical(0.1 + 0.2), canonical(1)
        (0.3, 1.0)
    """
    if isinstance(width, ChannelTable):
        return width
    try:
        if isinstance(width, str | bytes | bool | np.bool_):
            raise TypeError
        value = round(float(width), _DECIMALS)
    except (TypeError, ValueError):
        raise ValueError(
            f'width={width!r}: a width is a number such as 0.5, or a ChannelTable'
        ) from None
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f'width={width!r}: a width is a finite number above 0')
    return value


def width_name(width: Width) -> str:
    """Returns the name of `width` in collections, metrics and files.

    Example:
        >>> width_name(1), width_name(0.1 + 0.2), width_name(1 / 3)
        ('1.0', '0.3', '0.333333')
    """
    width = canonical(width)
    return width.name if isinstance(width, ChannelTable) else repr(width)


def order(width: Width) -> float:
    """Returns the number by which widths are ordered: the larger, the wider."""
    width = canonical(width)
    return float(width.size) if isinstance(width, ChannelTable) else width


def widest(widths: Iterable[Width]) -> Width:
    """Returns the widest of `widths` in canonical form."""
    return max((canonical(width) for width in widths), key=order)


def widest_first(widths: Sequence[Width]) -> tuple[Width, ...]:
    """Returns `widths` in canonical form, checked, widest first.

    Raises:
        ValueError: no width at all, two widths of one name, multipliers mixed with
            channel tables, or a value that is no width.

    Example:
        >>> widest_first((0.25, 1, 0.5))
        (1.0, 0.5, 0.25)
    """
    known = [canonical(width) for width in widths]
    if not known:
        raise ValueError('widths=() is empty; at least one width is needed')
    names = [width_name(width) for width in known]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            f'widths={tuple(names)}: {", ".join(twice)} stands there more than once'
        )
    if len({isinstance(width, ChannelTable) for width in known}) > 1:
        raise ValueError(
            f'widths={tuple(names)} mixes width multipliers and channel tables'
        )
    if len({bool(w.macs) for w in known if isinstance(w, ChannelTable)}) > 1:
        raise ValueError(
            f'widths={tuple(names)}: state macs of all channel tables, or of none'
        )
    return tuple(sorted(known, key=order, reverse=True))


def resolve(width: Width | str | None, widths: Sequence[Width]) -> Width:
    """Returns the one of `widths` that `width` means; the widest for None.

    Args:
        width: a multiplier, a channel table or a channel table's name.
        widths: those of the network.

    Raises:
        ValueError: `width` is not among `widths`; the message lists them.

    Example:
        >>> resolve(None, (0.5, 1.0)), resolve(1, (0.5, 1.0))
        (1.0, 1.0)
    """
    if width is None:
        return widest(widths)
    known = [canonical(each) for each in widths]
    if isinstance(width, str):
        tables = {each.name: each for each in known if isinstance(each, ChannelTable)}
        found, name = tables.get(width), repr(width)
    else:
        found, name = canonical(width), width_name(width)
    if found not in known:
        raise ValueError(
            f'width={name} is not one of the widths of this network: '
            + ', '.join(_shown(each) for each in reversed(widest_first(widths)))
        )
    return found


def _shown(width: Width) -> str:
    """A width as it is asked for: a number, or a name in quotes."""
    return repr(width.name if isinstance(width, ChannelTable) else width)


def truncate(channels: int, multiplier: float) -> int:
    """Returns `int(channels * multiplier)`, the rule of ResNet and ShuffleNet.

    The product may miss a whole number by what a width's six decimals lose, so that
    a third of 96 channels is 32 although the width reads 0.333333.

    Raises:
        ValueError: nothing would be left.

    Example:
        >>> truncate(64, 0.25), truncate(30, 0.55), truncate(96, 0.333333)
        (16, 16, 32)
    """
    count = int(channels * (multiplier + _HALF_UNIT))
    if count < 1:
        raise ValueError(
            f'{channels} channels at width {multiplier} are less than one channel'
        )
    return count


def make_divisible(channels: float, divisor: int = 8, minimum: int = 1) -> int:
    """Returns the multiple of `divisor` nearest to `channels`, never under 90 % of it.

    The rule of the MobileNets, as published, odd results under 4 channels included
    (the published `min_value` is 1).

    Example:
        >>> make_divisible(11.2), make_divisible(33.6), make_divisible(36)
        (16, 32, 40)
    """
    rounded = max(minimum, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def divisible_by_8(channels: int, multiplier: float) -> int:
    """Returns the channels of a MobileNet layer: `make_divisible(c * w, 8)`.

    Example:
        >>> divisible_by_8(32, 0.35), divisible_by_8(24, 0.75)
        (16, 24)
    """
    return make_divisible(channels * multiplier)
