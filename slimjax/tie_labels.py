"""Labels of the elements of arrays, and what happens to them when arrays are moved."""

from collections.abc import Iterable, Sequence

import numpy as np

# The channel that stands for all that must stay where they are.
FIXED = 0

# Labels of a value's elements, arrays that broadcast to its shape: several where its
# elements belong to several channels, as those of a kernel do. A value without labels
# is the same everywhere.
Labels = list[np.ndarray]


def fixed_labels(shape: Sequence[int], axes: Iterable[int] | None = None) -> Labels:
    """Returns labels that say of every axis, or of some: this must stay as it is."""
    axes = range(len(shape)) if axes is None else axes
    return [
        np.full([n if i == axis else 1 for i, n in enumerate(shape)], FIXED)
        for axis in axes
    ]


def labelled(labels: np.ndarray) -> set[int]:
    """The axes along which labels differ."""
    return {axis for axis, size in enumerate(labels.shape) if size > 1}


def joined(parts: Sequence[np.ndarray], axis: int) -> np.ndarray:
    rest = [max(part.shape[other] for part in parts) for other in range(parts[0].ndim)]
    shapes = [
        [part.shape[axis] if other == axis else size for other, size in enumerate(rest)]
        for part in parts
    ]
    return np.concatenate(
        [
            np.broadcast_to(part, shape)
            for part, shape in zip(parts, shapes, strict=True)
        ],
        axis,
    )


def _reshape(labels, shape, out, params):
    """Groups of axes that are reshaped by themselves, each labelled whole or not."""
    del params
    before = after = 0
    sizes, full = [], []
    while before < len(shape) or after < len(out):
        first, start = before, after
        left = right = 1
        while True:
            if (
                left <= right
                and before < len(shape)
                and (left < right or before == first)
            ):
                left *= shape[before]
                before += 1
            elif after < len(out) and (right < left or after == start):
                right *= out[after]
                after += 1
            if left == right and (before > first or after > start):
                break
        own = labels.shape[first:before]
        if any(size > 1 for size in own):
            full += shape[first:before]
            sizes += out[start:after]
        else:
            full += own
            sizes += [1] * (after - start)
    return np.broadcast_to(labels, full).reshape(sizes)


def _broadcast(labels, shape, out, params):
    at = [1] * len(out)
    for axis, place in enumerate(params['broadcast_dimensions']):
        at[place] = labels.shape[axis]
    return labels.reshape(at)


def _slice(labels, shape, out, params):
    steps = params['strides'] or (1,) * len(shape)
    limits = zip(params['start_indices'], params['limit_indices'], steps, strict=True)
    return labels[
        tuple(
            slice(*limit) if size > 1 else slice(None)
            for limit, size in zip(limits, labels.shape, strict=True)
        )
    ]


def _pad(labels, shape, out, params):
    before = [max(low, 0) for low, _, _ in params['padding_config']]
    at = np.full(
        [n if k > 1 else 1 for n, k in zip(out, labels.shape, strict=True)], FIXED
    )
    if at.shape == labels.shape:
        return labels
    place = tuple(
        slice(low, low + size) if size > 1 else slice(None)
        for low, size in zip(before, labels.shape, strict=True)
    )
    at[place] = labels
    return at


MOVES = {
    'reshape': _reshape,
    'broadcast_in_dim': _broadcast,
    'transpose': lambda labels, _shape, _out, p: labels.transpose(p['permutation']),
    'squeeze': lambda labels, _shape, _out, p: labels.squeeze(p['dimensions']),
    'slice': _slice,
    'rev': lambda labels, _shape, _out, p: np.flip(labels, p['dimensions']),
    'pad': _pad,
}
