"""Networks of inverted residual blocks (Sandler et al., 2018), slimmable.

MobileNet v2 and MNasNet differ only in the table of their stages.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import ClassVar, NamedTuple

import flax.linen as nn
from jaxtyping import Array, Float

from slimjax.models.common import ConvNorm, Maps, SlimmableClassifier
from slimjax.norm import SHARED_STATS, NormMode
from slimjax.width import ChannelTable, Width, divisible_by_8, widest

_TAIL = 1280


class Stage(NamedTuple):
    """A row of blocks.

    Attributes:
        expansion: channels of a block's depthwise convolution for each of its input.
        channels: outputs at width 1.0.
        blocks: their number.
        strides: step of the first block in pixels.
        kernel_size: side of the depthwise kernels in pixels.
    """

    expansion: int
    channels: int
    blocks: int
    strides: int
    kernel_size: int = 3


@dataclasses.dataclass(frozen=True)
class Expanded:
    """Rounds an expanded layer: the expansion times its block's rounded input.

    Example:
        >>> Expanded(6)(6 * 24, 0.35)
        48
    """

    expansion: int

    def __call__(self, channels: int, multiplier: float) -> int:
        return self.expansion * divisible_by_8(channels // self.expansion, multiplier)


def _never_under_one(channels: int, multiplier: float) -> int:
    return divisible_by_8(channels, max(1.0, multiplier))


class InvertedResidualNetwork(SlimmableClassifier):
    """A stem, stages of inverted residual blocks, and a tail.

    Channels are multiples of 8. `features=True` returns the maps of `stage1` to
    `stage5`, the last ones at 1/2, 1/4, ... 1/32 of the image's side, before the tail.

    Attributes:
        slim_tail: the tail is slimmed like all other layers; False keeps its 1280
            channels at every width up to 1.0.
        shared_tail_norm: the tail's BatchNorm is one for all widths, statistics
            included, as published for MobileNet v2 (they stand in `batch_stats`);
            False gives each width its own. A slimmed tail has its own in any case.
        private_tail_stats: of a shared tail norm, share scale and bias only: its
            statistics are each width's own, as calibration needs them to be.
        zero_init_residual: start the last scale of each residual branch at 0.
    """

    STAGES: ClassVar[tuple[Stage, ...]] = ()

    widths: Sequence[Width] = (0.35, 0.5, 0.75, 1.0)
    slim_tail: bool = False
    shared_tail_norm: bool = True
    private_tail_stats: bool = False
    zero_init_residual: bool = False

    def stats_collections(self, width: Width | str | None = None) -> tuple[str, ...]:
        own = super().stats_collections(width)
        if self._tail_norm == 'shared' and SHARED_STATS not in own:
            return (*own, SHARED_STATS)
        return own

    @property
    def _tail_norm(self) -> NormMode | None:
        """What the widths share of the tail's norm; None for what all norms do."""
        if not self.shared_tail_norm or self.slim_tail or self.norm == 'shared':
            return None
        return 'shared_affine' if self.private_tail_stats else 'shared'

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
        conv_norm = self.conv_norm(divisible_by_8, nn.relu6)
        run = {'width': width, 'train': train}
        stem_stride = 1 if self.small_images else 2
        maps = conv_norm(32, 3, strides=stem_stride, name='stem')(maps, **run)
        levels, inputs, number, level = {}, 32, 0, 1
        for index, stage in enumerate(self.STAGES):
            if stage.strides == 2:
                level += 1
            if index == 1 and self.small_images:
                stage = stage._replace(strides=1)
            for _ in range(stage.blocks):
                number += 1
                block = InvertedResidual(
                    inputs,
                    stage,
                    conv_norm,
                    self.zero_init_residual,
                    name=f'block{number}',
                )
                maps, inputs = block(maps, **run), stage.channels
                stage = stage._replace(strides=1)
            levels[f'stage{level}'] = maps.values
        if features:
            return levels
        tables = isinstance(widest(self.widths), ChannelTable)
        tail = conv_norm(
            _TAIL,
            1,
            slim_output=self.slim_tail or not tables,
            rounding=None if self.slim_tail else _never_under_one,
            norm_mode=self._tail_norm,
            name='tail',
        )
        return self.head(tail(maps, **run), width)


class InvertedResidual(nn.Module):
    """Expands, convolves depthwise, projects; adds its input where sizes agree.

    They agree or not at width 1.0, for all widths: rounding must not add a connection.
    """

    inputs: int
    stage: Stage
    conv_norm: partial[ConvNorm]
    zero_init: bool

    @nn.compact
    def __call__(self, maps: Maps, *, width: Width, train: bool) -> Maps:
        run = {'width': width, 'train': train}
        expansion, channels, _, strides, kernel_size = self.stage
        hidden = maps
        if expansion > 1:
            hidden = self.conv_norm(
                expansion * self.inputs, 1, rounding=Expanded(expansion), name='expand'
            )(hidden, **run)
        depthwise = self.conv_norm(None, kernel_size, strides=strides, name='depthwise')
        hidden = depthwise(hidden, **run)
        project = self.conv_norm(
            channels, 1, activation=None, zero_init=self.zero_init, name='project'
        )
        outputs = project(hidden, **run)
        if strides == 1 and self.inputs == channels:
            return outputs.with_residual(maps, self)
        return outputs
