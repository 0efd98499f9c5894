"""Detectors by the loop that trains classifiers: resumed exactly, scored, refused."""

import json
import re
import shutil

import jax
import numpy as np
import pytest
from PIL import Image

from slimjax import commands
from slimjax.config import check, complete
from slimjax.config_file import change, load_config
from slimjax.data.coco_format.masks import decode_rle
from slimjax.data.coco_format.source import CocoSource
from slimjax.data.decode import decode
from slimjax.data.digit_scenes import make_digit_scenes
from slimjax.detection.detecting import Detector
from slimjax.detection.results import ResultsFormat, coco_results
from slimjax.detection.settings import settings
from slimjax.detection.train import make_schedule
from slimjax.train.checkpoint import Checkpoints, load_variables
from slimjax.train.fine_tune import fine_tuned
from slimjax.train.loop import train
from slimjax.train.metrics import read_metrics
from slimjax.train.network import build_model
from slimjax.train.parallel import replicated
from slimjax.train.report import silent
from slimjax.train.runs import final_split, make_run
from slimjax.train.schedule import Clock, learning_rate
from slimjax.train.state import initial_variables
from slimjax.train.trained import open_classifier
from tests.commands import run_command
from tests.detection.run_config import CONFIGS, SMALL, digits_config
from tests.train.test_resume import contents

# The last batch of each is part blank.
COUNTS = {'train': 6, 'validation': 5}


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    output = tmp_path_factory.mktemp('scenes')
    make_digit_scenes(output, counts=COUNTS, say=silent)
    return output


@pytest.fixture(scope='module')
def uninterrupted(scenes, tmp_path_factory):
    workdir, said = tmp_path_factory.mktemp('whole'), []
    results = commands.train_workdir(digits_config(scenes), workdir, say=said.append)
    return workdir, results, said


@pytest.mark.slow
def test_a_stopped_run_goes_on_as_the_uninterrupted_one(
    scenes, uninterrupted, tmp_path
):
    config = digits_config(scenes)
    assert train(config, tmp_path, should_stop=lambda: True, say=silent) is None
    assert read_metrics(tmp_path / 'metrics.jsonl')[-1]['step'] == 1
    said = []
    train(config, tmp_path, say=said.append)
    assert 'resuming at step 1 of 2' in said
    assert contents(tmp_path) == contents(uninterrupted[0])


def test_a_run_says_and_keeps_the_metrics_of_every_width(uninterrupted):
    workdir, results, said = uninterrupted
    assert results['split'] == 'validation'  # There is no test split.
    assert set(results['widths']) == {'0.5'}
    assert any(line.startswith('eval at step 2: box AP 0.5: ') for line in said)
    assert 'box AP %' in said[-1]
    first, *_, last = read_metrics(workdir / 'metrics.jsonl')
    losses = {
        part: first[f'train/{part}/0.5']
        for part in ('objectness', 'proposal_boxes', 'classes', 'boxes', 'loss')
    }
    assert min(losses.values()) > 0
    assert losses.pop('loss') == pytest.approx(sum(losses.values()), rel=1e-5)
    for name, scores in results['widths'].items():
        assert scores['bbox/AP'] == last[f'eval/bbox/AP/{name}']
        assert scores['macs'] > 0


def test_what_asks_for_a_classifier_says_so(uninterrupted):
    workdir = uninterrupted[0]
    message = f'{re.escape(str(workdir))} holds a detector, faster_rcnn: '
    with pytest.raises(ValueError, match=message):
        open_classifier(workdir)


def test_evaluation_counts_every_image_once(scenes, uninterrupted, tmp_path):
    config = digits_config(scenes)
    results = commands.evaluate_workdir(config, uninterrupted[0], say=silent)
    commands.write_json(tmp_path / 'out.json', results)
    stored = json.loads((tmp_path / 'out.json').read_text())['widths']
    for name, scores in uninterrupted[1]['widths'].items():
        assert stored[name]['bbox/AP'] == scores['bbox/AP']
        assert stored[name]['params'] == scores['params']
    run, weights = make_run(config), load_variables(uninterrupted[0])
    source = run.source('validation')
    reader = run.eval_reader(source)
    params, stats = replicated((weights.params, weights.stats))
    found = run.detections(params, stats, reader, source.categories)
    reader.close()
    for results in found.values():
        ids = [each['image_id'] for each in results['bbox']]
        images, counts = np.unique(ids, return_counts=True)
        assert set(images) == set(source.index['image_id'])
        assert counts.max() <= 5


def test_a_classifier_becomes_the_backbone_of_all_widths(scenes, tmp_path):
    changes = {'model': 'resnet14', 'widths': (0.5,), 'image_size': 32}
    classifier = build_model(
        complete({**changes, 'model_fields': {'base_features': 8}})
    )
    params, stats = jax.jit(
        lambda key: initial_variables(classifier, (32, 32, 3), key)
    )(jax.random.key(7))
    with Checkpoints(tmp_path / 'checkpoints') as checkpoints:
        checkpoints.save_weights(params, stats, {'class_names': []})
        checkpoints.wait()
    config = digits_config(scenes, init_from=str(tmp_path))
    said = []
    run = make_run(config)
    state = fine_tuned(run.new_state(), run, said.append)
    assert 'backbone' in said[0]
    backbone = dict(params)
    del backbone['classifier']
    jax.tree.map(np.testing.assert_array_equal, state.params['backbone'], backbone)
    assert 'box_head' in state.params
    for name, tree in state.stats.items():
        jax.tree.map(np.testing.assert_array_equal, tree['backbone'], stats[name])


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'data_dir': ''}, "config.data_dir='': .*scripts/prepare_coco.py"),
        ({'num_classes': 80}, 'config.num_classes=80, but .* has 10'),
        (
            {'detector': 'keypoint_rcnn', 'num_keypoints': 17},
            'config.num_keypoints=17, but .* has 4',
        ),
        ({'model_fields.max_boxes': 2}, "max_boxes=2: .*too_many='truncate'"),
        ({'batch_size': 6}, 'batch_size=6 does not divide over 4 devices'),
    ],
)
def test_data_that_do_not_fit_are_refused_before_any_compile(scenes, changes, message):
    config = digits_config(scenes)
    for name, value in changes.items():
        folder, _, field = name.rpartition('.')
        (config[folder] if folder else config)[field] = value
    with pytest.raises(ValueError, match=message):
        make_run(config)


@pytest.mark.parametrize(
    'frozen', [{'norm': 'frozen'}, {'norm': 'group', 'frozen_stages': 1}]
)
def test_what_stays_as_it_starts_starts_from_something(scenes, tmp_path, frozen):
    config = digits_config(scenes, fields={**SMALL, **frozen})
    with pytest.raises(ValueError, match=r"config.init_from='': norm=.*stay as they"):
        train(config, tmp_path, say=silent)


def test_annotations_that_cannot_be_scored_are_refused_before_any_compile(
    scenes, tmp_path
):
    output = tmp_path / 'scenes'
    shutil.copytree(scenes, output)
    path = CocoSource(output, 'validation', keypoints=True).annotations
    content = json.loads(path.read_text())
    for each in content['categories']:
        del each['sigmas']
    path.write_text(json.dumps(content))
    config = digits_config(output, 'keypoint_rcnn', num_keypoints=4)
    with pytest.raises(ValueError, match='has 4 keypoints and no sigmas'):
        make_run(config)


@pytest.mark.slow
def test_categories_that_differ_between_splits_are_refused(scenes):
    run = make_run(digits_config(scenes))
    train = run.source('train')
    train.categories = (*train.categories[1::-1], *train.categories[2:])
    run._sources.pop('validation')
    with pytest.raises(ValueError, match=r"label 1 is '1' .*in train, and '0' "):
        run.source('validation')


def test_a_run_finds_what_its_folder_alone_knows(scenes, uninterrupted, tmp_path):
    source = CocoSource(scenes, 'validation')
    images = []
    for folder in ('one', 'two'):
        images.append(tmp_path / folder / 'scene.png')
        images[-1].parent.mkdir()
        images[-1].write_bytes(source[0].image)
    found = Detector(uninterrupted[0])(decode(source[0].image, 'scene'))
    assert list(found) == ['bbox']
    assert {each['image_id'] for each in found['bbox']} <= {0}
    script = ['scripts/detect.py', f'--workdir={uninterrupted[0]}', '--score=0']
    done = run_command(*script, *images)
    assert done.returncode == 0, done.stderr
    for path in images:
        drawn = path.with_name('scene_0.5.png')
        assert f'{drawn}: {len(found["bbox"])} objects' in done.stdout
        with Image.open(drawn) as image:
            assert image.width >= 128
    for flags, message in (
        ([f'--output={tmp_path}', *images], 'two images would become .*scene_0.5.png'),
        (
            [images[0], images[0].with_name('scene_0.5.png')],
            '.*scene_0.5.png is an image to look at',
        ),
        (['--score=2', images[0]], '--score=2.0; allowed is 0 to 1'),
        (['--width=0.3', images[0]], '0.3'),
    ):
        failed = run_command(*script, *flags)
        assert failed.returncode == 1
        assert re.match(f'detect: .*{message}', failed.stderr)
        assert failed.stderr.count('\n') == 1


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'detector': 'yolo'}, "config.detector='yolo': allowed is one of"),
        ({'model': 'mobilenet_v1'}, "config.model='mobilenet_v1': .*is a ResNet"),
        ({'model': 'autoslim_resnet'}, "config.model='autoslim_resnet': .*multipliers"),
        ({'dataset': 'digits'}, "config.dataset='digits': .*allowed is 'coco'"),
        ({'jitter': 0.4}, 'config.jitter=0.4 says nothing to detector=.*allowed is 0'),
        ({'best_metric': 'top1'}, "config.best_metric='top1': allowed are bbox/AP, "),
        ({'best_metric': 'bbox/AP/0.3'}, 'config.best_metric=.*such as bbox/AP/0.25'),
        ({'best_metric': 'segm/AP'}, "config.best_metric='segm/AP': allowed are"),
        ({'preset': 'tiny'}, "config.paste='published' is of .*preset='tiny' has not"),
        ({'min_box_side': 0.5}, "config.min_box_side=0.5 with preset='published'"),
        ({'widths': (0.01, 1.0)}, 'cannot be built'),
        (
            {'model_fields': {'learning_rate': 0.1}},
            'config.model_fields.learning_rate: config.learning_rate says it',
        ),
        (
            {'model_fields': {'anchor': 3}},
            'config.model_fields.anchor: faster_rcnn has',
        ),
        (
            {'model_fields': {'buckets': ((100, 64),)}},
            r'config: .*buckets=.*multiples of 32 px',
        ),
    ],
)
def test_a_bad_value_is_refused_with_field_value_and_what_is_allowed(changes, message):
    base = load_config(f'{CONFIGS / "coco.py"}:faster_rcnn').to_dict()
    base['model'] = 'resnet14'
    with pytest.raises(ValueError, match=message):
        check(complete({**base, **changes}))


def test_the_command_line_changes_settings_of_a_preset():
    config = load_config(f'{CONFIGS / "coco.py"}:mask_rcnn')
    changes = {'detections': '7', 'buckets': '((64,96),)', 'norm': 'group'}
    flags = [f'--config.model_fields.{name}={value}' for name, value in changes.items()]
    change(config, ['--config.preset=tiny', *flags])
    stated = {'detections': 7, 'buckets': ((64, 96),), 'norm': 'group'}
    assert config.model_fields.to_dict() == stated
    model = build_model(config)
    assert model.settings.detection_candidates == 256
    assert model.stats_collections(0.25) == ()  # GroupNorm has none.


@pytest.mark.parametrize('detector', ['faster_rcnn', 'mask_rcnn', 'keypoint_rcnn'])
def test_the_recipe_trains_as_the_published_preset(detector):
    config = load_config(f'{CONFIGS / "coco.py"}:{detector}')
    options = settings('published', detector)
    clock = Clock(examples=117_266, batch_size=config.batch_size)
    ours, preset = learning_rate(config, clock), make_schedule(options, clock)
    epoch = int(clock.steps_per_epoch)
    after = [n * epoch + 9 for n in (8, 9, 11, 17, 23)]
    for step in (0, 1, 250, 499, 500, 1001, *after):
        np.testing.assert_allclose(ours(step), preset(step), rtol=1e-5)
    assert (config.weight_decay, config.clip_norm, config.train_epochs) == (
        options.weight_decay,
        options.clip_norm,
        options.epochs,
    )


def test_the_final_split_is_test_where_that_is_prepared(scenes, tmp_path):
    config = digits_config(scenes)
    assert final_split(config) == 'validation'
    config.data_dir = str(tmp_path)
    (tmp_path / 'coco_format' / 'test' / '1.0.0').mkdir(parents=True)
    assert final_split(config) == 'test'


def test_the_published_paste_takes_edges_as_last_pixels():
    full = {
        'boxes': np.array([[[2.0, 3, 20, 18]]]),
        'scores': np.array([[0.9]]),
        'labels': np.array([[1]]),
        'valid': np.array([[True]]),
        'masks': np.ones((1, 1, 28, 28)),
    }
    size = [(32, 32)]
    batch = {'image_id': [1], 'image_size': size, 'original_size': size, 'mask': [1]}
    found = coco_results(full, batch, ResultsFormat((5,), 'published'))
    expected = np.zeros((32, 32), bool)
    expected[3:18, 2:20] = True
    pasted = decode_rle(found['segm'][0]['segmentation'])
    np.testing.assert_array_equal(pasted, expected)


def test_training_leaves_out_images_without_objects(scenes):
    run = make_run(digits_config(scenes))
    assert len(run.source('train')) == run.clock.examples
    assert (run.source('train').index['boxes'] > 0).all()
    assert len(CocoSource(scenes, 'validation')) == len(run.source('validation'))
