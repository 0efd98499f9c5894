"""What each arm trains, and what that costs."""

import pytest
from ml_collections import ConfigDict

from slimjax.compare.arms import ARMS, known_arms, make_arms
from slimjax.compare.cost import forward_macs, training_macs
from slimjax.compare.network import stretched
from slimjax.config import complete
from slimjax.config_file import load_config
from slimjax.insight.cost import width_costs
from slimjax.train.network import build_model
from slimjax.train.run import Run
from tests.commands import ROOT
from tests.train.runs import tiny_config

# Of the tiny config, at widths 1.0 and 0.5.
MACS = [
    cost.macs for cost in width_costs(build_model(tiny_config()), (8, 8, 1)).values()
]


@pytest.fixture(scope='module')
def arms():
    config = tiny_config(train_epochs=0.0, train_steps=100, num_train_steps=0)
    return make_arms(config, list(ARMS))


def test_individual_networks_are_physically_narrow(arms):
    for network, macs in zip(arms['individual'], MACS, strict=True):
        model = build_model(network.config)
        assert len(model.widths) == 1
        own = forward_macs(model, (8, 8, 1))
        assert list(own.values()) == [macs]


def test_the_control_learns_from_the_individual_widest(arms):
    teacher, student = arms['individual_distilled']
    assert teacher == arms['individual'][0]
    assert student.teacher == teacher
    assert student.widths == ('0.5',)


def test_what_differs_between_arms_is_what_their_names_say(arms):
    recipe = arms['slimmable_sum'][0].config

    def differs(arm):
        own = arms[arm][-1].config
        return {name for name in own if own[name] != recipe[name]}

    alone = {'widths'}
    assert differs('individual') == differs('individual_distilled') == alone
    for arm in ('individual_twice', 'individual_compute'):
        assert differs(arm) == alone | {'train_steps'}
    assert differs('slimmable_mean') == {'reduce'}
    assert differs('universal') == {'sandwich', 'norm'}
    assert differs('universal_distilled') == {'sandwich', 'norm', 'distill'}
    assert differs('random') == differs('autoslim') == {'widths'}


def test_of_a_recipe_of_any_width_the_published_arm_has_norms_of_its_own():
    config = tiny_config(norm='shared_affine', sandwich=2, reduce='mean')
    arms = make_arms(config, ['slimmable_sum', 'universal'])
    own, shared = (arms[name][0].config for name in ('slimmable_sum', 'universal'))
    assert (own.norm, own.sandwich, own.reduce) == ('private', 0, 'sum')
    assert (shared.norm, shared.sandwich, shared.reduce) == ('shared_affine', 2, 'sum')


def test_norms_that_are_shared_on_purpose_stay_so():
    arms = make_arms(tiny_config(norm='shared'), ['slimmable_sum'])
    assert arms['slimmable_sum'][0].config.norm == 'shared'


def test_drawn_tables_train_no_supernet(arms):
    assert [each.key for each in arms['random'][0].sources] == ['random/0']
    found = [each.key for each in arms['autoslim'][-1].sources]
    assert found == ['autoslim/supernet', 'autoslim/all']


def test_all_arms_of_a_detector_are_those_that_it_has():
    assert known_arms(ConfigDict({'detector': 'mask_rcnn'})) == [
        *('individual', 'individual_twice', 'individual_compute', 'slimmable_sum')
    ]


def test_universal_networks_with_a_shared_tail_have_its_statistics_for_themselves():
    config = load_config(str(ROOT / 'configs' / 'cifar10.py') + ':mobilenet_v2')
    config.widths = (0.5, 1.0)
    arms = make_arms(config, ['slimmable_sum', 'universal'])
    assert 'private_tail_stats' not in arms['slimmable_sum'][0].config.model_fields
    (network,) = arms['universal']
    assert network.config.model_fields.private_tail_stats
    assert network.config.model_fields.small_images


def test_individual_networks_get_the_compute_of_the_family(arms):
    (family,) = arms['slimmable_sum']
    whole = training_macs(Run(family.config))
    assert whole == 100 * 32 * 3 * sum(MACS)
    for network in arms['individual_compute']:
        assert training_macs(Run(network.config)) == pytest.approx(whole, rel=0.01)
    for alone, twice in zip(arms['individual'], arms['individual_twice'], strict=True):
        assert training_macs(Run(twice.config)) == 2 * training_macs(Run(alone.config))


def test_the_drawn_widths_of_each_step_are_counted(arms):
    run = Run(arms['universal'][0].config)
    drawn = [run.sandwich.widths(step) for step in range(100)]
    model = run.model.clone(axis_name=None, widths=run.sandwich.grid.widths)
    macs = {width: cost.macs for width, cost in width_costs(model, (8, 8, 1)).items()}
    expected = sum(macs[width] for widths in drawn for width in widths)
    assert training_macs(run) == 32 * 3 * expected


def test_a_teacher_costs_its_forward_pass(arms):
    run = Run(arms['individual'][1].config)
    more = training_macs(run, teacher_macs=MACS[0]) - training_macs(run)
    assert more == 100 * 32 * MACS[0]


def test_a_longer_schedule_ends_at_the_same_rate():
    config = complete(
        {'train_epochs': 10, 'schedule': 'exponential', 'decay_factor': 0.5}
    )
    longer = stretched(config, 2.0)
    assert longer.train_epochs == 20
    assert longer.decay_factor**20 == pytest.approx(0.5**10)
    config = complete(
        {'train_steps': 9, 'schedule': 'multistep', 'milestone_epochs': (3.0, 6.0)}
    )
    longer = stretched(config, 1.5)
    assert (longer.train_steps, longer.milestone_epochs) == (14, (4.5, 9.0))


@pytest.mark.parametrize(
    ('changes', 'names', 'message'),
    [
        ({}, ['individal'], "no arm 'individal'; the arms are individual, "),
        ({'widths': (1.0,)}, [], 'two multipliers or more'),
        ({'teacher': 'runs/a'}, [], r"config\.teacher='runs/a'.*allowed is ''"),
        ({'init_from': 'runs/a'}, [], r'config\.init_from'),
        ({'learning_rate': -1.0}, [], r'config\.learning_rate=-1\.0'),
    ],
)
def test_what_cannot_be_compared_is_refused(changes, names, message):
    with pytest.raises(ValueError, match=message):
        make_arms(tiny_config(**changes), names)
