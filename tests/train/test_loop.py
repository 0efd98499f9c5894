"""The loop: what it refuses, when it stops, what it keeps."""

import functools
import time

import jax
import numpy as np
import pytest

from slimjax import commands
from slimjax.train import run as run_module
from slimjax.train.loop import NonFiniteLossError, train
from slimjax.train.metrics import JsonLines, TensorBoard, read_metrics
from tests.train.runs import tiny_config

SAY = [].append


@pytest.mark.parametrize(
    ('block', 'leaf', 'value'),
    # A NaN of the stem becomes 0 in a compiled ReLU: the statistics tell of it.
    [(('stage1_block1', 'conv3'), 'bias', np.inf), (('stem',), 'scale', np.nan)],
)
def test_what_is_not_finite_stops_with_step_and_width(
    tmp_path, monkeypatch, block, leaf, value
):
    make = run_module.make_train_step

    def poisoned(model, optimizer, config):
        step = make(model, optimizer, config)

        def poison(state, batch):
            bad = state.step == 3
            params = jax.tree.map(lambda x: x, state.params)
            norm = functools.reduce(dict.get, (*block, 'norm', '0.5'), params)
            norm[leaf] = jax.numpy.where(bad, value, norm[leaf])
            return step(state.replace(params=params), batch)

        return poison

    monkeypatch.setattr(run_module, 'make_train_step', poisoned)
    with pytest.raises(
        NonFiniteLossError,
        match=r'step 4: the loss of width 0\.5 is .*; the checkpoint of step 3 is kept',
    ):
        train(tiny_config(), tmp_path, say=SAY)


def test_averages_that_no_batch_can_calibrate_are_refused_at_once(tmp_path):
    config = tiny_config(ema_decay=0.9, eval_batch_size=1200)
    with pytest.raises(ValueError, match='eval_batch_size=1200: .* fill no batch'):
        train(config, tmp_path, say=SAY)
    config.update(batch_size=1200, calibration_transform='train')
    with pytest.raises(ValueError, match=r'config\.batch_size=1200: .* fill no batch'):
        train(config, tmp_path, say=SAY)
    config = tiny_config(
        ema_decay=0.9, norm='shared', calibration='sequential', widths=(0.5, 1.0)
    )
    with pytest.raises(ValueError, match="config.calibration='sequential': the widths"):
        train(config, tmp_path, say=SAY)


@pytest.mark.slow
def test_averaged_weights_are_calibrated_before_they_are_scored(tmp_path):
    config = tiny_config(
        ema_decay=0.9, calibration_examples=64, calibration_transform='train'
    )
    results = train(config, tmp_path, say=SAY)
    names = set().union(*read_metrics(tmp_path / 'metrics.jsonl'))
    assert {'ema/top1/0.5', 'ema/top1/1.0', 'eval/top1/1.0'} <= names
    again = commands.evaluate_workdir(config, tmp_path, 'test', say=SAY)
    for name, scores in results.items():
        assert again['widths'][name]['top1'] == pytest.approx(scores['top1'])


@pytest.fixture(scope='module')
def stopped(tmp_path_factory):
    workdir, said = tmp_path_factory.mktemp('stopped'), []
    result = train(tiny_config(), workdir, should_stop=lambda: True, say=said.append)
    return workdir, result, said


def test_should_stop_saves_and_returns_nothing(stopped):
    _, result, said = stopped
    assert result is None
    assert said[-1] == 'stopped at step 1; saved'


@pytest.mark.parametrize(('name', 'value'), [('mean', (0.1,) * 3), ('folds', 5)])
@pytest.mark.parametrize('command', ['evaluate_workdir', 'calibrate_workdir'])
def test_a_network_is_looked_at_as_it_was_trained(stopped, name, value, command):
    config = tiny_config(**{name: value})
    with pytest.raises(ValueError, match=rf'config.{name}=.*was trained with {name}='):
        getattr(commands, command)(config, stopped[0], say=SAY)


def test_metrics_of_later_steps_and_cut_lines_are_dropped_on_resume(tmp_path):
    path = tmp_path / 'metrics.jsonl'
    writer = JsonLines(path)
    for step in (1, 2, 3):
        writer.write_scalars(step, {'train/loss/1.0': step / 3})
    with open(path, 'a') as file:
        file.write('{"step": 2, "tr')
    JsonLines(path, resume_step=2)
    assert [line['step'] for line in read_metrics(path)] == [1, 2]


def test_tensorboard_files_are_written_without_tensorflow(tmp_path):
    writer = TensorBoard(tmp_path)
    writer.write_scalars(1, {'train/loss/1.0': 0.5})
    writer.flush()
    (file,) = tmp_path.glob('events.*')
    # tensorboardX writes from a thread of its own.
    deadline = time.monotonic() + 60
    while b'train/loss/1.0' not in file.read_bytes():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'batch_size': 30}, 'batch_size=30 does not divide over 4 devices; try 28'),
        ({'norm_batch': 5}, 'norm_batch=5 does not divide into batch_size=32'),
        ({'accumulate_steps': 16}, 'does not divide the 8 examples of each device'),
        ({'num_classes': 11}, 'config.num_classes=11, but digits has 10 classes'),
        ({'widths': (0.01, 1.0)}, 'less than one channel'),
    ],
)
def test_a_config_that_cannot_run_is_refused_before_compiling(
    tmp_path, changes, message
):
    with pytest.raises(ValueError, match=message):
        train(tiny_config(**changes), tmp_path / 'run', say=SAY)
    assert not (tmp_path / 'run').exists()
