"""Losses against the published formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slimjax.train.losses import correct_in_top, cross_entropy, example_losses

LOGITS = jnp.array([[2.0, 1.0, 0.0, -1.0], [0.5, 0.25, 3.0, 1.0]])
LABELS = jnp.array([0, 3])


def test_label_smoothing_is_the_published_one():
    loss = cross_entropy(LOGITS[:1], LABELS[:1], smoothing=0.1)
    assert float(loss) == pytest.approx(0.6401897, abs=1e-6)


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
