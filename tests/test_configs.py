"""Every recipe of every config file builds, initialises and describes."""

import pathlib

import pytest

from slimjax import commands
from slimjax.config import check, complete
from slimjax.config_fields import FIELDS
from slimjax.config_file import load_config

CONFIGS = pathlib.Path(__file__).parents[1] / 'configs'
# file, recipe, epochs (or steps), batch, group, rate, MACs of the narrowest
RECIPES = [
    ('imagenet', 's_mobilenet_v1', 480, 160, 40, 0.045, 41_030_272),
    ('imagenet', 's_mobilenet_v1_8', 480, 160, 40, 0.045, 41_030_272),
    ('imagenet', 's_mobilenet_v2', 480, 160, 40, 0.045, 59_285_808),
    ('imagenet', 's_shufflenet', 250, 1024, 128, 0.5, 37_549_896),
    ('imagenet', 's_shufflenet_paper', 250, 512, 128, 0.25, 37_549_896),
    ('imagenet', 's_resnet50', 100, 256, 64, 0.1, 278_085_632),
    ('imagenet', 's_resnet101', 100, 256, 64, 0.1, None),
    ('imagenet', 's_resnet152', 100, 256, 64, 0.1, None),
    ('imagenet', 'us_mobilenet_v1', 250, 1024, 128, 0.5, 41_030_272),
    ('imagenet', 'us_mobilenet_v2', 250, 1024, 128, 0.5, 59_285_808),
    ('imagenet', 'us_shufflenet', 250, 1024, 128, 0.5, 37_549_896),
    ('imagenet', 'us_resnet50', 100, 256, 64, 0.1, 278_085_632),
    ('imagenet', 'supernet_mobilenet_v1', 50, 1024, 128, 0.5, None),
    ('imagenet', 'supernet_mobilenet_v2', 50, 1024, 128, 0.5, None),
    ('imagenet', 'supernet_mnasnet', 50, 1024, 128, 0.5, None),
    ('imagenet', 'supernet_resnet50', 50, 1024, 128, 0.5, None),
    ('imagenet', 'autoslim_mobilenet_v1', 300, 2048, 256, 0.5, 149_825_128),
    ('imagenet', 'autoslim_mobilenet_v2', 300, 2048, 256, 0.5, 206_767_048),
    ('imagenet', 'autoslim_mnasnet', 300, 2048, 256, 0.5, 217_220_648),
    ('imagenet', 'autoslim_resnet', 100, 256, 64, 0.1, 570_004_736),
    ('cifar10', 'resnet26', 200, 128, 'device', 0.1, None),
    ('cifar10', 'resnet50', 200, 128, 'device', 0.1, None),
    ('cifar10', 'mobilenet_v1', 200, 128, 'device', 0.1, None),
    ('cifar10', 'mobilenet_v2', 200, 128, 'device', 0.1, None),
    ('digits', '', 22, 64, 'device', 0.05, None),
    ('digits', 'supernet', 22, 64, 'device', 0.05, None),
    ('digits', 'us', 22, 64, 'device', 0.05, None),
    ('folder', '', 90, 64, 'device', 0.025, None),
    ('synthetic', 'resnet50', 0, 64, 'device', 0.1, 278_085_632),
    ('synthetic', 'mobilenet_v1', 0, 64, 'device', 0.1, 41_030_272),
    ('synthetic', 'mobilenet_v2', 0, 64, 'device', 0.1, 59_285_808),
    ('synthetic', 'shufflenet', 0, 64, 'device', 0.1, 37_549_896),
    ('coco', 'faster_rcnn', 12, 16, 'device', 0.02, None),
    ('coco', 'mask_rcnn', 12, 16, 'device', 0.02, None),
    ('coco', 'keypoint_rcnn', 25.4, 16, 'device', 0.02, None),
    ('coco_digits', 'faster_rcnn', 12, 16, 'global', 2e-3, None),
    ('coco_digits', 'mask_rcnn', 12, 16, 'global', 2e-3, None),
    ('coco_digits', 'keypoint_rcnn', 12, 16, 'global', 2e-3, None),
]


def load(file, recipe=''):
    return load_config(f'{CONFIGS / file}.py' + (f':{recipe}' if recipe else ''))


@pytest.mark.parametrize(
    ('file', 'recipe', 'epochs', 'batch', 'group', 'rate'),
    [row[:-1] for row in RECIPES],
)
def test_a_recipe_is_what_it_says(file, recipe, epochs, batch, group, rate):
    config = load(file, recipe)
    check(config)
    assert (config.train_epochs, config.batch_size) == (epochs, batch)
    assert (config.norm_batch, config.learning_rate) == (group, rate)


# Their networks are counted in tests/insight/test_cost.py, or are very deep.
_SLOW = {
    *('s_mobilenet_v1', 's_mobilenet_v1_8'),
    *('s_shufflenet', 's_shufflenet_paper', 's_resnet50'),
    *('autoslim_mobilenet_v1', 'autoslim_mobilenet_v2', 'autoslim_mnasnet'),
    *('s_resnet101', 's_resnet152', 's_mobilenet_v2', 'autoslim_resnet'),
    *('mobilenet_v1', 'mobilenet_v2', 'resnet26', 'resnet50'),
    *('us_mobilenet_v1', 'us_mobilenet_v2', 'us_shufflenet', 'us_resnet50'),
    *('supernet_mobilenet_v1', 'supernet_mobilenet_v2', 'supernet_mnasnet'),
    *('supernet_resnet50', 'supernet'),
    # Their recipes differ in the head that the slow ones have.
    *('mask_rcnn', 'keypoint_rcnn'),
}


def describable():
    for file, recipe, *_, macs in RECIPES:
        slow = file in ('synthetic', 'folder', 'coco') or recipe in _SLOW
        marks = [pytest.mark.slow] if slow else []
        yield pytest.param(file, recipe, macs, marks=marks)


@pytest.mark.parametrize(('file', 'recipe', 'macs'), describable())
def test_a_recipe_is_built_and_described(file, recipe, macs):
    results = commands.describe(load(file, recipe), say=[].append)
    costs = [width['macs'] for width in results['widths'].values()]
    assert costs == sorted(costs, reverse=True)
    assert macs in (None, costs[-1])


def test_every_config_file_is_in_the_table():
    assert {path.stem for path in CONFIGS.glob('*.py')} == {row[0] for row in RECIPES}


def test_an_unknown_recipe_lists_the_recipes():
    with pytest.raises(ValueError, match=r'recipes are s_mobilenet_v1'):
        load('imagenet', 'resnet')


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'model': 'resnet'}, "config.model='resnet': allowed is one of mobilenet_v1"),
        ({'widths': (0.5, 0.5)}, 'more than once'),
        ({'widths': (0.5, -1.0)}, r'config.widths=.*allowed is a tuple of numbers'),
        ({'widths': (0.5, None)}, r'config.widths=.*allowed is a tuple of numbers'),
        ({'model': 'autoslim_resnet', 'widths': (1, 2)}, r"names '1', .*1 is a number"),
        ({'widths': ('1',)}, r"width='1' is not one of the widths"),
        (
            {'model': 'autoslim_resnet', 'widths': ('5',)},
            r"width='5'.*: '1', '2', '3', '4'$",
        ),
        ({'momentum': 1.5}, r'config.momentum=1.5: allowed is in \[0, 1\)'),
        ({'learning_rate': float('nan')}, 'a finite number is needed'),
        ({'batch_size': '64'}, "config.batch_size='64': int expected"),
        ({'flip': 1}, 'config.flip=1: bool expected'),
        ({'norm_batch': 'all'}, "config.norm_batch='all'"),
        ({'train_epochs': 1.0, 'train_steps': 5}, 'train_steps=5, train_epochs=1.0'),
        ({'crop_scale': (0.5,)}, 'two numbers'),
        ({'crop_scale': (0.9, 0.1)}, 'two rising numbers'),
        ({'pad': 4}, 'exclude'),
        ({'image_channels': 1}, 'config.mean=.*3 numbers; image_channels=1'),
        ({'loss_weights': (1.0,)}, 'as many numbers are needed as widths'),
        ({'accumulate_steps': 3}, 'does not divide batch_size'),
        ({'schedule': 'multistep'}, 'needs milestone_epochs'),
        ({'best_metric': 'f1'}, 'allowed are top1, top5, loss'),
        ({'best_metric': 'top1/0.3'}, 'allowed are top1, top5, loss'),
        ({'model_fields': {'depth': 3}}, 'config.model_fields.depth'),
        ({'sandwich': 1}, 'config.sandwich=1: allowed is 0, or 2 or more'),
        ({'sandwich': 3, 'widths': (1.0,)}, r"widths=\('1.0',\) state no range"),
        ({'sandwich': 3, 'model': 'autoslim_resnet'}, 'state no range to draw from'),
        ({'sandwich': 3}, "config.norm='private': .*allowed is 'shared_affine'"),
        (
            {
                'sandwich': 3,
                'norm': 'shared_affine',
                'widths': (0.5, 1.0),
                'loss_weights': (1.0, 2.0),
            },
            r'config.loss_weights=\(1.0, 2.0\): with sandwich=3',
        ),
        ({'distill': True, 'widths': (1.0,)}, r'only width 1\.0; set distill=False'),
        ({'calibration': 'exact'}, 'config.calibration=.*pooled, sequential'),
        ({'dtype': 'float64'}, "config.dtype='float64': .*JAX_ENABLE_X64=1"),
    ],
)
def test_a_bad_value_is_refused_with_field_value_and_what_is_allowed(changes, message):
    base = {'schedule': 'cosine', 'batch_size': 64}
    with pytest.raises(ValueError, match=message):
        check(complete({**base, **changes}))


def test_an_unknown_field_names_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'weight_decay'"):
        complete({'weight_deacy': 0.1})


@pytest.mark.parametrize('name', ['soft_target', 'inplace_distill'])
def test_the_published_names_of_distillation_are_told_ours(name):
    with pytest.raises(ValueError, match=f"config.{name}: .*did you mean 'distill'"):
        complete({name: True})


def test_a_list_is_refused():
    with pytest.raises(ValueError, match='use a tuple'):
        check(complete({'schedule': 'cosine', 'adam_betas': [0.9, 0.999]}))


def test_every_field_says_what_it_means():
    for name, field in FIELDS.items():
        assert field.meaning, name
