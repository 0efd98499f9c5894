"""BatchNorm that keeps its own variables for each width (paper, section 3.3).

The channels of a narrow network see fewer inputs, so their means and variances are
not those of the wide one; with shared statistics a slimmable network trains well and
collapses when it is evaluated. Each width therefore keeps its own BatchNorm.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from slimjax.batch_moments import GroupMoments, NormBatch, group_moments, normalize
from slimjax.dtypes import at_least_float32
from slimjax.layers import grouped_prefix, layer_path, sow_active, untraced_param
from slimjax.masking import Count, first_channels, from_groups
from slimjax.width import (
    ChannelTable,
    Rounding,
    Width,
    canonical,
    resolve,
    truncate,
    widest,
    width_name,
)

NormMode = Literal['private', 'shared_affine', 'shared']
NORM_MODES = ('private', 'shared_affine', 'shared')
SHARED_STATS = 'batch_stats'


def stats_collection(width: Width | str) -> str:
    """Returns the collection that holds the BatchNorm statistics of `width`.

    Args:
        width: a multiplier, a channel table or a channel table's name.

    Example:
        >>> stats_collection(0.25)
        'batch_stats_0.25'
    """
    name = width if isinstance(width, str) else width_name(width)
    return f'{SHARED_STATS}_{name}'


class SwitchableBatchNorm(nn.Module):
    """BatchNorm over all axes but the last, with variables of its own per width.

    Statistics of width 0.25 are the variables `mean` and `var` in the collection
    `batch_stats_0.25`; its scale and bias stand in `params` under `'0.25'`. A pass
    with `train=True` normalises by the batch and needs that one collection mutable.

    Called with `channels=`, a number that may be traced, it switches off the channels
    behind so many, see `slimjax.masking`; it then keeps no running statistics.

    Attributes:
        widths: the widths that get variables; `init` creates all of them.
        channels: maps each width to its number of channels. None derives them from
            the widest by `rounding`, which only the widest can do in `init`.
        mode: `'private'` (ICLR 2019): statistics, scale and bias per width.
            `'shared_affine'` (US-Nets): statistics per width, scale and bias shared.
            `'shared'`: all shared, in `batch_stats`; the ablation that collapses.
        momentum: share of the old running statistics that is kept.
        epsilon: added to the variance.
        unbiased: the running variance is the unbiased one (divided by n - 1), as
            PyTorch keeps it; False keeps the one that the batch is normalised by.
        norm_batch: examples that are normalised together: `'device'`, those of each
            device; `'global'`, those of all devices; or a number of examples, within
            a device or across neighbouring ones. The running statistics take the
            mean over the groups.
        axis_name: the mapped axis of devices; needed where a group spans devices.
            Statistics that differ between devices are the training step's to average.
        groups: parts of the channels that are slimmed each by itself, as behind a
            grouped convolution; matters only to shared variables.
        rounding: as in `SlimConv`; used where `channels` is None.
        dtype: type of the result; None takes the input's.
        param_dtype: type of the parameters; statistics are computed and kept in
            float32, or in `param_dtype` where that is wider.
        scale_init: initialiser of the scale.

    Raises:
        ValueError: a width that is not in `widths`, an input of another number of
            channels than the width has, a batch that `norm_batch` does not divide, or
            a collection that is not mutable.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> layer, images = SwitchableBatchNorm((0.5, 1.0)), jnp.ones((2, 4, 4, 8))
        >>> variables = layer.init(jax.random.key(0), images)
        >>> variables['batch_stats_0.5']['mean'].shape
        (4,)
        >>> narrow, changed = layer.apply(variables, images[..., :4], width=0.5,
        ...                               train=True, mutable=['batch_stats_0.5'])
    """

    widths: Sequence[Width] = (1.0,)
    channels: Mapping[Width, int] | None = None
    mode: NormMode = 'private'
    momentum: float = 0.9
    epsilon: float = 1e-5
    unbiased: bool = True
    norm_batch: NormBatch = 'device'
    axis_name: str | None = None
    groups: int = 1
    rounding: Rounding = truncate
    dtype: Any = None
    param_dtype: Any = jnp.float32
    scale_init: Callable[..., Array] = nn.initializers.ones_init()

    @nn.compact
    def __call__(
        self,
        inputs: Float[Array, 'batch *space channels'],
        *,
        width: Width | None = None,
        train: bool = False,
        channels: Count | None = None,
    ) -> Float[Array, 'batch *space channels']:
        if self.mode not in NORM_MODES:
            raise ValueError(f'norm={self.mode!r}; allowed: {", ".join(NORM_MODES)}')
        width = resolve(width, self.widths)
        count = inputs.shape[-1]
        counts = {width: count}
        if self.is_initializing():
            counts = self._counts(count, width)
        self._check_channels(width, count)
        scale, bias = self._affine(counts)[width]
        # A search keeps no statistics: its networks are not known when it compiles.
        keeps = channels is None or not train
        mean, var = self._running(counts)[width] if keeps else (None, None)

        statistics_dtype = at_least_float32(self.param_dtype)
        values = inputs.astype(statistics_dtype)
        if train:
            axis_name = None if self.is_initializing() else self.axis_name
            moments = group_moments(values, self.norm_batch, axis_name)
            if keeps and not self.is_initializing():
                self._update(width, mean, var, moments)
            batch_mean, batch_var = moments.mean, moments.var
        else:
            own_mean, own_var = (
                self._prefix(each.value, count, channels) for each in (mean, var)
            )
            sow_active(self, {'mean': own_mean, 'var': own_var})
            batch_mean, batch_var = own_mean[None], own_var[None]
        scale, bias = (self._prefix(leaf, count, channels) for leaf in (scale, bias))
        sow_active(self, {'scale': scale, 'bias': bias})
        scale, bias = (leaf.astype(statistics_dtype) for leaf in (scale, bias))
        outputs = normalize(
            values, batch_mean, batch_var, scale, bias, epsilon=self.epsilon
        )
        if channels is not None:
            outputs = first_channels(outputs, channels)
        return outputs.astype(self.dtype or inputs.dtype)

    def _counts(self, inputs: int, width: Width) -> dict[Width, int]:
        """The channels of every width."""
        if self.channels is not None:
            counts = {canonical(key): int(n) for key, n in self.channels.items()}
            missing = [w for w in self.widths if canonical(w) not in counts]
            if missing:
                raise ValueError(
                    f'{layer_path(self)}: channels= lacks the width '
                    + ', '.join(map(width_name, missing))
                )
            return {canonical(w): counts[canonical(w)] for w in self.widths}
        most = widest(self.widths)
        if isinstance(most, ChannelTable):
            raise ValueError(
                f'{layer_path(self)}: channel tables need channels= stated'
            )
        if width != most:
            raise ValueError(
                f'{layer_path(self)} derives all channels from the widest width: '
                f'initialise at width {width_name(most)}, or state channels='
            )
        return {
            canonical(w): self.rounding(inputs, canonical(w) / most)
            for w in self.widths
        }

    def _affine(self, counts: dict[Width, int]) -> dict[Width, tuple[Array, Array]]:
        """Scale and bias for each width in `counts`."""

        def init(rng, size):
            return {
                'scale': self.scale_init(rng, (size,), self.param_dtype),
                'bias': jnp.zeros((size,), self.param_dtype),
            }

        if self.mode == 'private':
            found = {
                width: untraced_param(self, width_name(width), init, count)
                for width, count in counts.items()
            }
        else:
            size = max(counts.values())
            found = dict.fromkeys(counts, untraced_param(self, 'affine', init, size))
        return {width: (own['scale'], own['bias']) for width, own in found.items()}

    def _running(self, counts: dict[Width, int]) -> dict[Width, tuple]:
        """The variables of the running mean and variance for each width."""
        dtype = at_least_float32(self.param_dtype)

        def variables(collection, size):
            if self.has_variable(collection, 'mean'):
                size = self.get_variable(collection, 'mean').shape[0]
            elif not self.is_initializing():
                raise ValueError(
                    f'{layer_path(self)}: the variables have no collection '
                    f'{collection!r}'
                )
            return (
                self.variable(collection, 'mean', jnp.zeros, (size,), dtype),
                self.variable(collection, 'var', jnp.ones, (size,), dtype),
            )

        if self.mode == 'shared':
            return dict.fromkeys(counts, variables(SHARED_STATS, max(counts.values())))
        return {
            width: variables(stats_collection(width), count)
            for width, count in counts.items()
        }

    def _check_channels(self, width: Width, count: int) -> None:
        if self.mode == 'private':
            scope, name = 'params', width_name(width)
        else:
            scope, name = stats_collection(width), 'mean'
        if self.mode == 'shared' or not self.has_variable(scope, name):
            return
        own = jax.tree.leaves(self.get_variable(scope, name))[0].shape[0]
        if own != count:
            raise ValueError(
                f'{layer_path(self)} has {own} channels at width {width_name(width)}, '
                f'but its input has {count}'
            )

    def _prefix(self, leaf: Array, count: int, channels: Count | None = None) -> Array:
        """The part of a variable that `count` active channels use."""
        part = grouped_prefix(leaf, count, self.groups)
        if channels is None or self.groups == 1:
            return part
        return from_groups(part, channels, self.groups)

    def _update(self, width: Width, mean, var, moments: GroupMoments):
        collection = SHARED_STATS if self.mode == 'shared' else stats_collection(width)
        if not self.is_mutable_collection(collection):
            raise ValueError(
                f'{layer_path(self)}: a pass with train=True changes the statistics of '
                f'width {width_name(width)}; pass mutable=[{collection!r}]'
            )
        if moments.count < 2:
            raise ValueError(
                f'{layer_path(self)} has 1 value per channel to normalise: a larger '
                'image, or more examples in norm_batch, is needed'
            )
        kept = moments.var
        if self.unbiased:
            kept = kept * (moments.count / (moments.count - 1))
        for variable, batch in ((mean, moments.mean), (var, kept)):
            old = self._prefix(variable.value, batch.shape[-1])
            new = _blended(old, batch, self.momentum)
            variable.value = self._with_prefix(variable.value, new)

    def _with_prefix(self, leaf: Array, new: Array) -> Array:
        if leaf.shape == new.shape:
            return new
        parts = jnp.asarray(leaf).reshape(self.groups, -1)
        new = new.reshape(self.groups, -1)
        return parts.at[:, : new.shape[1]].set(new).reshape(-1)


@partial(jax.jit, static_argnames='momentum', inline=True)
def _blended(old: Array, groups: Array, momentum: float) -> Array:
    """The running moment, and a part of the mean of those of the groups."""
    return momentum * old + (1 - momentum) * groups.mean(0)
