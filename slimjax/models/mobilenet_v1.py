"""MobileNet v1 (Howard et al., 2017), slimmable (Yu et al., 2019, section 4.1)."""

from functools import partial

import flax.linen as nn
from jaxtyping import Array, Float

from slimjax.models.common import ConvNorm, Maps, SlimmableClassifier
from slimjax.width import Width, divisible_by_8

# (channels at width 1.0, number of blocks, stride of the first block)
_STAGES = ((64, 1, 1), (128, 2, 2), (256, 2, 2), (512, 6, 2), (1024, 2, 2))


class MobileNetV1(SlimmableClassifier):
    """S-MobileNet v1: a 3x3 stem and 13 depthwise-separable blocks.

    Channels are multiples of 8. `features=True` returns the maps of `stage1` to
    `stage5`, whose sides are 1/2, 1/4, ... 1/32 of the image's.

    Example:
        >>> import functools, jax, jax.numpy as jnp
        >>> model, images = MobileNetV1(num_classes=10), jnp.ones((1, 32, 32, 3))
        >>> variables = jax.eval_shape(model.init, jax.random.key(0), images)
        >>> narrow = functools.partial(model.apply, width=0.25)
        >>> jax.eval_shape(narrow, variables, images).shape
        (1, 10)
    """

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
        stages, number = {}, 0
        for stage, (channels, blocks, stride) in enumerate(_STAGES, start=1):
            if stage == 2 and self.small_images:
                stride = 1
            for index in range(blocks):
                number += 1
                block = SeparableBlock(
                    channels,
                    stride if index == 0 else 1,
                    conv_norm,
                    name=f'block{number}',
                )
                maps = block(maps, **run)
            stages[f'stage{stage}'] = maps.values
        return stages if features else self.head(maps, width)


class SeparableBlock(nn.Module):
    """A depthwise 3x3 and a pointwise convolution, each with norm and ReLU6."""

    channels: int
    strides: int
    conv_norm: partial[ConvNorm]

    @nn.compact
    def __call__(self, maps: Maps, *, width: Width, train: bool) -> Maps:
        depthwise = self.conv_norm(None, 3, strides=self.strides, name='depthwise')
        maps = depthwise(maps, width=width, train=train)
        pointwise = self.conv_norm(self.channels, 1, name='pointwise')
        return pointwise(maps, width=width, train=train)
