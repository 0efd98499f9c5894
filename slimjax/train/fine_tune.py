"""Starting a run from the weights of another."""

from collections.abc import Callable

import jax
import numpy as np

from slimjax.config import about_field
from slimjax.detection.create import with_backbone
from slimjax.train.checkpoint import Checkpoint, load_variables
from slimjax.train.run import Run
from slimjax.train.state import TrainState
from slimjax.train.trained import open_network, stored_widest
from slimjax.train.transplant import transplanted
from slimjax.variables import split_variables
from slimjax.width import ChannelTable, widest, width_name


def fine_tuned(state: TrainState, run: Run, say: Callable[[str], None]) -> TrainState:
    """Returns a new state with the weights of `config.init_from`.

    Of a network with another widest width, what both use is taken, see
    `slimjax.train.transplant`. Parameters of another shape, such as those of a
    classifier with other classes, keep their new values, which is said aloud. A
    detector takes a classifier as its backbone, whole or not at all.

    Args:
        state: at step 0.
        run: what is to start; its config says from what.
        say: prints a line for a person.

    Raises:
        ValueError: there is no checkpoint, or it has nothing of this network.
    """
    config = run.config
    with about_field(config, 'init_from'):
        checkpoint = load_variables(config.init_from)
    if config.detector and 'backbone' not in checkpoint.params:
        return _of_classifier(state, run, checkpoint, say)
    if not config.detector and _resized(checkpoint, run):
        return _transplanted(state, run, say)
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
    return _with(state, run, params, stats)


def _resized(checkpoint: Checkpoint, run: Run) -> bool:
    """Whether the kernels of a checkpoint have the size of another width."""
    meta, most = checkpoint.meta, widest(run.model.widths)
    if meta.get('model') != run.config.model or isinstance(most, ChannelTable):
        return False
    return stored_widest(meta) not in (None, most)


def _transplanted(state: TrainState, run: Run, say) -> TrainState:
    where = run.config.init_from
    variables = {'params': state.params, **state.stats}
    with about_field(run.config, 'init_from'):
        other = open_network(where)
        variables = transplanted(
            other.model, other.variables, run.model, variables, run.image_shape
        )
    names = ', '.join(map(width_name, other.model.widths))
    say(f'starting from the slice that is shared with {where}, of widths {names}')
    params, stats = split_variables(variables)
    return _with(state, run, params, stats)


def _of_classifier(
    state: TrainState, run: Run, checkpoint: Checkpoint, say: Callable[[str], None]
) -> TrainState:
    """The state of a detector whose backbone is that of a classifier."""
    where = run.config.init_from
    own = {'params': state.params, **state.stats}
    classifier = {'params': checkpoint.params, **checkpoint.stats}
    with about_field(run.config, 'init_from'):
        variables = with_backbone(own, classifier)
    params, stats = split_variables(variables)
    say(f'the backbone is that of {where}; all else is new')
    return _with(state, run, params, stats)


def _with(state: TrainState, run: Run, params, stats) -> TrainState:
    """A state whose averages, if it has any, start from the same weights."""
    if run.config.sandwich:
        # Those of another network would look as if they had been measured.
        stats |= {name: state.stats[name] for name in run.calibration.measured_later}
    average = state.average and state.average.replace(params=params, stats=stats)
    return state.replace(params=params, stats=stats, average=average)
