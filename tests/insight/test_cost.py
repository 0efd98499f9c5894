"""What each width costs, against the published profiler and against gradients."""

import pathlib
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slimjax import SlimConv, SlimDense, create_model
from slimjax.insight.cost import WidthCost, cost_results, width_costs
from slimjax.width import ChannelTable, width_name
from tests.insight.networks import Plain, Slimmable

PUBLISHED = {}
for line in pathlib.Path(__file__).with_name('published_costs.txt').open():
    if not line.startswith('#'):
        model, width, *counts = line.split()
        PUBLISHED.setdefault(model, {})[width] = tuple(map(int, counts))


def cases():
    """All networks at all widths; those of S-Nets are quick."""
    for name, costs in PUBLISHED.items():
        widths = tuple(width for width in costs if width != 'stored')
        marks = [] if name.startswith('s_') else [pytest.mark.slow]
        yield pytest.param(name, widths, marks=marks)


@pytest.mark.parametrize(('name', 'widths'), cases())
def test_costs_are_those_of_the_published_profiler(name, widths):
    model = create_model(name)
    known = {width_name(width): width for width in model.widths}
    chosen = [known[width] for width in widths]
    found = cost_results(model, (224, 224, 3), widths=chosen)
    expected = {}
    for width in widths:
        macs_published, macs, layers, norms = PUBLISHED[name][width]
        expected[width] = {
            'params': layers + norms,
            'params_bn': norms,
            'macs': macs,
            'macs_published': macs_published,
        }
    (stored,) = PUBLISHED[name]['stored']
    assert found == {'stored_params': stored, 'widths': expected}
    assert list(found['widths']) == list(widths)


@pytest.mark.parametrize('name', [n for n in PUBLISHED if n.startswith('autoslim')])
def test_a_published_channel_table_states_its_own_cost(name):
    for table in create_model(name).widths:
        assert table.macs == PUBLISHED[name][table.name][1]


def test_a_users_network_is_counted_by_its_shapes():
    # (left, right, merged and later layers) have so many channels.
    sizes = {1.0: (8, 4, 12), 0.5: (4, 2, 6)}
    expected = {}
    for width, (left, right, merged) in sizes.items():
        kernels = 27 * left + 3 * right + (left + right) * merged
        kernels += merged * merged // 2 + 9 * merged
        biases = left + right + 3 * merged
        expected[width] = WidthCost(
            params=kernels + biases + 2 * merged + 5 * merged + 5,
            params_bn=2 * merged,
            macs=36 * kernels + 5 * merged,
            macs_published=36 * kernels + 5 * merged + 36 * merged,
        )
    assert width_costs(Slimmable(), (6, 6, 3)) == expected


@pytest.mark.parametrize('width', [0.5, 1.0])
def test_parameters_that_count_are_those_with_a_gradient(width):
    model = Slimmable()
    images = jax.random.uniform(jax.random.key(0), (2, 6, 6, 3))
    run = {'width': width, 'train': False}
    init = partial(model.init, width=1.0, train=False)
    variables = jax.jit(init)(jax.random.key(1), images)

    def loss(params):
        logits = model.apply({**variables, 'params': params}, images, **run)
        return jnp.square(logits).sum()

    gradient = jax.jit(jax.grad(loss))(variables['params'])
    reached = sum(np.count_nonzero(leaf) for leaf in jax.tree.leaves(gradient))
    assert width_costs(model, (6, 6, 3))[width].params == reached


def test_a_plain_network_is_counted_as_one_width():
    macs = 16 * 27 * 8 + 80
    assert width_costs(Plain(), (8, 8, 3)) == {
        1.0: WidthCost(
            params=27 * 8 + 8 + 16 + 90,
            params_bn=16,
            macs=macs,
            macs_published=macs + 2 * 16 * 8,
        )
    }


def test_widths_may_be_channel_tables():
    paths = ['stem/conv'] + [
        f'stage{stage}_block1/{conv}/conv'
        for stage in (1, 2, 3, 4)
        for conv in ('conv1', 'conv2', 'conv3', 'shortcut')
    ]
    tables = [ChannelTable(f'of-{n}', [(path, n) for path in paths]) for n in (8, 16)]
    model = create_model('resnet14', num_classes=10, widths=tables, small_images=True)
    results = cost_results(model, (32, 32, 3))
    assert list(results['widths']) == ['of-16', 'of-8']
    # Stem and classifier, and four blocks of 1 + 9 + 1 + 1 kernels: each has a
    # shortcut, as at width 1.0. Each of the 17 convolutions has its norm.
    sizes = {n: 27 * n + (4 * 11 + 4) * n * n + 17 * 2 * n for n in (8, 16)}
    sizes = {n: size + 10 * n + 10 for n, size in sizes.items()}
    assert results['widths']['of-8']['params'] == sizes[8]
    assert results['stored_params'] == sizes[16] + 17 * 2 * 8


class Holder(nn.Module):
    layer: nn.Module

    def __call__(self, images):
        return self.layer(images)


def test_counting_leaves_the_network_as_it_was():
    layer = SlimConv(3, 3, feature_group_count=3)
    assert width_costs(Holder(layer), (8, 8, 3))[1.0].macs == 64 * 9 * 3
    assert layer.conv_form == 'auto'
    assert width_costs(layer, (8, 8, 3), widths=(1.0,))[1.0].macs == 64 * 9 * 3
    assert layer.conv_form == 'auto'


class Unstated(nn.Module):
    @nn.compact
    def __call__(self, images, *, width=1.0):
        return SlimDense(4)(images, width=width)


@pytest.mark.parametrize(
    ('model', 'shape', 'widths', 'message'),
    [
        (Slimmable(), (224, 224), None, r'\(height, width, channels\)'),
        (Unstated(), (8, 8, 3), None, 'Unstated has no field `widths`'),
        (Plain(), (8, 8, 3), (0.5, 1.0), r'Plain takes no width='),
    ],
)
def test_what_cannot_be_counted_is_said(model, shape, widths, message):
    with pytest.raises(ValueError, match=message):
        width_costs(model, shape, widths=widths)
