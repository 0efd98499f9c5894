"""Which parameters decay, and the update of PyTorch's SGD."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slimjax.config import complete
from slimjax.models import MODELS, create_model
from slimjax.train.optimizer import decay_mask, make_optimizer
from tests.recipes import RECIPES, load
from tests.slow import slow_but

# Parameters of the published networks that decay, and those of depthwise kernels that
# do not, counted over the state dictionaries of the published code.
COUNTS = {
    's_mobilenet_v1': (4_164_448, 44_640),
    's_mobilenet_v2': (3_405_536, 64_224),
    's_shufflenet': (5_361_936, 38_880),
    's_resnet50': (25_502_912, 0),
    'us_mobilenet_v1': (4_164_448, 44_640),
    'us_mobilenet_v2': (3_405_536, 64_224),
    'autoslim_mobilenet_v1': (4_586_440, 45_648),
    'autoslim_mobilenet_v2': (6_366_752, 83_088),
    'autoslim_mnasnet': (8_066_480, 219_288),
    'autoslim_resnet': (23_133_584, 0),
}


def shapes(name, channels=3):
    """Each parameter's path and shape, and whether `decay_mask` decays it."""
    model = create_model(name)
    images = jax.ShapeDtypeStruct((1, 32, 32, channels), jnp.float32)
    params = jax.eval_shape(model.init, jax.random.key(0), images)['params']
    mask = decay_mask(params)
    assert jax.tree.structure(mask) == jax.tree.structure(params)
    return {
        jax.tree_util.keystr(path, simple=True, separator='/'): (leaf.shape, decays)
        for (path, leaf), decays in zip(
            jax.tree_util.tree_leaves_with_path(params),
            jax.tree.leaves(mask),
            strict=True,
        )
    }


def role(path, shape):
    """What a parameter is, by its size and the module that it stands in."""
    *modules, _ = path.split('/')
    if modules == ['classifier']:
        return {2: 'classifier kernel', 1: 'classifier bias'}[len(shape)]
    if len(shape) == 1:
        assert 'norm' in modules, path
        return 'norm'
    *_, inputs, _ = shape
    assert (len(shape), modules[-1]) == (4, 'conv'), path
    return 'depthwise kernel' if inputs == 1 else 'kernel'


@pytest.mark.parametrize('name', RECIPES)
def test_a_recipe_states_the_published_optimizer(name):
    config = load(name)
    assert (config.optimizer, config.momentum, config.nesterov) == ('sgd', 0.9, True)
    assert (config.weight_decay, config.decay_all) == (1e-4, False)
    assert (config.clip_norm, config.ema_decay, config.accumulate_steps) == (0, 0, 1)
    assert config.label_smoothing == RECIPES[name].smoothing
    assert config.label_smoothing_form == 'published'
    assert (config.reduce, config.loss_weights) == ('sum', ())
    # As the papers mean it: the published US configs state a flag that nothing reads.
    assert config.distill == name.startswith('us_')
    assert config.seed == 1995


@pytest.mark.parametrize(
    'name', slow_but(MODELS, 's_mobilenet_v2', 's_shufflenet', 's_resnet50')
)
def test_every_parameter_decays_or_not_as_published(name):
    found = shapes(name)
    roles = {path: role(path, shape) for path, (shape, _) in found.items()}
    assert {'kernel', 'norm', 'classifier kernel', 'classifier bias'} <= {
        *roles.values()
    }
    for path, (_, decays) in found.items():
        assert decays == (roles[path] in ('kernel', 'classifier kernel')), path
    if name in COUNTS:
        decaying = sum(math.prod(shape) for shape, decays in found.values() if decays)
        depthwise = sum(
            math.prod(shape)
            for path, (shape, _) in found.items()
            if roles[path] == 'depthwise kernel'
        )
        assert (decaying, depthwise) == COUNTS[name]


def test_the_stem_of_grey_images_decays_although_it_has_one_input():
    shape, decays = shapes('mobilenet_v2', channels=1)['stem/conv/kernel']
    assert shape == (3, 3, 1, 32)
    assert decays


PARAMS = {
    'stem': {'conv': {'kernel': (3, 3, 3, 4)}, 'norm': {'scale': (4,), 'bias': (4,)}},
    'depthwise': {'conv': {'depthwise_kernel': (3, 3, 1, 4)}},
    'classifier': {'kernel': (4, 5), 'bias': (5,)},
}


def drawn(rng):
    return jax.tree.map(
        rng.standard_normal, PARAMS, is_leaf=lambda leaf: isinstance(leaf, tuple)
    )


def three_steps(decayed, **fields):
    """Parameters after three steps: ours, and those of PyTorch's SGD in numpy."""
    rng = np.random.default_rng(0)
    params = drawn(rng)
    gradients, rates = [drawn(rng) for _ in range(3)], (0.1, 0.08, 0.02)
    config = complete({'optimizer': 'sgd', 'weight_decay': 0.3, **fields})
    with jax.enable_x64(True):
        optimizer = make_optimizer(config, lambda step: jnp.asarray(rates)[step])
        ours = jax.tree.map(jnp.asarray, params)
        state = optimizer.init(ours)
        for gradient in gradients:
            gradient = jax.tree.map(jnp.asarray, gradient)
            updates, state = optimizer.update(gradient, state, ours)
            ours = jax.tree.map(jnp.add, ours, updates)
        ours = jax.tree.map(np.asarray, ours)

    def alone(path, p, *gradients):
        decay = 0.3 if decayed(path[-1].key) else 0.0
        v = np.zeros_like(p)
        for g, rate in zip(gradients, rates, strict=True):
            d = g + decay * p
            v = 0.9 * v + d
            p = p - rate * (d + 0.9 * v if config.nesterov else v)
        return p

    return ours, jax.tree_util.tree_map_with_path(alone, params, *gradients)


def assert_equal(found, expected):
    for leaf in jax.tree.leaves(found):
        assert leaf.dtype == np.float64
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-13, atol=1e-14),
        found,
        expected,
    )


@pytest.mark.parametrize('nesterov', [True, False])
def test_sgd_is_pytorchs(nesterov):
    assert_equal(*three_steps(lambda name: name == 'kernel', nesterov=nesterov))


def test_decay_all_decays_every_parameter():
    assert_equal(*three_steps(lambda name: True, decay_all=True))


@pytest.mark.parametrize('optimizer', ['lars', 'adamw'])
@pytest.mark.parametrize('decay_all', [False, True])
def test_the_other_optimizers_decay_the_same_parameters(optimizer, decay_all):
    """Without a gradient, nothing but decay moves a parameter."""
    params = jax.tree.map(jnp.float32, drawn(np.random.default_rng(0)))
    config = complete({'optimizer': optimizer, 'decay_all': decay_all})
    optimizer = make_optimizer(config, lambda step: jnp.float32(0.1))
    # optax's AdamW mixes Python floats with its step counter.
    with jax.numpy_dtype_promotion('standard'):
        still = jax.tree.map(jnp.zeros_like, params)
        updates, _ = optimizer.update(still, optimizer.init(params), params)
    for path, update in jax.tree_util.tree_leaves_with_path(updates):
        assert bool(jnp.any(update)) == (decay_all or path[-1].key == 'kernel')


def test_an_unknown_optimizer_is_refused():
    config = {**complete({}), 'optimizer': 'adam'}
    with pytest.raises(ValueError, match="optimizer='adam'; allowed are sgd"):
        make_optimizer(config, lambda step: 0.1)
