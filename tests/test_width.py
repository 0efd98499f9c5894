"""Names, order and channel counts of widths."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from slimjax.width import (
    ChannelTable,
    canonical,
    divisible_by_8,
    make_divisible,
    resolve,
    truncate,
    widest_first,
    width_name,
)


@pytest.mark.parametrize(
    ('width', 'name'),
    [
        (1, '1.0'),
        (0.1 + 0.2, '0.3'),
        (1 / 3, '0.333333'),
        (np.float32(0.35), '0.35'),
        (np.float64(0.25), '0.25'),
    ],
)
def test_a_width_has_one_name(width, name):
    assert width_name(width) == name
    assert canonical(width) == float(name)


@given(st.floats(0.01, 10))
def test_naming_a_name_again_changes_nothing(width):
    assert width_name(float(width_name(width))) == width_name(width)


@pytest.mark.parametrize(
    'width',
    [
        *(0, -0.5, math.nan, math.inf, 1e-9, 'wide', '0.5', b'1', None, True, 1j),
        *(np.True_, np.ones(2), (0.5,)),
    ],
)
def test_what_is_no_width_is_refused_with_its_value(width):
    with pytest.raises(ValueError, match=r'width='):
        canonical(width)


@pytest.mark.parametrize(
    'name',
    ['0.25', '1.0', '1e3', '1_0', '-.5', 'nan', 'inf', 'Infinity', '', 'a b', 'a/b'],
)
def test_a_channel_table_is_never_called_like_a_number(name):
    with pytest.raises(ValueError, match='channel table is named'):
        ChannelTable(name, (('conv', 8),))


def test_channel_tables_are_ordered_by_their_macs_and_never_by_name():
    first = ChannelTable('2', (('conv', 8),), macs=100)
    second = ChannelTable('1', (('conv', 4),), macs=300)
    assert widest_first((first, second)) == (second, first)
    assert resolve(None, (first, second)) == resolve('1', (first, second)) == second
    with pytest.raises(ValueError, match=r"width='3' is not one .*: '2', '1'$"):
        resolve('3', (first, second))
    # The number 1 is a multiplier, and no multiplier has a name but its number.
    with pytest.raises(ValueError, match=r'width=1\.0 is not one of the widths'):
        resolve(1, (first, second))
    with pytest.raises(ValueError, match=r"width='0\.5' is not one of the widths"):
        resolve('0.5', (0.5, 1.0))
    with pytest.raises(ValueError, match='state macs of all channel tables'):
        widest_first((first, ChannelTable('3', (('conv', 8),))))


def test_channel_tables_are_hashable_and_ordered_by_size():
    small = ChannelTable('small', (('conv', 8),))
    large = ChannelTable('large', [('conv', 16)])
    assert hash(large) == hash(ChannelTable('large', (('conv', 16),)))
    assert widest_first((small, large)) == (large, small)
    assert width_name(small) == 'small'
    with pytest.raises(ValueError, match='mixes'):
        widest_first((small, 0.5))
    with pytest.raises(ValueError, match='no layer'):
        small.of('other')


@pytest.mark.parametrize(
    'channels', [(('conv', 0),), (('conv', -8),), (('conv', 8), ('conv', 16))]
)
def test_a_channel_table_gives_each_layer_one_count_above_zero(channels):
    with pytest.raises(ValueError, match="channel table 'small'"):
        ChannelTable('small', channels)


@pytest.mark.parametrize(
    ('widths', 'message'),
    [
        ((0.3, 0.1 + 0.2), r'0\.3 stands there more than once'),
        ((1, 1.0), r'1\.0 stands there more than once'),
        ((), 'at least one width'),
        ((0.5, 0), 'width=0'),
    ],
)
def test_widths_that_do_not_go_together_are_refused(widths, message):
    with pytest.raises(ValueError, match=message):
        widest_first(widths)


@given(st.lists(st.floats(0.01, 4), min_size=1, unique_by=width_name))
def test_widest_first_is_an_order(widths):
    ordered = widest_first(widths)
    assert ordered == tuple(sorted(map(canonical, widths), reverse=True))
    assert widest_first(ordered) == ordered
    assert all(resolve(width, ordered) in ordered for width in widths)


def test_a_foreign_width_is_refused_with_the_list_of_widths():
    with pytest.raises(ValueError, match=r'0\.3 is not one of.*: 0\.25, 0\.5, 1\.0'):
        resolve(0.3, (1.0, 0.25, 0.5))
    assert resolve(None, (0.25, 1.0)) == 1.0


@pytest.mark.parametrize(
    ('value', 'rounded'),
    [
        *((0.5, 1), (1, 1), (1.6, 9), (2, 9), (3.2, 9), (4, 8), (11.2, 16), (12, 16)),
        *((18, 24), (20, 24), (22.4, 24), (33.6, 32), (36, 40)),
    ],
)
def test_make_divisible_gives_the_published_numbers(value, rounded):
    assert make_divisible(value) == rounded


@given(st.floats(8, 5000))
def test_make_divisible_is_near_and_never_much_below(value):
    rounded = make_divisible(value)
    assert rounded % 8 == 0
    assert rounded >= 0.9 * value
    assert abs(rounded - value) <= 8


@given(st.integers(1, 2048), st.floats(0.05, 2))
def test_truncate_cuts_the_fraction_off(channels, width):
    product = channels * canonical(width)
    assume(product >= 1 and product % 1 < 1 - 0.5e-6 * channels - 1e-9)
    assert truncate(channels, canonical(width)) == int(product)


@given(st.integers(1, 512), st.integers(1, 64))
def test_truncate_gives_whole_numbers_where_the_width_is_a_fraction(part, parts):
    assert truncate(part * parts, canonical(1 / parts)) == part


def test_truncate_gives_a_third_of_the_channels_at_a_third():
    assert truncate(96, canonical(1 / 3)) == 32
    assert truncate(30, 0.55) == 16
    with pytest.raises(ValueError, match='less than one channel'):
        truncate(2, 0.25)


def test_published_channels_of_mobilenet_v2():
    base = (32, 16, 24, 32, 64, 96, 160, 320)
    published = {
        0.35: (16, 8, 8, 16, 24, 32, 56, 112),
        0.5: (16, 8, 16, 16, 32, 48, 80, 160),
        0.75: (24, 16, 24, 24, 48, 72, 120, 240),
    }
    for width, channels in published.items():
        assert tuple(divisible_by_8(c, width) for c in base) == channels
