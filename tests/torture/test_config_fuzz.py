"""Any change of a config is refused before a step is compiled, or works."""

import itertools
import math
import tempfile
from unittest import mock

import hypothesis
import pytest
from hypothesis import strategies as st

from slimjax.config import check
from slimjax.config_fields import FIELDS
from slimjax.config_file import change
from slimjax.train.loop import NonFiniteLossError, train
from slimjax.train.report import silent
from slimjax.train.run import Run
from tests.train.runs import tiny_config

STEPS = 2
# What would read other data, or start other processes for each example.
LEFT_ALONE = ('model_fields', 'detector', 'data_dir', 'num_workers', 'num_train_steps')
INTEGERS = (-1, 0, 1, 2, 3, 4, 7, 8, 10, 12, 16, 31, 32, 64, 1000)
HUGE = (2**31, 2**32, 2**63, 10**20)
REALS = (-1.0, 0.0, 1e-9, 0.01, 0.1, 0.25, 0.5, 0.9, 1.0, 2.0, 300.0, 1e30)
ODD = (math.nan, math.inf, -math.inf)
WORDS = (
    '',
    'none',
    'None',
    '0',
    'top1',
    'loss/0.5',
    'digits',
    '../x',
    '\u00e9',
    '%s{}',
)


def values(name):
    """Values of a field as they are typed, most of them of its type."""
    field = FIELDS[name]
    kind = type(field.default)
    allowed = field.allowed.removeprefix('one of ').split(', ')
    numbers = st.sampled_from([*INTEGERS, *REALS])
    own = {
        bool: st.sampled_from(['true', 'false', '1']),
        int: st.sampled_from([*INTEGERS, *HUGE]),
        float: st.sampled_from([*REALS, *ODD]) | st.floats(0, 1),
        str: st.sampled_from([*allowed, *WORDS]),
        tuple: st.lists(numbers | st.sampled_from([*ODD, 'x']), max_size=4).map(tuple),
    }[kind]
    return st.one_of(own, own, own, own, st.sampled_from(['x', '', '()', '[1, 2]']))


def changed(name):
    return values(name).map(lambda value: f'--config.{name}={value}')


overrides = st.lists(
    st.sampled_from([name for name in FIELDS if name not in LEFT_ALONE]).flatmap(
        changed
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda each: each.partition('=')[0],
)


def checked(changes):
    """The error that a config with changes is refused with, or None."""
    config = tiny_config()
    try:
        change(config, changes)
        check(config)
    except (ValueError, OSError) as error:
        return error
    return None


def trained(changes, began):
    """The same of a training of few steps; calls `began` before it is compiled."""
    config = tiny_config()
    compiled_step = Run.train_step

    def train_step(*arguments):
        began()
        return compiled_step(*arguments)

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, 'train_step', train_step)
        try:
            change(config, changes)
            config.num_train_steps = STEPS
            train(config, f'{folder}/run', say=silent, test=False)
        except (ValueError, OSError) as error:
            return error
        except NonFiniteLossError:
            pass  # It diverged, as with a learning rate of 300 it may.
    return None


def fields_of(changes):
    return [each.removeprefix('--config.').partition('=')[0] for each in changes]


def check_told(error, changes):
    """Checks that a refusal is one line that holds one of the changed fields."""
    assert '\n' not in str(error), error
    assert any(name in str(error) for name in fields_of(changes)), (changes, error)


@hypothesis.settings(max_examples=60, derandomize=True, database=None)
@hypothesis.given(overrides)
def test_a_change_is_accepted_or_refused_by_its_field(changes):
    error = checked(changes)
    if error is not None:
        check_told(error, changes)


def survive(changes, ledger):
    """Trains with changes, and records whether all that is promised held."""
    began = mock.Mock()
    try:
        error = trained(changes, began)
        if error is not None:
            assert not began.called, f'refused after compiling: {error}'
            check_told(error, changes)
    except Exception as error:
        ledger.record('config', 'a change', False, lost=f'{changes}: {error!r}')
        raise
    found = 'trained' if error is None else 'refused'
    ledger.record('config', f'a change of up to 3 fields, {found}', True)


@pytest.mark.slow
@pytest.mark.torture
def test_any_change_is_refused_before_compiling_or_trains(ledger, seed, has_time):
    for turn in itertools.count(1000 * seed):
        if not has_time():
            return

        @hypothesis.seed(turn)
        @hypothesis.settings(
            max_examples=4,
            database=None,
            phases=[hypothesis.Phase.generate],
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(overrides)
        def run(changes):
            survive(changes, ledger)

        run()
