"""GroupNorm with a scale and bias of its own for each width (Wu and He, 2018).

It normalises each image by itself, so that it trains from scratch with few images a
device, and keeps no statistics.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from slimjax.dtypes import at_least_float32
from slimjax.layers import layer_path, untraced_param
from slimjax.width import Width, canonical, resolve, width_name


class SwitchableGroupNorm(nn.Module):
    """GroupNorm whose groups have as many channels at every width.

    A fixed number of groups would not do: 16 channels cannot hold the usual 32. Where
    the channels are no multiple of `group_channels`, a group has as many as divide
    both. It is called as `SwitchableBatchNorm`.

    Attributes:
        widths: the widths that get variables; `init` creates all of them.
        channels: maps each width to its number of channels.
        group_channels: channels of a group.
        epsilon: added to the variance.
        dtype: type of the result; None takes the input's.
        param_dtype: type of the parameters; moments are computed in float32 or wider.
        scale_init: initialiser of the scale.

    Raises:
        ValueError: a width that is not in `widths`, an input of another number of
            channels than the width has, or `channels=` in the call.

    Example:
        >>> import jax
        >>> layer = SwitchableGroupNorm((0.5, 1.0), {0.5: 16, 1.0: 32})
        >>> images = jnp.ones((2, 4, 4, 32))
        >>> variables = layer.init(jax.random.key(0), images)
        >>> layer.apply(variables, images[..., :16], width=0.5).shape
        (2, 4, 4, 16)
    """

    widths: Sequence[Width]
    channels: Mapping[Width, int]
    group_channels: int = 16
    epsilon: float = 1e-5
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
        channels: Any = None,
    ) -> Float[Array, 'batch *space channels']:
        del train  # Both modes are the same.
        if channels is not None:
            raise ValueError(f'{layer_path(self)}: a GroupNorm has no masked channels')
        width = canonical(resolve(width, self.widths))
        counts = {canonical(key): count for key, count in self.channels.items()}
        count = inputs.shape[-1]
        if counts[width] != count:
            raise ValueError(
                f'{layer_path(self)} has {counts[width]} channels at width '
                f'{width_name(width)}, but its input has {count}'
            )
        made = map(canonical, self.widths) if self.is_initializing() else (width,)
        affine = {
            each: untraced_param(self, width_name(each), self._init, counts[each])
            for each in made
        }[width]
        values = nn.GroupNorm(
            num_groups=None,
            group_size=math.gcd(count, self.group_channels),
            epsilon=self.epsilon,
            use_bias=False,
            use_scale=False,
            name='normalized',
        )(inputs.astype(at_least_float32(inputs.dtype)))
        shape = (1,) * (inputs.ndim - 1) + (count,)
        scale, bias = (
            affine[name].astype(values.dtype).reshape(shape)
            for name in ('scale', 'bias')
        )
        return (values * scale + bias).astype(self.dtype or inputs.dtype)

    def _init(self, rng, size):
        return {
            'scale': self.scale_init(rng, (size,), self.param_dtype),
            'bias': jnp.zeros((size,), self.param_dtype),
        }
