"""Taking apart the variables of a slimmable model and passing them through it."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
from jax import Array

from slimjax.norm import SHARED_STATS, stats_collection
from slimjax.width import Width, width_name

Stats = Mapping[str, Any]


def split_variables(variables: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Returns the trained parameters, and all other collections as `stats`.

    Example:
        >>> params, stats = split_variables({'params': {'a': 1}, 'batch_stats_1.0': {}})
        >>> params, stats
        ({'a': 1}, {'batch_stats_1.0': {}})
    """
    stats = {name: tree for name, tree in variables.items() if name != 'params'}
    return variables['params'], stats


def stats_collections(stats: Stats, width: Width) -> tuple[str, ...]:
    """Returns those collections of `stats` that a training pass at `width` may change.

    Example:
        >>> stats_collections({'batch_stats_0.5': {}, 'batch_stats_1.0': {}}, 0.5)
        ('batch_stats_0.5',)
    """
    own = (stats_collection(width), SHARED_STATS)
    return tuple(name for name in own if name in stats)


def own_variables(
    model: nn.Module, variables: Mapping[str, Any], width: Width | str
) -> dict[str, Any]:
    """Returns what a pass at one width reads, without the norms of the other widths.

    A call hands every array over that it is given. A network of four widths has three
    times the arrays of one width, and at batch 1 that takes as long as half of a small
    network's pass. Nothing is copied; kernels remain whole, and are sliced in the pass.

    Args:
        model: a slimmable module; those of its field `widths` are the other widths.
        variables: of the model.
        width: the one to run at, or its name; the pass refuses one that it lacks.

    Returns:
        The parameters and the collections of that width, as `model.apply` takes them.

    Example:
        >>> import jax, jax.numpy as jnp, slimjax
        >>> model = slimjax.create_model('resnet14', widths=(0.5, 1.0))
        >>> images = jnp.ones((1, 32, 32, 3))
        >>> variables = jax.eval_shape(model.init, jax.random.key(0), images)
        >>> own = own_variables(model, variables, 0.5)
        >>> sorted(own), sorted(own['params']['stem']['norm'])
        (['batch_stats_0.5', 'params'], ['0.5'])
        >>> jax.eval_shape(
        ...     lambda own: model.apply(own, images, width=0.5), own).shape
        (1, 1000)
    """
    own = width if isinstance(width, str) else width_name(width)
    others = [each for each in getattr(model, 'widths', ()) if width_name(each) != own]
    names, collections = (set(map(of, others)) for of in (width_name, stats_collection))
    params, stats = split_variables(variables)

    def without(tree):
        return {
            name: without(part) if isinstance(part, Mapping) else part
            for name, part in tree.items()
            if name not in names
        }

    kept = {name: tree for name, tree in stats.items() if name not in collections}
    return {'params': without(params), **kept}


def apply_train(
    model: nn.Module, params: Any, stats: Stats, *args, width: Width, **kwargs
) -> tuple[Array, dict[str, Any]]:
    """Runs a training pass at one width.

    Args:
        model: a slimmable module that takes `width=` and `train=`.
        params: its parameters.
        stats: all of its other collections, every width's.
        *args: inputs of the model, such as images.
        width: the width to run at.
        **kwargs: further keywords of the model.

    Returns:
        The output, and `stats` with the running statistics of `width` renewed.

    Example:
        >>> import functools, jax, jax.numpy as jnp, slimjax
        >>> fields = {'widths': (0.5, 1.0), 'stage_sizes': (1,)}
        >>> model = slimjax.create_model('resnet14', num_classes=10, **fields)
        >>> images = jnp.ones((2, 32, 32, 3))
        >>> variables = jax.jit(model.init)(jax.random.key(0), images)
        >>> params, stats = split_variables(variables)
        >>> apply = jax.jit(functools.partial(apply_train, model, width=0.5))
        >>> logits, stats = apply(params, stats, images)
        >>> logits.shape
        (2, 10)
    """
    output, changed = model.apply(
        {'params': params, **stats},
        *args,
        width=width,
        train=True,
        mutable=list(stats_collections(stats, width)),
        **kwargs,
    )
    return output, {**stats, **changed}


def check_shapes(expected: Any, found: Any, what: str) -> None:
    """Checks that two trees have leaves of the same shapes and types.

    Raises:
        ValueError: names the leaves that one of them lacks, or the first that differs.

    Example:
        >>> import numpy as np
        >>> check_shapes({'a': np.ones(2)}, {'a': np.zeros(2)}, 'the checkpoint')
    """
    names = [
        {
            jax.tree_util.keystr(path, simple=True, separator='/')
            for path, _ in jax.tree_util.tree_leaves_with_path(tree)
        }
        for tree in (expected, found)
    ]
    lacking, more = sorted(names[0] - names[1]), sorted(names[1] - names[0])
    if lacking or more:
        parts = [
            f'{verb} {", ".join(of[:3])}{" and others" if len(of) > 3 else ""}'
            for verb, of in (('lacks', lacking), ('has', more))
            if of
        ]
        raise ValueError(f'{what} is of another network: it {" and ".join(parts)}')

    def check(path, leaf, other):
        if leaf.shape != other.shape or leaf.dtype != other.dtype:
            raise ValueError(
                f'{what} has {other.dtype}{list(other.shape)} at '
                f'{jax.tree_util.keystr(path, simple=True, separator="/")}, where '
                f'{leaf.dtype}{list(leaf.shape)} is needed'
            )

    jax.tree_util.tree_map_with_path(check, expected, found)
