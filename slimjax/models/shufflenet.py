"""ShuffleNet v1 with three groups (Zhang et al., 2018), slimmable (Yu et al., 2019).

Each grouped convolution is slimmed group by group: the first channels of every third
of the input meet the first channels of every third of the output.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from slimjax.masking import concatenated, shuffled
from slimjax.models.common import (
    ConvNorm,
    Maps,
    SlimmableClassifier,
)
from slimjax.pooling import average_pool, max_pool
from slimjax.width import Width, truncate

_GROUPS = 3
_STEM = 24
# (channels at width 1.0, number of blocks); each stage halves the side.
_STAGES = ((240, 4), (480, 8), (960, 4))
# A block's inner channels are its output's divided by this.
_COMPRESSION = 4


@dataclasses.dataclass(frozen=True)
class Remainder:
    """Rounds a branch that is concatenated to `beside` channels.

    Example:
        >>> Remainder(beside=24)(240 - 24, 0.5)
        108
    """

    beside: int

    def __call__(self, channels: int, multiplier: float) -> int:
        whole = each_group(channels + self.beside, multiplier)
        return whole - each_group(self.beside, multiplier)


def each_group(channels: int, multiplier: float) -> int:
    """Truncates the channels of each group, so that any width has whole groups.

    Where `int(channels * multiplier)` falls into whole groups, it is that.

    Example:
        >>> each_group(240, 0.5), each_group(240, 0.53), int(240 * 0.53)
        (120, 126, 127)
    """
    return _GROUPS * truncate(channels // _GROUPS, multiplier)


class ShuffleNet(SlimmableClassifier):
    """S-ShuffleNet: grouped 1x1 convolutions with a channel shuffle between.

    Each group has `int(c / 3 * width)` channels. As published, the residual stands
    before the pooled shortcut and no ReLU follows the depthwise convolution.
    `features=True` returns the maps of `stage1` to `stage3`, whose sides are about 1/8,
    1/16 and 1/32 of the image's.

    Attributes:
        pad_max_pool: pad the stem's max-pool, which the published code does not, so
            that it loses the last row and column of an image of 224 px.
        count_padding: whether average pools count their padding as zeros, as
            published, which darkens the border.
        zero_init_residual: start the last scale of each residual branch at 0.

    Example:
        >>> import functools, jax, jax.numpy as jnp
        >>> model, images = ShuffleNet(num_classes=10), jnp.ones((1, 64, 64, 3))
        >>> variables = jax.eval_shape(model.init, jax.random.key(0), images)
        >>> narrow = functools.partial(model.apply, width=0.5)
        >>> jax.eval_shape(narrow, variables, images).shape
        (1, 10)
    """

    widths: Sequence[Width] = (0.5, 1.0, 2.0)
    pad_max_pool: bool = False
    count_padding: bool = True
    zero_init_residual: bool = False

    @nn.compact
    def __call__(
        self,
        images: Float[Array, 'batch height width channels'],
        *,
        width: Width | str | None = None,
        train: bool = False,
        features: bool = False,
    ) -> Array | dict[str, Array]:
        maps, width = self.start(images, width)
        conv_norm = self.conv_norm(truncate, nn.relu)
        run = {'width': width, 'train': train}
        stem = [
            conv_norm(
                _STEM // _GROUPS,
                3,
                strides=1 if self.small_images else 2,
                name=f'stem{group}',
            )(maps, **run)
            for group in range(_GROUPS)
        ]
        maps = _concatenate(stem)
        if not self.small_images:
            padding = int(self.pad_max_pool)
            pooled = max_pool(maps.values, padding, form=self.conv_form)
            maps = maps._replace(values=pooled)
        stages, inputs = {}, _STEM
        for stage, (channels, blocks) in enumerate(_STAGES, start=1):
            for index in range(blocks):
                name = f'stage{stage}_block{index + 1}'
                if index == 0:
                    block = DownBlock(
                        inputs,
                        channels,
                        conv_norm,
                        grouped_squeeze=stage > 1,
                        count_padding=self.count_padding,
                        name=name,
                    )
                else:
                    block = ShuffleBlock(
                        channels, conv_norm, self.zero_init_residual, name=name
                    )
                maps = block(maps, **run)
            inputs = channels
            stages[f'stage{stage}'] = maps.values
        return stages if features else self.head(maps, width)


class ShuffleBlock(nn.Module):
    """Squeezes in groups, shuffles, convolves depthwise, expands in groups, adds."""

    channels: int
    conv_norm: partial[ConvNorm]
    zero_init: bool

    @nn.compact
    def __call__(self, maps: Maps, *, width: Width, train: bool) -> Maps:
        run = {'width': width, 'train': train}
        hidden = self.conv_norm(
            self.channels // _COMPRESSION,
            1,
            groups=_GROUPS,
            rounding=each_group,
            name='squeeze',
        )(maps, **run)
        depthwise = self.conv_norm(None, 3, activation=None, name='depthwise')
        hidden = depthwise(_shuffle(hidden), **run)
        expand = self.conv_norm(
            self.channels,
            1,
            groups=_GROUPS,
            rounding=each_group,
            activation=None,
            zero_init=self.zero_init,
            name='expand',
        )
        added = expand(hidden, **run).with_residual(maps, self)
        return added._replace(values=nn.relu(added.values))


class DownBlock(nn.Module):
    """Halves the side; the pooled input is concatenated behind the residual."""

    inputs: int
    channels: int
    conv_norm: partial[ConvNorm]
    grouped_squeeze: bool
    count_padding: bool

    @nn.compact
    def __call__(self, maps: Maps, *, width: Width, train: bool) -> Maps:
        run = {'width': width, 'train': train}
        squeezed = self.channels // _COMPRESSION
        if self.grouped_squeeze:
            squeeze = self.conv_norm(
                squeezed, 1, groups=_GROUPS, rounding=each_group, name='squeeze'
            )
            hidden = squeeze(maps, **run)
        else:
            # So few channels come from the stem that each group sees all of them.
            hidden = _concatenate(
                [
                    self.conv_norm(squeezed // _GROUPS, 1, name=f'squeeze{group}')(
                        maps, **run
                    )
                    for group in range(_GROUPS)
                ]
            )
        depthwise = self.conv_norm(
            None, 3, strides=2, activation=None, name='depthwise'
        )
        hidden = depthwise(_shuffle(hidden), **run)
        expand = self.conv_norm(
            self.channels - self.inputs,
            1,
            groups=_GROUPS,
            activation=None,
            rounding=Remainder(self.inputs),
            name='expand',
        )
        hidden = expand(hidden, **run)
        pooled = average_pool(maps.values, self.count_padding)
        residual = hidden._replace(values=nn.relu(hidden.values))
        return _concatenate([residual, maps._replace(values=pooled)])


def _concatenate(parts: Sequence[Maps]) -> Maps:
    values = [part.values for part in parts]
    counts = tuple(
        sum(each) for each in zip(*(part.counts for part in parts), strict=True)
    )
    if all(part.active is None for part in parts):
        return Maps(jnp.concatenate(values, axis=-1), counts)
    active = [
        part.values.shape[-1] if part.active is None else part.active for part in parts
    ]
    return Maps(concatenated(values, active), counts, active=sum(active))


def _shuffle(maps: Maps) -> Maps:
    """Deals the channels of the groups out one by one."""
    values = maps.values
    if maps.active is not None:
        return maps._replace(values=shuffled(values, maps.active, _GROUPS))
    parts = values.reshape(*values.shape[:-1], _GROUPS, values.shape[-1] // _GROUPS)
    return maps._replace(values=parts.swapaxes(-1, -2).reshape(values.shape))
