"""Programs for chips that are not here: memory, padding, the largest batch."""

import importlib.util
import json
import math
import string

import jax
import jax.numpy as jnp
import pytest

from slimjax import commands
from slimjax.config import complete
from slimjax.insight import topology
from slimjax.insight.hlo import (
    all_reduces,
    computations,
    memory_traffic,
    parse_arrays,
)
from slimjax.insight.liveness import peak_live_bytes
from slimjax.insight.padding import padding_by_width
from slimjax.insight.topology import (
    OutOfMemoryError,
    chip_memory,
    compile_step,
    largest_batch,
    topology_devices,
)
from slimjax.train import plan

# Two widths, one of them in a branch, as a TPU's compiler prints them.
PROGRAM = string.Template("""\
HloModule jit_step, is_scheduled=true

%fused (p.0: bf16[128,7,7,58]) -> bf16[128,7,7,58] {
  ROOT %big = bf16[999,7,7,58]{3,2,1,0:T(8,128)(2,1)} add(%p.0, %p.0)
}

%narrow (p.1: (bf16[128,7,7,12])) -> (bf16[128,7,7,12]) {
  %p.1 = ($narrow) parameter(0)
  %get = $narrow get-tuple-element(%p.1), index=0
  %out = $narrow fusion(%get), kind=kLoop, calls=%fused, $from_narrow
  %copy = f32[12]{0:T(128)} copy(%get)
  ROOT %tuple = ($narrow) tuple(%out)
}

%nothing (p.2: (bf16[128,7,7,12])) -> (bf16[128,7,7,12]) {
  ROOT %p.2 = ($narrow) parameter(0)
}

ENTRY %main (a: bf16[128,7,7,58]) -> bf16[128,7,7,58] {
  %a = $wide parameter(0)
  %wide = $wide fusion(%a), kind=kLoop, calls=%fused, $from_wide
  %fast = bf16[128,7,7,58]{3,0,2,1:T(8,128)(2,1)S(1)} copy(%wide), $from_wide
  %slow = $wide copy(%fast)
  %start = (($wide), $few, s32[]{:S(2)}) slice-start(%wide), slice={[0:16]}
  %part = $few slice-done(%start)
  %update = f32[58]{0:T(128)} add(%a, %a), metadata={op_name="jit(step)/add"}
  %both = ($narrow) conditional(%a, %wide, %wide), \
branch_computations={%nothing, %narrow}
  ROOT %sum = ($wide, /*index=1*/f32[58]{0:T(128)}) all-reduce(%wide, %update), \
channel_id=1, to_apply=%add, metadata={op_name="jit(step)/psum"}
}
""").substitute(
    wide='bf16[128,7,7,58]{3,0,2,1:T(8,128)(2,1)}',
    few='bf16[16,7,7,58]{3,0,2,1:T(8,128)(2,1)S(1)}',
    narrow='bf16[128,7,7,12]{0,3,2,1:T(8,128)(2,1)}',
    from_wide='metadata={op_name="jit(step)/transpose(jvp(width=1.0))/Net/mul"}',
    from_narrow='metadata={op_name="jit(step)/cond/branch_1_fun/jvp(width=0.5)/mul"}',
)


def test_arrays_are_padded_to_their_tiles():
    lanes, rows, scalar, plain = parse_arrays(
        '(bf16[128,7,7,58]{3,0,2,1:T(8,128)(2,1)}, /*index=1*/f32[3,3,1,24]'
        '{3,2,1,0:T(1,128)S(1)}, s32[]{:T(128)}, pred[5,3]{1,0})'
    )
    assert lanes.padded_shape == (128, 7, 7, 128)
    assert lanes.padded_bytes == 128 * 7 * 7 * 128 * 2
    assert not lanes.on_chip
    assert rows.padded_shape == (3, 3, 1, 128)
    assert rows.on_chip
    assert (scalar.bytes, scalar.padded_bytes) == (4, 4)
    assert plain.padded_bytes == plain.bytes == 15


def test_what_runs_is_the_entry_and_its_branches_not_the_inside_of_fusions():
    assert list(computations(PROGRAM)) == ['main', 'nothing', 'narrow']


def test_one_instruction_that_sums_many_arrays_is_one_all_reduce():
    assert all_reduces(PROGRAM) == [2 * 128 * 7 * 7 * 58 + 4 * 58]


def test_padding_is_told_by_width_without_arrays_on_chip_or_of_the_update():
    found = padding_by_width(PROGRAM, (58, 12))
    wide, narrow = 128 * 7 * 7 * 58 * 2, 128 * 7 * 7 * 12 * 2
    # Its fusion, and a copy without a name from the fast memory.
    assert found['1.0'].array_bytes == 2 * wide
    assert found['1.0'].padding_bytes == 2 * (wide * 128 // 58 - wide)
    assert found['1.0'].losses == ((58, 128, found['1.0'].padding_bytes),)
    assert found['1.0'].rounding == {128: found['1.0'].padding_bytes}
    # The copy has no name; it stands among what the width does.
    assert found['0.5'].array_bytes == narrow + 4 * 12
    assert found['0.5'].rounding == {
        8: narrow * 16 // 12 - narrow,
        128: narrow * 16 // 12 - narrow + 4 * 116,
    }


def test_traffic_is_of_the_large_memory_and_of_the_branch_that_moves_more():
    wide, few, narrow = (2 * 49 * n for n in (128 * 128, 16 * 128, 128 * 16))
    vector = 4 * 128
    # The fusion, two copies and a slice, the update, the sum; then the branch.
    main = (2 + 1 + 1) * wide + few + (2 * wide + vector) + 2 * (wide + vector)
    branch = 2 * narrow + (narrow + vector)
    assert memory_traffic(PROGRAM) == main + branch


def test_what_is_in_use_at_once_is_most_outside_or_inside_of_a_branch():
    wide, large, vector = 2 * 49 * 128 * 128, 2 * 49 * 128 * 512, 4 * 128
    # A copy that nothing reads, and what it copies; the sum is the program's result.
    assert peak_live_bytes(PROGRAM) == 2 * wide
    # The branch's result and its copy, while the widest's and the update wait.
    larger = PROGRAM.replace('128,7,7,12', '128,7,7,512')
    assert peak_live_bytes(larger) == wide + vector + large + vector


def test_no_more_is_in_use_at_once_than_is_planned():
    @jax.jit
    def program(x, flag):
        y = jnp.sin(x @ x)
        return jax.lax.cond(flag, lambda y: jnp.tanh(y @ y) @ y, lambda y: y, y).sum()

    compiled = program.lower(jnp.ones((64, 64)), True).compile()
    live = peak_live_bytes(compiled.as_text())
    # The product, what the branch makes of it, and of that.
    assert 2 * 4 * 64 * 64 <= live <= compiled.memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize('told', [True, False])
@pytest.mark.parametrize('first', [8, 64, 104, 160, 800])
def test_the_largest_batch_is_found_in_few_compilations(first, told):
    def bytes_of(batch):
        return 500 + 10 * batch + (batch > 100) * 7

    limit, tried = 500 + 10 * 107, []

    def needed(batch):
        tried.append(batch)
        return bytes_of(batch) if told or bytes_of(batch) <= limit else math.inf

    known = {0: 400, first: needed(first)}
    assert largest_batch(needed, limit, known) == 104
    assert len(tried) <= (4 if told else 8)


def test_the_search_ends_at_the_most_that_is_asked_for():
    known = {0: 1, 8: 2}
    assert largest_batch(lambda batch: batch // 8, 10**6, known, most=100) == 96
    assert list(known) == [0, 8, 96]


def test_no_batch_fits_a_chip_that_the_weights_fill():
    assert largest_batch(lambda batch: 1000, limit=10, known={0: 20, 8: 30}) == 0


def tiny(**changes):
    return complete(
        {
            'model': 'resnet14',
            'widths': (0.5, 1.0),
            'model_fields': {
                'base_features': 8,
                'stage_sizes': (1,),
                'small_images': True,
            },
            'image_size': 8,
            'num_classes': 4,
            'batch_size': 16,
            'train_steps': 10,
            **changes,
        }
    )


@pytest.fixture
def two_cpus(monkeypatch):
    """Two of this machine's devices stand for chips with 2 MiB each."""
    monkeypatch.setattr(plan, 'topology_devices', lambda name: jax.devices()[:2])
    monkeypatch.setattr(plan, 'memory_limit', lambda devices: 2**21)


def test_describe_tells_the_memory_and_the_largest_batch_of_a_topology(two_cpus):
    lines = []
    results = commands.describe(tiny(), say=lines.append, topology='v5e:2x2')
    found = json.loads(json.dumps(results))['topology']
    memory = found['memory']
    assert (found['chips'], found['batch_a_chip'], found['fits']) == (2, 8, True)
    assert memory['needed_bytes'] == sum(
        size
        for name, size in memory.items()
        if name not in ('limit_bytes', 'needed_bytes')
    )
    assert memory['waiting_batch_bytes'] == 2 * 8 * (8 * 8 * 3 + 4)
    assert len(found['all_reduce_bytes']) == 1
    assert 0 < found['live_bytes'] <= memory['temporary_bytes']
    assert found['traffic_bytes'] > memory['temporary_bytes']
    assert set(found['padding']) == {'0.5', '1.0'}
    assert found['padding']['1.0']['array_bytes'] > 0
    largest = found['largest_batch_a_chip']
    assert largest > 8
    assert largest % 8 == 0
    assert f'--config.batch_size={2 * largest}' in lines[-1]


def test_a_chip_that_is_too_small_says_so(two_cpus, monkeypatch):
    def refuse(*_):
        raise OutOfMemoryError(math.inf)

    monkeypatch.setattr(plan, 'compile_step', refuse)
    lines = []
    found = commands.describe(tiny(), say=lines.append, topology='v5e:2x2')['topology']
    assert not found['fits']
    assert found['largest_batch_a_chip'] == 0
    assert found['memory'] == {'limit_bytes': 2**21}
    assert lines[-1] == 'no batch fits a chip'


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'batch_size': 7}, 'batch_size=7 does not divide over the 2 chips'),
        (
            {'batch_size': 6, 'accumulate_steps': 2},
            'in accumulate_steps=2 parts; try 4 or 8',
        ),
    ],
)
def test_a_batch_that_does_not_divide_names_one_that_does(two_cpus, changes, message):
    with pytest.raises(ValueError, match=message):
        commands.describe(tiny(**changes), say=str, topology='v5e:2x2')


def test_without_libtpu_the_error_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'slimjax\[tpu\]'"):
        topology_devices('v5e:2x2')


def test_convolutions_are_plain_for_a_tpu_whatever_this_machine_is(two_cpus):
    planned = plan.Plan(tiny(), 'v5e:2x2', str)
    assert planned.model.conv_form == 'plain'
    stated = tiny()
    stated.model_fields.conv_form = 'products'
    assert plan.Plan(stated, 'v5e:2x2', str).model.conv_form == 'products'


@pytest.fixture
def chips():
    """Four v5e chips, where the TPU's compiler is installed."""
    pytest.importorskip('libtpu', reason="needs libtpu: pip install 'slimjax[tpu]'")
    return topology_devices('v5e:2x2')


def test_an_unknown_topology_lists_others(chips):
    with pytest.raises(ValueError, match='TPU v9.*v5e:4x8'):
        topology_devices('v9:2x2')


def test_the_compiler_tells_the_memory_of_a_chip(chips):
    assert topology.memory_limit(chips) == 15.75 * 2**30


def test_a_program_for_a_tpu_is_refused_where_it_does_not_fit(chips):
    def grow(state, batch):
        return state + jax.lax.pmean(jnp.sort(batch @ batch.T).sum(), 'batch')

    def compiled(rows):
        batch = jax.ShapeDtypeStruct((4 * rows, 128), jnp.float32)
        state = jax.ShapeDtypeStruct((), jnp.float32)
        return compile_step(grow, state, batch, chips, 'batch')

    memory = chip_memory(compiled(1024))
    assert memory.arguments >= 1024 * 128 * 4
    assert len(all_reduces(compiled(1024).as_text())) == 1
    with pytest.raises(OutOfMemoryError) as caught:
        compiled(2**17)
    assert caught.value.needed > 15.75 * 2**30
