"""The one gradient of all widths."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slimjax.train.objective import (
    Aux,
    accumulated,
    gradient_in_turn,
    sum_over_widths,
)
from tests.train.small import WIDTHS, problem


def assert_trees_close(tree, other, rtol=1e-5, atol=1e-6):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), tree, other
    )


def gradient_of_sum(loss_fn, params, stats, batch):
    def total(params):
        return sum(loss_fn(params, stats, batch, width=w)[0] for w in WIDTHS)

    return jax.jit(jax.grad(total))(params)


@functools.cache
def combined():
    """A problem, and the compiled sum of its widths."""
    _, params, stats, batch, loss_fn = problem()
    summed = jax.jit(sum_over_widths(loss_fn, WIDTHS))
    return params, stats, batch, loss_fn, summed


@pytest.mark.slow
def test_sum_of_gradients_is_the_gradient_of_the_sum():
    _, params, stats, batch, loss_fn = problem()

    gradients, _, _ = jax.jit(sum_over_widths(loss_fn, WIDTHS))(params, stats, batch)
    assert_trees_close(gradients, gradient_of_sum(loss_fn, params, stats, batch))


def test_sum_of_gradients_is_the_gradient_of_the_sum_in_float64():
    with jax.enable_x64(True):
        _, params, stats, batch, loss_fn = problem(dtype=jnp.float64)
        gradients, _, _ = jax.jit(sum_over_widths(loss_fn, WIDTHS))(
            params, stats, batch
        )
        expected = gradient_of_sum(loss_fn, params, stats, batch)
        assert_trees_close(gradients, expected, rtol=1e-11, atol=1e-12)


def test_reduce_mean_and_weights_scale_the_gradient_and_not_the_losses():
    params, stats, batch, loss_fn, summed = combined()
    gradients = {}
    for width in WIDTHS:
        gradients[width], _, _ = jax.jit(sum_over_widths(loss_fn, (width,)))(
            params, stats, batch
        )
    weights = {0.25: 2.0, 1.0: 0.5}
    total, _, aux = jax.jit(
        sum_over_widths(loss_fn, WIDTHS, reduce='mean', weights=weights)
    )(params, stats, batch)
    expected = jax.tree.map(
        lambda a, b, c: (2 * a + b + 0.5 * c) / 3,
        *(gradients[width] for width in WIDTHS),
    )
    assert_trees_close(total, expected)
    _, _, plain = summed(params, stats, batch)
    assert {w: float(a.loss) for w, a in aux.items()} == pytest.approx(
        {w: float(a.loss) for w, a in plain.items()}
    )


def test_the_widest_teaches_the_others_and_learns_from_labels():
    _, params, stats, batch, loss_fn = problem()
    f = jax.jit(sum_over_widths(loss_fn, WIDTHS, distill=True))
    gradients, _, aux = f(params, stats, batch)
    teacher = aux[1.0].logits

    @jax.jit
    def expected(params):
        def total(params):
            loss, _ = loss_fn(params, stats, batch, width=1.0)
            for width in (0.5, 0.25):
                loss += loss_fn(params, stats, batch, width=width, teacher=teacher)[0]
            return loss

        return jax.grad(total)(params)

    assert_trees_close(gradients, expected(params))


def test_a_nan_in_one_width_leaves_the_losses_of_the_others_finite():
    params, stats, batch, _, summed = combined()
    poisoned = jax.tree.map(lambda x: x, params)
    poisoned['SwitchableBatchNorm_0']['0.5']['scale'] = jnp.full(4, jnp.nan)
    _, _, aux = summed(poisoned, stats, batch)
    assert {w: bool(jnp.isfinite(a.loss)) for w, a in aux.items()} == {
        1.0: True,
        0.5: False,
        0.25: True,
    }


def test_the_first_parameter_may_be_nan_and_no_width_is_skipped():
    params, stats, batch, _, summed = combined()
    everywhere = jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), params)
    _, _, aux = summed(everywhere, stats, batch)
    assert all(jnp.isnan(result.loss) for result in aux.values())


def test_shared_statistics_are_threaded_widest_first():
    _, params, stats, batch, loss_fn = problem(norm='shared')
    _, threaded, _ = jax.jit(sum_over_widths(loss_fn, WIDTHS))(params, stats, batch)
    expected = stats
    for width in (1.0, 0.5, 0.25):
        _, aux = jax.jit(functools.partial(loss_fn, width=width))(
            params, expected, batch
        )
        expected = aux.stats
    assert_trees_close(threaded, expected)


def test_accumulating_halves_equals_the_whole_batch():
    _, params, stats, batch, loss_fn = problem(norm_batch=4)
    whole = sum_over_widths(loss_fn, WIDTHS)
    gradients, new_stats, aux = jax.jit(whole)(params, stats, batch)
    found = jax.jit(accumulated(whole, 2))(params, stats, batch)
    assert_trees_close(found[:2], (gradients, new_stats))
    for width in WIDTHS:
        assert_trees_close(found[2][width].logits, aux[width].logits)
        assert_trees_close(found[2][width].loss.mean(), aux[width].loss)


@pytest.mark.parametrize(
    ('widths', 'options', 'message'),
    [
        ((), {}, 'at least one'),
        ((0.5, 0.5), {}, 'more than once'),
        ((0.5,), {'weights': {1.0: 1.0}}, 'not trained'),
        ((0.5,), {'reduce': 'max'}, "'sum' and 'mean'"),
    ],
)
def test_wrong_arguments_are_refused(widths, options, message):
    with pytest.raises(ValueError, match=message):
        sum_over_widths(lambda: None, widths, **options)


def test_each_turn_has_the_gradient_of_one_width_widest_first():
    def loss_fn(params, stats, batch, *, width, teacher=None):
        active = int(4 * width)
        logits = batch[:, :active] @ params[:active]
        return jnp.square(logits).mean(), Aux({**stats, str(width): width}, logits)

    params, batch = jnp.arange(1.0, 5)[:, None], jnp.ones((2, 4))
    stats = {str(width): 0.0 for width in WIDTHS}
    in_turn = jax.jit(gradient_in_turn(loss_fn, WIDTHS, weights={0.5: 2.0}))
    for turn, width in ((0, 1.0), (1, 0.5), (2, 0.25), (3, 1.0)):
        gradients, new_stats, result = in_turn(turn, params, stats, batch)
        active = int(4 * width)
        total = sum(range(1, active + 1))
        expected = [2 * total * (2 if width == 0.5 else 1)] * active
        assert gradients[:active, 0].tolist() == expected
        assert not gradients[active:].any()
        assert float(result.loss) == total**2
        assert {name: float(value) for name, value in new_stats.items()} == {
            **stats,
            str(width): width,
        }
    with pytest.raises(ValueError, match=r"not trained: \['0\.3'\]"):
        gradient_in_turn(loss_fn, WIDTHS, weights={0.3: 1.0})
