"""What the slimmable classifiers share: their fields, building block and head."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from slimjax.batch_moments import NormBatch
from slimjax.convolution import Form
from slimjax.layers import SlimConv, SlimDense, is_named, sow_if_named
from slimjax.masking import CHANNELS, Count
from slimjax.norm import (
    SHARED_STATS,
    NormMode,
    SwitchableBatchNorm,
    stats_collection,
)
from slimjax.width import Rounding, Width, resolve, widest_first

# The collection of what the convolutions of the images give where they are widest: what
# they give at any width are its first channels. See `slimjax.train.stem`.
STEM = 'stem'


class Maps(NamedTuple):
    """Feature maps on their way through a network.

    Attributes:
        values: `[batch, height, width, channels]` at the width that runs.
        counts: their channels at each of the model's widths, widest first. The stored
            kernel of the next layer has as many inputs as the largest.
        same: whether the values are the same at every width, as images are.
        active: how many channels are switched on, see `slimjax.masking`; None for all.
    """

    values: Array
    counts: tuple[int, ...]
    same: bool = False
    active: Count | None = None

    def with_residual(self, residual: 'Maps', block: nn.Module) -> 'Maps':
        """Returns the sum of a branch and what it is added to.

        Raises:
            ValueError: they differ in their channels, as a channel table may have it.
        """
        if self.counts != residual.counts:
            raise ValueError(
                f'{"/".join(block.path)}: its residual connection adds {self.counts} '
                f'and {residual.counts} channels, at the widths from the widest down; '
                'a channel table must give both ends the same'
            )
        return self._replace(values=self.values + residual.values)


class ConvNorm(nn.Module):
    """A convolution without bias, its BatchNorm and an activation.

    Attributes:
        features: output channels at width 1.0; None for a depthwise convolution, which
            keeps its input's.
        kernel_size: side of the kernel in pixels.
        conv: `SlimConv` with the model's settings.
        norm: `SwitchableBatchNorm` with the model's settings.
        activation: applied to the normalised maps; None for none.
        strides: as in `SlimConv`.
        groups: as `feature_group_count` of `SlimConv`.
        slim_output: as in `SlimConv`.
        rounding: as in `SlimConv`; None for the model's.
        norm_mode: as `mode` of `SwitchableBatchNorm`; None for the model's.
        zero_init: whether the norm's scale starts at 0 instead of 1, so that a
            residual branch that it ends starts as nothing.
        own_fan: initialise a depthwise kernel by the fan-out of one channel.
    """

    features: int | None
    kernel_size: int
    conv: Callable[..., SlimConv]
    norm: Callable[..., SwitchableBatchNorm]
    activation: Callable[[Array], Array] | None
    strides: int = 1
    groups: int = 1
    slim_output: bool = True
    rounding: Rounding | None = None
    norm_mode: NormMode | None = None
    zero_init: bool = False
    own_fan: bool = False

    @nn.compact
    def __call__(self, maps: Maps, *, width: Width, train: bool) -> Maps:
        stored = max(maps.counts)
        depthwise = self.features is None
        changed = {'rounding': self.rounding} if self.rounding else {}
        conv = self.conv(
            stored if depthwise else self.features,
            self.kernel_size,
            strides=self.strides,
            in_features=stored,
            feature_group_count=stored if depthwise else self.groups,
            slim_output=self.slim_output and not depthwise,
            kernel_init=fan_out_normal(
                stored if depthwise and self.own_fan else self.groups
            ),
            name='conv',
            **changed,
        )
        active = maps.active if depthwise else self._switched_on(conv, maps, width)
        values = self._convolved(conv, maps, width, active)
        counts = maps.counts
        if not depthwise:
            counts = tuple(conv.output_channels(each) for each in conv.widths)
        changed = {'mode': self.norm_mode} if self.norm_mode else {}
        if self.zero_init:
            changed['scale_init'] = nn.initializers.zeros_init()
        norm = self.norm(
            channels=dict(zip(conv.widths, counts, strict=True)),
            groups=self.groups,
            name='norm',
            **changed,
        )
        values = norm(values, width=width, train=train, channels=active)
        if self.activation is not None:
            values = self.activation(values)
        return Maps(values, counts, active=active)

    def _switched_on(self, conv: SlimConv, maps: Maps, width: Width) -> Count | None:
        """How many outputs a masked pass asks for; all, of a layer that it leaves."""
        if self.has_variable(CHANNELS, 'conv'):
            return self.get_variable(CHANNELS, 'conv')
        if maps.active is None:
            return None
        return conv.output_channels(width)

    def _convolved(
        self, conv: SlimConv, maps: Maps, width: Width, active: Count | None
    ) -> Array:
        """The convolution, taken from the widest's where that is given and the same."""
        if maps.same and self.has_variable(STEM, 'maps'):
            widest = self.get_variable(STEM, 'maps')
            return widest[..., : conv.output_channels(width)]
        channels = None
        if active is not None:
            inputs = maps.values.shape[-1] if maps.active is None else maps.active
            channels = inputs, active
        if maps.same and is_named(self, STEM):
            # A channel table that is smaller on the whole may be wider here.
            most = max(conv.widths, key=conv.output_channels)
            values = conv(maps.values, width=most)
            sow_if_named(self, STEM, 'maps', values)
            return values[..., : conv.output_channels(width)]
        return conv(maps.values, width=width, channels=channels)


def fan_out_normal(groups: int = 1):
    """Returns the published initialiser, N(0, 2 / fan-out).

    The fan-out is that of one group and of the widest network. The published code
    counts all channels of a depthwise layer, as if they were one group.

    Args:
        groups: groups of the convolution.

    Example:
        >>> import jax
        >>> fan_out_normal()(jax.random.key(0), (3, 3, 1, 8), jax.numpy.float32).shape
        (3, 3, 1, 8)
    """
    return nn.initializers.variance_scaling(2.0 * groups, 'fan_out', 'normal')


class SlimmableClassifier(nn.Module):
    """Fields and methods of all slimmable image classifiers.

    A model is called as `model.apply(variables, images, width=0.5, train=False)` with
    images `[batch, height, width, channels]`, of any number and size, and returns
    logits `[batch, num_classes]`.

    Attributes:
        num_classes: number of logits; 0 returns the pooled features
            `[batch, channels]` instead.
        widths: the widths that share the weights, in any order.
        norm: mode of the BatchNorm layers, see `SwitchableBatchNorm`.
        norm_batch: examples that are normalised together.
        norm_momentum: share of the old running statistics that a step keeps.
        axis_name: the mapped axis of devices, if any.
        dtype: type of the computation and the logits.
        param_dtype: type of the parameters.
        conv_form: see `slimjax.convolution`.
        small_images: leave out the first two halvings, for images of about 32 px.
        depthwise_own_fan: initialise depthwise kernels by the fan-out of one channel
            (He et al., 2015); False counts all channels, as published, which makes
            them smaller by the square root of their number.
        unbiased_variance: as `unbiased` of `SwitchableBatchNorm`.
    """

    num_classes: int = 1000
    widths: Sequence[Width] = (0.25, 0.5, 0.75, 1.0)
    norm: NormMode = 'private'
    norm_batch: NormBatch = 'device'
    norm_momentum: float = 0.9
    axis_name: str | None = None
    dtype: Any = jnp.float32
    param_dtype: Any = jnp.float32
    conv_form: Form = 'auto'
    small_images: bool = False
    depthwise_own_fan: bool = False
    unbiased_variance: bool = True

    def stats_collections(self, width: Width | str | None = None) -> tuple[str, ...]:
        """Returns the collections that a training pass at `width` may change."""
        width = resolve(width, self.widths)
        return (SHARED_STATS,) if self.norm == 'shared' else (stats_collection(width),)

    def conv_norm(
        self, rounding: Rounding, activation: Callable[[Array], Array]
    ) -> Callable[..., ConvNorm]:
        """Returns `ConvNorm` with this model's settings filled in."""
        widths = widest_first(self.widths)
        conv = partial(
            SlimConv,
            use_bias=False,
            widths=widths,
            rounding=rounding,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            conv_form=self.conv_form,
        )
        norm = partial(
            SwitchableBatchNorm,
            widths=widths,
            mode=self.norm,
            norm_batch=self.norm_batch,
            momentum=self.norm_momentum,
            unbiased=self.unbiased_variance,
            axis_name=self.axis_name,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
        )
        return partial(
            ConvNorm,
            conv=conv,
            norm=norm,
            activation=activation,
            own_fan=self.depthwise_own_fan,
        )

    def start(self, images: Array, width: Width | str | None) -> tuple[Maps, Width]:
        """Checks the input and returns it as maps, with the width it runs at.

        Raises:
            ValueError: not images, integers instead of normalised images, or a width
                that the network was not made for.
        """
        width = resolve(width, self.widths)
        if images.ndim != 4:
            raise ValueError(
                f'images of shape {images.shape}: [batch, height, width, channels] '
                'is expected'
            )
        if not jnp.issubdtype(images.dtype, jnp.floating):
            raise ValueError(
                f'images are {images.dtype}: normalise them to floating point first'
            )
        channels = images.shape[-1]
        counts = (channels,) * len(self.widths)
        return Maps(images.astype(self.dtype), counts, same=True), width

    def head(self, maps: Maps, width: Width) -> Array:
        """Pools over space and classifies; the layer that is called `classifier`."""
        pooled = maps.values.mean((1, 2))
        if not self.num_classes:
            return pooled
        classifier = SlimDense(
            self.num_classes,
            widths=widest_first(self.widths),
            in_features=max(maps.counts),
            slim_output=False,
            dtype=self.dtype,
            param_dtype=self.param_dtype,
            kernel_init=nn.initializers.normal(0.01),
            name='classifier',
        )
        return classifier(pooled, width=width)
