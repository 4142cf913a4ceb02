"""Calibration in bins of equal mass, and how sure it is.

Equal bins of confidence, as in `metrics.calibration_error`, leave most of a sure classifier's
samples in one bin; with equal mass, each bin says equally much.
"""

import numpy as np
from numpy.typing import NDArray

from ltkit.evaluation.metrics import ECE_BINS
from ltkit.records import Ints

Floats = NDArray[np.float64]


def equal_mass_bins(confidence: Floats) -> Ints:
    """Return (N,) bins of nearly equally many samples; equal confidences share a bin.

    Example:
        >>> np.bincount(equal_mass_bins(np.arange(30) / 30)).tolist()
        [2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]
    """
    ordered = np.sort(confidence)
    firsts = len(ordered) * np.arange(1, ECE_BINS) // ECE_BINS
    bins: Ints = np.searchsorted(ordered[firsts], confidence, side="right")
    return bins


def equal_mass_error(confidence: Floats, correct: NDArray[np.bool_], weights: Floats) -> float:
    r"""Return the expected calibration error with bins of equal mass.

    .. math:: ECE = \sum_b | \sum_{i \in b} w_i (conf_i - right_i) | / \sum_i w_i

    Args:
        confidence: (N,) largest softmax probability, 0..1.
        correct: (N,) whether the prediction is right.
        weights: (N,) of the samples.

    Example:
        >>> x, right = np.array([0.9, 0.9, 0.6]), np.array([True, False, True])
        >>> round(equal_mass_error(x, right, np.ones(3)), 6)  # (|0.9 - 1 + 0.9| + |0.6 - 1|) / 3
        0.4

    Source:
        Nixon et al., CVPR workshops 2019, arXiv:1904.01685, sec. 4.2 (adaptive calibration error).
    """
    gaps = np.bincount(equal_mass_bins(confidence), weights * (confidence - correct), ECE_BINS)
    return float(np.abs(gaps).sum() / weights.sum())


def error_interval(
    confidence: Floats, correct: NDArray[np.bool_], weights: Floats, *, replicates: int, seed: int
) -> list[float]:
    """Return the 95 % interval of the calibration error over samples.

    Chance alone opens gaps, so the error of a sample lies above the true one, and that of a
    bootstrap's replicate higher still. Here gaps of the shape found are made larger and smaller by
    one factor: the interval has the errors from which the one found is no surprise, 0 if the
    classifier may be calibrated. A sample's noise is that of its bin's accuracy.

    Args:
        confidence: (N,) largest softmax probability, 0..1.
        correct: (N,) whether the prediction is right.
        weights: (N,) of the samples.
        replicates: draws of the noise.
        seed: of the draws.

    Source:
        Davison and Hinkley, Bootstrap Methods and their Application, 1997, sec. 5.5 (test
        inversion).
    """
    bins = equal_mass_bins(confidence)
    count, right, squares = (np.bincount(bins, v, ECE_BINS) for v in (None, correct, weights**2))
    gaps = np.bincount(bins, weights * (confidence - correct), ECE_BINS).astype(np.float64)
    chance = (right + 0.5) / (count + 1)
    variance = squares * chance * (1 - chance)
    noise = np.random.default_rng(seed).normal(size=(replicates, ECE_BINS)) * np.sqrt(variance)
    found, shape = float(np.abs(gaps).sum()), _shape(gaps, variance)
    low, high = (_factor(shape, noise, found, level) for level in (0.975, 0.025))
    ends = low * shape.sum(), high * shape.sum() or found
    return [float(end / weights.sum()) for end in ends]


def _shape(gaps: Floats, variance: Floats) -> Floats:
    """Return how large the gaps of bins are, without what noise adds to their differences.

    They are taken to be normal around their mean, with the spread that noise leaves over; what a
    found gap then says of the true one is normal, and the mean of its size is returned.
    """
    from scipy.stats import foldnorm

    centre, spread = gaps.mean(), max(0.0, float(gaps.var() - variance.mean()))
    share = spread / np.maximum(spread + variance, 1e-300)
    means, deviations = centre + share * (gaps - centre), np.sqrt(share * variance)
    sizes = np.abs(means)
    noisy = deviations > 1e-12 * sizes
    sizes[noisy] = foldnorm.mean(sizes[noisy] / deviations[noisy], scale=deviations[noisy])
    return sizes if sizes.any() else np.ones(len(gaps))


def _factor(gaps: Floats, noise: Floats, found: float, level: float) -> float:
    """Return the factor of gaps with which a quantile of the error is the one found; 0 for none."""

    def quantile(factor: float) -> float:
        return float(np.quantile(np.abs(factor * gaps + noise).sum(axis=1), level))

    low, high = 0.0, 1.0
    if quantile(low) >= found:
        return 0.0
    while quantile(high) < found:
        high *= 2
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if quantile(middle) < found else (low, middle)
    return high
