"""Small networks as a user would write them."""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp

from slimjax import SlimConv, SlimDense, SwitchableBatchNorm


class Slimmable(nn.Module):
    """A branch, a concatenation, a grouped and a depthwise convolution."""

    widths: Sequence[float] = (0.5, 1.0)

    @nn.compact
    def __call__(self, images, *, width, train):
        run = {'width': width}
        left = SlimConv(8, 3, widths=self.widths, name='left')(images, **run)
        left = nn.softplus(left)
        right = SlimConv(4, 1, widths=self.widths, name='right')(images, **run)
        both = jnp.concatenate([left, right], -1)
        both = SlimConv(
            12, 1, widths=self.widths, in_splits=(8, 4), in_features=12, name='merge'
        )(both, **run)
        norm = SwitchableBatchNorm(self.widths, {1.0: 12, 0.5: 6}, name='norm')
        both = nn.softplus(norm(both, **run, train=train))
        for name, kernel_size, groups in (('grouped', 1, 2), ('depthwise', 3, 12)):
            both = SlimConv(
                12,
                kernel_size,
                feature_group_count=groups,
                in_features=12,
                widths=self.widths,
                name=name,
            )(both, **run)
        pooled = both.mean((1, 2))
        return SlimDense(5, slim_output=False, in_features=12, name='classifier')(
            pooled, **run
        )


class Plain(nn.Module):
    """Knows nothing of widths."""

    @nn.compact
    def __call__(self, images, train=True):
        x = nn.Conv(8, (3, 3), strides=2)(images)
        x = nn.BatchNorm(use_running_average=not train)(x)
        # What flax counts to divide by is no pool of the images.
        x = nn.avg_pool(x, (3, 3), (1, 1), 'SAME', count_include_pad=False)
        return nn.Dense(10)(x.mean((1, 2)))
