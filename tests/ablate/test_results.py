"""What is reported of records that are known."""

import json
import sys

import numpy as np
import pytest

from slimjax.ablate.results import ablation_results, all_arms
from slimjax.ablate.studies import make_studies
from slimjax.ablate.table import cosine_lines, study_lines
from slimjax.commands import write_json
from slimjax.compare.harness import plan_arms
from slimjax.train.report import jsonable
from tests.commands import ROOT
from tests.markdown import rows
from tests.train.runs import TINY, tiny_config

NAMES = ['incremental', 'why']
# Right answers of 100 test images, by network and seed.
RIGHT = {
    'individual/1.0': (90, 92),
    'individual/0.5': (80, 82),
    'incremental/1.0': (85, 87),
    'joint/all': (91, 94),
}


@pytest.fixture(scope='module')
def studied(tmp_path_factory):
    """Finished studies, whose records were written by hand."""
    config = tiny_config()
    studies = make_studies(config, NAMES)
    comparison = plan_arms(
        all_arms(studies), config, tmp_path_factory.mktemp('ablate'), seeds=2
    )
    for seed in range(2):
        for cell in comparison.cells(seed, 0):
            network = cell.network
            right = RIGHT.get(network.key, (70, 70))[seed] / 100
            cell.trial(1.0).mkdir(parents=True)
            record = {
                'config': {**jsonable(network.config), 'seed': seed},
                'factors': [1.0],
                'widths': list(network.widths),
                'factor': 1.0,
                'test_images': 100,
                'test_top1': {
                    width: right - (0.05 if width == '0.5' else 0)
                    for width in network.widths
                },
                'steps': 10,
                'macs': dict.fromkeys(network.widths, 100),
                'training_macs': 1000,
                'seconds': 2.0,
                'git_commit': 'abc',
                'machine': 'a computer',
            }
            write_json(cell.folder / 'record.json', record)
            if network.watch is not None:
                # An epoch of the tiny config has 37.4 steps.
                lines = [
                    {'step': 37, 'cosine/1.0/0.5/stem/conv': 0.5 + seed / 10},
                    {'step': 38, 'eval/top1/1.0': 0.5},
                    {'step': 74, 'cosine/1.0/0.5/stem/conv': -0.25},
                ]
                text = '\n'.join(map(json.dumps, lines)) + '\n'
                (cell.trial(1.0) / 'metrics.jsonl').write_text(text)
    return comparison, studies, config


@pytest.fixture(scope='module')
def results(studied):
    return ablation_results(*studied)


def test_arms_are_compared_with_the_first_of_their_study_paired_by_seed(results):
    found = results['studies']['incremental']
    assert found['reference'] == 'individual'
    assert found['top1']['incremental'] == {
        '0.5': pytest.approx([0.75, 0.77]),
        '1.0': pytest.approx([0.85, 0.87]),
    }
    assert found['difference']['incremental']['1.0']['per_seed'] == pytest.approx(
        [-5, -5]
    )
    joint = found['difference']['joint']['1.0']
    assert joint['per_seed'] == pytest.approx([1, 2])
    half = 12.7062 * np.std([1, 2], ddof=1) / np.sqrt(2)
    assert joint['ci95'] == pytest.approx([1.5 - half, 1.5 + half], rel=1e-4)


def test_what_a_network_starts_from_is_part_of_its_cost(results):
    costs = results['studies']['why']['costs']
    steps = {arm: of['steps'] for arm, of in costs.items()}
    assert steps == {
        'alone': 10,
        'alone_twice': 10,
        'distilled': 20,
        'from_wide': 20,
        'joint_then_alone': 20,
        'joint': 10,
    }


def test_cosines_are_the_mean_of_the_seeds_at_each_epoch(results):
    cosines = results['cosines']
    assert cosines['layers'] == {'1.0/0.5': {'stem/conv': [0.55, -0.25]}}
    assert cosines['epochs'] == pytest.approx([1, 2], abs=0.03)
    (last,) = rows(cosine_lines(results)[-1])
    assert last == ['1.0 and 0.5', '0.55', '-0.25']


def test_a_difference_is_bold_where_its_interval_leaves_out_zero(results):
    lines = study_lines(results, 'incremental')
    ours, _, published = '\n'.join(lines).partition('Published')
    # Two seeds that agree to the image have the spread of rounding.
    found = [row[:2] for row in rows(ours)]
    assert ['incremental', '86.00 (**-5.00 ± 2.59**)'] in found
    assert ['joint', '92.50 (+1.50 ± 6.35)'] in found
    assert any(
        line == 'Published (MobileNet v2 on ImageNet, section 3.1 and Table 3):'
        for line in lines
    )
    assert ['incremental', '61.0', '60.3'] in rows(published)
    # Only the narrowest width is asked about.
    (first,) = rows(study_lines(results, 'why')[0])
    assert first == ['arm', '0.5', 'training MACs']
    assert study_lines(results, 'why')[-1] == 'Published: none.'


@pytest.mark.slow
def test_the_command_reports_what_is_finished(
    studied, results, tmp_path, monkeypatch, capsys
):
    monkeypatch.syspath_prepend(str(ROOT / 'scripts'))
    import ablate

    arguments = [
        f'--config={TINY}',
        f'--workdir={studied[0].workdir}',
        f'--study={",".join(NAMES)}',
        '--seeds=2',
        f'--json={tmp_path / "results.json"}',
        f'--plot={tmp_path / "cosines.png"}',
    ]
    monkeypatch.setattr(sys, 'argv', ['ablate.py', *arguments])
    ablate.main()
    written = json.loads((tmp_path / 'results.json').read_text())
    assert written['studies'] == results['studies']
    assert written['command'].startswith('python ablate.py --config=')
    assert (written['git_commits'], written['machines']) == (['abc'], ['a computer'])
    assert (tmp_path / 'cosines.png').stat().st_size > 10_000
    printed = capsys.readouterr().out
    for name in NAMES:
        assert '\n'.join(study_lines(results, name)) in printed

    monkeypatch.setattr(sys, 'argv', ['ablate.py', *arguments, '--config.sed=1'])
    with pytest.raises(SystemExit, match='ablate: config.sed: there is no such field'):
        ablate.main()
