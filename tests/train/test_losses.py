"""Losses against the published formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from slimjax.config import check, complete
from slimjax.data.augment import normalize
from slimjax.evaluate import make_eval_step
from slimjax.train.losses import (
    SMOOTHING_FORMS,
    correct_in_top,
    cross_entropy,
    example_losses,
)
from slimjax.train.state import create_state
from slimjax.train.step import make_train_step, metric_names
from slimjax.variables import apply_train
from tests.train.small import problem

LOGITS = jnp.array([[2.0, 1.0, 0.0, -1.0], [0.5, 0.25, 3.0, 1.0]])
LABELS = jnp.array([0, 3])


# What the published code gives, and torch's own label smoothing.
SMOOTHED = {'published': 0.6401897, 'uniform': 0.5901897}


def test_label_smoothing_is_the_published_one():
    loss = cross_entropy(LOGITS[:1], LABELS[:1], smoothing=0.1)
    assert float(loss) == pytest.approx(SMOOTHED['published'], abs=1e-6)


@pytest.mark.parametrize('form', SMOOTHING_FORMS)
def test_the_form_says_who_gets_the_probability(form):
    loss = cross_entropy(LOGITS[:1], LABELS[:1], smoothing=0.1, form=form)
    assert float(loss) == pytest.approx(SMOOTHED[form], abs=1e-6)


def test_an_unknown_form_is_refused():
    with pytest.raises(ValueError, match="form='torch'; allowed: 'published'"):
        cross_entropy(LOGITS, LABELS, smoothing=0.1, form='torch')
    with pytest.raises(ValueError, match="label_smoothing_form='torch'"):
        check(complete({'label_smoothing_form': 'torch'}))


@pytest.mark.parametrize('form', SMOOTHING_FORMS)
def test_training_and_evaluation_smooth_in_the_form_of_the_config(form):
    model, *_ = problem(widths=(1.0,))
    config = complete({'label_smoothing': 0.3, 'label_smoothing_form': form})
    optimizer = optax.sgd(0.1)
    state = create_state(model, optimizer, (8, 8, 3), metric_names((1.0,)), seed=0)
    images = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), np.uint8)
    batch = {'image': images, 'label': jnp.arange(8) % 4, 'mask': jnp.ones(8)}
    inputs = normalize(images, config.mean, config.std)
    variables = {'params': state.params, **state.stats}

    def expected(logits, form):
        loss = cross_entropy(logits, batch['label'], smoothing=0.3, form=form)
        return pytest.approx(float(loss), rel=1e-5)

    _, metrics = jax.jit(make_train_step(model, optimizer, config))(state, batch)
    logits, _ = apply_train(model, state.params, state.stats, inputs, width=1.0)
    loss = float(metrics['loss/1.0'])
    assert [each for each in SMOOTHING_FORMS if loss == expected(logits, each)] == [
        form
    ]

    sums = make_eval_step(model, config)(variables, batch)['1.0']
    logits = model.apply(variables, inputs)
    loss = float(sums['loss'] / sums['count'])
    assert [each for each in SMOOTHING_FORMS if loss == expected(logits, each)] == [
        form
    ]


def test_hard_loss_is_minus_the_log_probability():
    expected = -np.log(np.asarray(jax.nn.softmax(LOGITS)))[[0, 1], [0, 3]]
    np.testing.assert_allclose(example_losses(LOGITS, LABELS), expected, rtol=1e-6)


def test_a_teacher_replaces_the_labels_and_gets_no_gradient():
    def loss(logits, teacher):
        return cross_entropy(logits, LABELS, teacher, smoothing=0.1)

    own, of_teacher = jax.grad(loss, argnums=(0, 1))(LOGITS, 2 * LOGITS)
    soft = np.asarray(jax.nn.softmax(2 * LOGITS))
    expected = (np.asarray(jax.nn.softmax(LOGITS)) - soft) / 2
    np.testing.assert_allclose(own, expected, atol=1e-6)
    assert not np.any(of_teacher)


def test_loss_of_bfloat16_logits_is_computed_in_float32():
    assert cross_entropy(LOGITS.astype(jnp.bfloat16), LABELS).dtype == jnp.float32


def test_top_k_counts_the_label_among_the_largest():
    assert correct_in_top(LOGITS, LABELS, 1).tolist() == [1, 0]
    assert correct_in_top(LOGITS, LABELS, 2).tolist() == [1, 1]
    assert correct_in_top(LOGITS, LABELS, 9).tolist() == [1, 1]


@pytest.mark.parametrize('value', [0.0, jnp.nan])
def test_a_network_that_tells_no_class_apart_is_never_right(value):
    logits = jnp.full((2, 4), value)
    assert correct_in_top(logits, LABELS, 1).tolist() == [0, 0]
