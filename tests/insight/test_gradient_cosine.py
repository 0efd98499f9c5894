"""Cosines of the widths' gradients are those of the slice that both use."""

import jax
import numpy as np
import pytest

from slimjax.insight.gradient_cosine import GradientCosines
from slimjax.train.objective import Aux, width_gradient
from tests.train.small import problem

SHAPE = (8, 8, 3)


@pytest.fixture(scope='module')
def case():
    model, params, stats, batch, loss_fn = problem()
    cosines = GradientCosines(model, loss_fn, SHAPE)(params, stats, batch)
    gradients = {
        width: jax.jit(width_gradient(loss_fn, width))(params, stats, batch, None)[0]
        for width in model.widths
    }
    return model, params, stats, batch, loss_fn, cosines, gradients


def test_the_cosine_is_that_of_the_first_channels(case):
    *_, cosines, gradients = case
    for wide, narrow in ((1.0, 0.5), (1.0, 0.25), (0.5, 0.25)):
        # The second convolution has 16 channels of 8 inputs.
        one, other = (
            np.asarray(gradients[width]['SlimConv_1']['kernel'])[
                ..., : int(8 * narrow), : int(16 * narrow)
            ].ravel()
            for width in (wide, narrow)
        )
        expected = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
        found = cosines[wide, narrow]['SlimConv_1']
        assert found == pytest.approx(expected, abs=1e-5)


def test_a_narrow_width_that_asks_for_the_opposite_has_a_cosine_of_minus_one(case):
    model, params, stats, batch, *_ = case

    def loss_fn(params, stats, batch, *, width, teacher=None):
        # Of the first convolution alone, whose slice is the same at any width.
        sign = -1 if width == 0.25 else 1
        total = params['SlimConv_0']['kernel'][..., : int(8 * width)].sum()
        return sign * total, Aux(stats, total[None])

    cosines = GradientCosines(model, loss_fn, SHAPE)(params, stats, batch)
    assert cosines[1.0, 0.5]['SlimConv_0'] == pytest.approx(1)
    assert cosines[1.0, 0.25]['SlimConv_0'] == pytest.approx(-1)
    # A layer without gradient has no direction, and no NaN.
    assert cosines[1.0, 0.25]['SlimConv_1'] == 0
