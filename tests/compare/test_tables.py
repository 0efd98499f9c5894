"""Channel tables as arms: for the multiply-adds of each width, searched or drawn."""

import numpy as np
import pytest

from slimjax.channel_file import load_channels
from slimjax.compare.arms import make_arms
from slimjax.compare.harness import plan, train_all
from slimjax.compare.results import comparison_results
from slimjax.compare.tables import drawn_tables
from slimjax.insight.cost import width_costs
from slimjax.train.network import build_model
from slimjax.train.run import Run
from tests.train.runs import tiny_config

# Of the tiny config, at widths 1.0 and 0.5.
MACS = [
    cost.macs for cost in width_costs(build_model(tiny_config()), (8, 8, 1)).values()
]


def wide_config(**changes):
    """The tiny config with more channels, of which 1 % more can be taken."""
    config = tiny_config(**changes)
    config.model_fields.base_features = 16
    return config


def test_drawn_tables_have_the_cost_of_the_widths_and_differ_by_number():
    config = wide_config()
    supernet, network = make_arms(config, ['autoslim'])['autoslim']
    budgets = network.tables.budgets
    run = Run(supernet.config)
    tables = [drawn_tables(run, budgets, seed) for seed in (0, 0, 1)]
    assert tables[0] == tables[1] != tables[2]
    for drawn in tables:
        shares = [table.macs / macs for table, macs in zip(drawn, budgets, strict=True)]
        assert all(0.99 <= share <= 1 for share in shares)
    # The network that has them costs what they say.
    config.widths = ()
    model = build_model(config).clone(widths=tables[0])
    macs = [cost.macs for cost in width_costs(model, (8, 8, 1)).values()]
    assert macs == [table.macs for table in tables[0]]


@pytest.mark.slow
def test_searched_tables_are_trained_and_reported_under_the_names_of_the_widths(
    tmp_path,
):
    config = tiny_config(num_train_steps=3)
    comparison = plan(config, tmp_path, seeds=2, arms=['autoslim', 'slimmable_sum'])
    assert train_all(comparison, say=lambda line: None)
    for seed in range(2):
        tables = load_channels(tmp_path / f'seed{seed}/autoslim/all/channels.json')
        assert all(table.macs <= macs for table, macs in zip(tables, MACS, strict=True))
    results = comparison_results(comparison, config)
    assert list(results['arms']['autoslim']) == ['1.0', '0.5']
    assert np.shape(results['control']['autoslim']['slimmable_sum']['1.0']['ci95']) == (
        2,
    )
    # The supernet's training is part of what it costs.
    assert results['costs']['autoslim']['steps'] == 6
