"""The command that imports a PyTorch checkpoint, as a user runs it."""

import pathlib

import jax
import numpy as np
import pytest

from slimjax import commands
from slimjax.interop.pytorch import export_torch, load_torch
from slimjax.interop.torch_file import write_torch_file
from slimjax.models import create_model
from slimjax.train.checkpoint import load_variables
from slimjax.train.fine_tune import fine_tuned
from slimjax.train.loop import train
from slimjax.train.run import Run
from slimjax.variables import split_variables
from tests.commands import run_command
from tests.interop.test_pytorch import torchvision_shapes
from tests.models import golden
from tests.train.runs import tiny_config

SCRIPT = pathlib.Path(__file__).parents[2] / 'scripts' / 'import_torch.py'
SAY = [].append


def command(*arguments):
    return run_command(SCRIPT, *arguments)


def grey_config(**changes):
    """Evaluates S-MobileNet v1 on the digits."""
    small = {'model': 's_mobilenet_v1', 'widths': (), 'image_size': 32}
    config = tiny_config(**{**small, **changes})
    del config.model_fields.base_features, config.model_fields.stage_sizes
    config.model_fields.small_images = True
    config.eval_resize = 32
    return config


@pytest.fixture(scope='module')
def imported(tmp_path_factory):
    """A published file of grey images and ten classes, and the workdir made of it."""
    folder = tmp_path_factory.mktemp('imported')
    model = create_model('s_mobilenet_v1', num_classes=10)
    state = {
        key: golden.draw(key, shape) for key, shape in golden.shapes(model).items()
    }
    state['features.0.0.weight'] = state['features.0.0.weight'][:, :1]
    state = {key: array for key, array in state.items() if array.shape}
    variables = load_torch(state, model)
    export_torch(folder / 'published.pt', variables, model)
    arguments = (folder / 'published.pt', '--model', 's_mobilenet_v1')
    done = command(*arguments, '--output', folder / 'workdir', '--num_classes', 10)
    assert done.returncode == 0, done.stderr
    assert 'widths 0.25, 0.5, 0.75, 1.0' in done.stdout
    return folder / 'workdir', variables, arguments


def test_the_workdir_holds_the_weights(imported):
    workdir, variables, _ = imported
    checkpoint = load_variables(workdir)
    params, stats = split_variables(variables)
    jax.tree.map(np.testing.assert_array_equal, checkpoint.params, params)
    jax.tree.map(np.testing.assert_array_equal, checkpoint.stats, stats)
    assert checkpoint.meta['weights_from'] == 'published.pt'


@pytest.mark.slow
def test_it_is_evaluated_fine_tuned_and_never_resumed(imported, tmp_path):
    workdir, variables, _ = imported
    results = commands.evaluate_workdir(grey_config(), workdir, say=SAY)
    assert results['widths']['0.25']['count'] == 240
    with pytest.raises(ValueError, match=r'the weights of published\.pt, not a run'):
        train(grey_config(), workdir, say=SAY)
    run = Run(grey_config(init_from=str(workdir)))
    state = fine_tuned(run.new_state(), run, SAY)
    jax.tree.map(np.testing.assert_array_equal, state.params, variables['params'])


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'file': 'missing.pt'}, r'missing\.pt'),
        ({'model': 'mobilenet'}, "model='mobilenet'; the models are mobilenet_v1"),
        ({'classes': 1000}, r'classifier\.0\.bias is \[10\], needed is \[1000\]'),
        ({'output': None}, 'exists: choose a new --output'),
    ],
)
def test_a_mistake_is_one_line(imported, tmp_path, changes, message):
    workdir, _, (file, _, model) = imported
    done = command(
        changes.get('file', file),
        '--model',
        changes.get('model', model),
        '--output',
        workdir if 'output' in changes else tmp_path / 'new',
        '--num_classes',
        changes.get('classes', 10),
    )
    assert done.returncode == 1
    assert 'Traceback' not in done.stderr
    assert message.replace('\\', '') in done.stderr
    assert not (tmp_path / 'new').exists()


@pytest.mark.slow
def test_a_network_of_torchvision_is_imported_calibrated_and_evaluated(tmp_path):
    state = {
        key: golden.draw(key, shape).astype(np.float32)
        for key, shape in torchvision_shapes('mobilenet_v2')
    }
    state['features.0.0.weight'] = state['features.0.0.weight'][:, :1]
    write_torch_file(tmp_path / 'torchvision.pt', state)
    arguments = (tmp_path / 'torchvision.pt', '--model', 'mobilenet_v2')
    workdir = tmp_path / 'workdir'
    done = command(
        *arguments, '--output', workdir, '--num_classes', 10, '--widths', '0.35,1.0'
    )
    assert done.returncode == 0, done.stderr
    # As in the recipe, the groups of training do not divide a batch of evaluation.
    config = grey_config(
        model='mobilenet_v2', widths=(0.35, 1.0), norm_batch=40, batch_size=160
    )
    with pytest.raises(ValueError, match='share the statistics of tail/norm'):
        commands.calibrate_workdir(config, workdir, say=SAY)
    config.model_fields.private_tail_stats = True
    output = commands.calibrate_workdir(config, workdir, say=SAY)
    stats = load_variables(output).stats
    narrow, wide = (stats[f'batch_stats_{width}'] for width in ('0.35', '1.0'))
    # At the stem a narrow network sees what the wide one does; further on it does not.
    stem = narrow['stem']['norm']['mean']
    np.testing.assert_allclose(
        stem, wide['stem']['norm']['mean'][: len(stem)], rtol=1e-4, atol=1e-5
    )
    inner = narrow['block9']['project']['norm']['mean']
    assert not np.allclose(
        inner, wide['block9']['project']['norm']['mean'][: len(inner)]
    )
    results = commands.evaluate_workdir(config, output, say=SAY)
    assert all(np.isfinite(w['loss']) for w in results['widths'].values())
