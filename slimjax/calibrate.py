"""BatchNorm statistics of a network whose weights are fixed (US-Nets, section 3.3).

A width that was never trained has no statistics, and neither have averaged weights.
They are computed here from images, the weights left as they are, in one of two ways:

`'pooled'`: every batch is normalised by itself, as in training, and the statistics are
the exact moments of what entered each norm, over all batches. One pass over the images.
But the network that is then evaluated normalises by these statistics, and not by each
batch's: what enters its deeper norms is a little different.

`'sequential'`: the statistics are those that the network has when it uses them, norm
after norm: the only ones that reproduce themselves. Passes are repeated until they do,
as many as norms lie behind one another at most.
"""

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

import flax.linen as nn
import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import Array

from slimjax.gap import statistics_gap
from slimjax.insight.passes import pass_keywords
from slimjax.moments import (
    Moments,
    Norm,
    Path,
    find_norms,
    make_measure,
    merged_moments,
)
from slimjax.norm import SHARED_STATS, stats_collection
from slimjax.train.parallel import (
    pmapped,
    prefetched,
    replicated,
    shared_between_devices,
)
from slimjax.variables import split_variables
from slimjax.width import ChannelTable, Width, order, resolve, widest_first, width_name

Method = Literal['pooled', 'sequential']
METHODS = ('pooled', 'sequential')
Batches = Iterable[Array | np.ndarray | Mapping[str, Array | np.ndarray]]


def calibrate(
    model: nn.Module,
    variables: Mapping[str, Any],
    batches: Batches,
    widths: Sequence[Width | str] | None = None,
    *,
    method: Method = 'pooled',
    say: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Returns `variables` with BatchNorm statistics computed anew.

    Args:
        model: a slimmable module of `SwitchableBatchNorm` layers.
        variables: of the model; the statistics of `widths` may be missing.
        batches: training images as the model takes them, transformed as for evaluation,
            `[batch, height, width, channels]`, or mappings that hold them as `'image'`;
            where a `'mask'` is with them, it must be of all.
            Their sizes must divide over the local devices. 1,024 to 10,000 images do.
        widths: those that get statistics, of which the model may not know some; a
            string names one of its channel tables; None for all of the model's.
        method: `'pooled'` or `'sequential'`, see above.
        say: prints a line for a person: the gap between the two methods.

    Returns:
        The variables, of `model.clone(widths=...)` where widths are new. Other widths
        keep their statistics.

    Raises:
        ValueError: no images, or padding among them; a width wider than the model, or
            one whose scale and bias were never trained; or statistics that several of
            `widths` share.

    Example:
        >>> import jax, jax.numpy as jnp, slimjax
        >>> model = slimjax.create_model('resnet14', widths=(0.5, 1.0), num_classes=10,
        ...                              norm='shared_affine', stage_sizes=(1,))
        >>> batches = [jax.random.normal(jax.random.key(1), (8, 8, 8, 3))]
        >>> variables = jax.jit(model.init)(jax.random.key(0), batches[0])
        >>> variables = calibrate(model, variables, batches, widths=(0.75,))
        >>> sorted(variables['batch_stats_0.75']['stem']['norm'])
        ['mean', 'var']
    """
    calibrator = Calibrator(model, widths)
    params, stats = split_variables(variables)
    stats = calibrator.stats(params, stats, batches, method=method, say=say)
    return {'params': params, **stats}


class Calibrator:
    """Calibrates again and again with programs that are compiled once.

    Args:
        model: as in `calibrate`.
        widths: as in `calibrate`.
        preprocess: makes the model's input of a batch's images, on the device.
        average_shared: let statistics that several widths share, as in the tail of the
            published MobileNet v2, be the mean of theirs, as training keeps them.

    Raises:
        ValueError: widths that do not go together, or that the model is too narrow for.
    """

    def __init__(
        self,
        model: nn.Module,
        widths: Sequence[Width | str] | None = None,
        *,
        preprocess: Callable[[Array], Array] = lambda images: images,
        average_shared: bool = False,
    ):
        own = tuple(pass_keywords(model))
        if isinstance(widths, int | float | str | ChannelTable):
            raise ValueError(f'widths={widths!r}: a sequence of widths is expected')
        asked = [_named(width, own) for width in widths] if widths is not None else own
        self.widths = widest_first(asked)
        new = [width for width in self.widths if width not in own]
        for width in new:
            _check_stored(width, own)
        if new:
            pass_keywords(model, new)  # Refused where it has none to choose from.
        self._model = model.clone(widths=(*model.widths, *new)) if new else model
        self._keywords = pass_keywords(self._model)
        self._preprocess, self._average_shared = preprocess, average_shared
        self._programs = {}

    def stats(
        self,
        params: Any,
        stats: Mapping[str, Any],
        batches: Batches,
        *,
        method: Method = 'pooled',
        say: Callable[[str], None] | None = None,
    ) -> dict[str, Any]:
        """Returns all collections, those of the widths computed from `batches`.

        Args:
            params: the weights.
            stats: all other collections; those of the widths may be missing.
            batches: as in `calibrate`; of several processes, each one's part. They are
                held in memory, as they are gone through for each width.
            method: as in `calibrate`.
            say: prints a line for a person; None saves `'pooled'` the pass by which it
                tells its gap.

        Raises:
            ValueError: as in `calibrate`.
        """
        if method not in METHODS:
            raise ValueError(f'method={method!r}; allowed: {", ".join(METHODS)}')
        if isinstance(batches, Mapping) or hasattr(batches, 'shape'):
            raise ValueError(
                f'batches is one {type(batches).__name__}: a list of them is expected'
            )
        batches = [_checked(batch) for batch in batches]
        if not batches:
            raise ValueError('there is no batch to calibrate on')
        given = set(stats)
        stats = self._complete(params, stats, batches[0])
        norms = self._norms(params, stats, batches[0])
        self._check_shared(norms, method)
        params = replicated(params)
        pooled = {
            width: self._measured(width, params, stats, batches, by_batch=True)
            for width in self.widths
        }
        measured = {
            norm.collection for each in norms.values() for norm in each.values()
        }
        # Of widths that were not asked for, nothing is known that was not given.
        stats = {name: stats[name] for name in given | measured}
        first = _replaced(stats, norms, pooled)
        if method == 'pooled':
            for width in self.widths if say else ():
                then = self._measured(width, params, first, batches, by_batch=False)
                then = _replaced(first, norms, {width: then})
                say(
                    f'width {width_name(width)}: pooled statistics, and those that the '
                    f'network then has: {statistics_gap(first, then, width).line()}'
                )
            return first
        last = first
        for width in self.widths:
            last, passes = self._repeated(width, params, last, batches, norms)
            if say:
                say(
                    f'width {width_name(width)}: pooled statistics, and sequential of '
                    f'{passes} passes: {statistics_gap(first, last, width).line()}'
                )
        return last

    def _repeated(self, width, params, stats, batches, norms):
        """Measures until the statistics reproduce themselves; returns how often."""
        collection = next(iter(norms[width].values())).collection
        dtype = jax.tree.leaves(stats[collection])[0].dtype
        tolerance = 64 * np.finfo(dtype).eps
        passes, largest = 0, np.inf
        while largest > tolerance and passes < len(norms[width]):
            found = self._measured(width, params, stats, batches, by_batch=False)
            renewed = _replaced(stats, norms, {width: found})
            largest = statistics_gap(stats, renewed, width).largest
            stats, passes = renewed, passes + 1
        return stats, passes

    def _measured(
        self, width, params, stats, batches, *, by_batch
    ) -> dict[Path, Moments]:
        names = (stats_collection(width), SHARED_STATS)
        stats = replicated({name: stats[name] for name in names if name in stats})
        program = self._program(width, by_batch)
        return merged_moments(
            program({'params': params, **stats}, batch) for batch in prefetched(batches)
        )

    def _program(self, width: Width, by_batch: bool) -> Callable:
        key = (width, by_batch)
        if key not in self._programs:
            self._programs[key] = pmapped(
                make_measure(
                    self._model,
                    self._keywords[width],
                    self._preprocess,
                    by_batch=by_batch,
                )
            )
        return self._programs[key]

    def _complete(self, params, stats, batch) -> dict[str, Any]:
        """The statistics, with place for those of widths that have none yet."""
        widest = next(iter(self._keywords.values()))
        init = functools.partial(self._model.init, **widest)
        key = jax.eval_shape(jax.random.key, 0)
        variables = jax.eval_shape(init, key, self._shape(batch))
        _check_params(variables['params'], params)
        whole = {
            name: jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), tree)
            for name, tree in variables.items()
            if name != 'params'
        }
        return {**whole, **stats}

    def _norms(self, params, stats, batch) -> dict[Width, dict[Path, Norm]]:
        variables, images = {'params': params, **stats}, self._shape(batch)
        norms = {
            width: find_norms(self._model, self._keywords[width], variables, images)
            for width in self.widths
        }
        if not all(norms.values()):
            raise ValueError(
                f'{type(self._model).__name__} has no SwitchableBatchNorm to calibrate'
            )
        return norms

    def _shape(self, batch) -> jax.ShapeDtypeStruct:
        image = jax.ShapeDtypeStruct(
            (1, *batch['image'].shape[1:]), batch['image'].dtype
        )
        return jax.eval_shape(self._preprocess, image)

    def _check_shared(self, norms, method: Method) -> None:
        shared = [
            '/'.join(path)
            for path, norm in norms[self.widths[0]].items()
            if norm.collection == SHARED_STATS
        ]
        together = self._average_shared and method == 'pooled'
        if len(self.widths) == 1 or not shared or together:
            return
        names = ', '.join(map(width_name, self.widths))
        raise ValueError(
            f'widths {names} share the statistics of {", ".join(shared[:3])}, which '
            'can be right for one width at a time only: calibrate one width, or give '
            "each its own, by the model's norm='shared_affine' (all norms) or "
            'private_tail_stats=True (the tail of MobileNet v2)'
        )


def _named(width: Width | str, own: Sequence[Width]) -> Width:
    return resolve(width, own) if isinstance(width, str) else width


def _check_stored(new: Width, own: Sequence[Width]) -> None:
    """Refuses a new width that has more channels in a layer than are stored."""
    wider = order(new) > order(own[0])
    if isinstance(new, ChannelTable) and isinstance(own[0], ChannelTable):
        # The tables of a model may be the widest in different layers.
        wider = any(
            count > max(each.of(path) for each in own) for path, count in new.channels
        )
    if wider:
        raise ValueError(
            f'width={width_name(new)} is wider than the widest of the model, '
            f'{width_name(own[0])}, whose kernels are stored'
        )


def _checked(batch) -> dict[str, np.ndarray]:
    named = batch if isinstance(batch, Mapping) else {'image': batch}
    if 'image' not in named:
        raise ValueError(
            f"a batch with {', '.join(map(repr, named))} has no 'image' to calibrate on"
        )
    images = np.asarray(named['image'])
    blanks = np.sum(np.asarray(named.get('mask', 1)) == 0)
    if blanks:
        raise ValueError(
            f"batch['mask'] tells {blanks} of {len(images)} images for padding, which "
            'would count as black ones: calibrate on whole batches'
        )
    # Of several processes, each has its part.
    shared_between_devices(len(images) * jax.process_count())
    return {'image': images}


def _check_params(expected: Any, found: Any) -> None:
    needed, known = flatten_dict(expected), flatten_dict(found)
    lacking = ['/'.join(path) for path in needed if path not in known]
    if lacking:
        raise ValueError(
            f'the variables have no {lacking[0]}, and {len(lacking) - 1} others: a '
            'width that was never trained has a scale and bias only where '
            "norm='shared_affine'"
        )


def _replaced(
    stats: Mapping[str, Any],
    norms: Mapping[Width, Mapping[Path, Norm]],
    found: Mapping[Width, Mapping[Path, Moments]],
) -> dict[str, Any]:
    """The collections with what was found; what widths share is the mean of theirs."""
    flat, sums, uses = flatten_dict(stats), {}, {}
    for width, moments in found.items():
        for path, own in moments.items():
            norm = norms[width][path]
            values = {'mean': own.mean, 'var': own.kept_var(norm.unbiased)}
            if not all(np.isfinite(value).all() for value in values.values()):
                raise ValueError(
                    f'{"/".join(path)} sees values at width {width_name(width)} that '
                    'are not finite: an image or a weight is not'
                )
            for leaf, value in values.items():
                key = (norm.collection, *path, leaf)
                size = flat[key].size
                total = sums.setdefault(key, np.zeros(size))
                total[norm.active] += value
                uses.setdefault(key, np.zeros(size))[norm.active] += 1
    for key, total in sums.items():
        old, count = np.asarray(flat[key]), uses[key]
        mean = total / np.maximum(count, 1)
        flat[key] = np.where(count > 0, mean, old).astype(old.dtype)
    return unflatten_dict(flat)
