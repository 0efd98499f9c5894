"""The report of a short run on a folder whose names are hostile, as a user makes it."""

import json
import runpy
import sys

import numpy as np
import pytest
from PIL import Image

from slimjax.insight.gain import gain
from slimjax.insight.predictions import predict
from slimjax.train.loop import flat, train
from slimjax.train.metrics import read_metrics
from slimjax.train.parallel import replicated
from slimjax.train.trained import open_run
from tests.commands import ROOT, run_command
from tests.report.browser import opened
from tests.train.runs import tiny_config

CLASSES = ('<img src=x onerror="boom=1">', '<b>cat & dog', 'a "quoted" one')


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
    """A run of three steps, stopped before its end."""
    data = tmp_path_factory.mktemp('data')
    drawn = np.random.default_rng(0)
    for split, count in (('train', 16), ('validation', 5)):
        for name in CLASSES:
            folder = data / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = drawn.integers(0, 256, (8, 8), np.uint8)
                Image.fromarray(pixels).save(
                    folder / f'<svg onload=boom=1>{number}.png'
                )
    path = tmp_path_factory.mktemp('runs') / '<i>run'
    config = tiny_config(
        dataset='folder',
        data_dir=str(data),
        num_classes=3,
        eval_batch_size=4,
        train_epochs=4,
    )
    asked = []
    train(
        config,
        path,
        overridden=('dataset', 'model_fields.base_features'),
        say=lambda line: None,
        should_stop=lambda: len(asked.append(True) or asked) == 3,
    )
    return path


def test_what_each_width_says_is_what_evaluation_counts(workdir):
    trained = open_run(workdir)
    found = predict(trained, 'validation')
    params, stats = replicated(
        (
            trained.variables['params'],
            {k: v for k, v in trained.variables.items() if k != 'params'},
        )
    )
    expected = trained.run.evaluate(params, stats, 'validation')
    assert list(found.said) == ['1.0', '0.5']
    assert sorted(found.places) == list(range(15))
    for name, scores in found.scores().items():
        assert scores['top1'] == pytest.approx(expected[name]['top1'])
        assert scores['top5'] == pytest.approx(expected[name]['top5'])
        own = found.said[name]
        np.testing.assert_array_equal(own.classes == found.labels, own.top1)
        assert ((own.confidence > 1 / 3) & (own.confidence <= 1)).all()
    lost = found.only_wider('0.5')
    assert (found.said['1.0'].top1[lost] & ~found.said['0.5'].top1[lost]).all()
    both = found.said['1.0'].top1 & ~found.said['0.5'].top1
    assert len(lost) == both.sum()
    assert (np.diff(found.said['1.0'].confidence[lost]) <= 0).all()


@pytest.mark.slow
def test_the_command_reports_a_stopped_run(
    workdir, tmp_path, monkeypatch, capsys, request
):
    path = tmp_path / 'report.html'
    arguments = (
        f'--workdir={workdir}',
        f'--output={path}',
        f'--individual={workdir}',
        f'--json={tmp_path / "report.json"}',
        '--channels=stage1_block1/conv1:1',
        '--batches=1,2',
        '--repeats=2',
    )
    monkeypatch.setattr(sys, 'argv', ['report.py', *arguments])
    runpy.run_path(str(ROOT / 'scripts' / 'report.py'), run_name='__main__')
    printed = capsys.readouterr().out
    assert 'individual' in printed
    assert printed.endswith(f'report: {path}\n')
    results = json.loads((tmp_path / 'report.json').read_text())
    assert results['images'] == 15
    # The same network on the same images.
    assert [own['gain'] for own in results['gains'].values()] == [0, 0]
    assert set(results['widths']['0.5']) >= {'top1', 'macs', 'latency_ms_p95'}
    with opened(request.getfixturevalue('chromium'), path) as seen:
        text = seen.page.locator('body').inner_text()
        assert 'still running or stopped' in text
        assert 'checkpoint of step 3 of 6' in text
        assert '15 validation images' in text
        assert '+0.00' in text  # What it gains over itself.
        fields = (
            seen.page.locator('#config tr').filter(has_text='*').all_text_contents()
        )
        assert [field.split()[0] for field in fields] == ['dataset', 'model_fields']
        seen.page.locator('#width').fill('0')
        assert seen.page.locator('output').inner_text() == '0.5'
        assert seen.complaints == []
        assert [url for url in seen.requests if not url.startswith('data:')] == [
            path.as_uri()
        ]
        assert seen.page.evaluate('typeof boom') == 'undefined'


def test_a_workdir_without_a_checkpoint_is_one_line(tmp_path):
    (tmp_path / 'metrics.jsonl').write_text('{"step": 1}\n')
    done = run_command('scripts/report.py', f'--workdir={tmp_path}')
    assert done.returncode == 1
    assert done.stderr == f'report: {tmp_path} holds no checkpoint\n'


def test_the_validation_curve_of_the_run_is_in_its_metrics(workdir):
    lines = read_metrics(workdir / 'metrics.jsonl')
    scores = {'1.0': {'top1': 0.0}}
    (name,) = flat('eval', scores)
    assert any(name in line for line in lines)
    meta = next(workdir.rglob('meta.json'))
    overridden = json.loads(meta.read_text())['overridden']
    assert overridden == ['dataset', 'model_fields.base_features']


def test_gain_by_hand():
    alone = np.array([True, True, False, False])
    shared = np.array([True, True, True, False])
    found = gain(alone, shared)
    assert (found.individual, found.shared, found.gain) == (0.5, 0.75, 0.25)
    # One of 4 images differs; with half a one more in each cell, 2 of 6.
    margin = 1.96 * np.sqrt(2 / 6 - 1 / 36) / np.sqrt(6)
    assert found.low == pytest.approx(1 / 6 - margin)
    assert found.high == pytest.approx(1 / 6 + margin)
    assert found.verdict == 'equal'
    # An exact test gives 4 of 4 a probability of 0.125, and 8 of 8 one of 0.008.
    for differing, verdict in ((4, 'equal'), (8, 'better')):
        assert gain(np.arange(360) >= differing, np.ones(360, bool)).verdict == verdict
    many = np.arange(400) % 4 != 0
    assert gain(np.zeros(400, bool), many).verdict == 'better'
    assert gain(many, np.zeros(400, bool)).verdict == 'worse'
    with pytest.raises(ValueError, match='4 and 3 images'):
        gain(alone, shared[:3])
