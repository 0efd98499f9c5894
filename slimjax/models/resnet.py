"""ResNet with bottleneck blocks (He et al., 2016), slimmable (Yu et al., 2019)."""

from collections.abc import Sequence
from functools import partial

import flax.linen as nn
from jaxtyping import Array, Float

from slimjax.models.common import ConvNorm, Maps, SlimmableClassifier
from slimjax.pooling import max_pool
from slimjax.width import Width, truncate

# Outputs of a bottleneck block for each channel of its 3x3 convolution.
_EXPANSION = 4
# Of a stage: each is traced, and a file of anyone's may ask for 10**12.
_MOST_BLOCKS = 1000


class ResNet(SlimmableClassifier):
    """S-ResNet: bottleneck blocks whose 3x3 convolution carries the stride.

    Channels are `int(c * width)`. `features=True` returns the maps of `stage1` to
    `stage4` (C2 to C5), whose sides are 1/4 to 1/32 of the image's.

    Attributes:
        stage_sizes: number of blocks in each stage.
        base_features: channels of the stem at width 1.0; each stage has twice the
            channels of the one before, the first `4 * base_features`.
        zero_init_residual: start the last scale of each residual branch at 0 (Goyal
            et al., 2017), which the published code does not.
        stride_on_1x1: the stride of a block stands on its first convolution (He et al.,
            2016, as Caffe's weights have it) instead of its 3x3.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> model = ResNet(num_classes=10, stage_sizes=(1,))
        >>> images = jnp.ones((1, 32, 32, 3))
        >>> variables = jax.jit(model.init)(jax.random.key(0), images)
        >>> apply = jax.jit(model.apply, static_argnames='width')
        >>> apply(variables, images, width=0.25).shape
        (1, 10)
    """

    stage_sizes: Sequence[int] = (3, 4, 6, 3)
    base_features: int = 64
    zero_init_residual: bool = False
    stride_on_1x1: bool = False

    @nn.compact
    def __call__(
        self,
        images: Float[Array, 'batch height width channels'],
        *,
        width: Width | str | None = None,
        train: bool = False,
        features: bool = False,
    ) -> Array | dict[str, Array]:
        sizes = self.stage_sizes
        if not sizes or min(sizes) < 1 or max(sizes) > _MOST_BLOCKS:
            raise ValueError(
                f'stage_sizes={tuple(sizes)}: at least one stage is needed, and 1 to '
                f'{_MOST_BLOCKS} blocks in each'
            )
        maps, width = self.start(images, width)
        conv_norm = self.conv_norm(truncate, nn.relu)
        run = {'width': width, 'train': train}
        if self.small_images:
            maps = conv_norm(self.base_features, 3, name='stem')(maps, **run)
        else:
            stem = conv_norm(self.base_features, 7, strides=2, name='stem')
            maps = stem(maps, **run)
            pooled = max_pool(maps.values, padding=1, form=self.conv_form)
            maps = maps._replace(values=pooled)
        stages, inputs = {}, self.base_features
        for stage, blocks in enumerate(self.stage_sizes, start=1):
            for index in range(blocks):
                block = Bottleneck(
                    inputs,
                    self.base_features * 2 ** (stage - 1),
                    2 if index == 0 and stage > 1 else 1,
                    conv_norm,
                    self.zero_init_residual,
                    self.stride_on_1x1,
                    name=f'stage{stage}_block{index + 1}',
                )
                maps, inputs = block(maps, **run), _EXPANSION * block.channels
            stages[f'stage{stage}'] = maps.values
        return stages if features else self.head(maps, width)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions around a residual connection."""

    inputs: int
    channels: int
    strides: int
    conv_norm: partial[ConvNorm]
    zero_init: bool
    stride_on_1x1: bool

    @nn.compact
    def __call__(self, maps: Maps, *, width: Width, train: bool) -> Maps:
        run = {'width': width, 'train': train}
        outputs = _EXPANSION * self.channels
        first, second = self.strides, 1
        if not self.stride_on_1x1:
            first, second = second, first
        hidden = self.conv_norm(self.channels, 1, strides=first, name='conv1')(
            maps, **run
        )
        hidden = self.conv_norm(self.channels, 3, strides=second, name='conv2')(
            hidden, **run
        )
        hidden = self.conv_norm(
            outputs, 1, activation=None, zero_init=self.zero_init, name='conv3'
        )(hidden, **run)
        if self.strides != 1 or self.inputs != outputs:
            maps = self.conv_norm(
                outputs, 1, strides=self.strides, activation=None, name='shortcut'
            )(maps, **run)
        added = hidden.with_residual(maps, self)
        return added._replace(values=nn.relu(added.values))
