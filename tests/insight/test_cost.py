"""What each width costs, against the published profiler and against gradients."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slimjax import SlimConv, SlimDense, create_model
from slimjax.insight.cost import WidthCost, cost_results, width_costs
from slimjax.width import ChannelTable
from tests.insight.networks import Plain, Slimmable

# At 224 px with 1000 classes. Of each width: multiply-adds as the published profiler
# has them, and without the pools; parameters of convolutions and classifier, and of
# this width's BatchNorm. Of each network: all that is stored.
PUBLISHED = {
    'mobilenet_v1': (
        4_264_808,
        {
            1.0: (568_790_528, 568_740_352, 4_210_088, 21_888),
            0.75: (325_438_080, 325_400_448, 2_569_144, 16_416),
            0.5: (149_522_176, 149_497_088, 1_320_648, 10_944),
            0.25: (41_042_816, 41_030_272, 464_600, 5_472),
        },
    ),
    'mobilenet_v2': (
        3_556_456,
        {
            1.0: (300_836_992, 300_774_272, 3_470_760, 34_112),
            0.75: (209_132_512, 209_069_792, 2_609_784, 26_640),
            0.5: (97_194_560, 97_131_840, 1_950_136, 18_544),
            0.35: (59_348_528, 59_285_808, 1_663_048, 14_080),
        },
    ),
    'shufflenet': (
        5_487_496,
        {
            2.0: (524_209_584, 523_405_824, 5_401_816, 48_960),
            1.0: (137_702_712, 137_300_832, 1_841_248, 24_480),
            0.5: (37_750_836, 37_549_896, 706_084, 12_240),
        },
    ),
    'resnet50': (
        25_636_712,
        {
            1.0: (4_089_284_608, 4_089_184_256, 25_503_912, 53_120),
            0.75: (2_322_753_024, 2_322_677_760, 14_732_152, 39_840),
            0.5: (1_052_361_728, 1_052_311_552, 6_891_080, 26_560),
            0.25: (278_110_720, 278_085_632, 1_980_696, 13_280),
        },
    ),
}


@pytest.mark.parametrize('name', PUBLISHED)
def test_costs_are_those_of_the_published_profiler(name):
    stored, widths = PUBLISHED[name]
    found = cost_results(create_model(name, widths=tuple(widths)), (224, 224, 3))
    expected = {
        str(width): {
            'params': layers + norms,
            'norm_params': norms,
            'macs': macs,
            'profiler_macs': profiler_macs,
        }
        for width, (profiler_macs, macs, layers, norms) in widths.items()
    }
    assert found == {'stored_params': stored, 'widths': expected}
    assert list(found['widths']) == [str(width) for width in widths]


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
            norm_params=2 * merged,
            macs=36 * kernels + 5 * merged,
            profiler_macs=36 * kernels + 5 * merged + 36 * merged,
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
            norm_params=16,
            macs=macs,
            profiler_macs=macs + 2 * 16 * 8,
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
    # Stem and classifier, and four blocks of 1 + 9 + 1 kernels, three of them with a
    # shortcut; each of the 16 convolutions has its norm.
    sizes = {n: 27 * n + (4 * 11 + 3) * n * n + 16 * 2 * n for n in (8, 16)}
    sizes = {n: size + 10 * n + 10 for n, size in sizes.items()}
    assert results['widths']['of-8']['params'] == sizes[8]
    assert results['stored_params'] == sizes[16] + 16 * 2 * 8


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
