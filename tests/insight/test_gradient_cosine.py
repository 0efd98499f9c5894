"""Cosines of the widths' gradients are those of the slice that both use."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slimjax
from slimjax.insight.gradient_cosine import GradientCosines
from slimjax.train.frozen import active_of
from slimjax.train.objective import Aux
from slimjax.train.state import abstract_variables
from tests.crossing import FIELDS, crossing_tables
from tests.train.small import Net

SHAPE = (8, 8, 3)
# Inputs and outputs of the convolution at each width.
SLICES = {0.25: (2, 4), 0.5: (4, 8), 1.0: (8, 16)}
PARAMS = {
    'SlimConv_0': {'kernel': jnp.zeros((3, 3, 3, 8)), 'bias': jnp.zeros(8)},
    'SlimConv_1': {'kernel': jnp.zeros((3, 3, 8, 16)), 'bias': jnp.zeros(16)},
    'SlimDense_0': {'kernel': jnp.zeros((16, 4)), 'bias': jnp.zeros(4)},
}


@pytest.fixture(scope='module')
def case():
    """Cosines of gradients that are stated, by width, of one convolution's slice."""
    rng = np.random.default_rng(0)
    gradients = {
        width: rng.standard_normal((3, 3, *size)).astype(np.float32)
        for width, size in SLICES.items()
    }
    gradients[0.25] = -gradients[0.5][..., :2, :4]

    def loss_fn(params, stats, batch, *, width, teacher=None):
        inputs, outputs = SLICES[width]
        kernel = params['SlimConv_1']['kernel'][..., :inputs, :outputs]
        return (kernel * gradients[width]).sum(), Aux(stats, kernel)

    norms = {
        f'SwitchableBatchNorm_{layer}': {
            str(width): {
                'scale': jnp.zeros(size[layer]),
                'bias': jnp.zeros(size[layer]),
            }
            for width, size in ((0.25, (2, 4)), (0.5, (4, 8)), (1.0, (8, 16)))
        }
        for layer in (0, 1)
    }
    cosines = GradientCosines(Net(), loss_fn, SHAPE)(PARAMS | norms, {}, {})
    return gradients, cosines


def test_the_cosine_is_that_of_the_slice_that_both_widths_use(case):
    gradients, cosines = case
    for wide, narrow in ((1.0, 0.5), (1.0, 0.25)):
        inputs, outputs = SLICES[narrow]
        one = gradients[wide][..., :inputs, :outputs].ravel()
        other = gradients[narrow].ravel()
        expected = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
        found = cosines[wide, narrow]['SlimConv_1']
        assert found == pytest.approx(expected, abs=1e-5)


def test_a_width_that_wants_the_opposite_has_a_cosine_of_minus_one(case):
    _, cosines = case
    assert cosines[0.5, 0.25]['SlimConv_1'] == pytest.approx(-1)


def test_of_tables_that_cross_what_both_use_is_compared():
    """All gradients are 1 on what a width uses, so that all widths want the same."""
    model = slimjax.create_model('resnet14', widths=crossing_tables(), **FIELDS)
    image_shape = (16, 16, 3)

    def loss_fn(params, stats, batch, *, width, teacher=None):
        active = active_of(model, width, image_shape)({'params': params, **stats})
        total = sum(leaf.sum() for leaf in jax.tree.leaves(active))
        return total, Aux(stats, total)

    params, stats = jax.tree.map(
        lambda leaf: jnp.ones(leaf.shape, leaf.dtype),
        abstract_variables(model, image_shape),
    )
    (found,) = GradientCosines(model, loss_fn, image_shape)(params, stats, {}).values()
    assert len(found) == 6
    np.testing.assert_allclose(list(found.values()), 1, rtol=1e-5)


def test_a_layer_without_gradient_has_no_direction(case):
    _, cosines = case
    assert cosines[1.0, 0.25]['SlimConv_0'] == 0
