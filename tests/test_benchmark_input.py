"""The benchmark of the input pipeline runs and says what is wrong; no times."""

import json
import os
import sys

import pytest

from tests.commands import run_command
from tests.data.files import jpeg

SMALL = ['--images=8', '--size=16', '--batch=4', '--block=1', '--repeats=2']

pytestmark = pytest.mark.skipif(sys.platform != 'linux', reason='reads its clocks')


def run(*flags):
    return run_command('scripts/benchmark_input.py', *SMALL, *flags, timeout=300)


@pytest.fixture
def fake_tensorflow(tmp_path):
    """Answers as TensorFlow does, after it was asked for some work."""
    path = tmp_path / 'python'
    path.write_text('#!/bin/sh\necho ready\nwhile read line; do echo done; done\n')
    path.chmod(0o755)
    return path


@pytest.mark.slow
def test_it_measures_all_and_writes_it(tmp_path, fake_tensorflow):
    path = tmp_path / 'new' / 'input.json'
    result = run(
        '--source=64x48',
        '--workers=1',
        '--against=tf',
        f'--tf_python={fake_tensorflow}',
        f'--json={path}',
    )
    assert result.returncode == 0, result.stderr
    found = json.loads(path.read_text())
    assert found['images'] == 8
    assert set(found['one_core']) == {
        'slimjax',
        'tf.data antialiased',
        'tf.data aliased',
    }
    assert set(found['ratios']) == {
        'slimjax / tf.data antialiased',
        'slimjax / tf.data aliased',
    }
    assert set(found['stages_us']) == {'read', 'decode', 'resize and crop', 'batch'}
    assert {'1 thread', '1 worker'} <= set(found['scaling'])
    assert found['one_core']['slimjax']['images_per_cpu_second'] > 0
    assert 'slimjax / tf.data aliased' in result.stdout


def test_it_takes_images_from_a_folder(tmp_path):
    (tmp_path / 'cats').mkdir()
    for seed in range(20):
        (tmp_path / 'cats' / f'{seed}.JPEG').write_bytes(jpeg(seed))
    result = run(f'--data_dir={tmp_path}', '--workers=0', '--repeats=1')
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith('8 images')


@pytest.mark.parametrize(
    ('flags', 'message'),
    [
        (['--source=500'], '--source=500 is no size'),
        (['--source=2x2'], '--source=2x2 is no size'),
        (['--data_dir=/nowhere'], '--data_dir=/nowhere has no .jpg'),
        (['--against=tf'], '--against=tf needs --tf_python='),
        (['--workers=two'], '--workers=two: numbers are needed'),
        (['--source=64x48', '--against=tf', '--tf_python=/bin/false'], 'false failed'),
        (['rubbish'], 'rubbish is no flag'),
    ],
)
def test_a_mistake_is_said_in_a_line(flags, message):
    result = run(*flags)
    assert result.returncode == 1
    assert message in result.stderr
    assert 'Traceback' not in result.stderr


def test_a_broken_image_is_named(tmp_path):
    (tmp_path / 'bad.jpg').write_bytes(os.urandom(50))
    result = run(f'--data_dir={tmp_path}')
    assert result.returncode == 1
    assert 'bad.jpg' in result.stderr
