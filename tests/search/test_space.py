"""What may be searched, and in what steps; its costs are held in test_masking.py."""

import flax.linen as nn
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import slimjax
from slimjax.layer_norm import SlimLayerNorm
from slimjax.layers import SlimConv, SlimDense
from slimjax.models.common import SlimmableClassifier
from slimjax.search.draw import draw
from slimjax.search.space import search_space
from slimjax.search.targets import parse_targets
from slimjax.width import truncate


def space_of(name, shape=(32, 32, 3), **fields):
    model = slimjax.create_model(
        name, **{'norm': 'shared_affine', 'small_images': True, **fields}
    )
    return search_space(model, shape)


def test_mobilenets_change_by_eights_and_residual_layers_together():
    space = space_of('mobilenet_v2', widths=(0.15, 1.5), slim_tail=True)
    assert (space.whole % 8 == 0).all()
    assert (space.chunks % 8 == 0).all()
    assert (space.least <= space.whole).all()
    tied = {
        segment.layers
        for variable in space.variables
        for segment in variable.segments
        if 'block4/project/conv' in segment.layers
    }
    assert tied == {tuple(f'block{n}/project/conv' for n in (4, 5, 6))}
    # 17 blocks, 16 of which expand; stem, tail and 7 stages' outputs.
    assert len(space.variables) == 16 + 7 + 2


def test_groups_stay_whole():
    space = space_of('shufflenet', widths=(0.5, 1.0))
    names = [variable.name for variable in space.variables]
    # 8 channels are no three groups, three times 8 are.
    assert names[0] == 'stem0/conv = stem1/conv = stem2/conv'
    table = dict(space.table(space.whole - space.chunks, 'fewer').channels)
    assert all(
        count % 3 == 0
        for path, count in table.items()
        if path.split('/')[1] in ('squeeze', 'expand')
        and not path.startswith('stage1_block1/squeeze')
    )
    assert sum(table[f'stem{n}/conv'] for n in range(3)) % 3 == 0
    # Behind a concatenation come the channels of both.
    stems = 3 * table['stem0/conv']
    first, second = (table[f'stage1_block{n}/expand/conv'] for n in (1, 2))
    assert second == first + stems


def test_a_width_is_one_of_the_networks():
    model = slimjax.create_model(
        'mobilenet_v1', widths=(0.25, 0.5, 1.0), norm='shared_affine'
    )
    space = search_space(model, (64, 64, 3))
    costs = slimjax_costs(model)
    for width in model.widths:
        assert space.macs(space.uniform(width)) == costs[width].macs
        assert space.params(space.uniform(width)) == costs[width].params


def slimjax_costs(model):
    from slimjax.insight.cost import width_costs

    return width_costs(model, (64, 64, 3))


def test_networks_are_drawn_within_their_costs():
    space = space_of('resnet14', widths=(0.25, 1.0), base_features=16)
    half = float(space.macs(space.whole)) / 2
    drawn = [
        draw(space, np.random.default_rng(seed), space.macs, 0.99 * half, 1.01 * half)
        for seed in range(10)
    ]
    assert all(abs(space.macs(each) / half - 1) <= 0.01 for each in drawn)
    assert len({tuple(each) for each in drawn}) == 10
    assert all((space.least <= each).all() for each in drawn)
    with pytest.raises(ValueError, match='no network of'):
        draw(space, np.random.default_rng(0), space.macs, 1, 2)


@pytest.mark.parametrize(
    ('fields', 'message'),
    [
        ({'widths': (1.0,)}, 'two width multipliers'),
        ({'norm': 'private', 'widths': (0.25, 1.0)}, "allowed is 'shared_affine'"),
        ({'widths': (0.15, 1.5), 'name': 'mobilenet_v2'}, 'slim_tail=True'),
    ],
)
def test_what_cannot_be_searched_is_said(fields, message):
    with pytest.raises(ValueError, match=message):
        space_of(**{'name': 'resnet14', **fields})


class Own(SlimmableClassifier):
    """A network of the user's own, one layer of which nothing can switch off."""

    between: str = 'conv'

    @nn.compact
    def __call__(self, images, *, width=None, train=False):
        maps, width = self.start(images, width)
        stem = self.conv_norm(truncate, nn.relu)(8, 3, name='stem')
        maps = stem(maps, width=width, train=train).values
        if self.between == 'conv':
            maps = SlimConv(16, 3, widths=self.widths, name='raw')(maps, width=width)
        else:
            maps = SlimLayerNorm(widths=self.widths, name='raw')(maps, width=width)
        pooled = maps.mean((1, 2))
        return SlimDense(self.num_classes, slim_output=False)(pooled, width=width)


@pytest.mark.parametrize(
    ('between', 'message'),
    [('conv', 'raw: a search changes'), ('norm', 'raw: a search puts zeros')],
)
def test_layers_that_cannot_be_masked_are_refused(between, message):
    model = Own(widths=(0.5, 1.0), norm='shared_affine', between=between)
    with pytest.raises(ValueError, match=message):
        search_space(model, (16, 16, 3))


@given(st.integers(1, 10**15))
def test_a_whole_number_of_thousands_is_meant_exactly(macs):
    (found,) = parse_targets(f'{macs / 1e3!r}k', 'macs', 1.0)
    assert found == macs


@pytest.mark.parametrize('text', ['', '0', '-1', '0.5,', 'half', '300X', '0.5,0.5'])
def test_targets_that_are_none_are_refused(text):
    with pytest.raises(ValueError, match='--macs='):
        parse_targets(text, 'macs', 1000.0)
