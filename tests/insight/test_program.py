"""What is read off traced programs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from slimjax.insight.program import multiply_adds, total, used_elements

KERNEL = (3, 4, 6)


def halves(kernel):
    left, right = jnp.split(kernel, 2, axis=-1)
    return left[0].sum() + right[1, :2].sum()


def nested_prefixes(kernel):
    return kernel[..., :2].sum() + kernel[..., :4].sum() + kernel[:1].sum()


def cut_after_joining(kernel):
    joined = jnp.concatenate([kernel[:, :1], kernel[:, 2:3]], axis=1)
    return joined[..., ::2].astype(jnp.bfloat16).sum()


def grouped(kernel):
    parts = kernel.reshape(12, 2, 3)[..., :2].reshape(12, 4)
    return parts.T[1:].sum()


def flipped(kernel):
    return kernel[::-1][:1].sum()


def scanned(kernel):
    step = jax.checkpoint(lambda carry, rows: (carry + rows[:2].sum(), None))
    return lax.scan(step, 0.0, kernel)[0]


def carried(kernel):
    def step(carry, _):
        return carry * kernel[0, 0, 0] + kernel[2, 1, :2].sum(), carry

    return lax.scan(step, 1.0, length=3)[0]


def branching(kernel):
    return lax.cond(
        kernel[0, 0, 0] > 0, lambda k: k[1, 0].sum(), lambda k: k[2, 0].sum(), kernel
    )


def handed_through(kernel):
    inner = jax.jit(lambda k: k[..., :3])
    return inner(kernel)[1]


def looped(kernel):
    def body(carry):
        return carry[0] + 1, carry[1] + kernel[0].sum()

    return lax.while_loop(lambda carry: carry[0] < 3, body, (0, 0.0))[1]


@pytest.mark.parametrize(
    ('program', 'count'),
    [
        (halves, 4 * 3 + 2 * 3),
        (nested_prefixes, 12 * 4 + 4 * 2),
        (cut_after_joining, 3 * 2 * 3),
        (grouped, 12 * 3),
        (flipped, 4 * 6),
        (scanned, 3 * 2 * 6),
        (carried, 3),
        (branching, 1 + 6 + 6),
        (handed_through, 4 * 3),
        # A while loop is not looked into: its whole input counts.
        (looped, 3 * 4 * 6),
    ],
)
def test_elements_that_are_used_are_found(program, count):
    traced = jax.make_jaxpr(program)(jnp.ones(KERNEL)).jaxpr
    assert used_elements(traced, [KERNEL]) == [count]


@pytest.mark.parametrize(
    'program', [halves, nested_prefixes, cut_after_joining, grouped, flipped, scanned]
)
def test_elements_that_are_used_are_those_with_a_gradient(program):
    kernel = jax.random.uniform(jax.random.key(0), KERNEL)
    gradient = jax.grad(program)(kernel)
    traced = jax.make_jaxpr(program)(kernel).jaxpr
    assert used_elements(traced, [KERNEL]) == [np.count_nonzero(gradient)]


def test_inputs_are_told_apart():
    def program(first, second, images):
        return images * jnp.concatenate([first[:2], second[:3]])

    traced = jax.make_jaxpr(program)(jnp.ones(4), jnp.ones(5), jnp.ones(5)).jaxpr
    assert used_elements(traced, [(4,), (5,)]) == [2, 3]


def test_a_convolution_counts_its_strides_groups_and_dilation():
    def program(images, kernel):
        return lax.conv_general_dilated(
            images,
            kernel,
            (2, 1),
            ((1, 1), (2, 2)),
            rhs_dilation=(1, 2),
            dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
            feature_group_count=2,
        )

    images, kernel = jnp.ones((1, 8, 10, 4)), jnp.ones((3, 3, 2, 6))
    traced = jax.make_jaxpr(program)(images, kernel).jaxpr
    assert total(traced, multiply_adds) == 4 * 10 * 6 * 3 * 3 * 2


def test_control_flow_counts_as_often_as_it_runs():
    def program(x, weights, matrix):
        x = lax.scan(lambda c, w: (jax.jit(jnp.dot)(c, w), None), x, weights)[0]
        x = lax.cond(
            x[0, 0] > 0, lambda v: v @ matrix, lambda v: v @ matrix @ matrix, x
        )
        return x + jnp.ones((1, 4)) @ jnp.ones((4, 4))  # Constants cost nothing.

    arguments = jnp.ones((1, 4)), jnp.ones((3, 4, 4)), jnp.ones((4, 4))
    traced = jax.make_jaxpr(program)(*arguments).jaxpr
    assert total(traced, multiply_adds) == 3 * 16 + 2 * 16


def test_custom_gradients_count_the_forward_pass():
    @jax.custom_vjp
    def product(x, weights):
        return x @ weights

    product.defvjp(
        lambda x, w: (product(x, w), (x, w)), lambda s, g: (g @ s[1].T, s[0].T @ g)
    )
    arguments = jnp.ones((1, 4)), jnp.ones((4, 4))
    traced = jax.make_jaxpr(lambda x, w: jax.nn.relu(product(x, w)))(*arguments).jaxpr
    assert total(traced, multiply_adds) == 16
