"""The mapped step: devices, shard_map, export, memory."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slimjax
from slimjax.config import complete
from slimjax.train.frozen import used_at
from slimjax.train.optimizer import make_optimizer
from slimjax.train.parallel import AXIS, pmapped, replicated, split_over_devices
from slimjax.train.schedule import Clock, learning_rate
from slimjax.train.state import create_state
from slimjax.train.step import make_train_step, metric_names
from tests.slow import slow_but

WIDTHS = (0.25, 1.0)


def config(**changes):
    return complete(
        {
            'model': 'resnet14',
            'widths': WIDTHS,
            'mean': (0.5, 0.5, 0.5),
            'std': (0.2, 0.2, 0.2),
            'num_classes': 4,
            'batch_size': 8,
            # What takes longest to compile: where it is of matter, it is asked for.
            'jitter': 0.0,
            'lighting': 'none',
            'train_steps': 10,
            'schedule': 'cosine',
            **changes,
        }
    )


AUGMENTED = {'jitter': 0.3, 'lighting': 'published'}


def tiny_model(fields, axis_name):
    return slimjax.create_model(
        'resnet14',
        num_classes=4,
        widths=tuple(fields.widths),
        norm_batch=fields.norm_batch,
        base_features=4,
        stage_sizes=(1,),
        small_images=True,
        axis_name=axis_name,
    )


def setup(axis_name, **changes):
    fields = config(**changes)
    model = tiny_model(fields, axis_name)
    schedule = learning_rate(fields, Clock(examples=80, batch_size=8))
    optimizer = make_optimizer(fields, schedule)
    state = create_state(
        model.clone(axis_name=None),
        optimizer,
        (8, 8, 3),
        metric_names(model.widths, fields),
        seed=0,
        average=bool(fields.ema_decay),
    )
    return make_train_step(model, optimizer, fields), state


def batches(count=2):
    rng = np.random.default_rng(0)
    return [
        {
            'image': rng.integers(0, 256, (8, 8, 8, 3), np.uint8),
            'label': rng.integers(0, 4, 8).astype(np.int32),
        }
        for _ in range(count)
    ]


def assert_close(tree, other, rtol=2e-3, atol=2e-4):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), tree, other
    )


@functools.cache
def alone(**changes):
    """Two steps on one device."""
    step, state = setup(None, **changes)
    step = jax.jit(step)
    for batch in batches():
        state, metrics = step(state, batch)
    return state, metrics


@pytest.mark.parametrize('norm_batch', slow_but(['global', 4], 4))
def test_four_devices_do_what_one_does(norm_batch):
    step, state = setup(AXIS, norm_batch=norm_batch, **AUGMENTED)
    step, state = pmapped(step, donate=True), replicated(state)
    for batch in batches():
        state, metrics = step(state, split_over_devices(batch))
        jax.block_until_ready(metrics)
    expected, expected_metrics = alone(
        norm_batch='device' if norm_batch == 'global' else norm_batch, **AUGMENTED
    )
    assert_close(state.params, expected.params)
    assert_close(state.stats, expected.stats)
    assert_close(metrics, expected_metrics)
    for leaf in jax.tree.leaves(state):
        shards = {np.asarray(s.data).tobytes() for s in leaf.addressable_shards}
        assert len(shards) == 1


@pytest.mark.slow
def test_the_step_runs_under_jit_of_shard_map():
    step, state = setup(AXIS, norm_batch='global', **AUGMENTED)
    mesh = jax.sharding.Mesh(np.array(jax.local_devices()), (AXIS,))
    mapped = jax.jit(
        jax.shard_map(
            step,
            mesh=mesh,
            in_specs=(jax.P(), jax.P(AXIS)),
            out_specs=jax.P(),
            # Gradients are averaged by the step itself.
            check_vma=False,
        )
    )
    state = replicated(state)
    for batch in batches():
        state, _ = mapped(state, batch)
        jax.block_until_ready(state)
    assert_close(state.params, alone(norm_batch='device', **AUGMENTED)[0].params)


def test_inference_exports_for_cpu_cuda_and_tpu_from_here():
    model = tiny_model(config(), None).clone(conv_form='plain')
    images = jnp.ones((2, 8, 8, 3))
    variables = jax.jit(model.init)(jax.random.key(0), images)
    for width in WIDTHS:
        apply = jax.jit(functools.partial(model.apply, width=width))
        exported = jax.export.export(apply, platforms=('cpu', 'cuda', 'tpu'))(
            variables, images
        )
        found = jax.export.deserialize(exported.serialize()).call(variables, images)
        np.testing.assert_allclose(found, apply(variables, images), atol=1e-5)


@pytest.mark.slow
def test_accumulated_parts_make_the_step_of_the_whole_batch():
    whole, _ = alone(norm_batch=4, **AUGMENTED)
    parts, _ = alone(norm_batch=4, accumulate_steps=2, **AUGMENTED)
    assert_close(parts.params, whole.params)
    assert_close(parts.stats, whole.stats)


def test_the_first_update_is_the_clipped_gradient():
    step, state = setup(
        None, clip_norm=1e-3, momentum=0.0, weight_decay=0.0, nesterov=False
    )
    new, metrics = jax.jit(step)(state, batches(1)[0])
    change = jax.tree.map(lambda a, b: a - b, state.params, new.params)
    squares = [float(jnp.square(leaf).sum()) for leaf in jax.tree.leaves(change)]
    fields = config()
    rate = float(learning_rate(fields, Clock(examples=80, batch_size=8))(0))
    assert float(metrics['grad_norm']) > 1e-3
    assert sum(squares) ** 0.5 == pytest.approx(1e-3 * rate, rel=0.02)


def test_the_average_of_weights_follows_them():
    state, _ = alone(ema_decay=0.9)
    assert jax.tree.structure(state.average.params) == jax.tree.structure(state.params)
    step, first = setup(None, ema_decay=0.9)
    once, _ = jax.jit(step)(first, batches(1)[0])
    expected = jax.tree.map(lambda a, b: 0.1 * a + 0.9 * b, first.params, once.params)
    assert_close(once.average.params, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('optimizer', slow_but(['lars', 'adamw'], 'adamw'))
def test_other_optimizers_train(optimizer):
    # optax's AdamW mixes Python floats with its step counter.
    with jax.numpy_dtype_promotion('standard'):
        state, metrics = alone(optimizer=optimizer, learning_rate=1e-3)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))
    assert np.isfinite(metrics['loss/1.0'])
    plain, _ = alone(learning_rate=1e-3)
    _, first = setup(None)
    for other in (plain.params, first.params):
        moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), state.params, other)
        assert 0 < max(jax.tree.leaves(moved)) < 0.1


@pytest.mark.parametrize(
    ('name', 'widths', 'form'),
    [
        # Compilation takes most of a minute: a small one of the family stands for it.
        ('resnet14', (0.75, 1.0), 'plain'),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (
                ('resnet14', (0.25, 0.5, 0.75, 1.0), 'plain'),
                ('mobilenet_v1', (0.25, 0.5, 0.75, 1.0), 'plain'),
                ('mobilenet_v1', (0.25, 0.5, 0.75, 1.0), 'products'),
                ('mobilenet_v2', (0.35, 0.5, 0.75, 1.0), 'plain'),
                ('shufflenet', (0.5, 1.0, 2.0), 'plain'),
                ('resnet50', (0.25, 0.5, 0.75, 1.0), 'plain'),
            )
        ),
    ],
)
def test_all_widths_need_the_memory_of_the_widest(name, widths, form):
    """Batch 16 at 64 px, whole step: 1.05 x the widest alone + 1 x the parameters."""

    def temporaries(widths):
        fields = config(model=name, widths=widths, batch_size=16)
        # Few channels and classes, so that activations are more than parameters.
        small = {'base_features': 16} if name == 'resnet14' else {}
        model = slimjax.create_model(
            name, num_classes=10, widths=widths, conv_form=form, **small
        )
        optimizer = make_optimizer(fields, learning_rate(fields, Clock(160, 16)))
        state = jax.eval_shape(
            lambda: create_state(
                model, optimizer, (64, 64, 3), metric_names(widths), seed=0
            )
        )
        batch = {
            'image': jax.ShapeDtypeStruct((16, 64, 64, 3), jnp.uint8),
            'label': jax.ShapeDtypeStruct((16,), jnp.int32),
        }
        step = jax.jit(make_train_step(model, optimizer, fields), donate_argnums=0)
        compiled = step.lower(state, batch).compile()
        parameters = sum(leaf.size * 4 for leaf in jax.tree.leaves(state.params))
        return compiled.memory_analysis().temp_size_in_bytes, parameters

    all_widths, parameters = temporaries(widths)
    widest, _ = temporaries((max(widths),))
    assert all_widths <= 1.05 * widest + parameters


@pytest.mark.slow
def test_a_turn_of_the_narrow_width_moves_what_it_uses_and_nothing_else():
    step, state = setup(
        None, reduce='in_turn', momentum=0.0, nesterov=False, weight_decay=0.0
    )
    model = tiny_model(config(), None)
    used = jax.jit(lambda: used_at(model, 0.25, (8, 8, 3)))()
    step, moved = jax.jit(step), []
    for batch in batches():
        new, metrics = step(state, batch)
        assert set(metrics) == {'loss/in_turn', 'top1/in_turn', 'grad_norm'}
        moved.append(
            jax.tree.map(lambda a, b: np.asarray(a != b), state.params, new.params)
        )
        state = new
    # The widest first, whose norms are its own; then the narrow one.
    outside = [
        jax.tree.map(lambda at, still: (at & ~still).any(), each, used)
        for each in moved
    ]
    assert any(jax.tree.leaves(outside[0]))
    assert not any(jax.tree.leaves(outside[1]))
    assert any(leaf.any() for leaf in jax.tree.leaves(moved[1]))
