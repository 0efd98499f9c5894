"""MobileNet v2 (Sandler et al., 2018), slimmable (Yu et al., 2019, section 4.1)."""

import dataclasses
from collections.abc import Sequence
from functools import partial

import flax.linen as nn
from jaxtyping import Array, Float

from slimjax.models.common import ConvNorm, Maps, SlimmableClassifier
from slimjax.norm import SHARED_STATS
from slimjax.width import Width, divisible_by_8, order, widest

# (expansion, channels at width 1.0, number of blocks, stride of the first block)
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
_TAIL = 1280


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


class MobileNetV2(SlimmableClassifier):
    """S-MobileNet v2: inverted residuals, and a tail of 1280 channels at every width.

    Channels are multiples of 8; only a width above 1.0 widens the tail.
    `features=True` returns the maps of `stage1` to `stage5`, the last ones at 1/2,
    1/4, ... 1/32 of the image's side, before the tail.

    Attributes:
        shared_tail_norm: the tail's BatchNorm is one for all widths, statistics
            included, as published (they stand in `batch_stats`); False gives each
            width its own.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> model = MobileNetV2(num_classes=10, widths=(0.35, 1.0))
        >>> images = jnp.ones((1, 32, 32, 3))
        >>> variables = jax.jit(model.init)(jax.random.key(0), images)
        >>> model.apply(variables, images, width=0.35).shape
        (1, 10)
    """

    widths: Sequence[Width] = (0.35, 0.5, 0.75, 1.0)
    shared_tail_norm: bool = True

    def stats_collections(self, width: Width | None = None) -> tuple[str, ...]:
        own = super().stats_collections(width)
        if self.shared_tail_norm and SHARED_STATS not in own:
            return (*own, SHARED_STATS)
        return own

    @nn.compact
    def __call__(
        self,
        images: Float[Array, 'batch height width channels'],
        *,
        width: Width | None = None,
        train: bool = False,
        features: bool = False,
    ) -> Array | dict[str, Array]:
        maps, width = self.start(images, width)
        conv_norm = self.conv_norm(divisible_by_8, nn.relu6)
        run = {'width': width, 'train': train}
        stem_stride = 1 if self.small_images else 2
        maps = conv_norm(32, 3, strides=stem_stride, name='stem')(maps, **run)
        stages, inputs, number, level = {}, 32, 0, 1
        for stage, (expansion, channels, blocks, stride) in enumerate(_STAGES, start=1):
            if stride == 2:
                level += 1
            if stage == 2 and self.small_images:
                stride = 1
            for index in range(blocks):
                number += 1
                block = InvertedResidual(
                    inputs,
                    channels,
                    expansion,
                    stride if index == 0 else 1,
                    conv_norm,
                    name=f'block{number}',
                )
                maps, inputs = block(maps, **run), channels
            stages[f'stage{level}'] = maps.values
        if features:
            return stages
        tail = conv_norm(
            _TAIL,
            1,
            slim_output=order(widest(self.widths)) > 1,
            norm_mode='shared' if self.shared_tail_norm else None,
            name='tail',
        )
        return self.head(tail(maps, **run), width)


class InvertedResidual(nn.Module):
    """Expands, convolves depthwise, projects; adds its input where sizes agree."""

    inputs: int
    channels: int
    expansion: int
    strides: int
    conv_norm: partial[ConvNorm]

    @nn.compact
    def __call__(self, maps: Maps, *, width: Width, train: bool) -> Maps:
        run = {'width': width, 'train': train}
        hidden = maps
        if self.expansion > 1:
            hidden = self.conv_norm(
                self.expansion * self.inputs,
                1,
                rounding=Expanded(self.expansion),
                name='expand',
            )(hidden, **run)
        hidden = self.conv_norm(None, 3, strides=self.strides, name='depthwise')(
            hidden, **run
        )
        project = self.conv_norm(self.channels, 1, activation=None, name='project')
        outputs = project(hidden, **run)
        if self.strides == 1 and maps.counts == outputs.counts:
            return Maps(maps.values + outputs.values, outputs.counts)
        return outputs
