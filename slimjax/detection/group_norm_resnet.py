"""The backbone of detectors that are trained from scratch with few images."""

from collections.abc import Callable
from functools import partial

from jax import Array

from slimjax.group_norm import SwitchableGroupNorm
from slimjax.models.common import ConvNorm
from slimjax.models.resnet import ResNet
from slimjax.width import Rounding, widest_first


class GroupNormResNet(ResNet):
    """A ResNet with GroupNorm in place of BatchNorm; no width has statistics.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> model = GroupNormResNet(num_classes=0, widths=(0.5, 1.0), stage_sizes=(1,))
        >>> images = jnp.ones((1, 32, 32, 3))
        >>> list(jax.eval_shape(model.init, jax.random.key(0), images))
        ['params']
    """

    def conv_norm(
        self, rounding: Rounding, activation: Callable[[Array], Array]
    ) -> Callable[..., ConvNorm]:
        """Returns `ConvNorm` with this model's settings filled in."""
        norm = partial(
            _group_norm,
            widths=widest_first(self.widths),
            dtype=self.dtype,
            param_dtype=self.param_dtype,
        )
        return partial(super().conv_norm(rounding, activation), norm=norm)


def _group_norm(*, groups: int, **fields) -> SwitchableGroupNorm:
    """A norm as `ConvNorm` makes it; `groups` are the convolution's, a ResNet's 1."""
    return SwitchableGroupNorm(**fields)
