"""Holding still what a narrow width uses, while wider ones learn the rest.

So a network is widened in steps (paper, section 3.1): the narrow one is done, and may
be deployed already, when the weights beside it are trained.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from slimjax.layers import ACTIVE
from slimjax.models.common import SlimmableClassifier
from slimjax.train.state import abstract_variables
from slimjax.width import Width, canonical


def active_of(
    model: SlimmableClassifier, width: Width, image_shape: tuple[int, int, int]
) -> Callable[[Mapping[str, Any]], Any]:
    """Returns `f(variables)`, which gives the parts of them that `width` computes with.

    By layer, they have the size of `width`, whatever the widest is. It is linear: each
    is a slice. The results of the layers are not asked for, so that under `jit` nothing
    else is computed.

    Example:
        >>> import slimjax
        >>> model = slimjax.create_model('resnet14', widths=(0.5, 1.0))
        >>> variables = jax.eval_shape(model.init, jax.random.key(0),
        ...                            jnp.ones((1, 32, 32, 3)))
        >>> active = jax.eval_shape(active_of(model, 0.5, (32, 32, 3)), variables)
        >>> variables['params']['stem']['conv']['kernel'].shape
        (7, 7, 3, 64)
        >>> active['stem']['conv']['kernel'].shape
        (7, 7, 3, 32)
    """
    apply = functools.partial(model.apply, width=width, train=False, mutable=[ACTIVE])
    return lambda variables: apply(variables, jnp.zeros((1, *image_shape)))[1][ACTIVE]


def used_at(
    model: SlimmableClassifier, width: Width, image_shape: tuple[int, int, int]
) -> Any:
    """Returns which elements of the parameters `width` computes with.

    Args:
        model: whose parameters they are.
        width: one of its widths.
        image_shape: height, width and channels of an image.

    Returns:
        Booleans in the shapes of the parameters.

    Example:
        >>> import slimjax
        >>> model = slimjax.create_model('resnet14', widths=(0.5, 1.0))
        >>> mask = jax.jit(lambda: used_at(model, 0.5, (32, 32, 3)))()
        >>> float(mask['classifier']['kernel'].mean())
        0.5
    """
    params, stats = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
        abstract_variables(model.clone(axis_name=None), image_shape),
    )
    active = active_of(model, width, image_shape)

    def total(params):
        leaves = jax.tree.leaves(active({'params': params, **stats}))
        return sum(leaf.sum(dtype=jnp.float32) for leaf in leaves)

    return jax.tree.map(lambda count: count > 0, jax.grad(total)(params))


def freeze(
    optimizer: optax.GradientTransformation,
    model: SlimmableClassifier,
    width: float,
    image_shape: tuple[int, int, int],
) -> optax.GradientTransformation:
    """Returns an optimiser that leaves all that `width`, and narrower ones, use alone.

    To the optimiser, those elements are zeros with a gradient of zero: so they have no
    momentum, do not decay, and take no part in a norm that it clips or scales by.

    Args:
        optimizer: of all parameters.
        model: whose parameters they are.
        width: the widest that is done.
        image_shape: height, width and channels of an image.

    Example:
        >>> import slimjax
        >>> model = slimjax.create_model('resnet14', widths=(0.5, 1.0))
        >>> optimizer = freeze(optax.sgd(0.1), model, 0.5, (32, 32, 3))
    """

    def update(updates, state, params=None):
        masks = [
            used_at(model, each, image_shape)
            for each in model.widths
            if canonical(each) <= width
        ]
        frozen = jax.tree.map(
            lambda *each: functools.reduce(jnp.logical_or, each), *masks
        )

        def held(tree):
            return jax.tree.map(
                lambda still, leaf: jnp.where(still, jnp.zeros_like(leaf), leaf),
                frozen,
                tree,
            )

        updates, state = optimizer.update(held(updates), state, held(params))
        return held(updates), state

    return optax.GradientTransformation(optimizer.init, update)
