"""The four networks written a second time, physically narrow, in plain flax.

Nothing here knows of widths inside a layer: a network is built for one width, from
the papers and the published channel rules, with three separate convolutions where
ShuffleNet has groups.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax import lax


def eight(channels, width):
    """The MobileNets' rounding."""
    value = channels * width
    rounded = max(1, int(value + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * value else rounded


class Unit(nn.Module):
    """A convolution without bias and its BatchNorm."""

    channels: int
    kernel: int = 1
    stride: int = 1
    groups: int = 1

    @nn.compact
    def __call__(self, x, train):
        pad = self.kernel // 2
        x = nn.Conv(
            self.channels,
            (self.kernel, self.kernel),
            strides=self.stride,
            padding=((pad, pad), (pad, pad)),
            feature_group_count=self.groups,
            use_bias=False,
            param_dtype=x.dtype,
        )(x)
        return nn.BatchNorm(
            use_running_average=not train,
            momentum=0.9,
            epsilon=1e-5,
            dtype=x.dtype,
            param_dtype=x.dtype,
            use_fast_variance=False,
            force_float32_reductions=False,
        )(x)


class MobileNetV1(nn.Module):
    width: float
    classes: int

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.relu6(Unit(eight(32, self.width), 3, 2)(x, train))
        plan = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)]
        plan += [(512, 1)] * 5 + [(1024, 2), (1024, 1)]
        for channels, stride in plan:
            before = x.shape[-1]
            x = nn.relu6(Unit(before, 3, stride, groups=before)(x, train))
            x = nn.relu6(Unit(eight(channels, self.width))(x, train))
        return nn.Dense(self.classes, param_dtype=x.dtype)(jnp.mean(x, (1, 2)))


class MobileNetV2(nn.Module):
    width: float
    classes: int

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.relu6(Unit(eight(32, self.width), 3, 2)(x, train))
        plan = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)]
        plan += [(6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
        for factor, channels, blocks, stride in plan:
            for index in range(blocks):
                skip, hidden = x, factor * x.shape[-1]
                if factor > 1:
                    x = nn.relu6(Unit(hidden)(x, train))
                step = stride if index == 0 else 1
                x = nn.relu6(Unit(hidden, 3, step, groups=hidden)(x, train))
                x = Unit(eight(channels, self.width))(x, train)
                x = x + skip if index else x
        x = nn.relu6(Unit(1280)(x, train))
        return nn.Dense(self.classes, param_dtype=x.dtype)(jnp.mean(x, (1, 2)))


class ResNet(nn.Module):
    width: float
    classes: int
    blocks: tuple = (3, 4, 6, 3)

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.relu(Unit(int(64 * self.width), 7, 2)(x, train))
        x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))
        for stage, blocks in enumerate(self.blocks):
            out = int(64 * 2**stage * self.width * 4)
            for index in range(blocks):
                stride = 2 if index == 0 and stage else 1
                y = nn.relu(Unit(out // 4)(x, train))
                y = nn.relu(Unit(out // 4, 3, stride)(y, train))
                y = Unit(out)(y, train)
                x = nn.relu(y + (x if index else Unit(out, 1, stride)(x, train)))
        return nn.Dense(self.classes, param_dtype=x.dtype)(jnp.mean(x, (1, 2)))


class ShuffleNet(nn.Module):
    width: float
    classes: int

    @nn.compact
    def __call__(self, x, train=False):
        stem = [nn.relu(Unit(int(8 * self.width), 3, 2)(x, train)) for _ in range(3)]
        x = nn.max_pool(jnp.concatenate(stem, -1), (3, 3), (2, 2))
        for stage, blocks in enumerate((4, 8, 4)):
            out = int(240 * 2**stage * self.width)
            for index in range(blocks):
                parts = jnp.split(x, 3, axis=-1)
                if stage == index == 0:
                    parts = [x, x, x]
                y = [nn.relu(Unit(out // 4 // 3)(part, train)) for part in parts]
                y = jnp.stack(y, axis=-1).reshape(*x.shape[:3], -1)
                mid = y.shape[-1]
                y = Unit(mid, 3, 1 if index else 2, groups=mid)(y, train)
                last = out if index else out - x.shape[-1]
                y = [Unit(last // 3)(part, train) for part in jnp.split(y, 3, -1)]
                y = jnp.concatenate(y, -1)
                if index:
                    x = nn.relu(y + x)
                else:
                    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
                    pooled = (
                        nn.pool(padded, 0.0, lax.add, (3, 3), (2, 2), 'VALID') / 9.0
                    )
                    x = jnp.concatenate([nn.relu(y), pooled], -1)
        return nn.Dense(self.classes, param_dtype=x.dtype)(jnp.mean(x, (1, 2)))
