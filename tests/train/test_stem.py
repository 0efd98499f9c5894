"""Convolving the images once changes nothing but the time."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slimjax
from slimjax.models.common import STEM
from slimjax.train.stem import shares_stem, sum_with_shared_stem
from tests.crossing import FIELDS, crossing_tables
from tests.slow import slow_but


@pytest.mark.parametrize('tables', [False, True])
@pytest.mark.parametrize('distill', slow_but([False, True], False))
def test_gradients_statistics_and_losses_are_those_of_every_width_by_itself(
    distill, tables
):
    with jax.enable_x64(True):
        model = slimjax.create_model(
            'resnet14',
            widths=crossing_tables() if tables else (0.25, 0.5, 1.0),
            dtype=jnp.float64,
            param_dtype=jnp.float64,
            **FIELDS,
        )
        images = jax.random.normal(jax.random.key(1), (4, 16, 16, 3), jnp.float64)
        batch = {'image': images, 'label': jnp.arange(4)}
        variables = jax.jit(model.init)(jax.random.key(0), images)
        params, stats = slimjax.split_variables(variables)

        def loss_fn(params, stats, batch, *, width, teacher=None):
            logits, stats = slimjax.apply_train(
                model, params, stats, batch['image'], width=width
            )
            loss = slimjax.cross_entropy(logits, batch['label'], teacher)
            return loss, slimjax.Aux(stats, logits)

        found, expected = (
            jax.jit(combine(loss_fn, model.widths, distill=distill))(
                params, stats, batch
            )
            for combine in (
                partial(sum_with_shared_stem, model),
                slimjax.sum_over_widths,
            )
        )
    assert np.abs(found[0]['stem']['conv']['kernel']).max() > 1e-3
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12),
        found,
        expected,
    )


@pytest.mark.parametrize(
    ('name', 'convolutions'),
    [
        ('mobilenet_v1', 1),
        ('mobilenet_v2', 1),
        ('resnet14', 1),
        ('shufflenet', 3),
        ('autoslim_mobilenet_v1', 1),
    ],
)
def test_every_family_shares_its_convolutions_of_the_images(name, convolutions):
    model = slimjax.create_model(name, num_classes=4)
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    assert STEM not in variables
    apply = partial(model.apply, mutable=[STEM])
    _, made = jax.eval_shape(apply, variables, images)
    assert len(jax.tree.leaves(made)) == convolutions


def test_the_convolutions_of_images_are_shared_where_it_was_measured_to_pay():
    model = slimjax.create_model('resnet14', num_classes=4)
    assert shares_stem(model)  # The tests run on a CPU.
    assert not shares_stem(model.clone(conv_form='plain'))
