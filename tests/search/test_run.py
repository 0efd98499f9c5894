"""A search from a workdir to a file that configs take."""

import json

import numpy as np
import pytest

from slimjax.data.sources import load_source
from slimjax.insight.cost import width_costs
from slimjax.search import command, latency, run
from slimjax.search.command import search_workdir
from slimjax.search.evaluator import Scores
from slimjax.search.run import Search, Settings
from slimjax.train.loop import train
from slimjax.train.trained import open_run
from tests.commands import run_command
from tests.train.runs import tiny_config


def silent(line):
    pass


def supernet_config(**changes):
    return tiny_config(
        widths=(0.25, 1.0),
        norm='shared_affine',
        search_share=0.1,
        num_train_steps=1,
        eval_steps=10,
        checkpoint_steps=10,
        **changes,
    )


@pytest.fixture(scope='module')
def supernet(tmp_path_factory):
    workdir = tmp_path_factory.mktemp('supernet')
    train(supernet_config(), workdir, say=silent)
    return workdir


@pytest.mark.slow
def test_from_a_supernet_to_tables_that_are_trained(supernet, tmp_path):
    output, said = tmp_path / 'channels.json', []
    search_workdir(supernet, '0.5,0.25', output, Settings(), say=said.append)
    results = json.loads(output.read_text())
    assert list(results['tables']) == ['1', '2']
    assert results['search']['images'] == 120
    whole = width_costs(open_run(supernet).model, (8, 8, 1))[1.0].macs
    for name, share in (('2', 0.5), ('1', 0.25)):
        assert results['tables'][name]['macs'] <= share * whole
    assert len(said) == len(results['trail']) + 4

    # Again, it finds the same, and computes nothing.
    again = tmp_path / 'again.json'
    search_workdir(supernet, '0.5,0.25', again, Settings(), say=said.append)
    assert json.loads(again.read_text()) == results
    with pytest.raises(ValueError, match='exists'):
        search_workdir(supernet, '0.5', output, Settings(), say=silent)

    # The tables are the widths of a run, which has all images, and of what reads it.
    config = tiny_config(channels=str(output), widths=(), num_train_steps=1)
    config.best_metric = 'top1/1'
    train(config, tmp_path / 'run', say=silent)
    output.unlink()
    opened = open_run(tmp_path / 'run')
    costs = width_costs(opened.model, (8, 8, 1))
    assert {width.name: cost.macs for width, cost in costs.items()} == {
        name: table['macs'] for name, table in results['tables'].items()
    }
    assert len(opened.run.source('train')) == 1197


@pytest.mark.parametrize(
    ('targets', 'settings'),
    [
        pytest.param(
            '0.6',
            Settings('params', criterion='error', per_saved=True),
            marks=pytest.mark.slow,
        ),
        ('0.8', Settings('latency')),
        pytest.param('0.5', Settings(method='evolution'), marks=pytest.mark.slow),
    ],
)
def test_other_targets_and_ways(supernet, tmp_path, monkeypatch, targets, settings):
    # Layers so small take as long as a call: times by hand, that grow with channels.
    monkeypatch.setattr(
        latency,
        '_measured',
        lambda wanted: {
            text: 1e-9 * inputs * outputs
            for text, (_, inputs, outputs) in wanted.items()
        },
    )
    output = tmp_path / 'channels.json'
    results = search_workdir(supernet, targets, output, settings, say=silent)
    (table,) = results['tables'].values()
    search = Search(supernet, settings, say=silent)
    counts = search.space.uniform(1.0)
    whole = float(search.cost(counts))
    own = {'macs': table['macs'], 'params': table['params']}
    own['latency'] = table.get('latency_ms_estimated', 0) / 1000
    assert 0 < own[settings.cost] <= float(targets) * whole


def test_the_script_says_a_mistake_in_one_line(supernet, tmp_path):
    output = tmp_path / 'channels.json'
    done = run_command(
        'scripts/search.py',
        f'--workdir={supernet}',
        '--macs=half',
        f'--output={output}',
    )
    assert done.returncode == 1
    assert done.stderr.startswith("search: --macs=half: 'half' is no target; allowed")
    assert not output.exists()


def test_all_candidates_are_scored_by_one_program_each_by_itself(supernet):
    search = Search(supernet, Settings(images=40))
    evaluator, space = search.evaluator, search.space
    assert evaluator.images == 40
    rng = np.random.default_rng(0)
    counts = space.random(rng, 300)
    scores = evaluator(counts)
    assert len(set(scores.loss)) > 200
    # Whatever else is computed beside it.
    order = rng.permutation(len(counts))
    np.testing.assert_array_equal(evaluator(counts[order]).loss, scores.loss[order])
    np.testing.assert_array_equal(evaluator(counts[:1]).loss, scores.loss[:1])
    assert evaluator.compilations == 1
    assert evaluator.temporary_bytes > 0


def test_mistakes_are_said_before_anything_is_compiled(supernet, tmp_path, monkeypatch):
    output = tmp_path / 'channels.json'
    with pytest.raises(ValueError, match='below the smallest network'):
        search_workdir(supernet, '0.001', output, Settings(), say=silent)
    with pytest.raises(ValueError, match='search_share=0.1'):
        Search(supernet, Settings(), ['--config.search_share=0.0'])
    with monkeypatch.context() as patch:
        # Nothing is read or measured for what is no target.
        patch.setattr(command, 'Search', None)
        with pytest.raises(ValueError, match="--latency=fast: 'fast' is no target"):
            search_workdir(supernet, 'fast', output, Settings('latency'), say=silent)
    message = 'search_share=0.3: the network was trained with search_share=0.1, which'
    with pytest.raises(ValueError, match=message):
        Search(supernet, Settings(), ['--config.search_share=0.3'])
    with pytest.raises(ValueError, match='folds=3: the network was trained with fol'):
        Search(supernet, Settings(), ['--config.folds=3'])
    with pytest.raises(ValueError, match=r"--output=.*no' is not there"):
        search_workdir(supernet, '0.5', tmp_path / 'no' / 'a.json', Settings())
    assert not output.exists()


@pytest.mark.parametrize(
    ('field', 'message'),
    [
        ({'cost': 'flops'}, "cost='flops'; allowed: macs, params, latency"),
        ({'method': 'Greedy'}, "method='Greedy'; allowed: greedy, evolution"),
        ({'criterion': 'top5'}, "criterion='top5'; allowed: loss, error"),
        ({'images': 0}, 'images=0: at least 1'),
        (
            {'method': 'evolution', 'per_saved': True},
            'per_saved goes with',
        ),
    ],
)
def test_settings_that_are_none_are_refused(field, message):
    with pytest.raises(ValueError, match=message):
        Settings(**field)


def test_an_image_that_cannot_be_read_costs_no_other(supernet, monkeypatch):
    changes = ['--config.eval_batch_size=48']
    trained = Search(supernet, Settings(images=120), changes).trained.run
    reader = trained.eval_reader

    class Broken:
        """The first image of each batch is broken."""

        def __init__(self, source):
            self._reader = reader(source)

        def __iter__(self):
            for batch in self._reader:
                batch['mask'][0] = 0
                yield batch

        def close(self):
            self._reader.close()

    monkeypatch.setattr(trained, 'eval_reader', Broken, raising=False)
    found = run._batches(trained, trained.source('search'))
    # Of 120 images, in batches of 48, 48 and 24, 117 are left.
    assert found['label'].shape == (2, 48)


def test_few_images_are_refused_where_there_are_enough(supernet, monkeypatch):
    monkeypatch.setattr(run, '_NEEDED', 100)
    with pytest.raises(ValueError, match='--images=99: 100 or more of the 120 that'):
        Search(supernet, Settings(images=99))


def test_scores_of_another_computation_are_no_scores_of_this_one(supernet, monkeypatch):
    monkeypatch.setattr(run, 'Evaluator', lambda *_, **__: score)

    def score(counts):
        return Scores(counts[:, 0], counts[:, 0])

    folder = supernet / 'search'
    known = set(folder.glob('*.jsonl'))
    for number, changes in enumerate(
        ([], ['--config.dtype=bfloat16'], ['--config.std=(0.5,)'], []), start=1
    ):
        search = Search(supernet, Settings(images=39), changes)
        search.evaluate(search.space.whole[None])
        files = set(folder.glob('*.jsonl')) - known
        assert len(files) == min(number, 3)
    assert search.evaluate.known == 1


def test_search_images_are_those_that_training_lacks():
    def names(split, share):
        source = load_source('digits', split, search_share=share)
        return [source[index].name for index in range(len(source))]

    train_names, search_names = names('train', 0.1), names('search', 0.1)
    assert len(search_names) == 120
    assert not set(train_names) & set(search_names)
    assert sorted(train_names + search_names) == sorted(names('train', 0.0))
    assert names('validation', 0.1) == names('validation', 0.0)
    with pytest.raises(ValueError, match='search_share'):
        load_source('digits', 'search')
