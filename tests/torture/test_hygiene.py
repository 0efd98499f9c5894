"""A good guest: in threads and notebooks, in any mode of jax, on any Python."""

import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from tests.commands import ROOT, run_python

# A step of two widths, with a warning of our own an error.
SMOKE = """
import warnings
warnings.filterwarnings('error', module='slimjax')
import jax
import jax.numpy as jnp
import slimjax as sj

def smoke():
    model = sj.create_model('resnet14', num_classes=3, widths=(0.5, 1.0),
                            stage_sizes=(1,), base_features=4, small_images=True)
    batch = {'image': jnp.ones((4, 8, 8, 3), jnp.float32), 'label': jnp.arange(4) % 3}
    variables = jax.jit(model.init)(jax.random.key(0), batch['image'])
    params, stats = sj.split_variables(variables)

    def loss_fn(params, stats, batch, *, width, teacher=None):
        logits, stats = sj.apply_train(
            model, params, stats, batch['image'], width=width)
        return sj.cross_entropy(logits, batch['label'], teacher), sj.Aux(stats, logits)

    step = jax.jit(sj.sum_over_widths(loss_fn, model.widths))
    gradients, _, aux = step(params, stats, batch)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))
    print(round(float(aux[0.5].loss), 5), round(float(aux[1.0].loss), 5))
"""
TWICE = 'smoke(); smoke()'
THREAD = """
import threading
thread = threading.Thread(target=smoke)
thread.start()
thread.join()
"""
GUESTS = {
    'twice in one process': (TWICE, {}),
    'in a thread': (THREAD, {}),
    'with x64': ('smoke()', {'JAX_ENABLE_X64': '1'}),
    'with jax_debug_nans': ('smoke()', {'JAX_DEBUG_NANS': '1'}),
    'with strict promotion': ('smoke()', {'JAX_NUMPY_DTYPE_PROMOTION': 'strict'}),
    'beside TensorFlow': ('import tensorflow\nsmoke()\nimport tensorflow', {}),
    'beside torch': ('import torch\nsmoke()\ntorch.ones(2).sum()', {}),
}
NEEDED = {'beside TensorFlow': 'tensorflow', 'beside torch': 'torch'}
# Tried wherever they are found; setup.cfg promises those that passed.
MINORS = (11, 12, 13)


def said(how):
    """The losses that a smoke test prints, each run a line."""
    code, variables = GUESTS[how]
    done = run_python('-c', f'{SMOKE}\n{code}', timeout=400, **variables)
    assert done.returncode == 0, done.stderr
    return done.stdout.split('\n')[:-1]


def interpreter(minor):
    """A Python of a minor version of this machine, or None."""
    found = shutil.which(f'python3.{minor}')
    versions = pathlib.Path.home() / '.pyenv' / 'versions'
    others = sorted(versions.glob(f'3.{minor}.*/bin/python'))
    # What pyenv puts in the path may stand for a version that is not switched on.
    for path in [*map(str, others), *([found] if found else [])]:
        asked = subprocess.run([path, '-V'], capture_output=True, check=False)
        if asked.returncode == 0:
            return path
    return None


def test_the_losses_are_the_same_twice_in_one_process():
    lines = said('twice in one process')
    assert len(lines) == 2
    assert lines[0] == lines[1]


def test_the_packages_of_the_environment_fit():
    done = run_python('-m', 'pip', 'check', timeout=100)
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
@pytest.mark.torture
@pytest.mark.parametrize('how', sorted(GUESTS))
def test_it_works_as_a_guest(how, ledger):
    package = NEEDED.get(how)
    if package and importlib.util.find_spec(package) is None:
        pytest.skip(f'{package} is not installed')
    lines = said(how)
    losses = [[float(each) for each in line.split()] for line in lines]
    right = [pytest.approx(each, abs=1e-3) for each in reference()]
    survived = bool(losses) and all(line == right for line in losses)
    ledger.record('hygiene', how, survived, lost=str(lines))
    assert survived, lines


def reference():
    lines = said('twice in one process')
    return [float(each) for each in lines[0].split()]


@pytest.mark.slow
@pytest.mark.torture
def test_it_works_in_a_notebook(tmp_path, ledger):
    nbformat = pytest.importorskip('nbformat')
    nbclient = pytest.importorskip('nbclient')
    cells = [nbformat.v4.new_code_cell(SMOKE), nbformat.v4.new_code_cell(TWICE)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    nbclient.NotebookClient(notebook, timeout=400, kernel_name='python3').execute()
    text = ''.join(output.get('text', '') for output in notebook.cells[1].outputs)
    survived = len(set(re.findall(r'^[\d.]+ [\d.]+$', text, re.MULTILINE))) == 1
    ledger.record('hygiene', 'in a notebook', survived, lost=text)
    assert survived, notebook.cells[1].outputs


@pytest.mark.slow
@pytest.mark.torture
@pytest.mark.parametrize('jax', ['', 'jax==0.10.*'], ids=['newest jax', 'oldest jax'])
@pytest.mark.parametrize('minor', MINORS)
def test_it_installs_and_works_on_each_python(minor, jax, tmp_path, ledger):
    python = interpreter(minor)
    if python is None:
        pytest.skip(f'there is no Python 3.{minor} on this machine')
    venv = tmp_path / 'venv'
    inside = str(venv / 'bin' / 'python')
    # Of our own, and not what the environment of these tests says: another jax ends at
    # flags that it does not know.
    ours = ('PYTHONPATH', 'XLA_FLAGS')
    environment = {k: v for k, v in os.environ.items() if k not in ours}
    environment['JAX_COMPILATION_CACHE_DIR'] = str(tmp_path / 'cache')
    texts = []

    def done(*command):
        ended = subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True
        )
        texts.append(ended.stdout + ended.stderr)
        return ended.returncode == 0

    survived = (
        done(python, '-m', 'venv', str(venv))
        and done(inside, '-m', 'pip', 'install', '--quiet', str(ROOT), *jax.split())
        and done(inside, '-m', 'pip', 'check')
        and done(inside, '-c', f'{SMOKE}\nsmoke()')
    )
    which = jax or 'the newest jax'
    fault = f'Python 3.{minor} with {which}'
    ledger.record('hygiene', fault, survived, lost=''.join(texts)[-300:])
    assert survived, texts[-1]


def test_this_python_is_one_that_is_promised():
    text = (ROOT / 'setup.cfg').read_text()
    promised = set(re.findall(r'Python :: (3\.\d+)$', text, re.MULTILINE))
    assert promised <= {f'3.{minor}' for minor in MINORS}
    assert f'{sys.version_info[0]}.{sys.version_info[1]}' in promised
