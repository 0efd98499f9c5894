"""NaN and infinity: the step and the width are named, and nothing broken is kept."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import slimjax
from slimjax.models.grid import width_grid
from slimjax.train import step as step_module
from slimjax.train.checkpoint import load_variables
from slimjax.train.finite import (
    NonFiniteLossError,
    check_finite,
    first_broken,
    not_finite,
    with_hidden,
)
from slimjax.train.loop import train
from slimjax.train.metrics import read_metrics
from slimjax.train.network import build_model
from slimjax.train.run import Run
from slimjax.train.state import TrainState
from slimjax.width import width_name
from tests.train.runs import tiny_config
from tests.train.small import WIDTHS, problem

BAD_STEP = 3  # One before it is saved, and one after it.
PLACES = ('the images', 'the loss of one width', 'the gradient of one width')


@jax.custom_vjp
def with_gradient(loss, poison):
    """The loss as it is, whose gradient is poisoned."""
    return loss


with_gradient.defvjp(
    lambda loss, poison: (loss, poison),
    lambda poison, given: (given + poison, jnp.zeros_like(poison)),
)


def poison(patch, place, value):
    """Makes step `BAD_STEP` compute with NaN or infinity somewhere."""
    make_inputs, make_loss_fn = step_module.make_inputs, step_module.make_loss_fn

    def inputs(model, config, step, batch):
        found = make_inputs(model, config, step, batch)
        drop = jnp.where(step == BAD_STEP - 1, value, 0.0)
        if place == 'the images':
            return {**found, 'image': found['image'] + drop}
        return {**found, 'poison': jnp.full(batch['label'].shape, drop)}

    def losses(model, config):
        loss_fn = make_loss_fn(model, config)

        def poisoned(params, stats, batch, *, width, teacher=None):
            loss, aux = loss_fn(params, stats, batch, width=width, teacher=teacher)
            if 'poison' in batch and width == 0.5:
                drop = batch['poison'].mean()
                if place == 'the gradient of one width':
                    loss = with_gradient(loss, drop)
                else:
                    loss = loss + drop
            return loss, aux

        return poisoned

    patch.setattr(step_module, 'make_inputs', inputs)
    patch.setattr(step_module, 'make_loss_fn', losses)


def run(workdir, place, value, **changes):
    """Trains with a poisoned step; returns what was said and what ended it."""
    lines = []
    with pytest.MonkeyPatch.context() as patch:
        if place:
            poison(patch, place, value)
        try:
            train(tiny_config(**changes), workdir, say=lines.append, test=False)
        except NonFiniteLossError as error:
            return '\n'.join(lines), str(error)
    return '\n'.join(lines), None


def check_stopped(workdir, place, value):
    """It stops, keeps the last good checkpoint, and goes on where nothing is bad."""
    _, error = run(workdir, place, value)
    assert f'step {BAD_STEP}' in error
    assert 'the checkpoint of step 2 is kept' in error
    if place == 'the loss of one width':
        assert 'the loss of width 0.5' in error
    kept = load_variables(workdir)
    assert kept.meta['step'] == 2
    assert not_finite({'params': kept.params, 'stats': kept.stats}) == []
    assert run(workdir, None, None)[1] is None


def check_skipped(workdir, place, value):
    """The step is passed over, told of, and leaves no trace but in the clock."""
    lines, error = run(workdir, place, value, skip_nonfinite=1)
    assert error is None
    assert f'step {BAD_STEP}: ' in lines
    assert 'the step is skipped, 1 in a row of skip_nonfinite=1' in lines
    last = load_variables(workdir)
    assert not_finite({'params': last.params, 'stats': last.stats}) == []
    for line in read_metrics(workdir / 'metrics.jsonl'):
        assert all(np.isfinite(value) for value in line.values()), line


@pytest.mark.parametrize('limit', [0, 1])
def test_a_broken_step_leaves_no_trace_where_it_is_skipped(limit):
    optimizer = optax.sgd(optax.constant_schedule(0.1), momentum=0.9)
    params = {'kernel': jnp.ones(3)}
    state = TrainState(
        jnp.int32(7), params, {}, optimizer.init(params), None, {'count': 2.0}
    )
    gradients = {'kernel': jnp.array([0.0, jnp.nan, 0.0])}
    config = {'ema_decay': 0.0, 'skip_nonfinite': limit}
    after, metrics = step_module.updated(
        state, optimizer, gradients, {}, {'loss/0.5': jnp.float32(1.0)}, config
    )
    assert first_broken(metrics) == "the gradient's norm is nan"
    assert int(after.step) == 8
    assert float(after.sums['count']) == 3 - limit
    trees = {'params': after.params, 'opt_state': after.opt_state}
    assert (not_finite(trees) == []) == bool(limit)


@pytest.mark.parametrize(
    ('name', 'collection'), [('in_turn', 'batch_stats_0.5'), ('0.5', 'batch_stats')]
)
def test_statistics_of_whichever_width_do_not_hide(name, collection):
    stats = {collection: {'norm': {'var': jnp.array([1.0, jnp.inf])}}}
    found = with_hidden({f'loss/{name}': jnp.float32(1.0)}, stats)
    assert np.isnan(found[f'loss/{name}'])


@pytest.mark.slow
@pytest.mark.torture
@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize('place', PLACES)
@pytest.mark.parametrize('check', [check_stopped, check_skipped])
def test_bad_numbers_are_survived(check, place, value, tmp_path, ledger):
    fault = f'NaN or infinity in {place}, {check.__name__.removeprefix("check_")}'
    try:
        check(tmp_path, place, value)
    except BaseException as error:
        ledger.record('numbers', fault, False, lost=f'{value}: {error!r}'[:300])
        raise
    ledger.record('numbers', fault, True)


def test_nothing_broken_is_saved():
    state = Run(tiny_config()).new_state()
    check_finite(state, 4)
    broken = jax.tree.map(lambda leaf: leaf, state.stats)
    norm = broken['batch_stats_0.5']['stem']['norm']
    norm['var'] = norm['var'].at[0].set(jnp.inf)
    with pytest.raises(
        NonFiniteLossError, match='step 4: .*stats/batch_stats_0.5/stem/norm/var'
    ):
        check_finite(state.replace(stats=broken), 4)


@pytest.mark.parametrize(
    ('dtype', 'scale'),
    [
        (jnp.float16, 6e4),
        pytest.param(jnp.bfloat16, 3e38, marks=pytest.mark.slow),
    ],
)
def test_an_overflow_at_the_narrowest_width_stays_there(dtype, scale):
    _, params, stats, batch, loss_fn = problem(dtype=dtype)
    narrowest = width_name(min(WIDTHS))

    def overflow(path, leaf):
        names = [entry.key for entry in path]
        own = any(narrowest in name for name in names) and 'scale' in str(names)
        return jnp.full_like(leaf, scale) if own else leaf

    params = jax.tree_util.tree_map_with_path(overflow, params)
    _, _, aux = jax.jit(slimjax.sum_over_widths(loss_fn, WIDTHS))(params, stats, batch)
    finite = {width: bool(jnp.isfinite(aux[width].loss)) for width in WIDTHS}
    assert finite == {0.25: False, 0.5: True, 1.0: True}


@pytest.mark.slow
def test_the_order_of_the_widths_changes_nothing():
    _, params, stats, batch, loss_fn = problem()
    found = [
        jax.jit(slimjax.sum_over_widths(loss_fn, widths))(params, stats, batch)
        for widths in itertools.islice(itertools.permutations(WIDTHS), 0, 6, 5)
    ]
    jax.tree.map(np.testing.assert_array_equal, *[each[:2] for each in found])


@pytest.mark.parametrize(
    ('widths', 'message'),
    [
        ((0.5, 0.5, 1.0), '0.5 stands there more than once'),
        ((0.0, 1.0), 'width=0.0: a width is a finite number above 0'),
        ((-0.5, 1.0), 'width=-0.5: a width is a finite number above 0'),
        ((float('nan'), 1.0), 'width=nan: a width is a finite number above 0'),
        ((), 'is empty; at least one width is needed'),
    ],
)
def test_widths_that_are_none_are_refused(widths, message):
    with pytest.raises(ValueError, match=message):
        slimjax.create_model('resnet14', widths=widths)


def test_a_width_above_the_widest_is_refused_with_those_there_are():
    model = slimjax.create_model('resnet14', widths=(0.25, 0.5), stage_sizes=(1,))
    with pytest.raises(ValueError, match='width=1.0 is not one of .*: 0.25, 0.5'):
        model.init(jax.random.key(0), jnp.ones((1, 8, 8, 3)), width=1.0)


def test_equal_networks_are_refused_of_an_s_net_and_counted_of_a_us_net():
    with pytest.raises(ValueError, match='widths 0.51 and 0.5 have the same channels'):
        build_model(tiny_config(widths=(0.51, 0.5, 1.0)))
    config = tiny_config(widths=(0.5, 0.51, 1.0), norm='shared_affine')
    grid = width_grid(build_model(config), (8, 8, 1), 0.01)
    assert (0.51, 0.5) in grid.aliases
    assert len(grid.widths) + len(grid.aliases) == 51
    assert sum(grid.shares) == pytest.approx(1.0)
    assert '(also ' in grid.line()
