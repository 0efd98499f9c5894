"""Checkpoints of the published PyTorch networks, and of torchvision, in and out."""

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from slimjax.interop.layouts import LAYOUTS
from slimjax.interop.names import Entry, published_entries, torchvision_entries
from slimjax.interop.torch_file import read_torch_file, write_torch_file
from slimjax.models import SlimmableClassifier
from slimjax.sorting import Criterion, sort_channels

# The published code saves networks under data parallelism, which prefixes all names.
_PREFIX = 'module.'
# PyTorch counts the batches that a norm saw; with a fixed momentum nobody needs it.
_COUNTER = 'num_batches_tracked'
# The first convolution, which tells the channels of the images.
_STEMS = ('features.0.0.weight', 'head_0.0.weight', 'conv1.weight')


def load_torch(
    source: str | os.PathLike | Mapping[str, Any],
    model: SlimmableClassifier,
    *,
    sort_by: Criterion | None = None,
) -> dict[str, Any]:
    """Returns a model's variables from a PyTorch checkpoint.

    Checkpoints of the published code (S-Nets, US-Nets, AutoSlim) hold all widths.
    Those of torchvision's ResNets and MobileNet v2 become width 1.0; the norms of the
    other widths start as its slices, and are of no use before they are calibrated or
    trained.

    Args:
        source: a `.pt` file, or a state dict of tensors or arrays. Names may start
            with `module.`, and the state dict may stand under `model` or `state_dict`.
            A file that would run code is refused.
        model: the network, such as `create_model('s_mobilenet_v1')`.
        sort_by: for a network of torchvision, the criterion of `sort_channels` by which
            the important channels come first, which the narrow widths then are made of.

    Returns:
        Variables for `model.apply`, of the model's types.

    Raises:
        ValueError: tensors that the model lacks or has no use for, or of other shapes;
            all of them are named. A file that is no state dict. A published network
            that is to be sorted: its narrow widths would lose what they learnt.

    Example:
        >>> import slimjax
        >>> fields = {'num_classes': 10, 'stage_sizes': (1,)}
        >>> model = slimjax.create_model('resnet14', **fields)
        >>> images = jax.numpy.ones((1, 32, 32, 3))
        >>> variables = jax.jit(model.init)(jax.random.key(0), images)
        >>> again = load_torch(torch_state_dict(variables, model), model)
        >>> jax.tree.structure(again) == jax.tree.structure(variables)
        True
    """
    tensors = read_tensors(source)
    foreign = any(key.startswith(('layer1.', 'features.1.conv.')) for key in tensors)
    entries_of = torchvision_entries if foreign else published_entries
    stem = next((tensors[name] for name in _STEMS if name in tensors), None)
    channels = stem.shape[1] if stem is not None and stem.ndim == 4 else 3
    images = jax.ShapeDtypeStruct((1, 64, 64, channels), jnp.float32)
    template = jax.eval_shape(model.init, jax.random.key(0), images)
    entries = entries_of(model, template)
    sort = None
    if sort_by is not None:
        if not foreign:
            raise ValueError(
                f'sort_by={sort_by!r} is for networks of torchvision: the narrow '
                'widths of this one were trained with the channels in their order'
            )
        sort = partial(
            sort_channels,
            model.clone(widths=(1.0,)),
            by=sort_by,
            image_shape=images.shape[1:],
        )
    return filled(entries, tensors, template, type(model).__name__, sort)


def torch_state_dict(
    variables: Mapping[str, Any], model: SlimmableClassifier
) -> dict[str, np.ndarray]:
    """Returns a model's variables as the published code names and lays them out.

    Args:
        variables: of the model.
        model: of one of the published families.

    Returns:
        Arrays by name, without the prefix `module.`. Each BatchNorm has a count of
        batches too, as PyTorch keeps it, which is 0.

    Raises:
        ValueError: the published code has no such model.
    """
    state = {}
    for entry in published_entries(model, variables):
        state[entry.key] = tensor_of(entry, variables)
        if entry.key.endswith('.running_var'):
            counter = entry.key.replace('running_var', _COUNTER)
            state[counter] = np.zeros((), np.int64)
    return state


def export_torch(
    path: str | os.PathLike, variables: Mapping[str, Any], model: SlimmableClassifier
) -> None:
    """Writes a checkpoint that the published code loads as `pretrained`.

    It has the published names and shapes where the model has its default fields.

    Args:
        path: of the `.pt` file; it appears whole or not at all.
        variables: of the model.
        model: of one of the published families.

    Raises:
        ValueError: the published code has no such model.
    """
    state = torch_state_dict(variables, model)
    write_torch_file(path, {_PREFIX + key: array for key, array in state.items()})


def filled(
    entries: list[Entry],
    tensors: Mapping[str, np.ndarray],
    template: Mapping[str, Any],
    model_name: str,
    change: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Returns variables like `template` with the values of a state dict.

    Args:
        entries: where each tensor belongs.
        tensors: the state dict, see `read_tensors`.
        template: the variables, or their shapes. A norm of which no tensor tells is
            that of another width than 1.0, and gets a slice of the latter's.
        model_name: for messages.
        change: of the variables that the tensors tell of, before others become their
            slices.

    Raises:
        ValueError: tensors that are missing, of no use or of another shape.
    """
    _check(entries, tensors, template, model_name)
    parts: dict[tuple[str, ...], list[np.ndarray]] = {}
    for entry in entries:
        ours = LAYOUTS[entry.layout].ours(tensors[entry.key])
        parts.setdefault(entry.path, []).append(ours)
    leaves = {path: np.concatenate(arrays, -1) for path, arrays in parts.items()}
    if change is not None:
        leaves = flatten_dict(change(unflatten_dict(leaves)))

    def choose(path, leaf):
        names = tuple(each.key for each in path)
        found = leaves.get(names)
        if found is None:
            found = leaves[_at_width_one(names)][: leaf.shape[0]]
        return jnp.asarray(found, leaf.dtype)

    return jax.tree_util.tree_map_with_path(choose, template)


def tensor_of(entry: Entry, variables: Mapping[str, Any]) -> np.ndarray:
    """Returns what PyTorch keeps of the variables at an entry."""
    array = np.asarray(_at(variables, entry.path))
    part = np.split(array, entry.groups, axis=-1)[entry.group]
    return np.ascontiguousarray(LAYOUTS[entry.layout].theirs(part))


def read_tensors(
    source: str | os.PathLike | Mapping[str, Any],
) -> dict[str, np.ndarray]:
    """Returns the tensors of a checkpoint, without prefixes and counters.

    Raises:
        ValueError: there are none, or integers among them.
    """
    state, where = source, 'the state dict'
    if isinstance(source, str | os.PathLike):
        state, where = read_torch_file(source), os.fspath(source)
    for wrapper in ('model', 'state_dict'):
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping) or not state:
        raise ValueError(
            f'{where} holds no tensors by name, and none under `model` or `state_dict`'
        )
    tensors = {}
    for key, value in state.items():
        name = str(key).removeprefix(_PREFIX)
        if name.rpartition('.')[2] == _COUNTER:
            continue
        if hasattr(value, 'detach'):
            value = value.detach().cpu()
            # numpy has no bfloat16 of PyTorch's.
            value = value.float() if value.element_size() == 2 else value
        array = np.asarray(value)
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise ValueError(f'{where} holds {array.dtype} at {key!r}: no weights')
        tensors[name] = array
    return tensors


def _check(entries: list[Entry], tensors, template, model_name: str) -> None:
    """Refuses tensors that are missing, of no use or of another shape."""
    wanted = {entry.key for entry in entries}
    missing = sorted(wanted - set(tensors))
    unused = sorted(set(tensors) - wanted)
    if missing or unused:
        raise ValueError(
            f'this is no checkpoint of {model_name} at these widths\n'
            f'missing, {len(missing)}: {", ".join(missing) or "none"}\n'
            f'of no use, {len(unused)}: {", ".join(unused) or "none"}'
        )
    wrong = []
    for entry in entries:
        *rest, last = _at(template, entry.path).shape
        whole = np.broadcast_to(0, (*rest, last // entry.groups))
        needed = LAYOUTS[entry.layout].theirs(whole).shape
        found = tensors[entry.key].shape
        if found != needed:
            wrong.append(f'{entry.key} is {list(found)}, needed is {list(needed)}')
    if wrong:
        raise ValueError(
            f'this is a checkpoint of another {model_name}: ' + '; '.join(wrong)
        )


def _at_width_one(path: tuple[str, ...]) -> tuple[str, ...]:
    """Where width 1.0 keeps what another width keeps at `path`."""
    if path[0] == 'params':
        return (*path[:-2], '1.0', path[-1])
    return ('batch_stats_1.0', *path[1:])


def _at(tree, path):
    for name in path:
        tree = tree[name]
    return tree
