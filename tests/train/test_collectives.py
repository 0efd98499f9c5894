"""What devices tell each other in a step, read off the compiled program."""

import jax
import numpy as np
import pytest

from slimjax.insight.hlo import all_reduces, computations
from slimjax.train.parallel import AXIS, pmapped, replicated, split_over_devices
from slimjax.train.step import metric_names
from tests.slow import slow_but
from tests.train.test_step import batches, setup

EXCHANGES = ('all-', 'reduce-scatter', 'collective', 'send', 'recv')


def sharded_program(devices, **changes):
    """Returns the text of the step compiled for so many devices, and its state."""
    step, state = setup(AXIS, **changes)
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:devices]), (AXIS,))
    mapped = jax.shard_map(
        step,
        mesh=mesh,
        in_specs=(jax.P(), jax.P(AXIS)),
        out_specs=jax.P(),
        check_vma=False,
    )
    lowered = jax.jit(mapped, donate_argnums=0).lower(state, batches(1)[0])
    return lowered.compile().as_text(), state


def size(tree, *names):
    """Elements of a tree, or of its leaves whose path has all of `names` in it."""
    return sum(
        leaf.size
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
        if {entry.key for entry in path}.issuperset(names)
    )


def assert_one_all_reduce(program, state, widths):
    """The devices exchange once, and no byte more than what a step must average."""
    # Gradients, statistics, and metrics but grad_norm.
    metrics = len(metric_names(widths)) - 1
    averaged = size(state.params) + size(state.stats) + metrics
    assert all_reduces(program) == [4 * averaged]
    opcodes = [
        instruction.opcode
        for instructions in computations(program).values()
        for instruction in instructions
    ]
    assert [opcode for opcode in opcodes if opcode.startswith(EXCHANGES)] == [
        'all-reduce'
    ]


@pytest.mark.parametrize('devices', slow_but([1, 2, 4], 4))
def test_a_step_is_one_all_reduce_on_any_number_of_devices(devices):
    widths = (0.25, 1.0)
    program, state = sharded_program(devices, widths=widths)
    assert_one_all_reduce(program, state, widths)


def test_the_pmapped_step_is_one_all_reduce():
    widths = (0.25, 1.0)
    step, state = setup(AXIS, widths=widths)
    lowered = pmapped(step, donate=True).lower(
        replicated(state), split_over_devices(batches(1)[0])
    )
    assert_one_all_reduce(lowered.compile().as_text(), state, widths)


@pytest.mark.slow
def test_more_widths_add_only_their_norms_to_the_all_reduce():
    widths = (0.25, 0.5, 0.75, 1.0)
    program, state = sharded_program(4, widths=widths)
    assert_one_all_reduce(program, state, widths)
    # Of the state that the exchange averages, all else is that of the widest alone.
    _, alone = setup(AXIS, widths=(1.0,))
    norms = sum(size(state.params, width) for width in ('0.25', '0.5', '0.75'))
    assert size(state.params) - norms == size(alone.params)


@pytest.mark.slow
def test_parts_of_a_batch_share_one_all_reduce():
    widths = (0.25, 1.0)
    program, state = sharded_program(2, widths=widths, accumulate_steps=2)
    assert_one_all_reduce(program, state, widths)
