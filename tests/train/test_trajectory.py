"""Four steps of training against four of the published loop, in float64.

`trajectories.json` keeps what the published code made of them: the loss of every width
at every step, and then the logits of two images and the sum of all parameters.
"""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slimjax
from slimjax.config import complete
from slimjax.train.optimizer import make_optimizer
from slimjax.train.schedule import Clock, learning_rate
from slimjax.train.state import TrainState, zero_sums
from slimjax.train.step import make_train_step, metric_names
from slimjax.width import width_name
from tests.models import golden
from tests.shapes import unchecked

EXPECTED = json.loads(pathlib.Path(__file__).with_name('trajectories.json').read_text())


def first_state(model, optimizer):
    params, stats = slimjax.split_variables(golden.fill(model))
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        stats=stats,
        opt_state=optimizer.init(params),
        average=None,
        sums=zero_sums(metric_names(model.widths)),
    )


def images(rng, count):
    return rng.standard_normal((count, 3, 64, 64)).transpose(0, 2, 3, 1)


@pytest.mark.slow
@pytest.mark.parametrize('name', EXPECTED)
@unchecked()
def test_four_steps_are_those_of_the_published_loop(name):
    expected = EXPECTED[name]
    config = complete(
        {
            'model': name,
            'num_classes': 10,
            'learning_rate': expected['lr'],
            'schedule': 'constant',
            # The images are drawn as the network sees them.
            'mean': (0.0, 0.0, 0.0),
            'std': (1 / 255,) * 3,
        }
    )
    rng = np.random.RandomState(7)
    with jax.enable_x64(True):
        model = golden.model(name)
        clock = Clock(examples=8, batch_size=8)
        optimizer = make_optimizer(config, learning_rate(config, clock))
        step = jax.jit(make_train_step(model, optimizer, config))
        state = first_state(model, optimizer)
        for numbers in expected['steps']:
            image, labels = images(rng, 8), rng.randint(0, 10, 8)
            assert labels.tolist() == numbers['labels']
            batch = {'image': image, 'label': labels.astype(np.int32)}
            state, metrics = step(state, batch)
            losses = {width: metrics[f'loss/{width}'] for width in numbers['loss']}
            for width, loss in numbers['loss'].items():
                np.testing.assert_allclose(losses[width], loss, rtol=1e-5)
        image = images(rng, 2)
        apply = jax.jit(model.apply, static_argnames='width')
        for width in model.widths:
            logits = apply({'params': state.params, **state.stats}, image, width=width)
            np.testing.assert_allclose(
                logits,
                expected['final_eval_logits'][width_name(width)],
                rtol=1e-5,
                atol=1e-5,
            )
        total = sum(jnp.abs(leaf).sum() for leaf in jax.tree.leaves(state.params))
        np.testing.assert_allclose(total, expected['param_abs_sum'], rtol=1e-7)
