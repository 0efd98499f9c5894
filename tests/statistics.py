"""Bounds for what is drawn at random, from the number of draws.

A right distribution breaks each of them once in 10,000 draws of the seed, and the seeds
are fixed. A mean is off by more than 3.89 of its standard errors as rarely, and a
distribution function by more than Kolmogorov and Smirnov's sqrt(-ln(1e-4 / 2) / 2n).
"""

import math

import numpy as np

SIGMAS = 3.89


def distance(found, expected):
    """The largest distance of two distribution functions, a sample or a function."""
    points = np.sort(found)
    if callable(expected):
        steps, values = np.arange(len(points) + 1) / len(points), expected(points)
        return max((values - steps[:-1]).max(), (steps[1:] - values).max())
    points = np.concatenate([found, expected])
    shares = [
        np.searchsorted(np.sort(sample), points, side='right') / len(sample)
        for sample in (found, expected)
    ]
    return np.abs(np.subtract(*shares)).max()


def distance_bound(*counts):
    return math.sqrt(-math.log(1e-4 / 2) / 2 * sum(1 / count for count in counts))


def assert_mean(found, mean, deviation):
    assert abs(np.mean(found) - mean) < SIGMAS * deviation / math.sqrt(np.size(found))
