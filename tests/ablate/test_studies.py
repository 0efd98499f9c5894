"""Which networks each study compares, and in what they differ."""

import pytest

from slimjax.ablate.arms import WIDTHS, between, joint, of_number
from slimjax.ablate.results import all_arms
from slimjax.ablate.studies import STUDIES, make_studies
from slimjax.compare.cost import training_macs
from slimjax.compare.harness import with_sources
from slimjax.train.run import Run
from tests.train.runs import tiny_config


@pytest.fixture(scope='module')
def studies():
    config = tiny_config(
        train_epochs=0.0, train_steps=60, num_train_steps=0, widths=(0.25, 0.5, 1.0)
    )
    return make_studies(config)


def differs(network, other):
    return {
        name for name in network.config if network.config[name] != other.config[name]
    }


def test_each_step_of_incremental_training_freezes_the_one_before(studies):
    first, second, third = studies['incremental']['incremental']
    assert first == studies['incremental']['individual'][-1]
    assert (second.start, third.start) == (first, second)
    assert (second.config.widths, third.config.widths) == (
        (0.25, 0.5),
        (0.25, 0.5, 1.0),
    )
    assert (second.config.frozen_width, third.config.frozen_width) == (0.25, 0.5)
    assert differs(first, third) == {'widths', 'frozen_width'}
    # Each is scored at the width that it adds.
    assert [network.widths for network in (first, second, third)] == [
        ('0.25',),
        ('0.5',),
        ('1.0',),
    ]


def test_incremental_training_costs_what_individual_training_does(studies):
    costs = [
        [training_macs(Run(network.config)) for network in studies['incremental'][arm]]
        for arm in ('individual', 'incremental')
    ]
    assert costs[0] == costs[1][::-1]


def test_what_differs_between_arms_is_what_their_names_say(studies):
    (joint,) = studies['affine']['private']
    for mode in ('shared_affine', 'shared'):
        (network,) = studies['affine'][mode]
        assert differs(network, joint) == {'norm'}
        assert network.config.norm == mode
    (network,) = studies['one_width']['one_width']
    assert differs(network, joint) == {'reduce'}
    (network,) = studies['one_width']['one_width_compute']
    assert differs(network, joint) == {'reduce', 'train_steps'}
    for count in (2, 4, 8):
        (network,) = studies['number'][f'widths_{count}']
        assert differs(network, joint) == {'widths'}
        assert len(network.widths) == count


def test_one_width_a_step_costs_its_share_or_is_trained_for_as_many_passes(studies):
    whole, one, longer = (
        training_macs(Run(network.config))
        for arm in studies['one_width'].values()
        for network in arm
    )
    assert whole == 3 * one == longer


def test_why_trains_the_narrowest_from_features_and_from_supervision(studies):
    arms = {name: networks[-1] for name, networks in studies['why'].items()}
    alone, widest = arms['alone'], studies['incremental']['individual'][0]
    assert arms['distilled'].teacher == arms['from_wide'].start == widest
    assert arms['joint_then_alone'].start == arms['joint']
    for name in ('distilled', 'from_wide', 'joint_then_alone'):
        assert differs(arms[name], alone) == set()
        assert arms[name].widths == ('0.25',)


def test_networks_of_several_studies_are_trained_once_and_sources_first(studies):
    every = [each for arm in all_arms(studies).values() for each in arm]
    keys = [network.key for network in with_sources(every)]
    assert len(keys) == len(set(keys))
    for network in every:
        for source in network.sources:
            assert keys.index(source.key) <= keys.index(network.key)


def test_numbers_of_widths_are_set_as_the_papers_between_the_ends():
    assert between((0.5, 1.0), WIDTHS[4]) == (0.5, 0.666667, 0.833333, 1.0)
    assert between((0.25, 0.6, 1.0), WIDTHS[8]) == WIDTHS[8]


def test_the_joint_network_is_the_one_of_four_widths_where_they_are_the_papers():
    config = tiny_config(widths=(0.25, 0.5, 0.75, 1.0))
    assert of_number(4)(config) == joint(config)


def test_published_figures_are_the_papers():
    incremental = STUDIES['incremental'].published.top1
    assert incremental['incremental'] == {'0.35': 60.3, '0.5': 61.0}
    assert incremental['individual']['0.5'] == 65.4
    # Table 6 in error: 47.1 / 35.9 / 30.9 / 28.8 shared, 46.9 / 35.2 / 30.5 / 28.5 not.
    affine = STUDIES['affine'].published.top1
    assert affine['shared_affine']['0.5'] == pytest.approx(100 - 35.9)
    assert affine['private']['0.25'] == pytest.approx(100 - 46.9)
    for study in STUDIES.values():
        assert study.published is None or set(study.published.top1) <= set(study.arms)


@pytest.mark.parametrize(
    ('names', 'changes', 'message'),
    [
        (['wy'], {}, "no study 'wy'; the studies are incremental, why"),
        ([], {'frozen_width': 0.5}, r'frozen_width=0\.5: an arm says what is frozen'),
    ],
)
def test_what_cannot_be_studied_is_refused(names, changes, message):
    with pytest.raises(ValueError, match=message):
        make_studies(tiny_config(**changes), names)
