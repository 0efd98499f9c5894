"""The step of many programs is the step of one, and fits the loop."""

import jax
import numpy as np
import pytest

import slimjax
from slimjax import commands
from slimjax.insight.hlo import all_reduces
from slimjax.models.grid import WidthGrid
from slimjax.train.checkpoint import Checkpoints
from slimjax.train.checkpoint_folder import read_parts
from slimjax.train.loop import NonFiniteLossError, train
from slimjax.train.metrics import read_metrics
from slimjax.train.optimizer import make_optimizer
from slimjax.train.parallel import AXIS, pmapped, replicated, split_over_devices
from slimjax.train.sandwich import Sandwich
from slimjax.train.schedule import Clock, learning_rate
from slimjax.train.state import create_state
from slimjax.train.step import make_train_step, metric_names
from slimjax.train.trained import open_network, open_run
from slimjax.train.universal import (
    UniversalStep,
    network_at,
    universal_metric_names,
)
from tests.train.runs import tiny_config
from tests.train.test_step import assert_close, batches, config

# All of its widths are trained in a step: what is drawn is known.
GRID = WidthGrid((0.25, 0.6, 1.0), (0.2, 0.5, 0.3))
SHAPE = (8, 8, 3)


def plain(**changes):
    """A config of all widths, whose norms see all devices."""
    return config(widths=GRID.widths, norm_batch='global', **changes)


def model_of(widths, norm_batch='global'):
    return slimjax.create_model(
        'resnet14',
        num_classes=4,
        widths=widths,
        norm='shared_affine',
        norm_batch=norm_batch,
        base_features=8,
        stage_sizes=(1,),
        small_images=True,
        axis_name=AXIS,
    )


def start(model, optimizer, names, **options):
    return create_state(
        model.clone(axis_name=None), optimizer, SHAPE, names, seed=0, **options
    )


def both(**changes):
    """The state and metrics of two steps: of many programs, and of one."""
    fields = plain(**changes)
    optimizer = make_optimizer(fields, learning_rate(fields, Clock(80, 8)))
    average = bool(fields.ema_decay)
    # The networks' own statistics are kept of the ends only.
    model, rule = model_of((0.25, 1.0)), Sandwich(GRID, 3, seed=0)
    many = UniversalStep(model, optimizer, fields, rule, SHAPE)
    names = universal_metric_names(rule)
    state = replicated(start(model, optimizer, names, average=average))
    whole = model_of(GRID.widths)
    one = pmapped(make_train_step(whole, optimizer, fields), donate=True)
    names = metric_names(GRID.widths)
    other = replicated(start(whole, optimizer, names, average=average))
    for step, batch in enumerate(batches()):
        state, metrics = many(step, state, split_over_devices(batch))
        jax.block_until_ready(metrics)
        other, expected = one(other, split_over_devices(batch))
        jax.block_until_ready(expected)
    return (state, metrics), (other, expected), many


def test_programs_of_single_widths_make_the_step_of_all():
    (state, metrics), (other, expected), many = both(
        distill=True,
        label_smoothing=0.1,
        reduce='mean',
        accumulate_steps=2,
        ema_decay=0.9,
    )
    assert_close(state.params, other.params)
    assert_close(state.opt_state, other.opt_state)
    assert_close(state.average.params, other.average.params)
    ends = {name: other.stats[name] for name in state.stats}
    assert sorted(ends) == ['batch_stats_0.25', 'batch_stats_1.0']
    assert_close(state.stats, ends)
    assert_close({name: metrics[name] for name in expected}, expected)
    np.testing.assert_allclose(metrics['loss/drawn'], metrics['loss/0.6'])
    np.testing.assert_allclose(state.sums['count'], 2)
    assert many.programs == 3
    for leaf in jax.tree.leaves(state):
        shards = {np.asarray(s.data).tobytes() for s in leaf.addressable_shards}
        assert len(shards) == 1


def test_narrow_widths_learn_from_the_widest_alone():
    fields = plain(distill=True)
    optimizer = make_optimizer(fields, learning_rate(fields, Clock(80, 8)))
    model, rule = model_of((0.25, 1.0)), Sandwich(GRID, 3, seed=0)
    step = UniversalStep(model, optimizer, fields, rule, SHAPE)
    names = universal_metric_names(rule)
    first = jax.device_get(start(model, optimizer, names))
    batch = batches(1)[0]
    found = []
    for labels in (batch['label'], (batch['label'] + 1) % 4):
        changed = split_over_devices({**batch, 'label': labels.astype(np.int32)})
        _, metrics = step(0, replicated(first), changed)
        found.append({name: float(value) for name, value in metrics.items()})
    one, other = found
    assert one['loss/1.0'] != other['loss/1.0']
    assert one['top1/0.25'] != other['top1/0.25']
    for name in ('loss/0.25', 'loss/0.6'):
        assert one[name] == other[name]


def test_programs_donate_the_sum_exchange_once_and_are_compiled_once():
    fields = plain()
    optimizer = make_optimizer(fields, learning_rate(fields, Clock(80, 8)))
    model = model_of((0.25, 1.0), norm_batch='device')
    rule = Sandwich(GRID, 3, seed=0)
    step = UniversalStep(model, optimizer, fields, rule, SHAPE)
    state = replicated(start(model, optimizer, universal_metric_names(rule)))
    batch = split_over_devices(batches(1)[0])
    told = []
    step.warm_up(state, batch, GRID.widths[::-1], lambda *done: told.append(done))
    assert told == [
        (1, 5, 'images'),
        (2, 5, 'width 1.0'),
        (3, 5, 'width 0.6'),
        (4, 5, 'width 0.25'),
        (5, 5, 'update'),
    ]
    parameters = sum(leaf.nbytes for leaf in jax.tree.leaves(state.params))
    for width in (0.6, 0.25):
        program = step._programs[width]
        assert program.memory_analysis().alias_size_in_bytes >= parameters
        assert not all_reduces(program.as_text())
    # The step's one exchange: gradients, statistics of the ends, and scores.
    (exchanged,) = all_reduces(step._update.as_text())
    kept = sum(leaf.nbytes for leaf in jax.tree.leaves(state.stats))
    assert parameters < exchanged <= parameters + kept + 4 * 2 * 3
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda name, *_, **__: compiled.append(name) if 'backend_compile' in name else 0
    )
    for number in range(2):
        state, metrics = step(number, state, batch)
        jax.block_until_ready(metrics)
    assert not compiled
    assert step.temporary_bytes() > 0


def universal_config(**changes):
    defaults = {
        'widths': (0.5, 0.75, 1.0),
        'sandwich': 3,
        'width_grid': 0.125,
        'norm': 'shared_affine',
        'distill': True,
        'calibration_examples': 120,
    }
    config = tiny_config(**{**defaults, **changes})
    config.model_fields.base_features = 8
    return config


def newest(workdir):
    with Checkpoints(workdir / 'checkpoints') as checkpoints:
        step = checkpoints.newest
        meta = checkpoints.meta(step)
    folder = workdir / 'checkpoints' / str(step)
    return read_parts(folder, meta, ['params', 'stats', 'training'])


def contents(workdir):
    leaves = [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(newest(workdir))]
    return leaves, read_metrics(workdir / 'metrics.jsonl')[-1]


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_bit_for_bit(tmp_path):
    whole, parts, said = tmp_path / 'whole', tmp_path / 'parts', []
    results = train(universal_config(), whole, say=said.append)
    assert sorted(results) == ['0.5', '0.75', '1.0']
    text = '\n'.join(said)
    for line in (
        '5 distinct networks from 0.5 to 1.0: 0.5, 0.625, 0.75, 0.875, 1.0',
        'width 1.0 teaches',
        'compiling [',
        'drawn: ',
    ):
        assert line in text
    train(universal_config(), parts, should_stop=lambda: True, say=said.append)
    unmeasured = r'no statistics yet in batch_stats_0\.75: '
    with pytest.raises(ValueError, match=unmeasured):
        commands.evaluate_workdir(universal_config(), parts, say=said.append)
    for opened in (open_network, open_run):
        with pytest.raises(ValueError, match=unmeasured):
            opened(parts)
    train(universal_config(), parts, say=said.append)
    assert contents(parts) == contents(whole)
    # Drawn widths have statistics of their own all the same.
    stats = newest(whole)['stats']
    assert np.abs(stats['batch_stats_0.75']['stem']['norm']['mean']).max() > 0
    # Any widths are looked at, though a sandwich could not be made of them.
    close = universal_config(widths=(0.95, 1.0), calibration_examples=300)
    output = commands.calibrate_workdir(close, whole, say=said.append)
    found = commands.evaluate_workdir(close, output, say=said.append)
    assert sorted(found['widths']) == ['0.95', '1.0']
    ends = universal_config(widths=(0.5, 1.0))
    found = commands.evaluate_workdir(ends, whole, say=said.append)
    assert sorted(found['widths']) == ['0.5', '1.0']
    narrow = universal_config(widths=(0.5, 0.75), best_metric='top1/0.75')
    with pytest.raises(ValueError, match=r'widest of the network in .*, 1\.0, has to'):
        commands.evaluate_workdir(narrow, whole, say=said.append)
    # What is measured of one network is not of another that starts from it.
    tuned = tmp_path / 'tuned'
    another = universal_config(init_from=str(whole), learning_rate=0.1)
    train(another, tuned, should_stop=lambda: True, say=said.append)
    with pytest.raises(ValueError, match=unmeasured):
        commands.evaluate_workdir(universal_config(), tuned, say=said.append)


def test_a_widest_width_of_many_digits_is_the_one_it_is_rounded_to():
    model = model_of((0.25, 0.1 * 7))
    assert network_at(model, 0.7).widths == (0.7,)
    assert network_at(model, 0.6).widths == (0.7, 0.6)


@pytest.mark.parametrize('changes', [{'sandwich': 9}, {'max_programs': 4}])
def test_describe_refuses_what_cannot_be_trained(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        commands.describe(universal_config(**changes), say=[].append)


@pytest.mark.slow
def test_a_drawn_width_that_is_not_finite_is_named(tmp_path, monkeypatch):
    step = UniversalStep.__call__

    def poisoned(self, done, state, batch):
        state, metrics = step(self, done, state, batch)
        drawn = next(name for name in metrics if name.startswith('loss/'))
        return state, {**metrics, drawn: np.float32('nan')}

    monkeypatch.setattr(UniversalStep, '__call__', poisoned)
    with pytest.raises(
        NonFiniteLossError, match=r'step 1: the loss of width 0\.\d+ is'
    ):
        train(universal_config(), tmp_path, say=[].append)


@pytest.mark.parametrize(
    ('changes', 'fields', 'message'),
    [
        ({'sandwich': 9}, {}, 'config.sandwich=9: .* so 2 to 5'),
        ({'max_programs': 4}, {}, 'config.max_programs=4: 5 distinct networks'),
        ({'width_grid': 0.5}, {}, 'config.width_grid=0.5: allowed is 0'),
        pytest.param(
            {'model': 'mobilenet_v2', 'image_size': 32, 'eval_resize': 32},
            {'shared_tail_norm': True},
            'set model_fields.private_tail_stats=True',
            marks=pytest.mark.slow,
        ),
        ({'eval_batch_size': 1200}, {}, 'config.eval_batch_size=1200: 1,197 training'),
    ],
)
def test_what_cannot_be_trained_is_refused_before_compiling(
    tmp_path, changes, fields, message
):
    config = universal_config(**changes)
    if fields:
        config.model_fields = fields
    with pytest.raises(ValueError, match=message):
        train(config, tmp_path / 'run', say=[].append)
    assert not (tmp_path / 'run').exists()
