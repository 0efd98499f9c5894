"""The benchmark, as a user runs it."""

import json

import pytest

from tests.commands import run_command

INTERFACE = (
    'slimmable_step_ms',
    'individual_step_ms',
    'ratio_to_sum',
    'temp_bytes',
    'temp_bytes_widest',
    'ratio_memory',
    'compile_s',
    'device',
    'repeats',
    'spread',
)


def benchmark(*arguments):
    return run_command('scripts/benchmark.py', *arguments, timeout=900)


@pytest.mark.slow
def test_it_measures_a_network_and_writes_what_others_rely_on(tmp_path):
    path, picture = tmp_path / 'figures.json', tmp_path / 'figures.png'
    done = benchmark(
        '--model=resnet14',
        '--batch=2',
        '--size=32',
        '--repeats=6',
        f'--json={path}',
        f'--plot={picture}',
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(path.read_text())
    assert set(INTERFACE) <= set(results)
    assert list(results['individual_step_ms']) == ['1.0', '0.75', '0.5', '0.25']
    assert results['temp_bytes'] > 0
    assert set(results['inference']['0.25']) == {'batch_1', 'batch_16'}
    assert picture.stat().st_size > 10_000
    assert '| resnet14, 2 x 32 px, float32 ' in done.stdout


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('--model=resnet5',), "model='resnet5': allowed is"),
        (('--batch=0',), '--batch=0: at least 1'),
        (('--dtype=float8',), 'float8'),
        (('--json=/nowhere/figures.json',), 'there is no folder /nowhere'),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_compiled(arguments, message):
    done = benchmark(*arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
