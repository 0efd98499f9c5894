"""What the norms of each width hold, against the variables."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slimjax as sj
from slimjax.insight.norm_statistics import norm_statistics, relative_distance
from slimjax.insight.plot_norm_statistics import plot_norm_statistics

SHAPE = (16, 16, 3)


def problem(norm):
    model = sj.create_model(
        'resnet14',
        num_classes=10,
        widths=(0.25, 0.5, 1.0),
        norm=norm,
        small_images=True,
        base_features=8,
        stage_sizes=(1, 1),
    )
    images = jax.ShapeDtypeStruct((1, *SHAPE), jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    drawn = np.random.default_rng(0)
    return model, jax.tree.map(
        lambda leaf: drawn.uniform(0.5, 2, leaf.shape).astype(leaf.dtype), shapes
    )


@pytest.mark.parametrize('norm', ['private', 'shared_affine', 'shared'])
def test_the_statistics_are_the_variables_that_a_width_uses(norm):
    model, variables = problem(norm)
    found = norm_statistics(model, variables, SHAPE)
    assert list(found.values)[:2] == ['stem/norm', 'stage1_block1/conv1/norm']
    assert len(found.values) == 9
    for name, own in found.values.items():
        first, second = name.rsplit('/', 1)
        block, _, layer = first.rpartition('/')
        path = [part for part in (block, layer, second) if part]
        for width, values in own.items():
            collection = 'batch_stats' if norm == 'shared' else f'batch_stats_{width}'
            params, stats = variables['params'], variables[collection]
            for part in path:
                params, stats = params[part], stats[part]
            params = params[f'{width}' if norm == 'private' else 'affine']
            count = len(values['mean'])
            np.testing.assert_array_equal(values['scale'], params['scale'][:count])
            np.testing.assert_array_equal(values['shift'], params['bias'][:count])
            np.testing.assert_array_equal(values['mean'], stats['mean'][:count])
            np.testing.assert_array_equal(values['variance'], stats['var'][:count])
    counts = [len(v['mean']) for v in found.values['stem/norm'].values()]
    assert counts == [8, 4, 2]


def test_shared_norms_do_not_disagree():
    found = norm_statistics(*problem('shared'), SHAPE)
    for quantity in ('scale', 'shift', 'mean', 'variance'):
        assert not found.discrepancy(quantity).any()


def test_discrepancy_by_hand_and_its_correlation_with_depth():
    assert relative_distance(np.array([1.0, -1.0]), np.array([-1.0, 1.0])) == 2
    assert relative_distance(np.zeros(2), np.zeros(3)) == 0
    model, variables = problem('private')
    found = norm_statistics(model, variables, SHAPE)
    for depth, own in enumerate(found.values.values()):
        for number, values in enumerate(own.values()):
            values['mean'] = np.full(len(values['mean']), 1.0 + depth * number)
    # Of widths with 1, 1 + d and 1 + 2 d: d / (1 + d / 2), 2 d / (1 + d) and so on.
    depth = np.arange(9)
    sizes = (1 + depth / 2, (1 + depth) / 2, 1 + 1.5 * depth)
    pairs = [depth / size for size in sizes]
    np.testing.assert_allclose(found.discrepancy('mean'), np.mean(pairs, axis=0))
    assert found.depth_correlation('mean') == pytest.approx(1)
    assert 'correlation with depth' in found.lines()[-1]


def test_the_picture_shows_the_chosen_norms_and_refuses_others(tmp_path):
    found = norm_statistics(*problem('private'), SHAPE)
    path = tmp_path / 'norms.png'
    plot_norm_statistics(found, path, channels=(0, 5))
    assert path.stat().st_size > 10_000
    with pytest.raises(ValueError, match="no norm 'stem'; there are stem/norm"):
        plot_norm_statistics(found, path, norms=('stem',))
    with pytest.raises(ValueError, match='channels 8, 9: stem/norm has 0 to 7'):
        plot_norm_statistics(found, path, channels=(8, 9))


def test_a_network_that_has_nothing_to_compare_is_refused():
    model, variables = problem('private')
    with pytest.raises(ValueError, match='one width has no other'):
        norm_statistics(model.clone(widths=(1.0,)), variables, SHAPE)
