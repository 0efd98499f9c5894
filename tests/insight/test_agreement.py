"""Overlap and rank correlation on data worked out by hand."""

import numpy as np
import pytest

from slimjax.insight.agreement import jaccard, rank_correlation, ranks


def test_overlap_by_hand():
    assert jaccard([1, 2, 3, 4], [4, 3, 9, 8]) == 2 / 6
    assert jaccard([1], [2]) == 0
    assert jaccard([2, 1], [1, 2]) == 1
    with pytest.raises(ValueError, match='two empty sets'):
        jaccard([], [])


def test_equal_values_share_their_rank():
    np.testing.assert_array_equal(
        ranks(np.array([3.0, 1.0, 3.0, 3.0, 2.0])), [4, 1, 4, 4, 2]
    )


def test_rank_correlation_by_hand():
    one = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    # 1 - 6 * (sum of squared rank differences) / (n * (n * n - 1))
    other = np.array([20.0, 10.0, 40.0, 30.0, 50.0])
    assert rank_correlation(one, other) == pytest.approx(1 - 6 * 4 / (5 * 24))
    assert rank_correlation(one, -np.exp(one)) == pytest.approx(-1)
    # With ties, it is Pearson's of the ranks.
    tied = np.array([1.0, 1.0, 2.0, 2.0, 3.0])
    expected = np.corrcoef([1, 2, 3, 4, 5], [1.5, 1.5, 3.5, 3.5, 5])[0, 1]
    assert rank_correlation(one, tied) == pytest.approx(expected)
    assert np.isnan(rank_correlation(one, np.ones(5)))
    with pytest.raises(ValueError, match='5 and 4 values'):
        rank_correlation(one, one[:4])
