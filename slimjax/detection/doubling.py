"""Maps made twice as fine, as the mask and keypoint heads do."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype
from jaxtyping import Array, Float

from slimjax.convolution import Form, convolve

# PyTorch's fan-out of a transposed convolution is the fan-in of its kernel.
_he_normal = nn.initializers.variance_scaling(2.0, 'fan_in', 'normal')


class Doubling(nn.Module):
    """A transposed convolution at stride 2, which gives twice the height and width.

    Along an axis, even outputs see the even taps and odd ones the odd taps, each from
    inputs in their order: so it is one convolution to four times the channels, in the
    form that suits the platform. XLA's transposed one is slow inside of control flow,
    where the narrow widths run on a CPU.

    Attributes:
        features: output channels.
        taps: height and width of the kernel, 2 or 4.
        dtype: type of the computation; None takes it from input and parameters.
        param_dtype: type of the parameters.
        conv_form: see `slimjax.convolution`.

    Example:
        >>> import jax
        >>> images = jnp.ones((1, 4, 4, 3))
        >>> Doubling(2, taps=4).init_with_output(jax.random.key(0), images)[0].shape
        (1, 8, 8, 2)
    """

    features: int
    taps: int = 2
    dtype: Any = None
    param_dtype: Any = jnp.float32
    conv_form: Form = 'auto'

    @nn.compact
    def __call__(
        self, inputs: Float[Array, 'batch height width in']
    ) -> Float[Array, 'batch new_height new_width features']:
        batch, height, width, channels = inputs.shape
        shape = (self.taps, self.taps, channels, self.features)
        kernel = self.param('kernel', _he_normal, shape, self.param_dtype)
        bias = self.param(
            'bias', nn.initializers.zeros, (self.features,), self.param_dtype
        )
        inputs, kernel, bias = promote_dtype(inputs, kernel, bias, dtype=self.dtype)
        reach = self.taps // 2
        kernel = kernel.reshape(reach, 2, reach, 2, channels, self.features)
        kernel = kernel.transpose(0, 2, 4, 1, 3, 5)
        every = convolve(
            inputs,
            kernel.reshape(reach, reach, channels, -1),
            strides=(1, 1),
            padding=((reach - 1, reach - 1),) * 2,
            form=self.conv_form,
        )
        # The lower and the right outputs of 4 taps begin one input further on.
        every = every.reshape(*every.shape[:3], 2, 2, self.features)
        starts = (0, reach - 1)
        rows = jnp.stack(
            [every[:, at : at + height, :, i] for i, at in enumerate(starts)], 2
        )
        outputs = jnp.stack(
            [rows[:, :, :, at : at + width, i] for i, at in enumerate(starts)], 4
        )
        outputs = outputs.reshape(batch, 2 * height, 2 * width, self.features)
        return outputs + bias[None, None, None]
