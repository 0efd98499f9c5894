"""MobileNet v2 (Sandler et al., 2018), slimmable (Yu et al., 2019, section 4.1)."""

from slimjax.models.inverted_residual import InvertedResidualNetwork, Stage


class MobileNetV2(InvertedResidualNetwork):
    """S-MobileNet v2: 17 inverted residuals and a tail of 1280 channels.

    See `InvertedResidualNetwork` for its fields.

    Example:
        >>> import functools, jax, jax.numpy as jnp
        >>> model = MobileNetV2(num_classes=10, widths=(0.35, 1.0))
        >>> images = jnp.ones((1, 32, 32, 3))
        >>> variables = jax.eval_shape(model.init, jax.random.key(0), images)
        >>> narrow = functools.partial(model.apply, width=0.35)
        >>> jax.eval_shape(narrow, variables, images).shape
        (1, 10)
    """

    STAGES = (
        Stage(1, 16, 1, 1),
        Stage(6, 24, 2, 2),
        Stage(6, 32, 3, 2),
        Stage(6, 64, 4, 2),
        Stage(6, 96, 3, 1),
        Stage(6, 160, 3, 2),
        Stage(6, 320, 1, 1),
    )
