"""Doubling is flax's transposed convolution, in arithmetic that is fast on the CPU."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slimjax.convolution import FORMS
from slimjax.detection.doubling import Doubling


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('taps', [2, 4])
def test_it_equals_a_transposed_convolution_and_its_gradients(taps, form):
    with jax.enable_x64(True):
        rng = np.random.default_rng(taps)
        images = jnp.asarray(rng.normal(size=(3, 5, 4, 6)))
        kernel = jnp.asarray(rng.normal(size=(taps, taps, 6, 7)))
        params = {'kernel': kernel, 'bias': jnp.asarray(rng.normal(size=7))}
        weights = jnp.asarray(rng.normal(size=(3, 10, 8, 7)))

        def transposed(params, images):
            if taps == 2:  # flax's last tap gives the first of two outputs.
                params = {**params, 'kernel': params['kernel'][::-1, ::-1]}
            module = nn.ConvTranspose(7, (taps, taps), (2, 2))
            return module.apply({'params': params}, images)

        def doubled(params, images):
            module = Doubling(7, taps=taps, conv_form=form)
            return module.apply({'params': params}, images)

        def value_and_gradients(function):
            def loss(params, images):
                outputs = function(params, images)
                return (weights * outputs).sum(), outputs

            gradient = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
            return jax.jit(gradient)(params, images)

        near = partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-12)
        jax.tree.map(
            near, value_and_gradients(doubled), value_and_gradients(transposed)
        )
