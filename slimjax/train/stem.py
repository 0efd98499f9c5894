"""Convolving the images once for all widths.

Every width sees the same images, so what its first convolution gives are the first
channels of the widest's. Forward it is computed once, and backward once, from the sum
of what comes back from all widths. For that, its maps are cut and their gradients added
up for every width: fewer products for more traffic, so not every platform gains.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import unflatten_dict

from slimjax.convolution import resolve_form
from slimjax.models.common import STEM, ConvNorm, SlimmableClassifier
from slimjax.train.objective import Aux, LossFn, sum_over_widths
from slimjax.width import Width, widest


def shares_stem(model: SlimmableClassifier) -> bool:
    """Whether a step convolves the images once: where its convolutions are the CPU's.

    Compiled for a TPU, a step of S-MobileNet moves a tenth more with a shared stem, and
    waits for its memory (docs/performance_tpu.md).

    Example:
        >>> import slimjax
        >>> shares_stem(slimjax.create_model('resnet14', conv_form='plain'))
        False
    """
    # A network of the user's own need not have the field, and has no stem to share.
    return resolve_form(getattr(model, 'conv_form', 'plain')) == 'products'


def sum_with_shared_stem(
    model: SlimmableClassifier, loss_fn: LossFn, widths: Sequence[Width], **options
) -> Callable[..., tuple[Any, Any, dict]]:
    """Returns what `sum_over_widths` does, with the images convolved once.

    Args:
        model: whose passes `loss_fn` makes; a model without such a convolution works
            as well, and gains nothing.
        loss_fn: as of `sum_over_widths`, where `batch['image']` holds the images. It
            must hand all of `stats` to the model.
        widths: the widths to sum over, with the model's widest among them.
        **options: of `sum_over_widths`.

    Returns:
        `f(params, stats, batch) -> (gradients, stats, {width: WidthResult})`, equal to
        that of `sum_over_widths` up to rounding.

    Example:
        >>> import slimjax
        >>> from slimjax.train.objective import Aux
        >>> fields = {'widths': (0.5, 1.0), 'stage_sizes': (1,)}
        >>> model = slimjax.create_model('resnet14', num_classes=3, **fields)
        >>> def loss_fn(params, stats, batch, *, width, teacher=None):
        ...     logits, stats = slimjax.apply_train(
        ...         model, params, stats, batch['image'], width=width)
        ...     return logits.sum(), Aux(stats, logits)
        >>> batch = {'image': jnp.ones((2, 32, 32, 3))}
        >>> variables = jax.jit(model.init)(jax.random.key(0), batch['image'])
        >>> params, stats = slimjax.split_variables(variables)
        >>> f = jax.jit(sum_with_shared_stem(model, loss_fn, model.widths))
        >>> gradients, _, results = f(params, stats, batch)
        >>> sorted(results)
        [0.5, 1.0]
    """

    def with_stem(trained, stats, batch, *, width, teacher=None):
        params, stem = trained
        loss, aux = loss_fn(
            params, {**stats, STEM: stem}, batch, width=width, teacher=teacher
        )
        own = {name: aux.stats[name] for name in stats}
        return loss, Aux(own, aux.logits)

    summed = sum_over_widths(with_stem, widths, **options)

    def combined(params, stats, batch):
        def stem_of(params):
            return _convolved_images(model, {'params': params, **stats}, batch['image'])

        stem, back = jax.vjp(stem_of, params)
        (gradients, of_stem), stats, results = summed((params, stem), stats, batch)
        (of_params,) = back(of_stem)
        return jax.tree.map(jnp.add, gradients, of_params), stats, results

    return combined


class _Enough(Exception):
    """The images are convolved."""


def _convolved_images(model, variables, images) -> Mapping[str, Any]:
    """The collection `STEM`; what follows the images' convolutions is not traced."""
    found = {}

    def watched(call, arguments, options, context):
        layer = context.module
        if not isinstance(layer, ConvNorm) or context.method_name != '__call__':
            return call(*arguments, **options)
        if not arguments[0].same:
            raise _Enough
        maps = call(*arguments, **options)
        found[(*layer.path, 'maps')] = layer.get_variable(STEM, 'maps')
        return maps

    with nn.intercept_methods(watched), contextlib.suppress(_Enough):
        model.apply(
            variables,
            images,
            width=widest(model.widths),
            train=False,
            mutable=[STEM],
        )
    return unflatten_dict(found)
