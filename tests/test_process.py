"""What the command line asks of the process that it runs in."""

import os

import jax
import pytest

from slimjax.allocator import keep_freed_memory
from slimjax.command_line import end_for_all
from tests.commands import run_python

FAULTS = """
import resource
from slimjax.allocator import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        b'x' * 2**27  # not numpy's, which takes huge pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

wasted = faults()
assert keep_freed_memory()
faults()
print(wasted, faults())
"""

STEPS = """
import resource
import jax
import jax.numpy as jnp
from slimjax.allocator import keep_freed_memory

assert keep_freed_memory()
# What is freed is 64 MiB, by whichever thread.
step = jax.jit(lambda x: (jnp.sin(x) @ jnp.cos(x).T) @ x)
inputs = jnp.ones((4096, 8))
faults = []
for _ in range(100):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    step(inputs).block_until_ready()
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(sum(fault > 1000 for fault in faults))
"""

BACKEND = """
import sys
import jax
from jax._src import xla_bridge
from slimjax import allocator, main

def keep():
    print('early' if not xla_bridge.backends_are_initialized() else 'late')
    sys.exit()

main.keep_freed_memory = keep
sys.argv = ['main', '--config=configs/digits.py', '--workdir=nowhere']
main.run()
"""

COMPILE = """
import jax
import jax.numpy as jnp
from slimjax.compile_cache import use_compile_cache

use_compile_cache()
jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((3, 3))).block_until_ready()
"""


def python(text, **changes):
    done = run_python('-c', text, timeout=120, **changes)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(not keep_freed_memory(), reason='the C library is not glibc')
def test_freed_memory_is_kept_for_the_next_step():
    wasted, kept = map(int, python(FAULTS).split())
    assert wasted > 10_000
    assert kept < wasted / 100


@pytest.mark.skipif(not keep_freed_memory(), reason='the C library is not glibc')
def test_steps_take_no_new_memory_whichever_thread_asks():
    # All hundred would. The heap grows a few times, at the first steps and where
    # threads happen to ask at once as never before: four to ten of 300, measured.
    assert int(python(STEPS)) < 30


def test_memory_is_seen_to_before_jax_starts_its_threads():
    assert python(BACKEND).strip() == 'early'


def test_where_an_accelerator_may_be_nothing_is_asked():
    text = 'from slimjax.allocator import keep_freed_memory; print(keep_freed_memory())'
    assert python(text, JAX_PLATFORMS='cuda').strip() == 'False'


def test_compiled_programs_are_kept_in_the_users_cache(tmp_path):
    changes = {'XDG_CACHE_HOME': str(tmp_path), 'JAX_COMPILATION_CACHE_DIR': None}
    python(COMPILE, **changes)
    assert any((tmp_path / 'slimjax' / 'jax').iterdir())


def test_a_folder_that_the_user_chose_is_left_as_it_is(tmp_path):
    own = tmp_path / 'own'
    changes = {
        'XDG_CACHE_HOME': str(tmp_path),
        'JAX_COMPILATION_CACHE_DIR': str(own),
        'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    }
    python(COMPILE, **changes)
    assert any(own.iterdir())
    assert not (tmp_path / 'slimjax').exists()


def test_a_lost_process_is_told_wherever_it_is_noticed(monkeypatch, capsys):
    def end(status):
        raise SystemExit(status)

    monkeypatch.setattr(jax, 'process_count', lambda: 2)
    monkeypatch.setattr(jax, 'process_index', lambda: 1)
    monkeypatch.setattr(os, '_exit', end)
    failed = OSError('a checkpoint cannot be written')
    failed.__cause__ = jax.errors.JaxRuntimeError('UNAVAILABLE: connection reset')
    with pytest.raises(SystemExit), end_for_all():
        raise failed
    told = capsys.readouterr().err
    assert told.startswith('slimjax: process 1 of 2: a checkpoint cannot be written')
    assert 'run the same command again on all hosts' in told
