"""What a benchmark prints and draws."""

import pytest
from PIL import Image

from slimjax.benchmark import figure

RESULTS = {
    'model': 's_mobilenet_v1',
    'batch': 16,
    'size': 128,
    'dtype': 'float32',
    'device': 'a machine',
    'date': '2026-01-01',
    'slimmable_step_ms': 500.0,
    'individual_step_ms': {'1.0': 300.0, '0.25': 210.0},
    'ratio_to_sum': 0.9804,
    'torch_step_ms': 400.0,
    'ratio_to_torch': 1.25,
    'torch_variants_ms': {'contiguous': 450.0, 'channels_last': 400.0},
    'temp_bytes': 300 * 2**20,
    'temp_bytes_widest': 290 * 2**20,
    'parameter_bytes': 17 * 2**20,
    'ratio_memory': 1.034,
    'ratio_memory_less_gradient': 0.976,
    'compile_s': 40.0,
    'ratio_compile': 1.1,
    'images_per_s': 32.0,
    'tflops': 0.05,
    'matrix_tflops': 0.1,
    'share_of_matrix_tflops': 0.5,
    'dispatch_ms': 2.0,
    'macs': {'1.0': 186_000_000, '0.25': 14_000_000},
    'inference': {
        width: {
            batch: {'ms': ms, 'narrow_ms': 0.9 * ms, 'ratio': 1.11}
            for batch, ms in (('batch_1', 5.0), ('batch_16', 40.0))
        }
        for width in ('1.0', '0.25')
    },
    'spread': {
        'slimmable_step_ms': [490.0, 520.0],
        'ratio_to_sum': [0.97, 0.99],
        'torch_step_ms': [390.0, 410.0],
        'ratio_to_torch': [1.2, 1.3],
        'dispatch_ms': [1.9, 2.1],
        'inference_ratio': {
            width: {'batch_1': [1.1, 1.2], 'batch_16': [1.0, 1.1]}
            for width in ('1.0', '0.25')
        },
    },
}


def test_a_person_reads_every_ratio_with_its_interval():
    text = '\n'.join(figure.lines(RESULTS))
    for part in (
        '0.980 (95 %: 0.970 to 0.990)',
        'PyTorch, channels_last  400.0',
        '1.250 (95 %: 1.200 to 1.300)',
        '50 % of a matrix product',
        '1.034 x the widest alone, 0.976 x without the summed gradient',
        'batch 1: 5.00 (1.11 x, 95 %: 1.10 to 1.20)',
    ):
        assert part in text


@pytest.mark.parametrize('rival', [True, False])
def test_the_table_and_the_picture_go_with_and_without_a_rival(tmp_path, rival):
    results = dict(RESULTS)
    if not rival:
        for name in ('torch_step_ms', 'ratio_to_torch', 'torch_variants_ms'):
            del results[name]
    row = figure.markdown([results]).splitlines()[-1]
    assert (' 1.25 |' in row) == rival
    assert (' not run |' in row) != rival
    path = tmp_path / 'benchmark.png'
    figure.plot([results, results], path)
    with Image.open(path) as image:
        assert image.width > image.height
