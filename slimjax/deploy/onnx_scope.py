"""Nodes and initialisers of an ONNX graph, and the weights that its graphs share."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from slimjax.deploy.parts import Part
from slimjax.deploy.storage import Stored


class SharedWeights:
    """Weights that stand once in a file, for the graphs of all widths.

    Args:
        stored: by the path of the variable.
    """

    def __init__(self, stored: Mapping[tuple[str, ...], Stored]):
        self.stored = dict(stored)
        self.initializers: list[TensorProto] = []
        self._names: dict[tuple, str] = {}

    def name(self, path: tuple[str, ...], axes: Sequence[int]) -> str:
        """Returns the name of a weight, kept with its axes in that order."""
        key = (path, tuple(axes))
        if key not in self._names:
            again = sum(path == other for other, _ in self._names)
            self._names[key] = '/'.join(path) + '~' * again
            values = np.ascontiguousarray(self.stored[path].values.transpose(axes))
            self.initializers.append(numpy_helper.from_array(values, self._names[key]))
        return self._names[key]


class Scope:
    """What one graph computes: the whole network, or that of a width in a branch.

    Args:
        prefix: of the names in it; names of a graph must not be those of another.
        weights: stand outside of it.
    """

    def __init__(self, prefix: str, weights: SharedWeights):
        self.weights = weights
        self.nodes: list[NodeProto] = []
        self.initializers: list[TensorProto] = []
        self._prefix, self._count = prefix, itertools.count()
        self._constants: dict[tuple, str] = {}

    def add(self, operator: str, inputs: Sequence[str], **attributes) -> str:
        """Adds a node with one output, whose name it returns."""
        name = f'{self._prefix}{next(self._count)}'
        self.nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def constant(self, array: np.ndarray) -> str:
        """Returns the name of a constant; equal ones are one."""
        array = np.asarray(array, order='C')  # A scalar stays one.
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = name = f'{self._prefix}c{len(self._constants)}'
            self.initializers.append(numpy_helper.from_array(array, name))
        return self._constants[key]

    def reshape(self, tensor: str, sizes: Sequence[int]) -> str:
        """Adds a reshape; a size of -1 is what remains."""
        return self.add('Reshape', [tensor, self.constant(np.array(sizes, np.int64))])

    def weight(self, part: Part, axes: Sequence[int], scale: np.ndarray | None) -> str:
        """Cuts a part out of a shared weight, in float32.

        Runtimes do so once, when they load the file.

        Args:
            part: of a stored variable.
            axes: which of the variable's axes stands where; its last axis are the
                output channels.
            scale: `[out]`, by which the output channels are multiplied; None for 1.
        """
        kept = self.weights.stored[part.path]
        whole = kept.values.shape
        tensor = self.weights.name(part.path, axes)
        runs = part.runs()
        cut = [n for n, axis in enumerate(axes) if len(runs[axis]) == 1]
        bounds = {n: runs[axes[n]][0][0] for n in cut}
        tensor = self._slice(
            tensor,
            {n: each for n, each in bounds.items() if each != slice(0, whole[axes[n]])},
        )
        for n, axis in enumerate(axes):
            if n not in bounds:
                pieces = [self._slice(tensor, {n: source}) for source, _ in runs[axis]]
                tensor = self.add('Concat', pieces, axis=n)
        if kept.values.dtype != np.float32:
            tensor = self.add('Cast', [tensor], to=TensorProto.FLOAT)
        if kept.scale is not None:
            own = kept.scale[part.indices[-1]]
            scale = own if scale is None else own * scale
        if scale is None:
            return tensor
        last = len(axes) - 1
        sizes = [-1 if axis == last else 1 for axis in axes]
        scale = np.asarray(scale, np.float32).reshape(sizes)
        return self.add('Mul', [tensor, self.constant(scale)])

    def _slice(self, tensor: str, bounds: Mapping[int, slice]) -> str:
        if not bounds:
            return tensor
        starts = [each.start for each in bounds.values()]
        ends = [each.stop for each in bounds.values()]
        inputs = [
            self.constant(np.array(each, np.int64))
            for each in (starts, ends, [*bounds])
        ]
        return self.add('Slice', [tensor, *inputs])
