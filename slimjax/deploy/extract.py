"""One width of a slimmable network as a network of its own."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from slimjax.layers import ACTIVE
from slimjax.width import Width, resolve


def extract(
    model: nn.Module,
    variables: Mapping[str, Any],
    width: Width | str,
    *,
    image_shape: tuple[int, int, int] = (224, 224, 3),
) -> tuple[nn.Module, dict[str, Any]]:
    """Returns one width as a physically narrow network.

    At a width, a slimmable network cuts what it needs out of its kernels in every
    pass. Where images come one by one, that and the many variables take a good part of
    the time; what is returned here is cut already, and is only as large as its width.

    Args:
        model: a network of slimjax's layers, with a field `widths`.
        variables: of the model.
        width: one of `model.widths`, or the name of one.
        image_shape: of an image that the network takes; nothing is computed with it.

    Returns:
        The model with that one width, and its variables.

    Raises:
        ValueError: the model has no such width, or layers that are not slimjax's.

    Example:
        >>> import slimjax
        >>> fields = {'widths': (0.5, 1.0), 'stage_sizes': (1,)}
        >>> model = slimjax.create_model('resnet14', num_classes=10, **fields)
        >>> images = jnp.ones((1, 32, 32, 3))
        >>> variables = jax.jit(model.init)(jax.random.key(0), images)
        >>> narrow, own = extract(model, variables, 0.5, image_shape=(32, 32, 3))
        >>> narrow.widths, sorted(own)
        ((0.5,), ['batch_stats_0.5', 'params'])
    """
    narrow, cut = narrowed(model, width, image_shape)
    # The layers' results are not asked for, so the compiler leaves only the cuts.
    return narrow, jax.jit(cut)(variables)


def narrowed(
    model: nn.Module, width: Width | str, image_shape: tuple[int, int, int]
) -> tuple[nn.Module, Callable[[Mapping[str, Any]], dict[str, Any]]]:
    """Returns a model of one width, and what cuts its variables out of the wide ones.

    Raises:
        ValueError: the model has no such width.
    """
    width = resolve(width, model.widths)
    narrow = model.clone(widths=(width,))
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    needed = jax.eval_shape(narrow.init, jax.random.key(0), images)
    apply = partial(model.apply, width=width, train=False, mutable=[ACTIVE])

    def cut(variables):
        active = apply(variables, jnp.zeros(images.shape, images.dtype))[1][ACTIVE]
        return jax.tree_util.tree_map_with_path(partial(_found, active), needed)

    return narrow, cut


def _found(active: Mapping[str, Any], path, leaf: jax.ShapeDtypeStruct) -> jax.Array:
    """The part that was used of the variable at `path`."""
    found = active
    # The collection's name, and a width's under a norm, are not the layer's.
    for key in (entry.key for entry in path[1:]):
        if isinstance(found, Mapping):
            found = found.get(key, found)
    if getattr(found, 'shape', None) != leaf.shape:
        raise ValueError(
            f'{jax.tree_util.keystr(path, simple=True, separator="/")} is a variable '
            'of none of the layers of slimjax: what a width uses of it is not known'
        )
    return found
