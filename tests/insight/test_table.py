"""The table of costs and scores."""

import pytest

from slimjax.insight.table import format_count, results_table


@pytest.mark.parametrize(
    ('value', 'text'),
    [
        (0, '0'),
        (999, '999'),
        (1000, '1.0 k'),
        (999_940, '999.9 k'),
        (999_960, '1.0 M'),
        (999_960_000, '1.00 G'),
        (11_513_626_624, '11.51 G'),
    ],
)
def test_counts_are_readable(value, text):
    assert format_count(value) == text


def test_columns_line_up_widest_first():
    results = {
        'stored_params': 25_636_712,
        'widths': {
            '0.25': {'params': 1_993_976, 'macs': 278_085_632, 'latency_ms': 4.5},
            '1.0': {
                'params': 25_557_032,
                'params_bn': 53_120,
                'macs': 4_089_184_256,
                'top1': 0.76,
                'top5': 0.9296,
                'loss': 0.95,
                'latency_ms': 61.25,
            },
        },
    }
    assert results_table(results).splitlines() == [
        'width  params     MACs  top-1 %  top-5 %    loss  ms an image',
        '  1.0  25.6 M   4.09 G    76.00    92.96  0.9500       61.250',
        ' 0.25   2.0 M  278.1 M        -        -       -        4.500',
    ]


def test_without_costs_widths_are_ordered_by_their_number():
    scores = {'0.5': {'top1': 0.5}, '2.0': {'top1': 0.75}, '10.0': {'top1': None}}
    assert [line.split()[0] for line in results_table({'widths': scores}).splitlines()][
        1:
    ] == ['10.0', '2.0', '0.5']


def test_channel_tables_are_ordered_by_their_cost():
    costs = {'small': {'macs': 2e6}, 'large': {'macs': 3e6}}
    lines = results_table({'widths': costs}).splitlines()
    assert lines == ['width   MACs', 'large  3.0 M', 'small  2.0 M']
