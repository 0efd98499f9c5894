"""A network in a folder is the same network again, whole or a width at a time."""

import json
import os
import re
import stat

import jax
import numpy as np
import pytest
from safetensors import safe_open

import slimjax
from slimjax.deploy.model_config import model_from_json, model_to_json
from slimjax.deploy.pretrained import CONFIG, WEIGHTS
from slimjax.models import MODELS
from tests.deploy.networks import IMAGE, drawn, tiny

SMALL = {'num_classes': 5, 'small_images': True}


def saved(folder, model, variables, **options):
    slimjax.save_pretrained(folder, model, variables, image_shape=IMAGE, **options)
    return folder


def same(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_what_was_saved_is_read_again(tmp_path, dtype):
    model, variables = tiny(norm='shared_affine', param_dtype=dtype)
    # What lies across the memory, as the slices of an array do.
    variables = jax.tree.map(lambda leaf: np.asfortranarray(leaf), variables)
    old = os.umask(0o027)
    try:
        saved(tmp_path / 'network', model, variables)
    finally:
        os.umask(old)
    again, found = slimjax.from_pretrained(tmp_path / 'network')
    assert again == model
    same(found, variables)
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode)
        for path in tmp_path.joinpath('network').iterdir()
    }
    assert modes == {CONFIG: 0o640, WEIGHTS: 0o640, 'README.md': 0o640}
    assert stat.S_IMODE(tmp_path.joinpath('network').stat().st_mode) == 0o750


def test_nothing_is_left_where_the_file_for_torch_fails(tmp_path, monkeypatch):
    def full(path, variables, model):
        path.write_bytes(b'half')
        raise OSError('no space left')

    monkeypatch.setattr('slimjax.deploy.pretrained.export_torch', full)
    with pytest.raises(OSError, match='no space left'):
        saved(tmp_path / 'network', *tiny(), torch=True)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ('name', 'width', 'fields'),
    [
        ('resnet14', 0.5, {'stage_sizes': (1, 1), 'norm': 'shared'}),
        pytest.param('mobilenet_v1', 0.25, {}, marks=pytest.mark.slow),
        pytest.param('mobilenet_v2', 0.5, {}, marks=pytest.mark.slow),
        pytest.param('shufflenet', 0.5, {'widths': (0.5, 1.0)}, marks=pytest.mark.slow),
        pytest.param('autoslim_mobilenet_v1', '1', {}, marks=pytest.mark.slow),
    ],
)
def test_one_width_is_read_as_what_extract_gives(tmp_path, name, width, fields):
    model = slimjax.create_model(name, **SMALL, **fields)
    variables = drawn(model)
    saved(tmp_path / 'network', model, variables)
    narrow, found = slimjax.from_pretrained(tmp_path / 'network', width)
    expected, own = slimjax.extract(model, variables, width, image_shape=IMAGE)
    assert narrow == expected
    same(found, own)


@pytest.mark.parametrize('name', MODELS)
def test_every_model_is_made_again_from_json(name):
    model = slimjax.create_model(name, num_classes=7, norm_batch=4)
    held = json.loads(json.dumps(model_to_json(model)))
    assert model_from_json(held) == model
    changed = model.clone(widths=model.widths[:1])
    held = json.loads(json.dumps(model_to_json(changed)))
    assert model_from_json(held) == changed


def test_one_width_reads_no_other_part_of_the_file(tmp_path, monkeypatch):
    model, variables = tiny()
    saved(tmp_path / 'network', model, variables)
    read = []

    class Counted:
        def __init__(self, held):
            self.held = held

        def __getattr__(self, name):
            return getattr(self.held, name)

        def __getitem__(self, at):
            found = self.held[at]
            read.append(found.size)
            return found

    class File:
        def __init__(self, *arguments, **keywords):
            self.file = safe_open(*arguments, **keywords)

        def __enter__(self):
            self.file.__enter__()
            return self

        def __exit__(self, *error):
            return self.file.__exit__(*error)

        def keys(self):
            return self.file.keys()

        def get_slice(self, name):
            return Counted(self.file.get_slice(name))

    monkeypatch.setattr('slimjax.deploy.weights.safe_open', File)
    _, found = slimjax.from_pretrained(tmp_path / 'network', 0.25)
    assert sum(read) == sum(leaf.size for leaf in jax.tree.leaves(found))


def test_the_card_has_the_scores_of_the_run(tmp_path):
    model, variables = tiny(widths=(0.5, 1.0))
    results = {'split': 'test', 'widths': {'0.5': {'top1': 0.875}}}
    saved(
        tmp_path / 'network',
        model,
        variables,
        results=results,
        preprocessing={'mean': [0.5, 0.5, 0.5], 'std': [0.25, 0.25, 0.25]},
        class_names=list('abcde'),
    )
    card = tmp_path.joinpath('network', 'README.md').read_text()
    assert card.startswith('---\nlibrary_name: slimjax\n')
    assert re.search(r'\| 0\.5 +\|.*\| +87\.50 \|', card)
    assert 'test split' in card
    assert 'less (0.5, 0.5, 0.5), divided by (0.25, 0.25, 0.25)' in card
    config = json.loads(tmp_path.joinpath('network', CONFIG).read_text())
    assert config['id2label']['1'] == 'b'


@pytest.fixture(scope='module')
def network(tmp_path_factory):
    return saved(tmp_path_factory.mktemp('saved') / 'network', *tiny())


@pytest.fixture
def copy(network, tmp_path):
    for path in network.iterdir():
        tmp_path.joinpath(path.name).write_bytes(path.read_bytes())
    return tmp_path


@pytest.mark.parametrize('width', [None, 0.5])
@pytest.mark.parametrize('keep', [0, 5, 300, -1])
def test_weights_that_are_cut_short_are_refused(copy, keep, width):
    path = copy / WEIGHTS
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=rf'{WEIGHTS}: damaged or cut short'):
        slimjax.from_pretrained(copy, width)


def test_a_changed_weight_is_noticed(copy):
    path = copy / WEIGHTS
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match='not the file'):
        slimjax.from_pretrained(copy)


def test_a_changed_weight_of_a_network_of_one_width_is_noticed(tmp_path):
    folder = saved(tmp_path / 'narrow', *tiny(widths=(0.5,)))
    content = bytearray(folder.joinpath(WEIGHTS).read_bytes())
    content[-1] ^= 1
    folder.joinpath(WEIGHTS).write_bytes(content)
    with pytest.raises(ValueError, match='not the file'):
        slimjax.from_pretrained(folder, 0.5)


def test_weights_of_another_network_are_refused(copy, tmp_path):
    other = saved(tmp_path / 'other', *tiny(num_classes=6))
    copy.joinpath(WEIGHTS).write_bytes(other.joinpath(WEIGHTS).read_bytes())
    with pytest.raises(ValueError, match=r'classifier/bias is F32\[6\], needed'):
        slimjax.from_pretrained(copy, 0.5)
    other = saved(tmp_path / 'third', *tiny(widths=(0.25, 0.5, 0.75, 1.0)))
    copy.joinpath(WEIGHTS).write_bytes(other.joinpath(WEIGHTS).read_bytes())
    with pytest.raises(ValueError, match=r'another network: nothing missing'):
        slimjax.from_pretrained(copy)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'model': 'os.system'}, "'os.system'; the models are"),
        ({'model': 3}, '"model" is no name'),
        ({'format_version': 9}, 'format_version=9'),
        ({'image_shape': None}, CONFIG),
        ({'weights': {}}, "lacks 'sha256'"),
        ({'fields': {'num_classes': '5'}}, "num_classes cannot be '5'"),
        ({'fields': {'widths': [{'name': 'a'}]}}, 'widths cannot be'),
        ({'fields': {'widths': [-1]}}, 'width=-1'),
        ({'fields': {'dtype': 'object'}}, "dtype cannot be 'object'"),
        ({'fields': {'axis_name': 'x'}}, "no field 'axis_name'"),
        ({'fields': {'apply': 'x'}}, "no field 'apply'"),
    ],
)
def test_a_config_that_is_wrong_is_refused(copy, change, message):
    path = copy / CONFIG
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ValueError, match=re.escape(message)):
        slimjax.from_pretrained(copy)


@pytest.mark.parametrize('content', [b'', b'{"a"', b'\xff\xfe', b'[]'])
def test_a_damaged_config_is_refused(copy, content):
    copy.joinpath(CONFIG).write_bytes(content)
    with pytest.raises(ValueError, match=rf'{CONFIG}: damaged'):
        slimjax.from_pretrained(copy)


def test_what_is_not_there_or_there_already_is_named(network, tmp_path):
    with pytest.raises(FileNotFoundError, match='nowhere'):
        slimjax.from_pretrained(tmp_path / 'nowhere')
    with pytest.raises(ValueError, match=r'0\.3'):
        slimjax.from_pretrained(network, 0.3)
    with pytest.raises(ValueError, match='exists'):
        saved(network, *tiny())
    model, variables = tiny()
    with pytest.raises(ValueError, match='another network'):
        saved(tmp_path / 'new', model, {'params': variables['params']})
    assert not list(tmp_path.iterdir())
