"""The top images of a channel of a short run, against scores computed one by one."""

import io

import numpy as np
import pytest
import scipy.stats
from PIL import Image

from slimjax import commands
from slimjax.data.augment import normalize
from slimjax.insight.activations import find_layers
from slimjax.insight.plot_top_images import RIGHT, WRONG, mosaic, plot_top_images
from slimjax.insight.top_images import Top, TopImages, mean_colour, top_images
from slimjax.train.loop import train
from slimjax.train.trained import open_run
from tests.commands import run_command
from tests.train.runs import tiny_config

LAYER = 'stage1_block1/conv1'


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
    """A run of three steps, whose batches of evaluation do not divide the split."""
    path = tmp_path_factory.mktemp('run')
    config = tiny_config(num_train_steps=3, eval_batch_size=100, norm='shared_affine')
    train(config, path, say=lambda line: None)
    return path


@pytest.fixture(scope='module')
def trained(workdir):
    return open_run(workdir)


def test_a_run_is_opened_from_its_folder_alone(workdir, trained):
    assert trained.run.config.widths == (0.5, 1.0)
    assert trained.run.config.model_fields.stage_sizes == (1,)
    assert trained.model.widths == (0.5, 1.0)
    with pytest.raises(ValueError, match='is of another network'):
        open_run(workdir, ['--config.widths=(0.25,1.0)'])
    with pytest.raises(ValueError, match='did you mean'):
        open_run(workdir, ['--config.sed=1'])
    with pytest.raises(ValueError, match="'--seed=1' is not understood"):
        open_run(workdir, ['--seed=1'])


@pytest.mark.slow
def test_what_was_calibrated_is_opened_with_its_own_widths(workdir):
    config = open_run(workdir).run.config
    config.widths = (0.5, 0.75, 1.0)
    output = commands.calibrate_workdir(config, workdir, say=lambda line: None)
    assert open_run(output).model.widths == (0.5, 0.75, 1.0)


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)))[..., None]


@pytest.mark.parametrize('by', ['max', 'mean'])
def test_top_images_are_those_of_the_largest_scores(trained, by):
    run, model, variables, _ = trained
    found = top_images(trained, LAYER, 1, by=by, count=5)
    source = run.source('validation')
    assert found.images == len(source) == 240
    assert list(found.rows) == ['1.0', '0.5']
    images = np.stack([pixels(source[i].image) for i in range(len(source))])
    labels = np.array([source[i].label for i in range(len(source))])
    inputs = normalize(images, run.config.mean, run.config.std)
    every, all_scores = {}, []
    for width in (1.0, 0.5):
        logits, kept = model.apply(
            variables,
            inputs,
            width=width,
            capture_intermediates=True,
            mutable=['intermediates'],
        )
        (maps,) = kept['intermediates']['stage1_block1']['conv1']['__call__']
        own = np.asarray(maps.values)[..., 1].reshape(len(images), -1)
        scores = own.max(1) if by == 'max' else own.mean(1)
        all_scores.append(scores)
        every[width] = set(np.argsort(-scores, kind='stable')[:5].tolist())
        tops = found.rows[str(width)]
        np.testing.assert_allclose(
            [top.score for top in tops], np.sort(scores)[::-1][:5], rtol=1e-5
        )
        right = np.asarray(logits).argmax(1) == labels
        for top in tops:
            assert top.score == pytest.approx(scores[top.index], rel=1e-5)
            assert top.right == right[top.index]
            np.testing.assert_array_equal(top.image, images[top.index])
            # 1 x 1 behind a 3 x 3: what it sees is no larger than that.
            assert max(top.crop.shape[:2]) <= 3
    both = len(every[1.0] & every[0.5])
    assert found.overlap['1.0', '0.5'] == pytest.approx(both / (10 - both))
    ranked = scipy.stats.spearmanr(*all_scores).statistic
    assert found.correlation['1.0', '0.5'] == pytest.approx(ranked, abs=1e-4)


def test_a_channel_that_narrow_widths_lack_has_rows_of_the_others(trained):
    found = top_images(trained, LAYER, 3, count=2)
    assert list(found.rows) == ['1.0']
    assert not found.overlap
    assert found.lines()[0].startswith('width 1.0  ')
    with pytest.raises(ValueError, match='has channels 0 to 3'):
        top_images(trained, LAYER, 4)
    with pytest.raises(ValueError, match="no layer 'stage1'; there are stage1_block1"):
        top_images(trained, 'stage1', 0)


def test_a_broken_image_moves_none_behind_it(trained, monkeypatch):
    run = trained.run
    whole = top_images(trained, LAYER, 1, count=300)
    source = run.source('validation')
    examples = [source[index] for index in range(len(source))]
    first = min(top.index for top in whole.rows['1.0'])
    examples[first] = examples[first]._replace(image=b'')
    broken = Listed(source.class_names, examples)
    monkeypatch.setitem(run._sources, 'validation', broken)
    found = top_images(trained, LAYER, 1, count=300)
    for name, tops in whole.rows.items():
        kept = [top for top in tops if top.index != first]
        assert [top.index for top in found.rows[name]] == [top.index for top in kept]
        for one, other in zip(found.rows[name], kept, strict=True):
            np.testing.assert_array_equal(one.image, other.image)


class Listed(list):
    def __init__(self, class_names, examples):
        super().__init__(examples)
        self.class_names = class_names


def test_frames_tell_right_from_wrong():
    grey = np.full((8, 8, 1), 100, np.uint8)
    pink = np.full((8, 6, 3), (200, 100, 150), np.uint8)
    rows = {
        '1.0': [Top(0, 1.0, True, grey, grey[:3]), Top(1, 0.5, False, grey, grey)],
        '0.5': [Top(2, 1.0, True, pink, pink)],
    }
    assert mean_colour(rows['0.5']).tolist() == [200, 100, 150]
    picture = mosaic(TopImages(None, 0, rows, {}, {}, 3))
    half = len(picture) // 2
    red, green = (
        [(part == colour).all(-1).sum() for part in (picture[:half], picture[half:])]
        for colour in (WRONG, RIGHT)
    )
    assert red[0] == green[0] == green[1] > 500
    assert red[1] == 0


def test_a_picture_is_written(trained, tmp_path):
    path = tmp_path / 'channel.png'
    plot_top_images(top_images(trained, 'classifier', 7, count=3), path, 'Sevens')
    with Image.open(path) as image:
        assert image.format == 'PNG'
        assert np.asarray(image.convert('L')).std() > 20


def test_the_command_lists_layers_and_names_what_is_wrong(workdir):
    done = run_command('scripts/channels.py', f'--workdir={workdir}', '--list')
    assert done.returncode == 0, done.stderr
    trained = open_run(workdir)
    layers = find_layers(trained.model, trained.variables, trained.run.image_shape)
    assert len(done.stdout.splitlines()) == len(layers)
    assert 'channels 1.0: 4, 0.5: 2' in done.stdout
    missing = run_command('scripts/channels.py', '--workdir=nowhere', '--list')
    assert missing.returncode == 1
    assert missing.stderr == 'channels: nowhere holds no checkpoint\n'
