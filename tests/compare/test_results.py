"""What is reported of records that are known."""

import copy
import json
import sys

import numpy as np
import pytest

from slimjax.commands import write_json
from slimjax.compare.harness import plan
from slimjax.compare.plot import plot_regret
from slimjax.compare.results import comparison_results, verdicts
from slimjax.compare.table import table_lines
from slimjax.train.report import jsonable
from tests.commands import ROOT
from tests.markdown import rows
from tests.train.runs import TINY, tiny_config

ARMS = ('individual_distilled', 'slimmable_sum', 'universal_distilled')
FOLDS = 3
MACS = {'1.0': 1000, '0.5': 250}
# Right answers of 100 test images in a fold, by arm and seed; the second width has 10
# less, and each further fold one more.
RIGHT = {
    'individual': (90, 92, 91),
    'individual_distilled': (91, 93, 92),
    'slimmable_sum': (90, 91, 91),
    'universal_distilled': (94, 96, 95),
}


@pytest.fixture(scope='module')
def comparison(tmp_path_factory):
    return finished(tmp_path_factory.mktemp('compare'), 'paper', 1.0)


def finished(workdir, protocol, factor):
    """A finished comparison, whose records were written by hand."""
    comparison = plan(
        tiny_config(), workdir, seeds=3, folds=FOLDS, arms=ARMS, protocol=protocol
    )
    for seed in range(3):
        for fold in range(FOLDS):
            for cell in comparison.cells(seed, fold):
                cell.folder.mkdir(parents=True)
                arm = cell.network.key.partition('/')[0]
                right = RIGHT[arm][seed] + fold
                top1 = {'1.0': right / 100, '0.5': (right - 10) / 100}
                own = {**jsonable(cell.network.config), 'folds': FOLDS, 'fold': fold}
                own['learning_rate'] *= factor
                record = {
                    'config': {**own, 'seed': seed},
                    'factors': list(cell.factors),
                    'widths': list(cell.network.widths),
                    'factor': factor,
                    'test_images': 100,
                    'test_top1': {name: top1[name] for name in cell.network.widths},
                    'macs': {name: MACS[name] for name in cell.network.widths},
                    'steps': 10,
                    'training_macs': 1000,
                    'seconds': 2.0,
                    'git_commit': 'abc',
                    'machine': 'a computer',
                }
                write_json(cell.folder / 'record.json', record)
    return comparison


@pytest.fixture(scope='module')
def results(comparison):
    return comparison_results(comparison, tiny_config())


def test_top1_is_that_of_the_images_of_all_folds(results):
    widths = results['arms']['slimmable_sum']
    assert widths['1.0']['top1'] == pytest.approx([0.91, 0.92, 0.92])
    assert widths['0.5']['top1'] == pytest.approx([0.81, 0.82, 0.82])
    assert results['test_images'] == 300


def test_regret_is_paired_by_seed_and_in_points(results):
    found = results['regret']['slimmable_sum']['1.0']
    assert found['per_seed'] == pytest.approx([0, 1, 0])
    assert found['mean'] == pytest.approx(1 / 3)
    half = 4.302653 * np.std([0, 1, 0], ddof=1) / np.sqrt(3)
    assert found['ci95'] == pytest.approx([1 / 3 - half, 1 / 3 + half], rel=1e-6)
    assert (found['n'], found['unit'], found['passes']) == (3, 'points', False)
    assert not found['beats']
    assert 'individual' not in results['regret']


def test_a_distilled_family_is_also_compared_with_networks_that_were_taught(results):
    alone = results['regret']['universal_distilled']['0.5']
    taught = results['control']['universal_distilled']['individual_distilled']['0.5']
    assert (alone['mean'], taught['mean']) == pytest.approx((-4, -3))
    assert (alone['beats'], alone['passes']) == (True, True)
    assert list(results['control']) == ['universal_distilled']


def test_the_margin_decides_what_passes(comparison):
    wide = comparison_results(comparison, tiny_config(), margin=5.0)
    assert wide['regret']['slimmable_sum']['1.0']['passes']
    assert not wide['regret']['slimmable_sum']['1.0']['beats']


def test_costs_are_those_of_all_networks_of_an_arm(results):
    costs = {arm: of['steps'] for arm, of in results['costs'].items()}
    assert costs == {
        'individual': 20,
        'individual_distilled': 20,  # One of them is the teacher.
        'slimmable_sum': 10,
        'universal_distilled': 10,
    }
    assert results['arms']['individual_distilled']['1.0']['networks'] == [
        'individual/1.0'
    ]
    assert results['costs']['individual']['seconds'] == pytest.approx(4)


def test_there_is_no_picture_of_individual_networks_alone(results, tmp_path):
    with pytest.raises(ValueError, match='there is no arm whose regret could be'):
        plot_regret({**results, 'regret': {}}, tmp_path / 'regret.png')


def test_a_cell_of_other_images_is_refused(comparison, monkeypatch):
    cell = next(comparison.cells(0, 0))
    record = cell.record()
    monkeypatch.setattr(cell, 'record', lambda: record)
    cell.check()
    record['data'] = cell.run().fingerprint
    cell.check()
    record['data'] = 'other images'
    with pytest.raises(ValueError, match='other images than those of config.data_dir'):
        cell.check()


def test_tuned_tells_which_rates_were_chosen(tmp_path):
    results = comparison_results(finished(tmp_path, 'tuned', 2.0), tiny_config())
    # Two networks of three seeds and folds; of the distilled, one is the teacher.
    assert results['rates']['individual'] == {'0.5': 0, '1': 0, '2': 18}
    assert results['rates']['slimmable_sum'] == {'0.5': 0, '1': 0, '2': 9}
    found = rows('\n'.join(table_lines(results)))
    assert ['slimmable_sum', '0', '0', '9'] in found


def test_tables_and_picture_show_every_arm(results, tmp_path):
    text = '\n'.join(table_lines(results))
    found = rows(text)
    assert [
        'universal_distilled to individual',
        '1',
        # Seeds that agree to the image have the spread of rounding.
        *['-4.00 [-4.24, -3.76] beats'] * 2,
    ] in found
    distilled = next(
        row for row in found if row[0] == 'individual_distilled to individual'
    )
    assert distilled[2] == 'the same network'
    assert 'other multiply-adds' not in text
    assert any(row[0] == 'universal_distilled to individual_distilled' for row in found)
    assert ['slimmable_sum', '91.67 ± 0.58', '81.67 ± 0.58'] in [
        row[:3] for row in found
    ]
    # Of shared networks alone, what each width gains; bold where it beats.
    gains = next(row for row in found if row[:2] == ['width', 'individual'])
    assert gains[2:] == ['slimmable_sum', 'gain', 'universal_distilled', 'gain']
    assert ['0.5', '82.00', '81.67', '-0.33 [-1.77, +1.10]', '86.00', '**+4.00'] in [
        [*row[:5], row[5].split(' ')[0]] for row in found if len(row) == 6
    ]
    plot_regret(results, tmp_path / 'regret.png', 'Digits')
    assert (tmp_path / 'regret.png').stat().st_size > 10_000


def test_networks_of_another_size_are_told_of(results):
    arms = copy.deepcopy(results['arms'])
    arms['slimmable_sum']['0.5']['macs'] *= 0.98
    text = '\n'.join(table_lines({**results, 'arms': arms}))
    assert (
        'slimmable_sum infers with other multiply-adds than individual: -2.0 % at 0.5.'
        in text
    )


def test_searched_channels_have_a_margin_of_their_own(results):
    arms = {'individual': results['arms']['individual']}
    for name in ('slimmable_sum', 'autoslim', 'random'):
        arms[name] = results['arms']['slimmable_sum']
    found = verdicts(arms, 'top1', 1.0, 300)
    assert found['regret']['autoslim']['1.0']['margin'] == 1.0
    controls = found['control']['autoslim']
    assert controls['slimmable_sum']['1.0']['margin'] == 0.3
    assert controls['random']['1.0']['margin'] == 0


def test_a_control_that_lacks_or_is_larger_is_told_of(results):
    arms = {**results['arms'], 'autoslim': results['arms']['slimmable_sum']}
    text = '\n'.join(table_lines({**results, 'arms': arms}))
    assert 'autoslim lacks its control random, which --arms=random trains.' in text
    arms['random'] = copy.deepcopy(arms['autoslim'])
    arms['random']['0.5']['macs'] *= 2
    text = '\n'.join(table_lines({**results, 'arms': arms}))
    assert 'lacks' not in text
    assert 'autoslim infers with other multiply-adds than random: -50.0 %' in text


def test_the_command_reports_what_is_finished(
    comparison, results, tmp_path, monkeypatch
):
    monkeypatch.syspath_prepend(str(ROOT / 'scripts'))
    import compare

    arguments = [
        f'--config={TINY}',
        f'--workdir={comparison.workdir}',
        f'--arms={",".join(ARMS)}',
        '--seeds=3',
        f'--folds={FOLDS}',
        f'--json={tmp_path / "results.json"}',
    ]
    monkeypatch.setattr(sys, 'argv', ['compare.py', *arguments])
    compare.main()
    written = json.loads((tmp_path / 'results.json').read_text())
    assert written['arms'] == results['arms']
    assert written['regret'] == results['regret']
    assert written['protocol'] == 'paper'

    monkeypatch.setattr(sys, 'argv', ['compare.py', *arguments, '--config.sed=1'])
    with pytest.raises(SystemExit, match='compare: config.sed: there is no such field'):
        compare.main()
