"""Training the cells of a comparison: the same as by hand, resumed, never repeated."""

import json

import jax
import numpy as np
import pytest

from slimjax.compare import cell as cell_module
from slimjax.compare.harness import plan, train_all
from slimjax.train.checkpoint import load_variables
from slimjax.train.metrics import read_metrics
from tests.train.runs import run, tiny_config

SEEDS = 2


def silent(line):
    pass


def planned(workdir, arms=('slimmable_mean',), protocol='paper', **changes):
    config = tiny_config(num_train_steps=3, log_steps=3, **changes)
    return plan(config, workdir, seeds=SEEDS, arms=arms, protocol=protocol)


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
    """A finished comparison, which was stopped in the second step of its fourth run."""
    path = tmp_path_factory.mktemp('compare')
    asked = []

    def stop():
        asked.append(True)
        return len(asked) == 3 * 3 + 2

    lines = []
    comparison = planned(path)
    assert not train_all(comparison, say=lines.append, should_stop=stop)
    assert lines[0] == '6 networks, 0 of which are trained'
    assert lines[-1] == '[4/6] seed1/individual/1.0: stopped and saved'
    assert train_all(comparison, say=lines.append)
    assert lines[5] == '6 networks, 3 of which are trained'
    return path


@pytest.mark.slow
def test_a_cell_is_what_main_trains_with_the_same_seed(workdir, tmp_path):
    run(
        tmp_path,
        devices=jax.device_count(),
        seed=1,
        widths='(0.5,)',
        num_train_steps=3,
        log_steps=3,
        eval_steps=0,
    )
    found = load_variables(workdir / 'seed1' / 'individual' / '0.5' / 'rate_1')
    expected = load_variables(tmp_path)
    jax.tree.map(np.testing.assert_array_equal, found.params, expected.params)
    jax.tree.map(np.testing.assert_array_equal, found.stats, expected.stats)
    record = json.loads((workdir / 'seed1/individual/0.5/record.json').read_text())
    (tested,) = (
        line['test/top1/0.5']
        for line in read_metrics(tmp_path / 'metrics.jsonl')
        if 'test/top1/0.5' in line
    )
    assert record['test_top1'] == {'0.5': tested}
    assert record['steps'] == 3
    assert record['seconds'] > 0


@pytest.mark.slow
def test_there_is_one_evaluation_behind_the_last_step(workdir):
    lines = read_metrics(workdir / 'seed0/slimmable_mean/all/rate_1/metrics.jsonl')
    assert [line['step'] for line in lines if 'eval/top1/1.0' in line] == [3]
    assert [line['test/best_step'] for line in lines if 'test/best_step' in line] == [3]


@pytest.mark.slow
def test_what_is_finished_is_not_trained_again(workdir, monkeypatch):
    monkeypatch.setattr(cell_module, 'train', None)
    assert train_all(planned(workdir), say=silent)


@pytest.mark.slow
def test_another_comparison_in_the_same_workdir_is_refused(workdir):
    with pytest.raises(ValueError, match=r'momentum: 0\.9 there, 0\.5 now'):
        planned(workdir, momentum=0.5)
    with pytest.raises(
        ValueError, match=r'factors: \[1\.0\] there, \(0\.5, 1\.0, 2\.0'
    ):
        planned(workdir, protocol='tuned')


class Trained:
    """Stands in for training: notes what is asked, and says what validation says."""

    def __init__(self, best, diverging=()):
        self.best, self.diverging, self.tested = best, diverging, []

    def __call__(self, config, workdir, *, should_stop, test, say):
        if config.learning_rate in self.diverging:
            raise cell_module.NonFiniteLossError('step 1: the loss is nan')
        if test:
            self.tested.append(workdir)
        top1 = 0.9 if config.learning_rate == self.best else 0.5
        names = [str(width) for width in config.widths]
        return {name: {'top1': top1, 'loss': 1.0} for name in names}


@pytest.mark.slow
def test_tuned_tests_the_trial_that_is_best_on_validation_and_no_other(
    tmp_path, monkeypatch
):
    trained = Trained(best=0.05 * 2)
    monkeypatch.setattr(cell_module, 'train', trained)
    comparison = planned(tmp_path, ('individual_distilled',), protocol='tuned')
    assert train_all(comparison, say=silent)
    assert len(trained.tested) == SEEDS * len(comparison.networks)
    assert {path.name for path in trained.tested} == {'rate_2'}
    # The student's teacher is the one that was chosen.
    student = json.loads(
        (tmp_path / 'seed0/individual_distilled/0.5/record.json').read_text()
    )
    assert student['config']['teacher'] == str(tmp_path / 'seed0/individual/1.0/rate_2')
    assert student['config']['learning_rate'] == pytest.approx(0.1)


@pytest.mark.slow
def test_what_diverges_is_not_chosen_and_is_named_if_nothing_else_is_there(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(cell_module, 'train', Trained(0.05, diverging=(0.1,)))
    comparison = planned(tmp_path / 'one', ('slimmable_sum',), protocol='tuned')
    assert train_all(comparison, say=silent)
    monkeypatch.setattr(cell_module, 'train', Trained(0.05, diverging=(0.05,)))
    comparison = planned(tmp_path / 'all', ('slimmable_sum',))
    with pytest.raises(ValueError, match=r'\[1/6\] seed0/individual/1\.0: .*diverged'):
        train_all(comparison, say=silent)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'seeds': 1}, '--seeds=1: an interval needs 2'),
        ({'protocol': 'best'}, "--protocol='best': allowed are paper, tuned"),
        ({'folds': 2}, '--folds=2: allowed are 0, for the splits'),
    ],
)
def test_what_cannot_be_planned_is_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        plan(
            tiny_config(),
            tmp_path,
            **{'seeds': 2, 'arms': ['slimmable_sum'], **options},
        )
