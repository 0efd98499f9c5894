"""The moments of what enters each norm: measured on devices, put together on the host.

Means and variances are taken on each device in the type of the statistics. They are
merged here in float64, exactly: the variance of all values, with that between batches,
and not the mean of the batches' variances.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from slimjax.batch_moments import group_moments
from slimjax.dtypes import at_least_float32
from slimjax.insight.passes import changed_fields
from slimjax.norm import SHARED_STATS, SwitchableBatchNorm, stats_collection
from slimjax.train.parallel import AXIS

Path = tuple[str, ...]


class Moments(NamedTuple):
    """Of the values of each channel.

    Attributes:
        mean: `[channels]`, float64.
        var: biased, likewise.
        count: how many values of a channel.
    """

    mean: np.ndarray
    var: np.ndarray
    count: int

    def merged(self, other: 'Moments') -> 'Moments':
        """Returns the moments of the values of both (Chan et al., 1979).

        Example:
            >>> one, two = (Moments(np.array([x]), np.zeros(1), 1) for x in (1.0, 3.0))
            >>> one.merged(two).mean.item(), one.merged(two).var.item()
            (2.0, 1.0)
        """
        count = self.count + other.count
        share = other.count / count
        step = other.mean - self.mean
        return Moments(
            self.mean + step * share,
            self.var * (1 - share)
            + other.var * share
            + np.square(step) * (share * (1 - share)),
            count,
        )

    def kept_var(self, unbiased: bool) -> np.ndarray:
        """Returns the variance that a norm keeps of these values."""
        return self.var * (self.count / (self.count - 1)) if unbiased else self.var


class Norm(NamedTuple):
    """A norm of a network at one width.

    Attributes:
        collection: where its statistics stand.
        active: which elements of them its width uses.
        unbiased: whether it keeps the unbiased variance.
    """

    collection: str
    active: np.ndarray
    unbiased: bool


def find_norms(
    model: nn.Module, keywords: Mapping[str, Any], variables: Any, images: Any
) -> dict[Path, Norm]:
    """Returns the norms of a pass in the order in which they run; computes nothing.

    Args:
        model: a slimmable module.
        keywords: of the pass, such as `width`.
        variables: arrays or their shapes.
        images: likewise.
    """
    found = {}

    def visit(layer, inputs, again):
        width = keywords['width']
        shared = layer.mode == 'shared'
        collection = SHARED_STATS if shared else stats_collection(width)
        size = layer.get_variable(collection, 'mean').shape[0]
        parts = np.arange(size).reshape(layer.groups, -1)
        active = parts[:, : inputs.shape[-1] // layer.groups].ravel()
        found[layer.path] = Norm(collection, active, layer.unbiased)
        return again()

    with norms_visited(visit):
        jax.eval_shape(
            lambda variables, images: model.apply(variables, images, **keywords),
            variables,
            images,
        )
    return found


def make_measure(
    model: nn.Module,
    keywords: Mapping[str, Any],
    preprocess: Callable[[Array], Array],
    *,
    by_batch: bool,
) -> Callable[[Any, Mapping[str, Array]], dict[Path, list[tuple[Array, ...]]]]:
    """Returns what measures a batch, to be mapped over devices.

    Args:
        model: a slimmable module.
        keywords: of an inference pass, such as `width`.
        preprocess: makes the model's input of `batch['image']`.
        by_batch: whether the norms normalise by the batch of all devices together,
            instead of by their running statistics.

    Returns:
        `measure(variables, batch) -> {path: [(mean, var, count), ...]}`, for each call
        of each norm, with an axis of devices in front; the same on all devices.
    """

    def measure(variables, batch):
        found = {}

        def visit(layer, inputs, again):
            values = inputs.astype(at_least_float32(layer.param_dtype))
            own = group_moments(values, 'device', None)
            count = jnp.asarray(own.count, jnp.int32)
            found.setdefault(layer.path, []).append((own.mean[0], own.var[0], count))
            if not by_batch:
                return again()
            with changed_fields(layer, norm_batch='global', axis_name=AXIS):
                return again(train=True)

        changed = [stats_collection(keywords['width']), SHARED_STATS]
        changed = [name for name in changed if name in variables]
        with norms_visited(visit):
            model.apply(
                variables,
                preprocess(batch['image']),
                **keywords,
                mutable=changed if by_batch else False,
            )
        return lax.all_gather(found, AXIS)

    return measure


def merged_moments(
    measured: Iterable[Mapping[Path, list[tuple[Array, ...]]]],
) -> dict[Path, Moments]:
    """Returns the moments of all batches, devices and calls together, by norm.

    Args:
        measured: what `make_measure` returns, of each batch.
    """
    totals = {}
    for batch in measured:
        for path, calls in jax.device_get(batch).items():
            for means, variances, counts in calls:
                for mean, var, count in zip(means, variances, counts, strict=True):
                    own = Moments(np.float64(mean), np.float64(var), int(count))
                    known = totals.get(path)
                    totals[path] = own if known is None else known.merged(own)
    return totals


@contextlib.contextmanager
def norms_visited(visit: Callable) -> Iterator[None]:
    """Has `visit(layer, inputs, again)` run in place of each norm's call."""

    def interceptor(call, args, kwargs, context):
        layer = context.module
        if (
            not isinstance(layer, SwitchableBatchNorm)
            or context.method_name != '__call__'
        ):
            return call(*args, **kwargs)
        inputs = args[0] if args else kwargs['inputs']
        return visit(layer, inputs, lambda **more: call(*args, **{**kwargs, **more}))

    with nn.intercept_methods(interceptor):
        yield
