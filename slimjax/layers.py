"""Flax layers that run at several widths on one set of weights.

Each layer owns the kernel of the widest network and slices it statically: the input
side follows the input, the output side the width. Slicing costs a narrow network
nothing but its own arithmetic; unused channels get a gradient of exactly zero.
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jaxtyping import Array, Float

from slimjax.convolution import Form, convolve
from slimjax.masking import Count, first_channels, from_groups, to_groups
from slimjax.width import (
    ChannelTable,
    Rounding,
    Width,
    canonical,
    truncate,
    widest,
    width_name,
)

Initializer = Callable[..., Array]
# The collection in which a pass shows the parts of its variables that it uses.
ACTIVE = 'active'
# Numbers of input and output channels that are switched on, see `slimjax.masking`.
Counts = tuple[Count, Count]


class SlimConv(nn.Module):
    """A convolution of NHWC images whose kernel is sliced to the width.

    A plain `nn.Conv` becomes slimmable by renaming it and passing `width`; only the
    padding differs, which is `k // 2` zeros on both sides, PyTorch's, not `SAME`.

    The first channels of the input meet the first rows of the kernel. Behind a
    concatenation (U-Net, DenseNet) that would be wrong, as each part is slimmed by
    itself: state the parts with `in_splits`.

    Called with `channels=(inputs, outputs)`, numbers that may be traced, it runs as the
    narrow layer with so many of each, on arrays of the size of `width`: of the inputs,
    all behind the first are zeros, and of the outputs too. See `slimjax.masking`.

    Attributes:
        features: output channels at width 1.0.
        kernel_size: height and width of the kernel in pixels, or one number for both.
        strides: step in pixels, one number or (vertical, horizontal).
        padding: zeros around the image: None for `k // 2` a side, one number for all
            sides, (vertical, horizontal), or ((top, bottom), (left, right)).
        kernel_dilation: distance of the kernel's taps in pixels.
        feature_group_count: number of channel groups, each of which is slimmed by
            itself; as many as `features` for a depthwise layer, whose active channels
            are its input's.
        use_bias: whether a bias is added.
        widths: the widths that the stored kernel must serve; its size is the widest's.
        in_features: input channels at the widest. None reads them off the input,
            which only the widest can do when variables are initialised.
        in_splits: channels at width 1.0 of the parts whose concatenation the input is.
        slim_output: False keeps all `features` at every width, as a classifier does.
        rounding: the channels of a width multiplier, `(features, width) -> count`.
        dtype: type of the computation; None takes it from input and parameters.
        param_dtype: type of the parameters.
        kernel_init: initialiser of the whole kernel, called `depthwise_kernel` in a
            depthwise layer, so that weight decay can tell the two apart.
        bias_init: initialiser of the bias.
        conv_form: see `slimjax.convolution`.

    Raises:
        ValueError: a width, or an input, that the stored kernel is too small for, or
            channels that the groups do not divide.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> layer, images = SlimConv(64, (3, 3)), jnp.ones((1, 8, 8, 3))
        >>> variables = layer.init(jax.random.key(0), images)
        >>> layer.apply(variables, images, width=0.25).shape
        (1, 8, 8, 16)
    """

    features: int
    kernel_size: int | Sequence[int]
    strides: int | Sequence[int] = 1
    padding: int | Sequence[int | tuple[int, int]] | None = None
    kernel_dilation: int | Sequence[int] = 1
    feature_group_count: int = 1
    use_bias: bool = True
    widths: Sequence[Width] = (1.0,)
    in_features: int | None = None
    in_splits: Sequence[int] = ()
    slim_output: bool = True
    rounding: Rounding = truncate
    dtype: Any = None
    param_dtype: Any = jnp.float32
    kernel_init: Initializer = nn.initializers.lecun_normal()
    bias_init: Initializer = nn.initializers.zeros_init()
    conv_form: Form = 'auto'

    @property
    def depthwise(self) -> bool:
        return self.feature_group_count == self.features > 1

    def output_channels(self, width: Width) -> int:
        """Returns the number of output channels at `width`."""
        return _output_channels(self, width)

    @nn.compact
    def __call__(
        self,
        inputs: Float[Array, 'batch height width in'],
        *,
        width: Width | None = None,
        channels: Counts | None = None,
    ) -> Float[Array, 'batch new_height new_width out']:
        name = 'depthwise_kernel' if self.depthwise else 'kernel'
        width = widest(self.widths) if width is None else canonical(width)
        if self.in_splits and self.feature_group_count > 1:
            raise ValueError(
                f'{layer_path(self)}: in_splits={tuple(self.in_splits)} goes with one '
                f'group of channels, not with feature_group_count='
                f'{self.feature_group_count}; convolve the parts by layers of their own'
            )
        if channels is not None and self.in_splits:
            raise ValueError(f'{layer_path(self)}: in_splits takes no channels=')
        stored = _stored_outputs(self)
        if self.depthwise:
            active, groups, stored_in = inputs.shape[-1], inputs.shape[-1], 1
        else:
            active, groups = self.output_channels(width), self.feature_group_count
            stored_in = _stored_inputs(self, name, inputs, width, groups) // groups
        _check_fits(self, width, active, stored)
        size = _pair(self.kernel_size)
        kernel = stored_param(
            self, name, self.kernel_init, (*size, stored_in, stored), self.param_dtype
        )
        if self.depthwise:
            kernel = kernel[..., :active]
        else:
            kernel = _slice_kernel(self, kernel, inputs.shape[-1], active, width)
        bias = None
        if self.use_bias:
            bias = stored_param(
                self, 'bias', self.bias_init, (stored,), self.param_dtype
            )
            bias = grouped_prefix(bias, active, 1 if self.depthwise else groups)
        sow_active(self, {name: kernel, 'bias': bias})
        inputs, kernel, bias = promote_dtype(inputs, kernel, bias, dtype=self.dtype)
        arranged = channels is not None and groups > 1 and not self.depthwise
        if arranged:
            inputs = to_groups(inputs, channels[0], groups)
        outputs = convolve(
            inputs,
            kernel,
            strides=_pair(self.strides),
            padding=_pads(self.padding, size),
            dilation=_pair(self.kernel_dilation),
            groups=groups,
            form=self.conv_form,
        )
        if bias is not None:
            outputs = outputs + bias.reshape(1, 1, 1, -1)
        if channels is None:
            return outputs
        if arranged:
            return from_groups(outputs, channels[1], groups)
        return first_channels(outputs, channels[0 if self.depthwise else 1])


class SlimDense(nn.Module):
    """A dense layer whose kernel is sliced to the width.

    Called with `channels=(inputs, outputs)`, it switches off the outputs behind the
    first so many, see `SlimConv`.

    Attributes:
        features: outputs at width 1.0.
        use_bias: whether a bias is added.
        widths: the widths that the stored kernel must serve; its size is the widest's.
        in_features: inputs at the widest; None reads them off the input, which only
            the widest can do when variables are initialised.
        in_splits: inputs at width 1.0 of the parts whose concatenation the input is.
        slim_output: False keeps all `features` at every width, as a classifier does.
        rounding: the channels of a width multiplier, `(features, width) -> count`.
        dtype: type of the computation; None takes it from input and parameters.
        param_dtype: type of the parameters.
        kernel_init: initialiser of the whole kernel.
        bias_init: initialiser of the bias.

    Raises:
        ValueError: a width, or an input, that the stored kernel is too small for.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> layer, inputs = SlimDense(10, slim_output=False), jnp.ones((1, 64))
        >>> variables = layer.init(jax.random.key(0), inputs)
        >>> layer.apply(variables, inputs[:, :16], width=0.25).shape
        (1, 10)
    """

    features: int
    use_bias: bool = True
    widths: Sequence[Width] = (1.0,)
    in_features: int | None = None
    in_splits: Sequence[int] = ()
    slim_output: bool = True
    rounding: Rounding = truncate
    dtype: Any = None
    param_dtype: Any = jnp.float32
    kernel_init: Initializer = nn.initializers.lecun_normal()
    bias_init: Initializer = nn.initializers.zeros_init()

    def output_channels(self, width: Width) -> int:
        """Returns the number of outputs at `width`."""
        return _output_channels(self, width)

    @nn.compact
    def __call__(
        self,
        inputs: Float[Array, '*batch in'],
        *,
        width: Width | None = None,
        channels: Counts | None = None,
    ) -> Float[Array, '*batch out']:
        width = widest(self.widths) if width is None else canonical(width)
        active, stored = self.output_channels(width), _stored_outputs(self)
        stored_in = _stored_inputs(self, 'kernel', inputs, width)
        _check_fits(self, width, active, stored)
        kernel = stored_param(
            self, 'kernel', self.kernel_init, (stored_in, stored), self.param_dtype
        )
        kernel = _slice_kernel(self, kernel, inputs.shape[-1], active, width)
        bias = None
        if self.use_bias:
            bias = stored_param(
                self, 'bias', self.bias_init, (stored,), self.param_dtype
            )
            bias = bias[:active]
        sow_active(self, {'kernel': kernel, 'bias': bias})
        inputs, kernel, bias = promote_dtype(inputs, kernel, bias, dtype=self.dtype)
        outputs = inputs @ kernel
        if bias is not None:
            outputs = outputs + bias.reshape((1,) * (outputs.ndim - 1) + (-1,))
        return outputs if channels is None else first_channels(outputs, channels[1])


def _output_channels(layer: SlimConv | SlimDense, width: Width) -> int:
    width = canonical(width)
    if not layer.slim_output:
        return layer.features
    if isinstance(width, ChannelTable):
        return width.of('/'.join(layer.path))
    return layer.rounding(layer.features, width)


def _stored_outputs(layer: SlimConv | SlimDense) -> int:
    return max(layer.output_channels(width) for width in layer.widths)


def _stored_inputs(layer, kernel_name, inputs, width, groups=1) -> int:
    """The input channels of the stored kernel, which has the widest's."""
    if layer.in_features is not None:
        return layer.in_features
    if layer.has_variable('params', kernel_name):
        return layer.get_variable('params', kernel_name).shape[-2] * groups
    most = widest(layer.widths)
    if layer.in_splits and not isinstance(most, ChannelTable):
        return sum(layer.rounding(part, most) for part in layer.in_splits)
    if width != most:
        raise ValueError(
            f'{layer_path(layer)} cannot tell its widest input from one of width '
            f'{width_name(width)}: initialise at width {width_name(most)}, or state '
            'in_features'
        )
    return inputs.shape[-1]


def _check_fits(layer, width: Width, active: int, stored: int):
    if active > stored:
        raise ValueError(
            f'{layer_path(layer)} needs {active} channels at width '
            f'{width_name(width)}, but its stored kernel has the {stored} of its '
            f'widest width, {width_name(widest(layer.widths))}'
        )


def _slice_kernel(layer, kernel, inputs: int, active: int, width: Width):
    """Cuts the stored kernel to `inputs` rows and `active` columns."""
    groups = getattr(layer, 'feature_group_count', 1)
    if inputs % groups:
        raise ValueError(
            f'{layer_path(layer)} has {inputs} input channels at width '
            f'{width_name(width)}, which its {groups} groups do not divide'
        )
    if active % groups:
        raise ValueError(
            f'{layer_path(layer)} has {active} output channels at width '
            f'{width_name(width)}, which its {groups} groups do not divide'
        )
    if inputs > kernel.shape[-2] * groups:
        raise ValueError(
            f'{layer_path(layer)} got {inputs} input channels, but its stored kernel '
            f'has {kernel.shape[-2] * groups}'
        )
    if layer.in_splits:
        kernel = _slice_parts(layer, kernel, inputs, width)
    kernel = kernel[..., : inputs // groups, :]
    return grouped_prefix(kernel, active, groups)


def grouped_prefix(array: Array, active: int, groups: int) -> Array:
    """The first channels of each of the groups into which the last axis falls."""
    stored = array.shape[-1]
    if active == stored:
        return array
    parts = array.reshape(*array.shape[:-1], groups, stored // groups)
    return parts[..., : active // groups].reshape(*array.shape[:-1], active)


def _slice_parts(layer, kernel, inputs: int, width: Width):
    """The first rows of each part of a concatenated input."""
    if isinstance(width, ChannelTable):
        raise ValueError(f'{layer_path(layer)}: in_splits takes no channel table')
    stored = [layer.rounding(part, widest(layer.widths)) for part in layer.in_splits]
    active = [layer.rounding(part, width) for part in layer.in_splits]
    if sum(active) != inputs:
        raise ValueError(
            f'{layer_path(layer)}: in_splits={tuple(layer.in_splits)} are '
            f'{tuple(active)} channels at width {width_name(width)}, together '
            f'{sum(active)}, but the input has {inputs}'
        )
    starts = [sum(stored[:part]) for part in range(len(stored))]
    rows = [
        kernel[..., start : start + count, :]
        for start, count in zip(starts, active, strict=True)
    ]
    return jnp.concatenate(rows, axis=-2)


def untraced_param(layer: nn.Module, name: str, init: Callable, *arguments) -> Any:
    """Returns a parameter, created by `init(key, *arguments)` if it is not there.

    `layer.param` does the same, but traces `init` in every pass for the shapes that the
    parameter should have: a third of the time in which a step is traced.
    """
    if layer.has_variable('params', name):
        return nn.meta.unbox(layer.get_variable('params', name))
    return layer.param(name, init, *arguments)


def stored_param(layer: nn.Module, name: str, init: Initializer, shape, dtype) -> Array:
    """Returns an array that is a parameter, created if it is not there.

    Raises:
        ValueError: it has another shape.
    """
    found = untraced_param(layer, name, init, shape, dtype)
    if found.shape != tuple(shape):
        raise ValueError(
            f'{layer_path(layer)}: {name} has the shape {found.shape} instead of '
            f'{tuple(shape)}; the variables are those of another network'
        )
    return found


def sow_active(layer: nn.Module, leaves: dict[str, Array | None]) -> None:
    """Shows what a layer computes with at its width, in the collection `active`."""
    for name, leaf in leaves.items():
        if leaf is not None:
            sow_if_named(layer, ACTIVE, name, leaf)


def sow_if_named(layer: nn.Module, collection: str, name: str, value: Array) -> None:
    """Keeps a value in a collection, if the pass wants it, see `is_named`."""
    if is_named(layer, collection):
        layer.sow(collection, name, value, lambda _, last: last, lambda: None)


def is_named(layer: nn.Module, collection: str) -> bool:
    """Whether the pass names a collection among its mutable ones.

    A pass with `mutable=True` names none, and `init` wants none of it.
    """
    mutable = layer.scope.mutable
    named = mutable if isinstance(mutable, list | tuple | set | frozenset) else ()
    return collection in named and not layer.is_initializing()


def layer_path(layer: nn.Module) -> str:
    """Returns where `layer` stands in its model, for messages."""
    return '/'.join(layer.path) or type(layer).__name__


def _pair(value: int | Sequence[int]) -> tuple[int, int]:
    first, second = (value, value) if isinstance(value, int) else value
    return int(first), int(second)


def _pads(padding, size: tuple[int, int]):
    if padding is None:
        return tuple((side // 2, side // 2) for side in size)
    if isinstance(padding, int):
        return ((padding, padding),) * 2
    if isinstance(padding, str):
        raise ValueError(
            f'padding={padding!r}: state the zeros, as None for kernel_size // 2 on '
            'each side, a number, or ((top, bottom), (left, right))'
        )
    return tuple(_pair(sides) for sides in padding)
