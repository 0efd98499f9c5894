"""MNasNet-A1 without squeeze-and-excitation (Tan et al., 2019), slimmable.

The variant that AutoSlim (Yu and Huang, 2019) publishes channel numbers for.
"""

from slimjax.models.inverted_residual import InvertedResidualNetwork, Stage


class MNasNet(InvertedResidualNetwork):
    """MNasNet: 17 inverted residuals with kernels of 3 and 5 pixels, and a tail.

    See `InvertedResidualNetwork` for its fields.

    Example:
        >>> import functools, jax, jax.numpy as jnp
        >>> model = MNasNet(num_classes=10, widths=(0.35, 1.0))
        >>> images = jnp.ones((1, 32, 32, 3))
        >>> variables = jax.eval_shape(model.init, jax.random.key(0), images)
        >>> narrow = functools.partial(model.apply, width=0.35)
        >>> jax.eval_shape(narrow, variables, images).shape
        (1, 10)
    """

    STAGES = (
        Stage(1, 16, 1, 1),
        Stage(3, 24, 3, 2),
        Stage(3, 40, 3, 2, kernel_size=5),
        Stage(6, 80, 3, 2, kernel_size=5),
        Stage(6, 96, 2, 1),
        Stage(6, 192, 4, 2, kernel_size=5),
        Stage(6, 320, 1, 1),
    )
