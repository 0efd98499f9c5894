"""Faults are counted once, and a run that was cut short goes on."""

import json

import pytest

from tests.torture.ledger import Ledger


@pytest.fixture
def start(tmp_path):
    def start(seed, minutes=9):
        return Ledger(seed, minutes, tmp_path, tmp_path / 'torture.json')

    return start


@pytest.fixture
def own(request) -> str:
    """The name of the test that records."""
    return request.node.nodeid


def test_counts_are_of_this_run_and_of_the_one_that_it_goes_on_from(
    start, own, tmp_path, monkeypatch
):
    first = start(7)
    for survived in (True, True, False):
        first.record('crash', 'kill -9', survived, '' if survived else 'metrics')
    first.finished(own, passed=True, seconds=60)
    again = start(7, minutes=3)
    assert again.passed == {own}
    with monkeypatch.context() as patch:
        patch.setenv('PYTEST_CURRENT_TEST', 'another (call)')
        again.record('storage', 'disk full', True)
    again.write()
    parts = json.loads((tmp_path / 'torture.json').read_text())['parts']
    assert parts['crash']['faults'] == {
        'kill -9': {'injected': 3, 'survived': 2, 'lost': ['metrics']}
    }
    assert parts['crash']['command'] == 'make torture SEED=7 MINUTES=9'
    assert parts['storage']['faults']['disk full']['injected'] == 1
    assert parts['storage']['command'] == 'make torture SEED=7 MINUTES=3'
    # Another run of one part leaves what is known of the others.
    other = start(8)
    assert not other.passed
    other.record('crash', 'kill -9', True)
    other.write()
    found = json.loads((tmp_path / 'torture.json').read_text())['parts']
    assert found['storage'] == parts['storage']
    assert found['crash']['faults']['kill -9']['injected'] == 1


def test_tests_that_failed_are_run_again_and_without_a_seed_nothing_is_kept(
    start, own, tmp_path
):
    failed = start(7)
    failed.record('crash', 'kill -9', False, 'metrics')
    failed.finished(own, passed=False, seconds=1)
    assert not start(7).passed
    alone = start(None)
    alone.record('crash', 'kill -9', True)
    alone.finished(own, passed=True, seconds=1)
    alone.write()
    assert not list(tmp_path.iterdir())
