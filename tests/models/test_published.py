"""Each width against an independent narrow network, and against published numbers."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slimjax
from slimjax.models import SlimmableClassifier
from tests.models import golden, independent
from tests.models.copying import copied, copied_statistics, unused

MODELS = {
    'mobilenet_v1': (independent.MobileNetV1, (0.25, 0.5, 0.75, 1.0)),
    'mobilenet_v2': (independent.MobileNetV2, (0.35, 0.5, 0.75, 1.0)),
    'shufflenet': (independent.ShuffleNet, (0.5, 1.0, 2.0)),
    'resnet50': (independent.ResNet, (0.25, 0.5, 0.75, 1.0)),
}
CASES = [(name, width) for name, (_, widths) in MODELS.items() for width in widths]
CLASSES = 10
IMAGES = jax.ShapeDtypeStruct((4, 64, 64, 3), jnp.float32)


class Pass(NamedTuple):
    """One network's results on the published images, in float64."""

    gradient: dict
    loss: jax.Array
    train_logits: jax.Array
    stats: dict
    eval_logits: jax.Array


class Case(NamedTuple):
    name: str
    width: float
    model: SlimmableClassifier
    variables: dict
    passes: Pass


def run(forward, params, stats):
    """Trains and evaluates once.

    Args:
        forward: called as `forward(params, stats, images, train)`, returns logits and
            all statistics.
        params: parameters.
        stats: statistics.
    """

    def both(params, stats, images):
        def loss(params):
            logits, changed = forward(params, stats, images, True)
            likelihood = jax.nn.log_softmax(logits)[jnp.arange(4), jnp.array(labels)]
            return -likelihood.mean(), (logits, changed)

        labels = golden.LABELS
        (value, aux), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        return Pass(gradient, value, *aux, forward(params, stats, images, False)[0])

    return jax.device_get(jax.jit(both)(params, stats, golden.images()))


def run_slimmable(model, variables, width):
    """`run` on one width of a slimmable network."""

    def forward(params, stats, images, train):
        if train:
            return slimjax.apply_train(model, params, stats, images, width=width)
        variables = {'params': params, **stats}
        return model.apply(variables, images, width=width), stats

    return run(forward, *slimjax.split_variables(variables))


def compute(name, width):
    """The slimmable network at one width."""
    widths = MODELS[name][1]
    with jax.enable_x64(True):
        # A plain depthwise convolution compiles faster, but runs slower when wide.
        form = 'plain' if width == widths[0] else 'auto'
        model = golden.model(f's_{name}', CLASSES, conv_form=form)
        variables = golden.fill(model)

        passes = run_slimmable(model, variables, width)
    return Case(name, width, model, variables, passes)


def check_published(name, width, found):
    numbers = golden.NUMBERS[name][str(width)]
    stem = 'stem0' if name == 's_shufflenet' else 'stem'
    # Nine decimals are kept of the published logits.
    close = functools.partial(assert_close, rtol=2e-7, atol=2e-8)
    close(found.eval_logits[:2], np.array(numbers['eval_logits']))
    close(found.train_logits, np.array(numbers['train_logits']))
    close(found.loss, np.float64(numbers['train_loss']))
    for kernel, total in (
        (found.gradient[stem]['conv']['kernel'], numbers['gradient_of_first_kernel']),
        (
            found.gradient['classifier']['kernel'],
            numbers['gradient_of_classifier_kernel'],
        ),
    ):
        close(np.abs(kernel).sum(), np.float64(total))
    own = found.stats[slimjax.stats_collection(width)][stem]['norm']['mean']
    expected = np.array(numbers['first_running_mean'])
    close(own[: len(expected)], expected)


def assert_close(found, expected, rtol, atol=0.0):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol),
        found,
        expected,
    )


# What one network needs to be compiled takes half a minute and more.
@pytest.mark.slow
@pytest.mark.parametrize(('name', 'width'), CASES)
def test_a_width_is_a_network_of_its_own(name, width):
    """The published one, the narrow one; it leaves alone what is other widths'."""
    case = compute(name, width)
    check_published(f's_{name}', width, case.passes)
    check_narrow_network_forward_and_backward(case)
    check_unused_gradient_is_exactly_zero(case)
    check_statistics_of_other_widths_are_left_alone(case)


def check_narrow_network_forward_and_backward(case):
    name, width, _, variables, found = case
    params, stats = slimjax.split_variables(variables)
    narrow = MODELS[name][0](width, CLASSES)
    shapes = shapes_of(narrow)
    template, values = shapes['params'], per_channel(narrow, shapes)
    with jax.enable_x64(True):
        own = copied(name, params, template, width)
        own_stats = copied_statistics(name, params, stats, width)

        def forward(params, stats, images, train):
            variables = {'params': params, 'batch_stats': stats}
            logits, changed = narrow.apply(
                variables, images, train, mutable=['batch_stats']
            )
            return logits, changed['batch_stats']

        expected = run(forward, own, own_stats)
    scale = max(np.abs(leaf).max() for leaf in jax.tree.leaves(expected.gradient))
    close = functools.partial(assert_close, rtol=1e-9, atol=1e-11 * scale)
    close(found.eval_logits, expected.eval_logits)
    close(found.train_logits, expected.train_logits)
    close(copied(name, found.gradient, template, width), expected.gradient)
    changed = copied_statistics(name, params, found.stats, width)
    # flax keeps the biased variance, slimjax the unbiased one, as PyTorch does.
    unbiased = {
        unit: {
            'BatchNorm_0': {
                'mean': leaves['BatchNorm_0']['mean'],
                'var': 0.9 * before['BatchNorm_0']['var']
                + (leaves['BatchNorm_0']['var'] - 0.9 * before['BatchNorm_0']['var'])
                * (values[unit] / (values[unit] - 1)),
            }
        }
        for (unit, leaves), before in (
            (item, own_stats[item[0]]) for item in expected.stats.items()
        )
    }
    assert_close(changed, unbiased, rtol=1e-9, atol=1e-12)


def shapes_of(narrow):
    return jax.eval_shape(narrow.init, jax.random.key(0), IMAGES)


def per_channel(narrow, shapes):
    """How many values of a channel each BatchNorm of the narrow network averages."""

    def outputs(variables, images):
        return narrow.apply(
            variables,
            images,
            capture_intermediates=lambda module, _: 'Unit' in (module.name or ''),
            mutable=['intermediates'],
        )[1]['intermediates']

    found = jax.eval_shape(outputs, shapes, IMAGES)
    return {
        unit: np.prod(leaves['__call__'][0].shape[:-1])
        for unit, leaves in found.items()
    }


def check_unused_gradient_is_exactly_zero(case):
    template = shapes_of(MODELS[case.name][0](case.width, CLASSES))['params']
    params, gradient = case.variables['params'], case.passes.gradient
    for path, values in unused(case.name, gradient, template, case.width):
        assert not values.any(), path
    used = sum(np.count_nonzero(leaf) for leaf in jax.tree.leaves(gradient))
    narrow_size = sum(leaf.size for leaf in jax.tree.leaves(template))
    assert 0.9 * narrow_size < used <= narrow_size
    assert case.width == max(case.model.widths) or narrow_size < sum(
        leaf.size for leaf in jax.tree.leaves(params)
    )


def check_statistics_of_other_widths_are_left_alone(case):
    _, stats = slimjax.split_variables(case.variables)
    own = case.model.stats_collections(case.width)
    for collection, leaves in case.passes.stats.items():
        same = jax.tree.map(
            lambda a, b: np.array_equal(a, b), leaves, stats[collection]
        )
        assert set(jax.tree.leaves(same)) == {collection not in own}
