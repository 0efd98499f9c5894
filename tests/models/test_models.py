"""Each width equals an independently written narrow network."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slimjax
from slimjax.models import create_model
from slimjax.variables import split_variables
from tests.models import independent
from tests.models.copying import (
    copied,
    narrow_shape_slices,
    outside_slice,
    units,
)

MODELS = {
    'mobilenet_v1': (independent.MobileNetV1, (0.25, 0.5, 0.75, 1.0)),
    'mobilenet_v2': (independent.MobileNetV2, (0.35, 0.5, 0.75, 1.0)),
    'shufflenet': (independent.ShuffleNet, (0.5, 1.0, 2.0)),
    'resnet14': (
        functools.partial(independent.ResNet, blocks=(1, 1, 1, 1)),
        (0.25, 0.5, 0.75, 1.0),
    ),
    'resnet50': (independent.ResNet, (0.25, 0.5, 0.75, 1.0)),
}
CASES = [
    pytest.param(
        name,
        width,
        marks=[] if name != 'resnet50' and width == min(widths) else [pytest.mark.slow],
    )
    for name, (_, widths) in MODELS.items()
    for width in widths
]
# Whole at every width, narrow as trained alone: reference numbers of the published
# code's profiler (convolutions, classifier and that width's BatchNorm).
SLICE_PARAMS = {
    ('mobilenet_v1', 0.25): 470_072,
    ('mobilenet_v1', 1.0): 4_231_976,
    ('mobilenet_v2', 0.35): 1_677_128,
    ('mobilenet_v2', 0.75): 2_636_424,
    ('shufflenet', 0.5): 718_324,
    ('shufflenet', 2.0): 5_450_776,
    ('resnet50', 0.25): 1_993_976,
    ('resnet50', 0.75): 14_771_992,
}
STORED_PARAMS = {
    'mobilenet_v1': 4_264_808,
    'mobilenet_v2': 3_556_456,
    'shufflenet': 5_487_496,
    'resnet50': 25_636_712,
}


def perturbed(tree, seed):
    """A tree whose values are all different, so that a wrong pairing shows."""
    leaves, structure = jax.tree.flatten(tree)
    rng = np.random.default_rng(seed)
    return structure.unflatten(
        [leaf * (1 + 0.2 * rng.standard_normal(leaf.shape)) for leaf in leaves]
    )


@pytest.mark.parametrize(('name', 'width'), CASES)
def test_a_width_is_the_narrow_network_forward_and_backward(name, width):
    build, widths = MODELS[name]
    # flax keeps running statistics in float32 whatever the rest is.
    with jax.enable_x64(True), jax.numpy_dtype_promotion('standard'):
        model = create_model(
            name,
            num_classes=10,
            widths=widths,
            dtype=jnp.float64,
            param_dtype=jnp.float64,
            conv_form='plain',  # Compiles faster; the forms are tested equal.
        )
        narrow = build(width, 10)
        images = jax.random.normal(jax.random.key(1), (4, 64, 64, 3), jnp.float64)
        labels = jnp.array([1, 2, 3, 4])
        params, stats = split_variables(
            jax.jit(model.init)(jax.random.key(0), images[:1])
        )
        params = perturbed(params, 0)
        template = jax.eval_shape(narrow.init, jax.random.key(0), images[:1])
        template_params = template['params']
        own = copied(params, template_params, width, narrow_shape_slices)
        own_stats = jax.tree.map(
            lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), template['batch_stats']
        )
        own_stats = jax.tree_util.tree_map_with_path(
            lambda path, leaf: leaf + (path[-1].key == 'var'), own_stats
        )

        @jax.jit
        def of_slim(params):
            def loss(params):
                logits, _ = slimjax.apply_train(
                    model, params, stats, images, width=width
                )
                return slimjax.cross_entropy(logits, labels), logits

            gradient, logits = jax.grad(loss, has_aux=True)(params)
            variables = {'params': params, **stats}
            return gradient, logits, model.apply(variables, images, width=width)

        @jax.jit
        def of_narrow(params):
            variables = {'params': params, 'batch_stats': own_stats}

            def loss(params):
                logits, _ = narrow.apply(
                    {**variables, 'params': params},
                    images,
                    train=True,
                    mutable=['batch_stats'],
                )
                return slimjax.cross_entropy(logits, labels), logits

            gradient, logits = jax.grad(loss, has_aux=True)(params)
            return gradient, logits, narrow.apply(variables, images)

        gradient, *logits = of_slim(params)
        own_gradient, *own_logits = of_narrow(own)
        scale = max(np.abs(leaf).max() for leaf in jax.tree.leaves(own_gradient))
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-9),
            logits,
            own_logits,
        )
        found = copied(gradient, template_params, width, narrow_shape_slices)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-9 * scale),
            found,
            own_gradient,
        )
        check_unused(gradient, template_params, width)


def check_unused(gradient, template, width):
    """The gradient outside of the slices is exactly zero."""

    def check(stored, shape, groups):
        assert not np.asarray(stored)[outside_slice(stored, shape, groups)].any()
        return narrow_shape_slices(stored, shape, groups)

    copied(gradient, template, width, check)
    for path in units(gradient):
        unit = gradient
        for name in path:
            unit = unit[name]
        for name, leaves in unit['norm'].items():
            if name not in ('affine', slimjax.width_name(width)):
                assert not any(np.asarray(leaf).any() for leaf in leaves.values())


def shapes(name, widths, size=64, **fields):
    model = create_model(name, widths=widths, **fields)
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    return jax.eval_shape(model.init, jax.random.key(0), images)


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(('name', 'total'), STORED_PARAMS.items())
def test_all_widths_together_have_the_published_number_of_parameters(name, total):
    assert count(shapes(name, MODELS[name][1])['params']) == total


@pytest.mark.parametrize(('key', 'total'), SLICE_PARAMS.items())
def test_a_network_of_one_width_is_physically_narrow(key, total):
    name, width = key
    params = shapes(name, (width,))['params']
    assert count(params) == total
    build, _ = MODELS[name]
    narrow = jax.eval_shape(
        build(width, 1000).init,
        jax.random.key(0),
        jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32),
    )['params']
    assert count(narrow) == total
    found = copied(
        jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), params),
        narrow,
        width,
        narrow_shape_slices,
    )
    assert jax.tree.map(jnp.shape, found) == jax.tree.map(jnp.shape, narrow)


def test_a_narrow_baseline_is_initialised_by_its_own_fan_out():
    model = create_model('mobilenet_v1', widths=(0.25,))
    params = jax.jit(model.init)(jax.random.key(0), jnp.ones((1, 32, 32, 3)))['params']
    pointwise = params['block12']['pointwise']['conv']['kernel']
    assert pointwise.shape == (1, 1, 128, 256)
    assert np.std(pointwise) == pytest.approx((2 / 256) ** 0.5, rel=0.02)
    depthwise = params['block13']['depthwise']['conv']['depthwise_kernel']
    assert np.std(depthwise) == pytest.approx((2 / (9 * 256)) ** 0.5, rel=0.1)
    assert np.std(params['classifier']['kernel']) == pytest.approx(0.01, rel=0.02)
    assert not params['classifier']['bias'].any()


@pytest.mark.parametrize('name', ['mobilenet_v1', 'mobilenet_v2', 'shufflenet'])
@pytest.mark.parametrize('norm', ['private', 'shared_affine', 'shared'])
def test_a_pass_changes_only_the_collections_that_are_named(name, norm):
    widths = MODELS[name][1]
    model = create_model(name, num_classes=5, widths=widths, norm=norm)
    images = jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    _, stats = split_variables(variables)
    for width in widths:
        named = model.stats_collections(width)
        assert named == slimjax.stats_collections(stats, width)

        def changed(variables, images, width=width, named=named):
            return model.apply(
                variables, images, width=width, train=True, mutable=list(named)
            )[1]

        found = jax.eval_shape(changed, variables, images)
        assert sorted(found) == sorted(named)


def test_the_tail_of_mobilenet_v2_is_shared_as_published_or_private():
    shared = shapes('mobilenet_v2', (0.35, 1.0))
    assert list(shared['params']['tail']['norm']) == ['affine']
    assert shared['batch_stats']['tail']['norm']['mean'].shape == (1280,)
    private = shapes('mobilenet_v2', (0.35, 1.0), shared_tail_norm=False)
    assert sorted(private['params']['tail']['norm']) == ['0.35', '1.0']
    assert 'batch_stats' not in private


@pytest.mark.parametrize('name', MODELS)
@pytest.mark.parametrize(('size', 'channels'), [(33, 3), (48, 1)])
def test_any_image_size_batch_and_class_count(name, size, channels):
    widths = MODELS[name][1]
    for small in (False, True):
        model = create_model(name, num_classes=7, widths=widths, small_images=small)
        images = jax.ShapeDtypeStruct((5, size, size, channels), jnp.float32)
        variables = jax.eval_shape(model.init, jax.random.key(0), images)
        for width in widths:
            apply = functools.partial(model.apply, width=width)
            assert jax.eval_shape(apply, variables, images).shape == (5, 7)


def test_features_are_the_maps_of_the_stages_and_no_class_is_pooled_features():
    model = create_model('resnet50', num_classes=0)
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    apply = functools.partial(model.apply, width=0.5)
    maps = jax.eval_shape(functools.partial(apply, features=True), variables, images)
    assert {name: leaf.shape[1:] for name, leaf in maps.items()} == {
        'stage1': (56, 56, 128),
        'stage2': (28, 28, 256),
        'stage3': (14, 14, 512),
        'stage4': (7, 7, 1024),
    }
    assert jax.eval_shape(apply, variables, images).shape == (1, 1024)


def test_wrong_calls_say_what_is_allowed():
    model = create_model('resnet14', widths=(0.5, 1.0), num_classes=3)
    images = jnp.ones((1, 32, 32, 3))
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    with pytest.raises(ValueError, match=r'0\.25 is not one of.*0\.5, 1\.0'):
        model.apply(variables, images, width=0.25)
    with pytest.raises(ValueError, match='uint8: normalise'):
        model.apply(variables, images.astype(jnp.uint8))
    with pytest.raises(ValueError, match='batch, height, width, channels'):
        model.apply(variables, images[0])
    with pytest.raises(ValueError, match='no field depth; its fields are'):
        create_model('resnet14', depth=3)
    with pytest.raises(ValueError, match='the models are mobilenet_v1'):
        create_model('resnet')
    with pytest.raises(ValueError, match='more than once'):
        create_model('resnet14', widths=(1, 1.0))


def test_equal_models_are_one_static_argument():
    first, second = (create_model('mobilenet_v2', widths=(0.5, 1.0)) for _ in range(2))
    assert hash(first) == hash(second)
    assert first == second


def test_bfloat16_computes_narrowly_and_keeps_wide_parameters():
    model = create_model('resnet14', num_classes=3, widths=(0.5,), dtype=jnp.bfloat16)
    images = jax.ShapeDtypeStruct((1, 32, 32, 3), jnp.float32)
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype('float32')}
    assert jax.eval_shape(model.apply, variables, images).dtype == jnp.bfloat16
