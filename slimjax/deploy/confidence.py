"""How sure a network is of what it says, and how far that may be believed."""

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

# Temperatures lie between 1 / 20 and 20: beyond, an infinite one may be as good.
_LOG_RANGE = (-3.0, 3.0)
_BINS = 15


def fit_temperature(
    logits: Float[np.ndarray, 'images classes'], labels: Int[np.ndarray, ' images']
) -> float:
    """Returns the temperature whose probabilities explain the labels best.

    It changes no answer, only how sure the network is of it
    (Guo et al., ICML 2017, section 4.2).

    Args:
        logits: of images that the network was not trained on.
        labels: of the same images.

    Example:
        >>> from slimjax.deploy.cascade import probabilities
        >>> logits = np.tile([[4.0, 0.0]], (4, 1))  # 98 % sure, and right 3 times of 4
        >>> temperature = fit_temperature(logits, np.array([0, 0, 0, 1]))
        >>> round(float(probabilities(logits, temperature)[0, 0]), 3)
        0.75
    """
    rows = np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        scaled = log_softmax(logits / np.exp(log_temperature), axis=-1)
        return -float(scaled[rows, labels].mean())

    return float(np.exp(minimize_scalar(loss, bounds=_LOG_RANGE, method='bounded').x))


def calibration_error(
    confidence: Float[np.ndarray, ' images'], right: Bool[np.ndarray, ' images']
) -> float:
    """Returns the expected calibration error, in 15 bins of equal width.

    It is the mean distance between how sure the network is and how often it is right
    (Naeini et al., AAAI 2015; Guo et al., ICML 2017, section 2).

    Args:
        confidence: the probability of the answer.
        right: whether the answer is right.

    Example:
        >>> calibration_error(np.array([0.9, 0.9, 0.9, 0.9]), np.arange(4) > 0)
        0.15
    """
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    error = sum(
        abs(confidence[bins == each].sum() - right[bins == each].sum())
        for each in np.unique(bins)
    )
    return round(float(error) / len(right), 12)
