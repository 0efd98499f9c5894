"""Widening in steps: what a narrow width uses stays as it is, bit for bit."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from slimjax.config import check
from slimjax.deploy.extract import extract
from slimjax.models import create_model
from slimjax.train.checkpoint import load_variables
from slimjax.train.frozen import freeze, used_at
from slimjax.train.loop import train
from slimjax.train.metrics import read_metrics
from slimjax.train.optimizer import make_optimizer
from slimjax.train.report import silent
from slimjax.train.run import Run
from slimjax.train.state import initial_variables
from slimjax.train.step import trained_widths
from slimjax.train.transplant import transplanted
from tests.train.runs import tiny_config

SHAPE = (8, 8, 1)


@functools.cache
def network(widths=(0.25, 0.5, 1.0), model='resnet14', **fields):
    """A small network and its variables, no two numbers of which are the same."""
    sizes = {'base_features': 8, 'stage_sizes': (1,)} if model == 'resnet14' else {}
    model = create_model(
        model, num_classes=4, widths=widths, small_images=True, **sizes, **fields
    )
    shapes = jax.eval_shape(
        functools.partial(initial_variables, model, SHAPE), jax.random.key(0)
    )
    rng = np.random.default_rng(0)
    params, stats = jax.tree.map(
        lambda leaf: rng.standard_normal(leaf.shape).astype(np.float32), shapes
    )
    return model, {'params': params, **stats}


def same(tree, other):
    jax.tree.map(np.testing.assert_array_equal, tree, other)


OPTIMIZERS = {
    'sgd': {'optimizer': 'sgd', 'momentum': 0.9, 'nesterov': True, 'clip_norm': 1.0},
    'lars': {'optimizer': 'lars', 'momentum': 0.9, 'nesterov': False, 'clip_norm': 0},
    'adamw': {'optimizer': 'adamw', 'adam_betas': (0.9, 0.999), 'clip_norm': 0},
}


@functools.cache
def used(*widths, **fields):
    """Which parameters any of `widths` uses, of the network."""
    model, _ = network(**fields)
    masks = jax.jit(lambda: [used_at(model, width, SHAPE) for width in widths])()
    return jax.tree.map(lambda *each: np.logical_or.reduce(each), *masks)


@pytest.mark.parametrize(
    ('name', 'norm', 'widths'),
    [
        ('sgd', 'private', (0.25, 0.5, 1.0)),
        ('lars', 'private', (0.5, 1.0)),
        ('adamw', 'shared_affine', (0.5, 1.0)),
    ],
)
def test_no_optimizer_moves_the_frozen_slice_and_all_else_moves(name, norm, widths):
    model, variables = network(widths, norm=norm)
    params = variables['params']
    config = {**OPTIMIZERS[name], 'weight_decay': 0.1, 'decay_all': True}
    optimizer = freeze(
        make_optimizer(config, optax.constant_schedule(0.1)), model, 0.5, SHAPE
    )

    def two_steps(params):
        state = optimizer.init(params)
        for _ in range(2):
            gradients = jax.tree.map(jnp.sin, params)
            updates, state = optimizer.update(gradients, state, params)
            params = optax.apply_updates(params, updates)
        return params

    with jax.numpy_dtype_promotion('standard'):  # optax's AdamW asks for it.
        after = jax.jit(two_steps)(params)
    moved = jax.tree.map(lambda one, other: np.asarray(one != other), params, after)
    same(
        moved,
        jax.tree.map(np.logical_not, used(*widths[:-1], widths=widths, norm=norm)),
    )


def test_the_frozen_part_takes_no_part_in_the_norm_that_is_clipped():
    model, variables = network()
    params = variables['params']
    gradients = jax.tree.map(
        lambda still: np.where(still, 1e6, 0.01).astype(np.float32), used(0.25, 0.5)
    )
    optimizer = freeze(
        optax.chain(optax.clip_by_global_norm(100.0), optax.sgd(1.0)),
        model,
        0.5,
        SHAPE,
    )
    updates, _ = jax.jit(optimizer.update)(gradients, optimizer.init(params), params)
    found = set(np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(updates)]))
    assert found <= {0.0, -np.float32(0.01)}
    assert len(found) == 2


@pytest.mark.parametrize(
    'family',
    [
        'resnet14',
        pytest.param('shufflenet', marks=pytest.mark.slow),
        pytest.param('mobilenet_v1', marks=pytest.mark.slow),
    ],
)
def test_a_narrow_network_stands_unchanged_in_the_wider_one(family):
    widths = (0.5, 1.0)
    narrow, taken = network((0.5,), family)
    wide, variables = network(widths, family)
    grown = transplanted(narrow, taken, wide, variables, SHAPE)
    same(extract(wide, grown, 0.5, image_shape=SHAPE)[1], taken)
    # What the narrow one does not use is the wide one's.
    rest = jax.tree.map(
        lambda still, one, other: np.where(still, 0, one - other),
        used(0.5, widths=widths, model=family),
        grown['params'],
        variables['params'],
    )
    assert not any(leaf.any() for leaf in jax.tree.leaves(rest))
    same(grown['batch_stats_1.0'], variables['batch_stats_1.0'])


def test_a_narrow_network_starts_from_its_slice_of_a_wide_one():
    wide, taken = network((0.25, 0.5, 1.0))
    narrow, variables = network((0.25,))
    cut = transplanted(wide, taken, narrow, variables, SHAPE)
    same(cut, extract(wide, taken, 0.25, image_shape=SHAPE)[1])


def test_a_width_that_was_not_trained_starts_from_the_widest_norms():
    wide, taken = network((1.0,))
    narrow, variables = network((0.5,))
    cut = transplanted(wide, taken, narrow, variables, SHAPE)
    for module, name in (('stem', 'norm'), ('stage1_block1', 'conv1')):
        whole, part = (tree['params'][module][name] for tree in (taken, cut))
        whole, part = (
            tree.get('norm', tree)[width]['scale']
            for tree, width in ((whole, '1.0'), (part, '0.5'))
        )
        np.testing.assert_array_equal(part, whole[: len(part)])
    kernel = taken['params']['classifier']['kernel']
    own = cut['params']['classifier']['kernel']
    np.testing.assert_array_equal(own, kernel[: len(own)])
    same(cut['batch_stats_0.5'], variables['batch_stats_0.5'])


def test_another_number_of_classes_keeps_the_new_classifier():
    wide, taken = network((0.5, 1.0))
    model, variables = network((0.5,), 'resnet14')
    model = model.clone(num_classes=3)
    shapes = jax.eval_shape(
        functools.partial(initial_variables, model, SHAPE), jax.random.key(0)
    )
    params = {
        **variables['params'],
        'classifier': jax.tree.map(
            lambda leaf: jnp.ones(leaf.shape), shapes[0]['classifier']
        ),
    }
    cut = transplanted(wide, taken, model, {**variables, 'params': params}, SHAPE)
    same(cut['params']['classifier'], params['classifier'])
    own = cut['params']['stem']['conv']['kernel']
    whole = taken['params']['stem']['conv']['kernel']
    np.testing.assert_array_equal(own, whole[..., : own.shape[-1]])


def test_no_width_as_narrow_as_the_source_is_an_error():
    narrow, taken = network((0.25,))
    wide, variables = network((0.5, 1.0))
    with pytest.raises(ValueError, match='none is as narrow as 0.25, the widest'):
        transplanted(narrow, taken, wide, variables, SHAPE)


@pytest.mark.slow
def test_a_run_widens_another_whose_slice_and_scores_stay(tmp_path):
    common = {'num_train_steps': 3, 'log_steps': 3, 'momentum': 0.9}
    narrow = tiny_config(**common, widths=(0.5,))
    alone = train(narrow, tmp_path / 'narrow', say=silent)
    wide = tiny_config(
        **common,
        widths=(0.5, 1.0),
        frozen_width=0.5,
        weight_decay=0.1,
        init_from=str(tmp_path / 'narrow'),
    )
    both = train(wide, tmp_path / 'wide', say=silent)
    assert both['0.5'] == alone['0.5']
    taken, grown = (load_variables(tmp_path / name) for name in ('narrow', 'wide'))
    model, shape = Run(wide).model, (8, 8, 1)
    found = extract(
        model.clone(axis_name=None),
        {'params': grown.params, **grown.stats},
        0.5,
        image_shape=shape,
    )[1]
    same(found, {'params': taken.params, **taken.stats})
    names = {
        name for line in read_metrics(tmp_path / 'wide/metrics.jsonl') for name in line
    }
    assert {'train/loss/1.0', 'eval/top1/0.5', 'eval/top1/1.0'} <= names
    assert 'train/loss/0.5' not in names


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (
            {'frozen_width': 1.0},
            r'frozen_width=1\.0: allowed is 0\.0, or one of \(0\.5,',
        ),
        ({'frozen_width': 0.3}, r'frozen_width=0\.3'),
        ({'frozen_width': 0.5, 'norm': 'shared'}, "norm='private' or 'shared_affine'"),
        ({'frozen_width': 0.5, 'loss_weights': (1.0, 1.0)}, r'loss_weights=.*is \(\)'),
        ({'frozen_width': 0.5, 'ema_decay': 0.9}, r'ema_decay=0\.9: .* is 0\.0'),
    ],
)
def test_a_width_that_cannot_be_frozen_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        check(tiny_config(**changes))


def test_no_width_is_frozen_as_it_was_drawn(tmp_path):
    with pytest.raises(ValueError, match=r"frozen_width=0\.5: with init_from='', "):
        train(tiny_config(frozen_width=0.5), tmp_path, say=silent)


def test_all_that_is_wider_is_trained():
    assert trained_widths((0.25, 1.0, 0.5), {'frozen_width': 0.25}) == (1.0, 0.5)
    assert trained_widths((0.25, 1.0, 0.5), {}) == (1.0, 0.5, 0.25)
