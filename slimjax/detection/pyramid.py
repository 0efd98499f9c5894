"""A feature pyramid (Lin et al., 2017) on a backbone of any width."""

from collections.abc import Callable, Sequence

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from slimjax.layers import SlimConv


class FeaturePyramid(nn.Module):
    """Maps P2 to P6 of `features` channels from a backbone's C2 to C5.

    The pyramid is whole at every width. A lateral convolution, the only layer that
    meets the backbone's channels, uses those rows of its kernel that its input has.
    That equals filling the maps up with zeros, as the published detectors do.

    Attributes:
        features: channels of all maps.
        in_features: channels of C2 to C5 at the widest.
        conv: `SlimConv` with the model's settings.
        kernel_init: initialiser of all kernels.

    Example:
        >>> import jax
        >>> from functools import partial
        >>> pyramid = FeaturePyramid(8, (4, 8), partial(SlimConv, slim_output=False),
        ...                          nn.initializers.ones)
        >>> maps = [jnp.ones((1, 8, 8, 4)), jnp.ones((1, 4, 4, 8))]
        >>> variables = pyramid.init(jax.random.key(0), maps)
        >>> narrow = [each[..., :2] for each in maps]
        >>> [each.shape[1] for each in pyramid.apply(variables, narrow)]
        [8, 4, 2]
    """

    features: int
    in_features: Sequence[int]
    conv: Callable[..., SlimConv]
    kernel_init: Callable[..., Array]

    @nn.compact
    def __call__(
        self, maps: Sequence[Float[Array, 'batch _height _width _channels']]
    ) -> list[Float[Array, 'batch _height _width features']]:
        outputs, above = [], None
        levels = range(2, 2 + len(maps))
        for level, each, stored in reversed(
            list(zip(levels, maps, self.in_features, strict=True))
        ):
            lateral = self.conv(
                self.features,
                1,
                in_features=stored,
                kernel_init=self.kernel_init,
                name=f'lateral{level}',
            )
            merged = lateral(each)
            if above is not None:
                merged = merged + _doubled(above)
            above = merged
            output = self.conv(
                self.features, 3, kernel_init=self.kernel_init, name=f'output{level}'
            )
            outputs.insert(0, output(merged))
        # As an index it would be a gather, whose gradient is slow and which ONNX lacks.
        last = outputs[-1]
        return [*outputs, lax.slice(last, (0,) * 4, last.shape, (1, 2, 2, 1))]


def _doubled(maps: Array) -> Array:
    """Each pixel four times."""
    batch, height, width, channels = maps.shape
    wide = jnp.broadcast_to(
        maps[:, :, None, :, None], (batch, height, 2, width, 2, channels)
    )
    return wide.reshape(batch, 2 * height, 2 * width, channels)
