"""Every image counts once for every width, for any batches and processes."""

import json
import os
import socket
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from slimjax.data.coco_format.batches import detection_eval_batches
from slimjax.data.coco_format.formats import DetectionFormat
from slimjax.data.coco_format.source import CocoSource
from slimjax.data.digit_scenes import make_digit_scenes
from slimjax.data.stream import Reading
from slimjax.detection.evaluate import detect_all, score_all, write_results
from slimjax.detection.results import ResultsFormat
from tests.conftest import ROOT

FORMAT = DetectionFormat(
    buckets=((192, 192),), short_side=192, long_side=192, masks=True, keypoints=True
)
RESULTS = ResultsFormat(tuple(range(1, 11)))


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
    output = tmp_path_factory.mktemp('scenes')
    make_digit_scenes(output, counts={'validation': 7}, say=lambda line: None)
    return output


@pytest.fixture(scope='module')
def source(data_dir):
    return CocoSource(data_dir, 'validation', keypoints=True)


def predict(width, batch):
    """What is annotated; a narrow network is off by some pixels."""
    shift = round(8 * (1 - width))
    masks = batch['masks'].reshape(*batch['masks'].shape[:2], 28, 4, 28, 4)
    points = batch['keypoints'].astype(np.float32)
    points[..., :2] += shift
    return {
        'boxes': jnp.asarray(batch['boxes'] + shift),
        'scores': jnp.ones(batch['labels'].shape),
        'labels': jnp.asarray(batch['labels']),
        # Blanks find something too, which must not count.
        'valid': jnp.asarray(
            batch['valid'] & ~batch['crowd'] | (batch['mask'] == 0)[:, None]
        ),
        'masks': jnp.asarray(masks.mean((3, 5)), jnp.float32),
        'keypoints': jnp.asarray(points),
    }


def detect(source, batch_size, **reading):
    batches = detection_eval_batches(
        source, FORMAT, batch_size=batch_size, reading=Reading(**reading)
    )
    return detect_all(predict, batches, (0.25, 1.0), RESULTS)


def test_every_width_has_all_of_cocos_numbers(source):
    scores = score_all(detect(source, 4), source)
    assert list(scores) == ['0.25', '1.0']
    assert scores['1.0']['bbox/AP'] == pytest.approx(1)
    assert scores['1.0']['keypoints/AP'] == pytest.approx(1)
    # A mask of 28 points is not as sharp as what is annotated.
    assert scores['1.0']['segm/AP50'] > 0.95
    assert scores['1.0']['segm/AP'] > 0.7
    for kind in ('bbox', 'segm', 'keypoints'):
        assert scores['0.25'][f'{kind}/AP'] < scores['1.0'][f'{kind}/AP'] - 0.3
    assert len(scores['1.0']) == 12 + 12 + 10


@pytest.mark.parametrize('batch_size', [1, 7])
def test_the_size_of_batches_changes_nothing(source, batch_size):
    assert detect(source, batch_size) == detect(source, 4)


def test_only_the_images_of_the_source_are_compared(source):
    part = source.subset([1, 3])
    assert score_all(detect(part, 2), part)['1.0']['bbox/AP'] == pytest.approx(1)


def test_no_images_are_no_evaluation():
    with pytest.raises(ValueError, match='there are no images to evaluate'):
        detect_all(predict, [], (1.0,), RESULTS)


def test_results_are_files_that_coco_takes(source, tmp_path):
    found = detect(source, 4)
    paths = write_results(tmp_path / 'new', found)
    assert sorted(path.name for path in paths) == [
        f'detections_{width}_{kind}.json'
        for width in ('0.25', '1.0')
        for kind in ('bbox', 'keypoints', 'segm')
    ]
    read = json.loads((tmp_path / 'new' / 'detections_1.0_segm.json').read_text())
    assert read == found['1.0']['segm']


PROCESS = """
import sys, json, jax
data_dir, index, port, output = sys.argv[1:]
if __name__ == '__main__':
    jax.distributed.initialize(f'localhost:{port}', 2, int(index))
    from slimjax.data.coco_format.source import CocoSource
    from tests.detection.test_evaluate import detect
    source = CocoSource(data_dir, 'validation', keypoints=True)
    found = detect(source, 4, process_index=int(index), process_count=2)
    open(output, 'w').write(json.dumps(found))
"""


@pytest.mark.slow
def test_two_processes_find_what_one_finds(data_dir, source, tmp_path):
    with socket.socket() as probe:
        probe.bind(('localhost', 0))
        port = str(probe.getsockname()[1])
    outputs = [tmp_path / str(index) for index in (0, 1)]
    processes = [
        subprocess.Popen(
            [sys.executable, '-c', PROCESS, data_dir, str(index), port, output],
            env=os.environ,
            cwd=ROOT,
        )
        for index, output in enumerate(outputs)
    ]
    assert [process.wait(200) for process in processes] == [0, 0]
    one, other = (json.loads(output.read_text()) for output in outputs)
    assert one == other
    alone = detect(source, 4)
    for width, results in alone.items():
        for kind, entries in results.items():
            assert by_content(one[width][kind]) == by_content(entries)


def by_content(entries):
    return sorted(json.dumps(entry, sort_keys=True) for entry in entries)
