"""The distinct networks of a range of widths, counted another way."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slimjax
from slimjax.models.grid import width_grid
from slimjax.width import make_divisible

SHAPE = (64, 64, 3)


def grid(name, widths, step=0.0, **fields):
    return width_grid(slimjax.create_model(name, widths=widths, **fields), SHAPE, step)


@pytest.mark.parametrize(
    ('name', 'lowest', 'count'),
    [('mobilenet_v1', 0.25, 187), ('mobilenet_v2', 0.35, 50)],
)
def test_the_published_networks_are_counted(name, lowest, count):
    found = grid(name, (lowest, 1.0))
    assert len(found.widths) == count
    assert (found.widths[0], found.widths[-1]) == (lowest, 1.0)
    assert found.line().startswith(f'{count} distinct networks from {lowest} to 1.0: ')


def test_every_width_is_one_of_the_networks_as_often_as_it_is_drawn():
    sizes = (32, 64, 128, 256, 512, 1024)

    def channels(width):
        return tuple(make_divisible(size * width) for size in sizes)

    found = grid('mobilenet_v1', (0.25, 1.0))
    own = {channels(width): index for index, width in enumerate(found.widths)}
    assert len(own) == len(found.widths)
    points = np.linspace(0.25, 1.0, 10_001)
    counts = np.bincount([own[channels(width)] for width in points])
    np.testing.assert_allclose(counts / counts.sum(), found.shares, atol=1e-3)
    assert sum(found.shares) == pytest.approx(1)


def test_widths_of_a_grid_with_equal_channels_are_one_network():
    def channels(width):
        sizes = (16, 24, 32, 64, 96, 160, 320)
        return tuple(make_divisible(size * width) for size in sizes)

    found = grid('mobilenet_v2', (0.35, 1.0), step=0.0125)
    assert len(found.widths) + len(found.aliases) == 53
    assert len({channels(width) for width in found.widths}) == len(found.widths)
    assert found.aliases
    for width, own in found.aliases:
        assert channels(width) == channels(own)
    of_one = [own for _, own in found.aliases].count(found.aliases[0][1]) + 1
    index = found.widths.index(found.aliases[0][1])
    assert found.shares[index] == pytest.approx(of_one / 53)
    assert f'(also {found.aliases[0][0]} = {found.aliases[0][1]}' in found.line()


def test_the_ends_of_a_range_stand_for_their_networks():
    found = grid('mobilenet_v2', (0.35, 1.0), step=0.0625)
    assert (found.widths[0], found.widths[1], found.widths[-1]) == (0.35, 0.375, 1.0)
    wide = grid('mobilenet_v1', (0.15, 1.5), step=0.0625)
    assert (wide.widths[0], wide.widths[1], wide.widths[-1]) == (0.15, 0.1875, 1.5)


def test_shufflenet_runs_at_any_width_and_is_unchanged_at_the_published_ones():
    model = slimjax.create_model('shufflenet', num_classes=7, widths=(0.5, 0.53, 2.0))
    images = jnp.ones((1, 64, 64, 3))
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    for width in model.widths:
        apply = functools.partial(model.apply, width=width, features=True)
        stages = jax.eval_shape(apply, variables, images)
        found = [stage.shape[-1] for stage in stages.values()]
        assert found == [3 * int(channels * width) for channels in (80, 160, 320)]


@pytest.mark.parametrize(
    ('widths', 'step', 'message'),
    [
        ((1.0,), 0.0, r"widths=\('1.0',\): a range takes two width multipliers"),
        ((0.5, 1.0), 0.5, r'width_grid=0.5: allowed is 0, for any width, to below 0.5'),
        ((0.5, 1.0), -0.1, 'width_grid=-0.1'),
        ((0.5, 1.0), 1e-9, 'width_grid=1e-09: more than 10,000 points'),
        ((0.999, 1.0), 0.0, r"widths=\('1.0', '0.999'\): .* the same channels"),
    ],
)
def test_a_range_that_is_none_is_refused(widths, step, message):
    with pytest.raises(ValueError, match=message):
        grid('mobilenet_v1', widths, step)


def test_channel_tables_are_no_range():
    model = slimjax.create_model('autoslim_mobilenet_v1')
    with pytest.raises(ValueError, match=r"widths=\('3', '2', '1'\): a range takes"):
        width_grid(model, SHAPE)
