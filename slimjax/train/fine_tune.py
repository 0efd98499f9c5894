"""Starting a run from the weights of another."""

from collections.abc import Callable

import jax
import ml_collections
import numpy as np

from slimjax.detection.create import with_backbone
from slimjax.train.checkpoint import Checkpoint, load_variables
from slimjax.train.state import TrainState
from slimjax.variables import split_variables


def fine_tuned(
    state: TrainState, config: ml_collections.ConfigDict, say: Callable[[str], None]
) -> TrainState:
    """Returns a new state with the weights of `config.init_from`.

    Parameters of another shape, such as those of a classifier with other classes, keep
    their new values, which is said aloud. A detector takes a classifier as its
    backbone, whole or not at all.

    Args:
        state: at step 0.
        config: a complete config.
        say: prints a line for a person.

    Raises:
        FileNotFoundError: there is no checkpoint.
        ValueError: the checkpoint has nothing of this network.
    """
    checkpoint = load_variables(config.init_from)
    if config.detector and 'backbone' not in checkpoint.params:
        return _of_classifier(state, config, checkpoint, say)
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


def _of_classifier(
    state: TrainState,
    config: ml_collections.ConfigDict,
    checkpoint: Checkpoint,
    say: Callable[[str], None],
) -> TrainState:
    """The state of a detector whose backbone is that of a classifier."""
    own = {'params': state.params, **state.stats}
    classifier = {'params': checkpoint.params, **checkpoint.stats}
    try:
        variables = with_backbone(own, classifier)
    except (KeyError, ValueError) as error:
        raise ValueError(f'config.init_from={config.init_from!r}: {error}') from None
    params, stats = split_variables(variables)
    say(f'the backbone is that of {config.init_from}; all else is new')
    return state.replace(params=params, stats=stats)
