"""Which cases of a test are quick: few stand for all, and `make test-all` runs all."""

import pytest


def slow_but(cases, *quick):
    """Marks every case as slow, but those that are named."""
    missing = [case for case in quick if case not in cases]
    assert not missing, missing
    return [case if case in quick else _slow(case) for case in cases]


def _slow(case):
    values = case if isinstance(case, tuple) else (case,)
    return pytest.param(*values, marks=pytest.mark.slow)
