"""What the published PyTorch networks compute on parameters that anyone can draw.

Each parameter and statistic is drawn by NumPy from a seed that is the checksum of its
name in the published checkpoint. `golden.json` keeps what the published code, run in
float64, made of them: for each width the logits of two images of 64 px in evaluation,
and of four in training the loss, the logits, sums of absolute gradients and running
means; and of one image of 224 px ten logits, their sum and the largest.
"""

import json
import pathlib
import zlib

import jax
import jax.numpy as jnp
import numpy as np

from slimjax.interop.pytorch import load_torch, torch_state_dict
from slimjax.models import create_model

NUMBERS = json.loads(pathlib.Path(__file__).with_suffix('.json').read_text())
LABELS = (1, 2, 3, 4)
_CLASSIFIER_BIASES = ('classifier.0.bias', 'classifier.1.bias', 'fc.bias')


def images(count=4, size=64):
    """Images for training; at 64 px the first two are those of evaluation."""
    drawn = np.random.RandomState(7).standard_normal((count, 3, size, size))
    return drawn.transpose(0, 2, 3, 1)


def draw(key, shape):
    """The published array called `key`, in PyTorch's layout."""
    rng = np.random.RandomState(zlib.crc32(key.encode()))
    values = rng.standard_normal(int(np.prod(shape))).reshape(shape)
    if len(shape) == 4:
        return values * np.sqrt(2 / np.prod(shape[1:]))
    if len(shape) == 2 or key in _CLASSIFIER_BIASES:
        return 0.05 * values
    if key.endswith('running_var'):
        return np.exp(0.2 * values)
    return 1 + 0.1 * values if key.endswith('weight') else 0.1 * values


def shapes(model):
    """Names and shapes of a model's checkpoint, counters included."""
    template = jax.eval_shape(model.init, jax.random.key(0), jnp.ones((1, 64, 64, 3)))
    zeros = jax.tree.map(lambda leaf: np.broadcast_to(0.0, leaf.shape), template)
    return {key: zero.shape for key, zero in torch_state_dict(zeros, model).items()}


def model(name, num_classes=10, **fields):
    """The network `name` in float64."""
    types = {'dtype': jnp.float64, 'param_dtype': jnp.float64}
    return create_model(name, num_classes=num_classes, **types, **fields)


def fill(model):
    """A model's variables with the published network's values."""
    state = {key: draw(key, shape) for key, shape in shapes(model).items() if shape}
    return jax.device_get(load_torch(state, model))
