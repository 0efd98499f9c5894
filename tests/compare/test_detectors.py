"""Detectors compared: individual networks against the slimmable one, by their AP."""

import pytest

from slimjax.commands import write_json
from slimjax.compare.arms import make_arms
from slimjax.compare.harness import plan, train_all
from slimjax.compare.results import comparison_results
from slimjax.compare.table import table_lines
from slimjax.data.digit_scenes import make_digit_scenes
from slimjax.train.report import jsonable, silent
from tests.detection.run_config import digits_config

SCORES = {'individual': (0.30, 0.32), 'slimmable_sum': (0.33, 0.37)}


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    output = tmp_path_factory.mktemp('scenes')
    make_digit_scenes(output, counts={'train': 4, 'validation': 4}, say=silent)
    return digits_config(output, widths=(0.5, 1.0), best_metric='bbox/AP/0.5')


def test_the_arms_are_those_that_a_detector_can_have(config):
    arms = make_arms(config)
    assert list(arms) == [
        'individual',
        'individual_twice',
        'individual_compute',
        'slimmable_sum',
    ]
    assert [each.key for each in arms['individual']] == [
        'individual/1.0',
        'individual/0.5',
    ]
    with pytest.raises(ValueError, match="'universal' is of classifiers; .*twice"):
        make_arms(config, ['universal'])


@pytest.mark.parametrize('options', [{'folds': 3}, {'protocol': 'tuned'}])
def test_what_detection_sets_have_not_is_refused(config, tmp_path, options):
    with pytest.raises(ValueError, match='is compared on the splits of its data set'):
        plan(config, tmp_path, seeds=2, arms=['slimmable_sum'], **options)


def test_regret_is_of_the_average_precision(config, tmp_path):
    config = config.copy_and_resolve_references()
    config.detector = 'mask_rcnn'
    comparison = plan(config, tmp_path, seeds=2, arms=['slimmable_sum'])
    for seed in range(2):
        for cell in comparison.cells(seed, 0):
            cell.folder.mkdir(parents=True)
            own = SCORES[cell.network.key.partition('/')[0]][seed]
            record = {
                'config': {**jsonable(cell.network.config), 'seed': seed},
                'factors': [1.0],
                'widths': list(cell.network.widths),
                'factor': 1.0,
                'test_images': 4,
                'test_bbox/AP': dict.fromkeys(cell.network.widths, own),
                'test_segm/AP': dict.fromkeys(cell.network.widths, own / 2),
                'macs': dict.fromkeys(cell.network.widths, 100),
                'steps': 2,
                'training_macs': 1000,
                'seconds': 2.0,
                'git_commit': 'abc',
                'machine': 'a computer',
            }
            write_json(cell.folder / 'record.json', record)
    results = comparison_results(comparison, config)
    assert results['metric'] == 'bbox/AP'
    assert results['arms']['slimmable_sum']['0.5']['bbox/AP'] == [0.33, 0.37]
    found = results['regret']['slimmable_sum']['1.0']
    assert found['per_seed'] == pytest.approx([-3, -5])
    text = '\n'.join(table_lines(results))
    assert 'Test bbox/AP in per cent, mean and standard deviation of 2 seeds' in text
    assert '-4.00' in text
    # The same networks may be reported by another of their scores.
    config.best_metric = 'segm/AP'
    results = comparison_results(
        plan(config, tmp_path, seeds=2, arms=['slimmable_sum']), config
    )
    assert results['arms']['slimmable_sum']['0.5']['segm/AP'] == [0.165, 0.185]


@pytest.mark.slow
def test_what_is_compared_is_trained_and_evaluated(config, tmp_path):
    comparison = plan(config, tmp_path, seeds=2, arms=['slimmable_sum'])
    assert train_all(comparison, say=silent)
    results = comparison_results(comparison, config)
    assert results['test_images'] == 4
    for arm in ('individual', 'slimmable_sum'):
        assert list(results['arms'][arm]) == ['1.0', '0.5']
        for width in results['arms'][arm].values():
            assert len(width['bbox/AP']) == 2
            assert width['training_macs'] > 0
