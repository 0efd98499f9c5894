"""Weights of a network placed in a wider or a narrower one."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from slimjax.models.common import SlimmableClassifier
from slimjax.train.frozen import active_of
from slimjax.train.state import abstract_variables
from slimjax.width import Width, canonical, widest, width_name


def transplanted(
    source: SlimmableClassifier,
    taken: Mapping[str, Any],
    target: SlimmableClassifier,
    variables: Mapping[str, Any],
    image_shape: tuple[int, int, int],
) -> dict[str, Any]:
    """Returns variables of `target` with what `source` uses at the target's widths.

    Into a wider network go the weights of the narrower one, to where that has its
    slice. Into a narrower one goes its slice of the wider one; a width that the wider
    one was not trained at gets the first channels of its widest norms, statistics
    excepted. What the source does not have, or has in another shape, such as a
    classifier of other classes, stays as it was.

    Args:
        source: a network of width multipliers.
        taken: its variables.
        target: a network of the same family.
        variables: its variables.
        image_shape: height, width and channels of an image.

    Raises:
        ValueError: no width of the target is as narrow as the source.

    Example:
        >>> import slimjax
        >>> fields = {'stage_sizes': (1,), 'base_features': 8}
        >>> narrow = slimjax.create_model('resnet14', widths=(0.5,), **fields)
        >>> wide = slimjax.create_model('resnet14', widths=(0.5, 1.0), **fields)
        >>> ones, zeros = (
        ...     jax.tree.map(lambda leaf: jnp.full(leaf.shape, value), jax.eval_shape(
        ...         model.init, jax.random.key(0), jnp.ones((1, 32, 32, 3))))
        ...     for model, value in ((narrow, 1.0), (wide, 0.0)))
        >>> grown = transplanted(narrow, ones, wide, zeros, (32, 32, 3))
        >>> float(grown['params']['classifier']['kernel'].mean())
        0.5
    """
    most = widest(source.widths)
    widths = sorted(width for width in map(canonical, target.widths) if width <= most)
    if not widths:
        raise ValueError(
            f'widths={tuple(map(width_name, target.widths))}: none is as narrow as '
            f'{width_name(most)}, the widest there is to start from'
        )
    source, target = (model.clone(axis_name=None) for model in (source, target))
    for width in widths:
        model, own, statistics = source, taken, True
        if width not in map(canonical, source.widths):
            model, own = _with_width(source, taken, width, image_shape)
            statistics = False
        found = jax.jit(active_of(model, width, image_shape))(own)
        variables = _placed(target, variables, width, found, image_shape, statistics)
    return variables


def _placed(target, variables, width: Width, found, image_shape, statistics: bool):
    """Variables whose part that `width` uses is `found`."""

    @jax.jit
    def place(variables, found):
        like, back = jax.vjp(active_of(target, width, image_shape), variables)

        def spread(value):
            def one(path, leaf, other):
                fits = getattr(other, 'shape', None) == leaf.shape
                if not fits or not (statistics or path[-1].key not in ('mean', 'var')):
                    return jnp.zeros_like(leaf)
                return value(other).astype(leaf.dtype)

            # Each slice goes back to where it was cut from, among zeros.
            return back(jax.tree_util.tree_map_with_path(one, like, found))[0]

        return jax.tree.map(
            lambda count, new, old: jnp.where(count > 0, new, old),
            spread(jnp.ones_like),
            spread(lambda leaf: leaf),
            variables,
        )

    return place(variables, found)


def _with_width(source, taken, width: Width, image_shape):
    """The source with norms of another width: the first channels of its widest."""
    most = widest(source.widths)
    norm = 'shared_affine' if source.norm == 'private' else source.norm
    model = source.clone(widths=(width, most), norm=norm)
    _, stats = abstract_variables(model, image_shape)
    blank = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), stats)
    params = _shared_norms(taken['params'], width_name(most))
    return model, {**blank, 'params': params}


def _shared_norms(params: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Parameters whose norms have one scale and shift, those of the width `name`."""
    if name in params:
        return {'affine': params[name]}
    return {
        key: _shared_norms(value, name) if isinstance(value, Mapping) else value
        for key, value in params.items()
    }
