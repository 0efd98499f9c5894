"""Starting a run from the weights of another."""

from collections.abc import Callable

import jax
import ml_collections
import numpy as np

from slimjax.train.checkpoint import load_variables
from slimjax.train.state import TrainState


def fine_tuned(
    state: TrainState, config: ml_collections.ConfigDict, say: Callable[[str], None]
) -> TrainState:
    """Returns a new state with the weights of `config.init_from`.

    Parameters of another shape, such as those of a classifier with other classes, keep
    their new values, which is said aloud.

    Args:
        state: at step 0.
        config: a complete config.
        say: prints a line for a person.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: the checkpoint has nothing of this network.
    """
    checkpoint = load_variables(config.init_from)
    fresh = []

    def choose(tree, other):
        def pick(path, leaf):
            found = other
            for entry in path:
                found = found.get(entry.key) if isinstance(found, dict) else None
            if getattr(found, 'shape', None) == leaf.shape:
                return np.asarray(found, leaf.dtype)
            fresh.append(jax.tree_util.keystr(path, simple=True, separator='/'))
            return leaf

        return jax.tree_util.tree_map_with_path(pick, tree)

    params = choose(state.params, checkpoint.params)
    stats = choose(state.stats, checkpoint.stats)
    old = len(checkpoint.meta.get('class_names', ()))
    if old != config.num_classes:
        say(f'{old} classes become {config.num_classes}')
    if fresh:
        say(f'not in {config.init_from}, so new: {", ".join(fresh)}')
    if len(fresh) == len(jax.tree.leaves((params, stats))):
        raise ValueError(f'config.init_from={config.init_from!r} is of another network')
    average = state.average and state.average.replace(params=params, stats=stats)
    return state.replace(params=params, stats=stats, average=average)
