"""`make torture`: seeded, bounded in time, and resumable."""

import subprocess
import time

import pytest

from tests.torture.ledger import Ledger

# What a test may take beyond the time in which it injects faults.
_SPARE_SECONDS = 900


def pytest_addoption(parser):
    group = parser.getgroup('torture')
    group.addoption(
        '--torture-seed',
        type=int,
        default=None,
        help='Draws the faults; with it, results are written and remembered.',
    )
    group.addoption(
        '--torture-minutes',
        type=float,
        default=30.0,
        help='How long one test may go on injecting faults.',
    )


def _option(config, name, default):
    # Run from elsewhere, this file is read too late to have options.
    return config.getoption(name, default)


def _ledger(config) -> Ledger:
    if not hasattr(config, 'torture_ledger'):
        config.torture_ledger = Ledger(
            _option(config, 'torture_seed', None),
            _option(config, 'torture_minutes', 30.0),
        )
    return config.torture_ledger


def pytest_collection_modifyitems(config, items):
    for item in items:
        if item.get_closest_marker('torture') is None:
            continue
        minutes = _option(config, 'torture_minutes', 30.0)
        item.add_marker(pytest.mark.timeout(60 * minutes + _SPARE_SECONDS))
        if item.nodeid in _ledger(config).passed:
            reason = 'passed before, at this commit and seed'
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.when == 'call' and item.get_closest_marker('torture') is not None:
        _ledger(item.config).finished(item.nodeid, report.passed, report.duration)
    return report


def pytest_sessionfinish(session):
    if hasattr(session.config, 'torture_ledger'):
        session.config.torture_ledger.write()


@pytest.fixture(scope='session')
def ledger(pytestconfig):
    """Takes each injected fault: `ledger.record(part, fault, survived, lost='')`."""
    return _ledger(pytestconfig)


@pytest.fixture(scope='session')
def seed(pytestconfig) -> int:
    """What draws the faults."""
    return _option(pytestconfig, 'torture_seed', None) or 0


@pytest.fixture
def has_time(pytestconfig):
    """Says whether a test may inject another fault: `while has_time(): ...`."""
    end = time.monotonic() + 60 * _option(pytestconfig, 'torture_minutes', 30.0)
    return lambda: time.monotonic() < end


@pytest.fixture
def small(tmp_path):
    """A file system of 2 MiB."""
    folder = tmp_path / 'small'
    folder.mkdir()
    done = subprocess.run(
        ['mount', '-t', 'tmpfs', '-o', 'size=2m', 'none', folder],
        capture_output=True,
        check=False,
    )
    if done.returncode:
        pytest.skip('file systems cannot be mounted here')
    yield folder
    subprocess.run(['umount', '--lazy', folder], check=True)
