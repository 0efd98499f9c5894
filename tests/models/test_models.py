"""Sizes, names, types and errors of the models."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

import slimjax
from slimjax.models import create_model
from tests.models import independent
from tests.models.copying import at, copied, kernel_of, units
from tests.shapes import unchecked
from tests.slow import slow_but

WIDTHS = {
    'mobilenet_v1': (0.25, 0.5, 0.75, 1.0),
    'mobilenet_v2': (0.35, 0.5, 0.75, 1.0),
    'shufflenet': (0.5, 1.0, 2.0),
    'resnet50': (0.25, 0.5, 0.75, 1.0),
}
# What the published code counts: everything that is stored (convolutions, classifier
# and the BatchNorm of each width), and what each width uses of it, narrowest first.
PARAMETERS = {
    'mobilenet_v1': (4_264_808, (470_072, 1_331_592, 2_585_560, 4_231_976)),
    'mobilenet_v2': (3_556_456, (1_677_128, 1_968_680, 2_636_424, 3_504_872)),
    'shufflenet': (5_487_496, (718_324, 1_865_728, 5_450_776)),
    'resnet50': (25_636_712, (1_993_976, 6_917_640, 14_771_992, 25_557_032)),
}
INDEPENDENT = {
    'mobilenet_v1': independent.MobileNetV1,
    'mobilenet_v2': independent.MobileNetV2,
    'shufflenet': independent.ShuffleNet,
    'resnet50': independent.ResNet,
}
KEY = jax.random.key(0)


def batch(size=64, channels=3, examples=2, dtype=jnp.float32):
    return jax.ShapeDtypeStruct((examples, size, size, channels), dtype)


def shapes(name, widths, **fields):
    model = create_model(name, widths=widths, **fields)
    return jax.eval_shape(model.init, KEY, batch())


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize('name', WIDTHS)
def test_all_widths_together_have_the_published_number_of_parameters(name):
    assert count(shapes(name, WIDTHS[name])['params']) == PARAMETERS[name][0]


@pytest.mark.parametrize(
    ('name', 'width', 'total'),
    [
        pytest.param(
            name, width, total, marks=[pytest.mark.slow] * (width > WIDTHS[name][0])
        )
        for name, (_, totals) in PARAMETERS.items()
        for width, total in zip(WIDTHS[name], totals, strict=True)
    ],
)
def test_a_network_of_one_width_is_physically_narrow(name, width, total):
    params = shapes(name, (width,))['params']
    assert count(params) == total
    narrow = jax.eval_shape(INDEPENDENT[name](width, 1000).init, KEY, batch())['params']
    assert count(narrow) == total
    # Copying checks that all shapes agree.
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), params)
    copied(name, zeros, narrow, width)


@pytest.mark.parametrize(
    ('name', 'widths'),
    slow_but(
        [
            ('mobilenet_v1', WIDTHS['mobilenet_v1']),
            *((name, WIDTHS[name][:1]) for name in WIDTHS),
        ],
        ('mobilenet_v1', WIDTHS['mobilenet_v1'][:1]),
    ),
)
def test_kernels_are_drawn_by_the_fan_out_of_the_widest_network(name, widths):
    # For one narrow width, a network trained alone, that is the narrow network's.
    model = create_model(name, widths=widths, norm='shared_affine')
    params = jax.jit(model.init)(KEY, jnp.ones((1, 64, 64, 3)))['params']
    narrow = shapes(name, (max(widths),))['params']
    for path, groups in units(name, params):
        kernel = np.asarray(kernel_of(params, path))
        assert kernel.shape == kernel_of(narrow, path).shape
        height, width, _, outputs = kernel.shape
        std = (2 / (height * width * outputs / groups)) ** 0.5
        assert kernel.std() == pytest.approx(std, rel=5 / (2 * kernel.size) ** 0.5)
        affine = at(params, path)['norm']['affine']
        assert np.all(affine['scale'] == 1)
        assert not affine['bias'].any()
    classifier = params['classifier']
    assert np.std(classifier['kernel']) == pytest.approx(0.01, rel=0.02)
    assert not classifier['bias'].any()


@pytest.mark.parametrize(
    ('name', 'norm'),
    slow_but(
        list(itertools.product(WIDTHS, ['private', 'shared_affine', 'shared'])),
        ('mobilenet_v1', 'shared'),
        ('mobilenet_v2', 'private'),
        ('shufflenet', 'shared_affine'),
        ('resnet50', 'private'),
    ),
)
def test_a_pass_changes_the_collections_that_are_named_and_no_other(name, norm):
    check_changed_collections(
        create_model(name, num_classes=5, widths=WIDTHS[name][::2], norm=norm)
    )


@pytest.mark.slow
def test_a_private_tail_leaves_no_shared_collection_to_change():
    model = create_model('mobilenet_v2', widths=(0.35, 1.0), shared_tail_norm=False)
    check_changed_collections(model)
    assert model.stats_collections(0.35) == ('batch_stats_0.35',)


def check_changed_collections(model):
    variables = jax.eval_shape(model.init, KEY, batch())
    for width in model.widths:
        named = model.stats_collections(width)
        assert named == slimjax.stats_collections(variables, width)

        def after(variables, images, width=width):
            return model.apply(
                variables, images, width=width, train=True, mutable=True
            )[1]

        program, found = jax.make_jaxpr(after, return_shape=True)(variables, batch())
        assert jax.tree.map(jnp.shape, found) == jax.tree.map(jnp.shape, variables)
        # What a pass leaves alone comes out as the variable that went in.
        kept = set(program.jaxpr.invars)
        changed = jax.tree.unflatten(
            jax.tree.structure(found), [v not in kept for v in program.jaxpr.outvars]
        )
        for collection, leaves in changed.items():
            assert set(jax.tree.leaves(leaves)) == {collection in named}, collection


def test_the_tail_of_mobilenet_v2_is_shared_as_published_or_private():
    shared = shapes('mobilenet_v2', (0.35, 1.0))
    assert list(shared['params']['tail']['norm']) == ['affine']
    assert shared['batch_stats']['tail']['norm']['mean'].shape == (1280,)
    private = shapes('mobilenet_v2', (0.35, 1.0), shared_tail_norm=False)
    assert sorted(private['params']['tail']['norm']) == ['0.35', '1.0']
    assert 'batch_stats' not in private


@pytest.mark.parametrize(
    ('name', 'size', 'channels', 'small'),
    slow_but(
        [
            (name, *image)
            for name in ('mobilenet_v1', 'mobilenet_v2', 'shufflenet')
            for image in ((33, 3, False), (48, 1, False), (31, 1, True))
        ],
        ('mobilenet_v1', 31, 1, True),
        ('mobilenet_v2', 48, 1, False),
        ('shufflenet', 33, 3, False),
    ),
)
def test_any_image_size_batch_and_class_count(name, size, channels, small):
    check_logits(name, size, channels, small, WIDTHS[name][::2])


@pytest.mark.parametrize(('size', 'channels', 'small'), [(33, 1, False), (31, 3, True)])
def test_any_image_size_batch_and_class_count_of_resnet(size, channels, small):
    check_logits('resnet14', size, channels, small, (0.25, 1.0))


def check_logits(name, size, channels, small, widths):
    model = create_model(name, num_classes=7, widths=widths, small_images=small)
    variables = jax.eval_shape(model.init, KEY, batch(size, channels))
    for width in widths:
        apply = functools.partial(model.apply, width=width)
        logits = jax.eval_shape(apply, variables, batch(size, channels, examples=5))
        assert logits.shape == (5, 7)


def features_of(name, size, width, **fields):
    """Side and channels of each feature map, and of the pooled features."""
    model = create_model(name, num_classes=0, **fields)
    variables = jax.eval_shape(model.init, KEY, batch(size))
    assert 'classifier' not in variables['params']
    apply = functools.partial(model.apply, width=width)
    maps = jax.eval_shape(
        functools.partial(apply, features=True), variables, batch(size)
    )
    pooled = jax.eval_shape(apply, variables, batch(size))
    assert {leaf.shape[0] for leaf in maps.values()} == {2}
    sides = {name: leaf.shape[2:] for name, leaf in maps.items()}
    return sides, pooled.shape


@pytest.mark.parametrize(
    ('name', 'width', 'maps', 'pooled'),
    [
        (
            'mobilenet_v1',
            0.25,
            [(112, 16), (56, 32), (28, 64), (14, 128), (7, 256)],
            256,
        ),
        ('mobilenet_v2', 0.35, [(112, 8), (56, 8), (28, 16), (14, 32), (7, 112)], 1280),
        ('shufflenet', 0.5, [(28, 120), (14, 240), (7, 480)], 480),
        ('resnet50', 0.5, [(56, 128), (28, 256), (14, 512), (7, 1024)], 1024),
    ],
)
def test_features_are_the_last_maps_of_each_resolution(name, width, maps, pooled):
    found, shape = features_of(name, 224, width)
    assert found == {f'stage{i}': sides for i, sides in enumerate(maps, start=1)}
    assert shape == (2, pooled)


@pytest.mark.parametrize(
    ('name', 'sides'),
    [
        ('mobilenet_v1', [32, 32, 16, 8, 4]),
        pytest.param('mobilenet_v2', [32, 32, 16, 8, 4], marks=pytest.mark.slow),
        pytest.param('shufflenet', [16, 8, 4], marks=pytest.mark.slow),
        ('resnet14', [32, 16, 8, 4]),
    ],
)
def test_small_images_are_halved_two_times_fewer(name, sides):
    found, _ = features_of(name, 32, None, small_images=True)
    assert [side for side, _ in found.values()] == sides


def test_the_maps_that_features_returns_need_no_classifier_to_be_initialised():
    model = create_model('resnet14', num_classes=3, widths=(0.5, 1.0))
    init = functools.partial(model.init, features=True)
    variables = jax.eval_shape(init, KEY, batch())
    assert 'classifier' not in variables['params']
    apply = functools.partial(model.apply, features=True)
    assert len(jax.eval_shape(apply, variables, batch())) == 4


def test_wrong_calls_say_what_is_allowed():
    model = create_model('resnet14', widths=(0.5, 1.0), num_classes=3)
    images = jnp.ones((1, 32, 32, 3))
    variables = jax.eval_shape(model.init, KEY, images)
    with pytest.raises(ValueError, match=r'0\.25 is not one of.*0\.5, 1\.0'):
        model.apply(variables, images, width=0.25)
    with unchecked(), pytest.raises(ValueError, match='uint8: normalise'):
        model.apply(variables, images.astype(jnp.uint8))
    with unchecked(), pytest.raises(ValueError, match='batch, height, width, chan'):
        model.apply(variables, images[0])
    with pytest.raises(ValueError, match='no field depth; its fields are'):
        create_model('resnet14', depth=3)
    with pytest.raises(ValueError, match='the models are mobilenet_v1'):
        create_model('resnet')
    with pytest.raises(ValueError, match='more than once'):
        create_model('resnet14', widths=(1, 1.0))


def test_one_value_per_channel_cannot_be_normalised():
    model = create_model('mobilenet_v1', num_classes=3, widths=(0.25,))
    single = batch(32, examples=1)
    variables = jax.eval_shape(model.init, KEY, single)
    apply = functools.partial(model.apply, train=True, mutable=['batch_stats_0.25'])
    with pytest.raises(ValueError, match='1 value per channel'):
        jax.eval_shape(apply, variables, single)


@pytest.mark.parametrize(
    ('name', 'norm'),
    slow_but(
        list(
            itertools.product(
                ['mobilenet_v2', 'shufflenet', 'resnet14'],
                ['private', 'shared_affine', 'shared'],
            )
        ),
        ('mobilenet_v2', 'private'),
        ('shufflenet', 'shared_affine'),
        ('resnet14', 'shared'),
    ),
)
def test_a_width_reads_what_a_network_of_that_width_has_and_nothing_else(name, norm):
    model = create_model(name, num_classes=3, widths=(0.5, 1.0, 2.0), norm=norm)
    variables = jax.eval_shape(model.init, KEY, batch())
    own = slimjax.own_variables(model, variables, 0.5)
    alone = jax.eval_shape(model.clone(widths=(0.5,)).init, KEY, batch())
    assert set(flatten_dict(own)) == set(flatten_dict(alone))
    apply = functools.partial(model.apply, width=0.5, train=False)
    assert jax.eval_shape(apply, own, batch()).shape == (2, 3)


@pytest.mark.parametrize('widths', [(0.5, 1.0), [0.5, 1.0]])
def test_equal_models_are_one_static_argument(widths):
    first, second = (create_model('resnet14', widths=widths) for _ in range(2))
    assert first == second
    assert hash(first) == hash(second)
    traces = []

    @functools.partial(jax.jit, static_argnames=('model', 'width'))
    def channels(images, *, model, width):
        traces.append(width)
        return images + len(model.stats_collections(width))

    for model, width in ((first, 0.5), (second, 0.5), (first, 1.0), (second, 1.0)):
        channels(jnp.ones(()), model=model, width=width)
    assert traces == [0.5, 1.0]
    assert create_model('resnet14', widths=(0.5, 1.0), norm='shared') != first


@pytest.mark.parametrize(
    'name',
    [
        pytest.param('mobilenet_v2', marks=pytest.mark.slow),
        pytest.param('shufflenet', marks=pytest.mark.slow),
        'resnet14',
    ],
)
def test_bfloat16_computes_narrowly_and_keeps_parameters_wide(name):
    model = create_model(name, num_classes=3, widths=(0.5,), dtype=jnp.bfloat16)
    variables = jax.eval_shape(model.init, KEY, batch())
    params, stats = slimjax.split_variables(variables)

    def loss(params, stats, images):
        logits, changed = slimjax.apply_train(model, params, stats, images, width=0.5)
        return slimjax.cross_entropy(logits, jnp.zeros(2, int)), (logits, changed)

    gradient, (logits, changed) = jax.eval_shape(
        jax.grad(loss, has_aux=True), params, stats, batch()
    )
    kept = jax.tree.leaves((variables, gradient, changed))
    assert {leaf.dtype for leaf in kept} == {jnp.dtype('float32')}
    assert logits.dtype == jnp.bfloat16
