"""LayerNorm over the channels of whatever width runs.

It normalises each position by itself, so that there are no running statistics, and
nothing that a width would need of its own: scale and bias are the widest's, sliced.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from slimjax.dtypes import at_least_float32
from slimjax.layers import layer_path
from slimjax.parameter import slim_param
from slimjax.width import Width, canonical, widest, width_name


class SlimLayerNorm(nn.Module):
    """LayerNorm over the last axis, whose scale and bias follow its input.

    `nn.LayerNorm` becomes slimmable by renaming it and passing `width`, which decides
    nothing here: the channels are the input's. The mean and the variance are those of
    the channels that are there, as in a network that is as narrow.

    Attributes:
        epsilon: added to the variance.
        widths: the widths that the stored scale and bias must serve.
        in_features: channels at the widest. None reads them off the input, which only
            the widest can do when variables are initialised.
        use_bias: whether a bias is added.
        dtype: type of the result; None takes the input's.
        param_dtype: type of the parameters. Moments are computed in float32, or in
            the input's or the parameters' type where that is wider.

    Raises:
        ValueError: initialised at a narrow width without `in_features`, or an input of
            more channels than are stored.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> layer, tokens = SlimLayerNorm(), jnp.ones((2, 16, 64))
        >>> variables = layer.init(jax.random.key(0), tokens)
        >>> layer.apply(variables, tokens[..., :24], width=0.375).shape
        (2, 16, 24)
    """

    epsilon: float = 1e-6
    widths: Sequence[Width] = (1.0,)
    in_features: int | None = None
    use_bias: bool = True
    dtype: Any = None
    param_dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, inputs: Float[Array, '*batch channels'], *, width: Width | None = None
    ) -> Float[Array, '*batch channels']:
        most = widest(self.widths)
        width = most if width is None else canonical(width)
        if self.is_initializing() and self.in_features is None and width != most:
            raise ValueError(
                f'{layer_path(self)} cannot tell its widest input from one of width '
                f'{width_name(width)}: initialise at width {width_name(most)}, or '
                'state in_features'
            )
        types = map(at_least_float32, (inputs.dtype, self.param_dtype))
        values = inputs.astype(np.promote_types(*types))
        centred = values - values.mean(-1, keepdims=True)
        variance = jnp.square(centred).mean(-1, keepdims=True)
        outputs = centred * lax.rsqrt(variance + self.epsilon)
        outputs = outputs * self._channels(inputs, 'scale', 1.0).astype(values.dtype)
        if self.use_bias:
            outputs += self._channels(inputs, 'bias', 0.0).astype(values.dtype)
        return outputs.astype(self.dtype or inputs.dtype)

    def _channels(self, inputs: Array, name: str, start: float) -> Array:
        """The active part of a parameter, to be broadcast over the input."""
        cut = slim_param(
            self,
            name,
            nn.initializers.constant(start),
            (inputs.shape[-1],),
            stored=self.in_features,
            dtype=self.param_dtype,
        )
        return cut.reshape((1,) * (inputs.ndim - 1) + (-1,))
