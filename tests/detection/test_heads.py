"""The heads start as those of the original codes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slimjax.detection import create_model
from slimjax.detection.heads import KeypointHead
from slimjax.layers import SlimConv

CONV = functools.partial(SlimConv, slim_output=False)


def test_the_keypoint_head_starts_as_pytorch_starts_it():
    """torch: kaiming_normal_(ConvTranspose2d(32, 17, 4).weight, mode='fan_out')."""
    head = KeypointHead(17, (32,), CONV)
    params = head.init(jax.random.key(0), jnp.ones((1, 1, 14, 14, 8)))['params']
    kernel = params['upsample']['kernel']
    assert kernel.shape == (4, 4, 32, 17)
    # So many parts has each output of a kernel of 4 x 4: torch counts all of them.
    np.testing.assert_allclose(kernel.std(), np.sqrt(2 / (32 * 16)), rtol=0.05)


@pytest.mark.parametrize(
    ('preset', 'deviation'),
    [('published', np.sqrt(2 / 5)), ('torchvision', np.sqrt(2 / 5)), ('tiny', 0.001)],
)
def test_the_last_layer_of_masks_starts_as_the_preset_says(preset, deviation):
    fields = {'num_classes': 5, 'widths': (1.0,), 'mask_features': (256,) * 2}
    model = create_model('mask_rcnn', preset, **fields)
    features = jnp.ones((1, 1, 14, 14, 8))

    @jax.jit
    def start(key):
        return model.init(key, features, method=lambda m, x: m.mask_head(x))

    kernel = start(jax.random.key(0))['params']['mask_head']['masks']['kernel']
    conv = next(leaf for leaf in jax.tree.leaves(kernel) if leaf.ndim == 4)
    np.testing.assert_allclose(conv.std(), deviation, rtol=0.1)
