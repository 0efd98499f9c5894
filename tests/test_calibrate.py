"""Statistics of fixed weights, against plain numpy in float64."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slimjax
from slimjax.calibrate import Calibrator
from slimjax.width import ChannelTable
from tests.commands import run_command
from tests.crossing import FIELDS, crossing_tables

WIDTHS = (0.5, 1.0)
NEW = 0.75


class Net(nn.Module):
    """Two hidden layers, written so that numpy can repeat it in three lines."""

    widths: tuple = WIDTHS
    norm: str = 'shared_affine'
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x, *, width=1.0, train=False):
        options = {'dtype': self.dtype, 'param_dtype': self.dtype}
        for channels in (8, 12):
            x = slimjax.SlimDense(channels, **options)(x, width=width)
            norm = slimjax.SwitchableBatchNorm(
                self.widths,
                channels={w: int(channels * w) for w in self.widths},
                mode=self.norm,
                param_dtype=self.dtype,
            )
            x = nn.relu(norm(x, width=width, train=train))
        dense = slimjax.SlimDense(4, slim_output=False, **options)
        return dense(x, width=width)


def problem(dtype=jnp.float32, **fields):
    """A network with weights and affine drawn at random, and unequal batches."""
    rng = np.random.default_rng(0)
    model = Net(dtype=dtype, **fields)
    # What the batches have in common is little, so that pooling must get it right.
    batches = [
        rng.normal(loc, scale, (size, 6)).astype(dtype)
        for loc, scale, size in ((0, 1, 8), (2, 0.5, 16), (-1, 3, 8))
    ]
    variables = model.init(jax.random.key(0), batches[0])
    params = jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(0.5, 0.5, leaf.shape), leaf.dtype),
        variables['params'],
    )
    return model, {**variables, 'params': params}, batches


def oracle(params, batches, width, method):
    """The statistics of both norms, one layer after another."""
    values = [np.float64(batch) for batch in batches]
    found = []
    for layer in range(2):
        dense = params[f'SlimDense_{layer}']
        affine = params[f'SwitchableBatchNorm_{layer}']['affine']
        active = int((8, 12)[layer] * width)
        kernel = np.float64(dense['kernel'])[: values[0].shape[1], :active]
        values = [x @ kernel + np.float64(dense['bias'])[:active] for x in values]
        whole = np.concatenate(values)
        mean, var = whole.mean(0), whole.var(0, ddof=1)
        found.append({'mean': mean, 'var': var})
        scale, bias = (np.float64(affine[n])[:active] for n in ('scale', 'bias'))
        values = [
            np.maximum(0, (x - m) / np.sqrt(v + 1e-5) * scale + bias)
            for x, (m, v) in zip(values, _used(values, mean, var, method), strict=True)
        ]
    return {f'SwitchableBatchNorm_{layer}': found[layer] for layer in range(2)}


def _used(values, mean, var, method):
    if method == 'sequential':
        return [(mean, var)] * len(values)
    return [(x.mean(0), x.var(0)) for x in values]


def assert_both_methods_are_the_oracle():
    model, variables, batches = problem(jnp.float64)
    widths, close = (0.5, NEW), {'rtol': 1e-12, 'atol': 1e-12}
    for method in ('pooled', 'sequential'):
        found = slimjax.calibrate(model, variables, batches, widths, method=method)
        jax.tree.map(
            np.testing.assert_array_equal, found['params'], variables['params']
        )
        for width in widths:
            expected = oracle(variables['params'], batches, width, method)
            stats = found[slimjax.stats_collection(width)]
            assert jax.tree.structure(stats) == jax.tree.structure(expected)
            jax.tree.map(
                lambda a, b: np.testing.assert_allclose(a, b, **close),
                stats,
                expected,
            )


def test_both_methods_are_a_float64_oracle_on_four_devices():
    assert jax.local_device_count() == 4
    with jax.enable_x64(True):
        assert_both_methods_are_the_oracle()


def test_both_methods_are_a_float64_oracle_on_one_device(tmp_path):
    script = tmp_path / 'one_device.py'
    script.write_text(
        'import jax\n'
        'from tests.test_calibrate import assert_both_methods_are_the_oracle as check\n'
        'assert jax.local_device_count() == 1\n'
        'jax.config.update("jax_enable_x64", True)\n'
        'check()\n'
    )
    done = run_command(script)
    assert done.returncode == 0, done.stderr


class ImageNet(nn.Module):
    """Two convolutions of two groups, the second of 1 x 1 px."""

    widths: tuple = WIDTHS

    @nn.compact
    def __call__(self, x, *, width=1.0, train=False):
        options = {'feature_group_count': 2, 'dtype': x.dtype, 'param_dtype': x.dtype}
        for size in (3, 1):
            x = slimjax.SlimConv(8, size, use_bias=False, **options)(x, width=width)
            norm = slimjax.SwitchableBatchNorm(
                self.widths,
                channels={w: int(8 * w) for w in self.widths},
                mode='shared_affine',
                groups=2,
                param_dtype=x.dtype,
            )
            x = nn.relu(norm(x, width=width, train=train))
        return x.mean((1, 2))


def grouped_oracle(params, batches, width, method):
    """The statistics of both norms; of each group, the first channels are there."""
    values, found = batches, []
    of_group = int(4 * width)
    active = [*range(of_group), *range(4, 4 + of_group)]
    for layer, size in enumerate((3, 1)):
        kernel = params[f'SlimConv_{layer}']['kernel'][..., active]
        edge = [(0, 0), *2 * [(size // 2, size // 2)], (0, 0)]
        values = [
            np.concatenate(
                [
                    np.einsum(
                        'nhwcij,ijco->nhwo',
                        np.lib.stride_tricks.sliding_window_view(
                            np.pad(part, edge), (size, size), (1, 2)
                        ),
                        kernel[:, :, : part.shape[-1], outputs],
                    )
                    for part, outputs in zip(
                        np.split(x, 2, -1),
                        (slice(of_group), slice(of_group, None)),
                        strict=True,
                    )
                ],
                -1,
            )
            for x in values
        ]
        flat = [x.reshape(-1, len(active)) for x in values]
        whole = np.concatenate(flat)
        mean, var = whole.mean(0), whole.var(0, ddof=1)
        found.append({'mean': mean, 'var': var})
        affine = params[f'SwitchableBatchNorm_{layer}']['affine']
        scale, bias = (np.asarray(affine[n])[active] for n in ('scale', 'bias'))
        values = [
            np.maximum(0, (x - m) / np.sqrt(v + 1e-5) * scale + bias)
            for x, (m, v) in zip(values, _used(flat, mean, var, method), strict=True)
        ]
    return {f'SwitchableBatchNorm_{layer}': found[layer] for layer in range(2)}


@pytest.mark.parametrize('method', ['pooled', 'sequential'])
def test_statistics_of_images_and_groups_are_an_oracle(method):
    rng = np.random.default_rng(0)
    batches = [
        rng.normal(loc, scale, (4, 5, 6, 4)) for loc, scale in ((0, 1), (2, 0.5))
    ]
    with jax.enable_x64(True):
        model = ImageNet()
        variables = model.init(jax.random.key(0), batches[0])
        params = jax.tree.map(
            lambda leaf: rng.normal(0.5, 0.5, leaf.shape), variables['params']
        )
        variables = {**variables, 'params': params}
        found = slimjax.calibrate(model, variables, batches, (NEW,), method=method)
        expected = grouped_oracle(params, batches, NEW, method)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12),
            found[slimjax.stats_collection(NEW)],
            expected,
        )


def test_sequential_statistics_reproduce_themselves_and_pooled_ones_do_not():
    model, variables, batches = problem()
    said = []
    pooled = slimjax.calibrate(model, variables, batches, (1.0,), say=said.append)
    exact = slimjax.calibrate(
        model, variables, batches, (1.0,), method='sequential', say=said.append
    )
    assert 'pooled statistics, and those that the network then has' in said[0]
    assert 'pooled statistics, and sequential of ' in said[1]
    again = slimjax.calibrate(model, exact, batches, (1.0,), method='sequential')
    assert slimjax.statistics_gap(exact, again, 1.0).largest < 1e-5
    gap = slimjax.statistics_gap(pooled, exact, 1.0)
    assert gap.largest > 0.1
    assert gap.line() in said[1]
    jax.tree.map(np.testing.assert_array_equal, exact['params'], variables['params'])
    # The first norm sees the images alone, so that its two are equal; in float32.
    first = 'SwitchableBatchNorm_0'
    for method, found in (('pooled', pooled), ('sequential', exact)):
        expected = oracle(variables['params'], batches, 1.0, method)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5),
            found['batch_stats_1.0'],
            expected,
        )
    np.testing.assert_allclose(
        pooled['batch_stats_1.0'][first]['var'],
        exact['batch_stats_1.0'][first]['var'],
        rtol=1e-5,
    )
    # What was not asked for stays.
    np.testing.assert_array_equal(
        pooled['batch_stats_0.5'][first]['mean'],
        variables['batch_stats_0.5'][first]['mean'],
    )


def test_a_network_runs_at_a_width_that_it_was_never_trained_at():
    model, variables, batches = problem()
    variables = slimjax.calibrate(model, variables, batches, (NEW,))
    with pytest.raises(ValueError, match=r'width=0\.75 is not one of the widths'):
        model.apply(variables, batches[0], width=NEW)
    model = model.clone(widths=(*WIDTHS, NEW))
    assert model.apply(variables, batches[0], width=NEW).shape == (8, 4)


def tailed(**fields):
    """A MobileNet v2 of one block, whose tail's norm all widths share."""
    return slimjax.create_model(
        'mobilenet_v2', num_classes=3, widths=WIDTHS, small_images=True, **fields
    )


@pytest.fixture
def one_stage(monkeypatch):
    from slimjax.models.mobilenet_v2 import MobileNetV2

    monkeypatch.setattr(MobileNetV2, 'STAGES', MobileNetV2.STAGES[:1])


def test_a_shared_tail_is_calibrated_for_one_width_or_gets_statistics_of_each(
    one_stage,
):
    images = np.random.default_rng(0).normal(size=(8, 8, 8, 3)).astype(np.float32)
    model = tailed(norm='shared_affine')
    variables = jax.jit(model.init)(jax.random.key(0), images)
    with pytest.raises(ValueError, match=r'widths 1\.0, 0\.5 share .* tail/norm'):
        slimjax.calibrate(model, variables, [images])
    alone = {
        width: slimjax.calibrate(model, variables, [images], (width,))
        for width in WIDTHS
    }
    private = tailed(norm='shared_affine', private_tail_stats=True)
    # Its parameters are the same: a network that was trained with the one can be
    # calibrated with the other.
    shapes = jax.eval_shape(private.init, jax.random.key(0), images)
    assert jax.tree.structure(shapes['params']) == (
        jax.tree.structure(variables['params'])
    )
    own = slimjax.calibrate(private, {'params': variables['params']}, [images])
    assert 'batch_stats' not in own
    for width in WIDTHS:
        np.testing.assert_allclose(
            alone[width]['batch_stats']['tail']['norm']['mean'],
            own[slimjax.stats_collection(width)]['tail']['norm']['mean'],
            rtol=1e-5,
            atol=1e-6,
        )
        apply, own_apply = (
            jax.jit(functools.partial(each.apply, width=width))
            for each in (model, private)
        )
        np.testing.assert_allclose(
            apply(alone[width], images),
            own_apply(own, images),
            rtol=1e-4,
            atol=1e-5,
        )


def test_averages_keep_the_mean_of_what_widths_share(one_stage):
    images = np.random.default_rng(0).normal(size=(8, 8, 8, 3)).astype(np.float32)
    model = tailed()
    params, stats = slimjax.split_variables(
        jax.jit(model.init)(jax.random.key(0), images)
    )
    together = Calibrator(model, average_shared=True).stats(params, stats, [images])
    each = [
        Calibrator(model, (width,)).stats(params, stats, [images])['batch_stats']
        for width in WIDTHS
    ]
    jax.tree.map(
        lambda mean, one, two: np.testing.assert_allclose(
            mean, (one + two) / 2, rtol=1e-5, atol=1e-6
        ),
        together['batch_stats'],
        *each,
    )


def test_a_new_table_has_to_fit_the_layers_and_not_the_sum():
    small, large = crossing_tables()
    model = slimjax.create_model(
        'resnet14', widths=(small, large), norm='shared_affine', **FIELDS
    )
    most = {path: max(count, large.of(path)) for path, count in small.channels}
    fits = ChannelTable('3', tuple(most.items()), macs=300)
    wide_stem = tuple({**dict(small.channels), 'stem/conv': 8}.items())
    Calibrator(model, (fits,))
    with pytest.raises(ValueError, match='width=4 is wider than the widest'):
        Calibrator(model, (ChannelTable('4', wide_stem, macs=100),))


PADDED = {'image': np.ones((8, 6), np.float32), 'mask': np.repeat([1.0, 0.0], [5, 3])}


@pytest.mark.parametrize(
    ('fields', 'widths', 'batches', 'method', 'message'),
    [
        ({}, (1.5,), None, 'pooled', r'width=1\.5 is wider than .* model, 1\.0'),
        ({'norm': 'private'}, (NEW,), None, 'pooled', r"/0\.75/.*'shared_affine'"),
        ({}, (0.5, 0.5), None, 'pooled', 'more than once'),
        ({}, 0.5, None, 'pooled', 'widths=0.5: a sequence of widths is expected'),
        ({}, None, np.ones((8, 6), np.float32), 'pooled', 'batches is one ndarray: a'),
        ({}, None, [{'label': np.ones(8)}], 'pooled', "with 'label' has no 'image'"),
        ({}, None, [np.full((8, 6), np.nan)], 'pooled', 'are not finite: an image or'),
        ({}, None, [], 'pooled', 'there is no batch'),
        ({}, None, [np.ones((6, 6), np.float32)], 'pooled', r'batch_size=6 .* try 4'),
        ({}, None, [PADDED], 'pooled', "'mask'.* tells 3 of 8 images for padding"),
        ({}, None, None, 'exact', "method='exact'; allowed: pooled, sequential"),
        ({'norm': 'shared'}, None, None, 'pooled', 'one width at a time'),
    ],
)
def test_what_cannot_be_calibrated_is_refused(fields, widths, batches, method, message):
    model, variables, own = problem(**fields)
    batches = own if batches is None else batches
    with pytest.raises(ValueError, match=message):
        slimjax.calibrate(model, variables, batches, widths, method=method)


def test_nothing_is_made_up_for_widths_that_were_not_asked_for():
    model, variables, batches = problem()
    params, stats = slimjax.split_variables(variables)
    narrow = min(model.widths)
    collection = f'batch_stats_{narrow}'
    found = slimjax.calibrate(model, {'params': params}, batches, (narrow,))
    assert sorted(found) == [collection, 'params']
    kept = slimjax.calibrate(model, {'params': params, **stats}, batches, (narrow,))
    assert sorted(kept) == sorted(['params', *stats])
    jax.tree.map(np.testing.assert_array_equal, found[collection], kept[collection])


def test_a_network_without_our_norms_is_refused():
    class Plain(nn.Module):
        widths: tuple = (1.0,)

        @nn.compact
        def __call__(self, x, *, width=1.0):
            return nn.Dense(3)(x)

    images = np.ones((4, 2), np.float32)
    variables = Plain().init(jax.random.key(0), images)
    with pytest.raises(ValueError, match='Plain has no SwitchableBatchNorm'):
        slimjax.calibrate(Plain(), variables, [images])


def test_a_network_that_does_not_say_its_widths_is_refused():
    class Nameless(nn.Module):
        @nn.compact
        def __call__(self, x, *, width=1.0):
            return slimjax.SwitchableBatchNorm()(x, width=width, train=False)

    images = np.ones((4, 2), np.float32)
    variables = Nameless().init(jax.random.key(0), images)
    with pytest.raises(ValueError, match='Nameless has no field `widths`'):
        slimjax.calibrate(Nameless(), variables, [images])


def test_statistics_of_a_width_that_is_not_there_have_no_gap():
    with pytest.raises(ValueError, match=r'no statistics of width 0\.3'):
        slimjax.statistics_gap({}, {}, 0.3)
