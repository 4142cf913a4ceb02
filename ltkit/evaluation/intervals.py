"""Uncertainty: 95 % intervals of accuracies and their differences, for new samples and seeds.

An accuracy is a weighted mean of class means, and so is a paired difference of two. Their intervals
are closed forms (`accuracy_estimate`, `difference_estimate`), the same wherever a command prints
one; docs/statistics.md explains them and has their coverage. What is not linear in the samples,
ratios and curves, is resampled: `ltkit.evaluation.resampling`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.records import Ints

LEVEL = 0.95
"""Of all intervals."""

LEAST_DIFFERENT = 3
"""Samples on which one of two is right at least, in the variance of their difference. Where none of
n was seen, up to three in n happen with a chance of 5 %."""

SMALLEST_P = 1e-9

Floats = NDArray[np.float64]

Part = tuple[float, float]
"""A variance, and the degrees of freedom it was found with."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure, and the interval that 95 % of such intervals have the true figure in.

    value: of all samples and seeds at hand.
    interval: (low, high); None where nothing can be said of the spread between samples.
    seed_share: part of the variance that comes from the seeds, 0..1; None of a single seed or
        without an interval.
    p: of a difference, the largest chance of error at which the interval would leave out 0: below
        0.05 just where the 95 % interval does.
    """

    value: float
    interval: tuple[float, float] | None
    seed_share: float | None = None
    p: float | None = None


@dataclass(frozen=True, eq=False)
class Moments:
    """What an interval needs of (S, N) values, by class.

    count: (C,) samples.
    runs: (S, C) class means of each run; 0 without a sample.
    spread: (C,) variance between samples of their means over runs; 0 for fewer than two.
    mixed: (C,) variance of what is left of a value without its sample's and its run's part.
    overall: variance between all samples, whatever their class.
    """

    count: Ints
    runs: Floats
    spread: Floats
    mixed: Floats
    overall: float


def moments(values: NDArray[Any], labels: Ints, num_classes: int) -> Moments:
    """Return what intervals need of values, for any weights of the classes.

    Args:
        values: (S, N) whether each run is right, or a difference of that.
        labels: (N,) true classes.
        num_classes: C.

    Example:
        >>> found = moments(np.array([[1, 0, 1]]), np.array([0, 0, 1]), 3)
        >>> found.runs.tolist(), found.spread.tolist()  # (0.5**2 + 0.5**2) / (2 - 1)
        ([[0.5, 1.0, 0.0]], [0.5, 0.0, 0.0])
    """
    count = np.bincount(labels, minlength=num_classes)
    inside, freedom = np.maximum(count, 1), np.maximum(count - 1, 1)

    def sums(of: NDArray[Any]) -> Floats:
        return np.bincount(labels, of, num_classes).astype(np.float64)

    mean = values.mean(axis=0, dtype=np.float64)
    runs = np.stack([sums(row) for row in values]) / inside
    squares = sum(sums(np.square(row, dtype=np.float64)) for row in values)
    within = squares - inside * (runs**2).sum(axis=0)  # summed over runs
    shared = np.maximum(sums(mean**2) - inside * runs.mean(axis=0) ** 2, 0)
    left = np.maximum(within - len(values) * shared, 0) / max(1, len(values) - 1)
    overall = float(mean.var(ddof=1)) if len(mean) > 1 else 0.0
    return Moments(count, runs, shared / freedom, left / freedom, overall)


def of_one_run(found: Moments) -> Moments:
    """Return the moments of a single run with the means over all runs.

    A mean over runs varies less between samples than a run does, by how differently runs treat
    them. Where runs are repeats of an estimate of one thing, that is no gain.

    Example:
        >>> both = moments(np.array([[1, 0, 0], [0, 1, 0]]), np.array([0, 0, 0]), 1)
        >>> [one.spread.round(3).tolist() for one in (both, of_one_run(both))]  # 1 / 12, 1 / 3
        [[0.083], [0.333]]
    """
    runs = len(found.runs)
    spread = found.spread + (1 - 1 / runs) * found.mixed
    mean = found.runs.mean(axis=0, keepdims=True)
    return Moments(found.count, mean, spread, np.zeros_like(spread), found.overall)


def accuracy_estimate(found: Moments, weights: Floats) -> Estimate:
    r"""Return an accuracy with its interval, for new samples of the same classes and new seeds.

    The samples' part is Wilson's interval with Student's t, of as many samples as would give a
    single proportion the variance that was found:

    .. math:: n' = p (1 - p) / v, \quad v = \sum_c w_c^2 s_c^2 / n_c

    but not of more than :math:`n = 1 / \sum_c w_c^2 / n_c` where less than one of them is expected
    to be wrong, or right. The seeds' part widens it: half-widths of independent parts add in
    squares, each side by itself.

    Args:
        found: of hits, by `moments`.
        weights: (C,) with sum 1, 0 for classes without samples.

    Example:
        >>> ten = moments(np.ones((1, 10)), np.zeros(10, int), 1)  # t² / (10 + t²), t = 2.262
        >>> low, high = accuracy_estimate(ten, np.ones(1)).interval
        >>> round(low, 2), high
        (0.66, 1.0)

    Source:
        Wilson, JASA 22, 1927; for weighted samples: Korn and Graubard, Survey Methodology 24, 1998;
        the seeds: Zou and Donner, Statistics in Medicine 27, 2008.
    """
    value = float(found.runs.mean(axis=0) @ weights)
    between = _between_samples(found, weights)
    if between is None:
        return Estimate(_rounded(value), None)
    variance, freedom, size = between
    t2, odds = _quantile(freedom) ** 2, max(value * (1 - value), 0.0)
    most = size * max(1.0, size * odds)
    n = min(odds / variance, most) if variance > 0 and odds > 0 else most
    centre = (value + t2 / (2 * n)) / (1 + t2 / n)
    half = sqrt(t2 * (odds / n + t2 / (4 * n * n))) / (1 + t2 / n)
    seeds = _together([_between_seeds(found, weights)])
    below, above = (
        sqrt(max(side, 0.0) ** 2 + _squared_half_width(seeds))
        for side in (value - (centre - half), centre + half - value)
    )
    ends = _rounded(max(value - below, 0.0)), _rounded(min(value + above, 1.0))
    return Estimate(_rounded(value), ends, _seed_share(seeds, odds / n))


def difference_estimate(
    found: Moments,
    weights: Floats,
    seeds: Sequence[Moments] = (),
    others: Sequence[Part] = (),
) -> Estimate:
    r"""Return a paired difference of two accuracies with its interval, as `accuracy_estimate`.

    The samples' part is a t interval, of at least the variance that `LEAST_DIFFERENT` samples give
    on which only one is right: so two that agree on all samples at hand have an interval too. Of
    means over seeds, it is less by as much as the mean over seeds takes from the variance.

    .. math::
        d \pm t \sqrt{\max(v, 3 / n^2)}, \quad v = \sum_c w_c^2 s_c^2 / n_c, \quad
        n = 1 / \sum_c w_c^2 / n_c

    Args:
        found: of differences of hits, by `moments`.
        weights: (C,) with sum 1, 0 for classes without samples.
        seeds: of two methods with several seeds each, which have nothing to do with each other:
            both methods' hits, for the seeds' parts; `found` is then of the differences of their
            means over seeds, (1, N).
        others: further variances that are independent of these.

    Example:
        >>> none = moments(np.zeros((1, 10)), np.zeros(10, int), 1)  # 2.262 * sqrt(3) / 10
        >>> low, high = difference_estimate(none, np.ones(1)).interval
        >>> round(low, 2), round(high, 2)
        (-0.39, 0.39)
    """
    value = float(found.runs.mean(axis=0) @ weights)
    between = _between_samples(found, weights)
    if between is None:
        return Estimate(_rounded(value), None)
    variance, freedom, size = between
    least = LEAST_DIFFERENT / size**2 * _kept(variance, seeds or [found], weights)
    samples = max(variance, least), freedom
    of_seeds = _together([_between_seeds(each, weights) for each in seeds or [found]])
    parts = [samples, *of_seeds, *others]
    half = sqrt(_squared_half_width(parts))
    ends = _rounded(max(value - half, -1.0)), _rounded(min(value + half, 1.0))
    p = _p_value(_rounded(value), parts)
    return Estimate(_rounded(value), ends, _seed_share(of_seeds, samples[0]), p)


def _between_samples(found: Moments, weights: Floats) -> tuple[float, float, float] | None:
    """Return the variance that samples give a figure, its degrees of freedom, and their number.

    Of classes with one sample each, the variance between them stands for that within: it is at
    least as large. A single such class has the variance between all samples. The degrees of freedom
    are Satterthwaite's for classes of equal variance: those of the variances at hand would be too
    few where most classes have a variance of 0 by chance.

    Returns:
        None for a single sample.
    """
    inside = weights != 0
    parts = weights[inside] ** 2 / found.count[inside]
    spread, freedom = found.spread[inside], found.count[inside] - 1.0
    alone = freedom == 0
    if alone.any():
        if len(freedom) < 2:
            return None
        means = found.runs.mean(axis=0)[inside][alone]
        pooled = float(means.var(ddof=1)) if len(means) > 1 else found.overall
        parts = np.append(parts[~alone], parts[alone].sum())
        spread = np.append(spread[~alone], pooled)
        freedom = np.append(freedom[~alone], max(len(means) - 1, 1))
    total = float(parts.sum())
    return float(parts @ spread), total**2 / float((parts**2 / freedom).sum()), 1 / total


def _between_seeds(found: Moments, weights: Floats) -> tuple[float, int]:
    """Return the variance that S seeds give a figure beyond that of samples, and S.

    The variance between the S runs' figures over S has a part that is in the samples' variance
    already: how differently runs treat single samples. Of that, (S - 1) / S is taken off; with all
    of it, nothing is left too often where seeds are few (docs/statistics.md).
    """
    runs = len(found.runs)
    if runs == 1:
        return 0.0, 1
    figures = (found.runs @ weights).round(12)
    rest = max(float(figures.var(ddof=1)) - _mixed(found, weights), 0.0)
    return rest / runs, runs


def _mixed(found: Moments, weights: Floats) -> float:
    """Return the variance that a single run has beyond that of the mean over S runs.

    By how differently runs treat single samples; (S - 1) / S of that. Classes with one sample are
    pooled here, too: what runs do to classes is then in their variance between samples already.
    """
    runs = len(found.runs)
    mixed = found.mixed.copy()
    alone = (weights != 0) & (found.count == 1)
    if runs > 1 and alone.sum() > 1:
        values = found.runs[:, alone]  # (S, m)
        left = values - values.mean(axis=0) - values.mean(axis=1, keepdims=True) + values.mean()
        mixed[alone] = (left**2).sum() / (len(left[0]) - 1) / (runs - 1)
    return (1 - 1 / runs) * float((weights**2 / np.maximum(found.count, 1)) @ mixed)


def _kept(variance: float, seeds: Sequence[Moments], weights: Floats) -> float:
    """Return how much of a single run's variance the mean over seeds has, from 1 / S to 1."""
    single = variance + sum(_mixed(each, weights) for each in seeds)
    least = 1 / max(len(each.runs) for each in seeds)
    return max(variance / single, least) if single > 0 else 1.0


def _together(seeds: Sequence[tuple[float, int]]) -> list[Part]:
    """Return the seeds' variances as one part; nothing without several seeds.

    The degrees of freedom are Satterthwaite's for seeds of equal variance.
    """
    several = [(variance, runs) for variance, runs in seeds if runs > 1]
    if not several:
        return []
    counts = np.array([runs for _, runs in several], dtype=np.float64)
    freedom = float((1 / counts).sum() ** 2 / (1 / (counts**2 * (counts - 1))).sum())
    return [(sum(variance for variance, _ in several), freedom)]


def _squared_half_width(parts: Sequence[Part], level: float = LEVEL) -> float:
    """Return the square of the half-width that independent parts give an interval together."""
    return sum(_quantile(freedom, level) ** 2 * variance for variance, freedom in parts)


def _p_value(value: float, parts: Sequence[Part]) -> float:
    """Return the chance of error at which an interval just reaches 0."""
    from scipy.optimize import brentq

    def beyond(p: float) -> float:
        return value**2 - _squared_half_width(parts, 1 - p)

    if value == 0:
        return 1.0
    return SMALLEST_P if beyond(SMALLEST_P) >= 0 else float(brentq(beyond, SMALLEST_P, 1.0))


def _quantile(freedom: float, level: float = LEVEL) -> float:
    """Return the quantile of Student's t for a two-sided interval."""
    from scipy.special import stdtrit

    return float(stdtrit(max(freedom, 1.0), (1 + level) / 2))


def _seed_share(seeds: Sequence[Part], samples: float) -> float | None:
    """Return the seeds' part of a variance; None without several seeds."""
    of_seeds = sum(variance for variance, _ in seeds)
    return of_seeds / (of_seeds + samples) if of_seeds else 0.0 if seeds else None


def _rounded(value: float) -> float:
    """Return a value to the digits that do not depend on the order of a sum."""
    return round(value, 12)
