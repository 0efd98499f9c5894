"""The commonest mistakes of users: each ends in one line that names what to change."""

import json
import re

import jax
import pytest

from slimjax.train.run import Run
from tests.commands import ROOT
from tests.torture.command import run_main
from tests.train.runs import TINY

CONFIGS = ROOT / 'configs'
# Of config files.
FILES = {
    'syntax.py': 'def get_config(:\n    pass\n',
    'without.py': 'config = {}\n',
    'nothing.py': 'def get_config():\n    config = {}\n',
    'name.py': 'def get_config():\n    return {"widths": width}\n',
    'import.py': 'import nowhere_to_be_found\n',
    'field.py': 'def get_config():\n    return {"learning_rat": 0.1}\n',
    'list.py': 'def get_config():\n    return {"widths": [0.5, 1.0]}\n',
}
# What is passed to `slimjax.main`, with `{folder}` for one with the files above, and
# what the message must hold. FIELD=VALUE is a change of the tiny config.
AT_ONCE = [
    # The command.
    ('', '--config=FILE is needed'),
    ('--config {tiny}', '--config=FILE is needed'),
    ('--config=nowhere.py', "there is no file 'nowhere.py'"),
    ('--config={configs}', 'there is no file'),
    ('--config={root}/README.md', 'README.md: line'),
    ('--config={configs}/digits.py:big', "no recipe 'big'; the recipes are s, us"),
    ('--config={configs}/folder.py:big', 'folder.py:big: it has no recipes; drop :big'),
    (
        '--config={configs}/synthetic.py:big --workdir=w',
        "config.model='big': allowed is one of",
    ),
    ('--config={folder}/syntax.py', 'syntax.py: line 1: SyntaxError'),
    ('--config={folder}/without.py', 'without.py: it has no function get_config'),
    ('--config={folder}/nothing.py', 'nothing.py: get_config.. returned NoneType'),
    ('--config={folder}/name.py', "name.py: line 2: NameError: name 'width'"),
    ('--config={folder}/import.py', 'import.py: line 1: .*nowhere_to_be_found'),
    ('--config={folder}/field.py', "learning_rat: .* did you mean 'learning_rate'"),
    ('--config={folder}/list.py --workdir=w', 'config.widths=.* a tuple, not a list'),
    ('--config={tiny}', '--mode=train needs --workdir=DIR'),
    ('--config={tiny} train', "'train' is not understood: options start with --"),
    ('--config={tiny} --mode=trian', '--mode=trian: value should be one of <train'),
    ('--config={tiny} --mode=eval --split=dev', '--split=dev: value should be one of'),
    ('--config={tiny} --workdri=w', "'workdri'. Did you mean: workdir"),
    ('--config={tiny} --workdir={folder}/name.py', 'name.py is a file; a folder is'),
    ('--config={tiny} --workdir=w --json={folder}', 'is a folder; name a file in it'),
    ('--config={tiny} --workdir=w --json=no/x.json', "the folder 'no' is not there"),
    ('--config={tiny} --workdir={folder} --mode=eval', 'holds no checkpoint'),
    ('--config={tiny} --workdir=w --mode=calibrate --json=x', '--json goes with'),
    ('--config={tiny} --workdir=w --topology=v5e:2x2', '--topology goes with'),
    ('--config={tiny} --workdir=w --processes=2', '--processes=2 goes with --coord'),
    ('--config={tiny} --workdir=w --coordinator=host', 'host: HOST:PORT is needed'),
    # Fields.
    ('learning_rat=0.1', "config.learning_rat: .* mean 'learning_rate'"),
    ('widths.narrow=0.1', 'config.widths.narrow: there is no such field'),
    ('batch_size=many', 'batch_size=many: invalid literal'),
    ('batch_size=0', 'config.batch_size=0: allowed is above 0'),
    ('batch_size=30', 'config.batch_size=30 does not divide over 4 .* try 28 or 32'),
    ('eval_batch_size=30', 'config.eval_batch_size=30 does not divide over 4'),
    ('accumulate_steps=5', 'config.accumulate_steps=5 does not divide batch_size=32'),
    ('norm_batch=17', 'config.norm_batch=17 does not divide .* choose a divisor of 8'),
    (
        'widths=(0,1.0)',
        r'config.widths=\(0, 1.0\): allowed is a tuple of numbers',
    ),
    ('widths=(1.0,1.0)', r"widths=\('1.0', '1.0'\): 1.0 stands there more than once"),
    ('learning_rate=nan', 'config.learning_rate=nan: a finite number is needed'),
    ('learning_rate=-0.1', 'config.learning_rate=-0.1: allowed is above 0'),
    ('train_steps=10', 'train_steps=10, train_epochs=1.0: state one of them'),
    ('train_epochs=0', 'train_epochs, train_steps and train_examples are 0'),
    ('schedule=step', "config.schedule='step': allowed is one of constant"),
    ('schedule=multistep', "'multistep' needs milestone_epochs"),
    ('optimizer=adam', "config.optimizer='adam': allowed is one of sgd"),
    ('model=resnet15', "config.model='resnet15': allowed is one of"),
    ('model_fields.depth=3', 'model_fields.depth: resnet14 has no such field; it has'),
    ('dtype=float16', "config.dtype='float16': allowed is one of float32, bfloat16"),
    ('image_channels=3', r'config.mean=\(0.305,\) has 1 numbers; image_channels=3'),
    ('eval_resize=4', 'config.eval_resize=4: allowed is at least image_size=8'),
    ('pad=8', 'config.pad=8: allowed is less than image_size=8'),
    ('sandwich=3', "config.norm='private': with sandwich=3"),
    ('distill=yes', 'distill=yes: .*Non-boolean argument'),
    ('loss_weights=(1,)', r'config.loss_weights=\(1,\): as many numbers are needed'),
    ('best_metric=top2', "config.best_metric='top2': allowed are top1, top5, loss"),
    ('fold=7', 'config.fold=7: folds=0 has none of that number'),
    ('seed=-1', 'config.seed=-1: allowed is 0 to 4,294,967,295'),
    ('channels=/nowhere', "config.channels='/nowhere': there is no such file"),
    ('detector=yolo', "config.detector='yolo': allowed is one of"),
]
# Refused once the network is traced or the data are looked for.
LATER = [
    ('widths=(0.001,1.0)', '4 channels at width 0.001 are less than one channel'),
    ('widths=(0.5,0.51,1.0)', 'widths 0.5 and 0.51 have the same channels in every'),
    ('num_classes=11', 'config.num_classes=11, but digits has 10 classes'),
    (
        'batch_size=1000000000000',
        'config.batch_size=1000000000000 and image_size',
    ),
    ('dataset=imagenet2012', 'imagenet2012 is not prepared in .*prepare_imagenet.py'),
    ('dataset=folder', "config.data_dir='' is no folder; it must hold train/"),
    ('search_share=0.9999', 'config.search_share=0.9999: of 1197 training images, non'),
    ('train_epochs=1e9', r'config.train_epochs=1000000000.0 is 3.74e\+10 steps; at'),
    ('teacher=/nowhere', "config.teacher='/nowhere': /nowhere holds no checkpoint"),
    ('init_from=/nowhere', "config.init_from='/nowhere': /nowhere holds no checkp"),
]
AT_LEAST = 40


class _Began(Exception):
    """What must not happen: a step is compiled."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name, text in FILES.items():
        tmp_path.joinpath(name).write_text(text)

    def began(*_):
        raise _Began

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Run, 'train_step', began)
    return tmp_path


def ended(command, folder):
    """What a command line, or a change of the tiny config, ends in."""
    if re.match(r'[a-z]', command):
        command = f'--config={{tiny}} --workdir=w --config.{command}'
    places = {'tiny': TINY, 'configs': CONFIGS, 'root': ROOT, 'folder': folder}
    return run_main(*command.format(**places).split())


def check(command, message, folder):
    status, text = ended(command, folder)
    assert status == 1
    assert 'Traceback' not in text, text
    assert re.search(message, text), text


def test_so_many_mistakes_are_listed():
    assert len(AT_ONCE) >= AT_LEAST


@pytest.mark.parametrize(('command', 'message'), AT_ONCE)
def test_a_mistake_is_told_at_once(command, message, folder):
    check(command, message, folder)


@pytest.mark.slow
@pytest.mark.torture
def test_mistakes_are_survived(folder, ledger):
    for command, message in [*AT_ONCE, *LATER]:
        status, text = ended(command, folder)
        told = status == 1 and 'Traceback' not in text and re.search(message, text)
        ledger.record('config', "a user's mistake", bool(told), lost=command)
        check(command, message, folder)


def test_a_command_without_mistakes_is_run(folder):
    status, text = run_main(f'--config={TINY}', '--mode=describe', '--json=costs.json')
    assert status == 0, text
    widths = json.loads((folder / 'costs.json').read_text())['widths']
    assert list(widths) == ['1.0', '0.5']
    assert not jax.config.jax_enable_x64
