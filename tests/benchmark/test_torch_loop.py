"""PyTorch's loop trains the same networks."""

import jax
import jax.numpy as jnp
import pytest

import slimjax

torch = pytest.importorskip('torch')

from slimjax.benchmark.torch_loop import NETWORKS, training_step  # noqa: E402


@pytest.mark.parametrize('name', sorted(NETWORKS))
def test_it_has_the_parameters_of_ours(name):
    model = slimjax.create_model(name)
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    own = jax.eval_shape(model.init, jax.random.key(0), images)['params']
    net, _ = training_step(
        name,
        model.widths,
        batch=2,
        size=64,
        bfloat16=False,
        channels_last=False,
        compiled=False,
    )
    # ShuffleNet's groups are layers of their own there, as in the published code.
    own = sum(leaf.size for leaf in jax.tree.leaves(own))
    assert sum(leaf.numel() for leaf in net.parameters.values()) == own


def test_its_steps_learn_the_batch():
    net, step = training_step(
        's_mobilenet_v1',
        (0.25, 0.5),
        batch=4,
        size=32,
        bfloat16=False,
        channels_last=True,
        compiled=False,
    )
    before = {name: leaf.detach().clone() for name, leaf in net.parameters.items()}
    step()
    assert all((net.parameters[name] != leaf).any() for name, leaf in before.items())
