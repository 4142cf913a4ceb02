"""Uncertainty: 95 % intervals for new samples and new seeds; bootstraps for what is no mean.

An accuracy is a weighted mean of class means, and so is a paired difference of two. Their intervals
are closed forms (`accuracy_estimate`, `difference_estimate`), the same wherever a command prints
one; docs/statistics.md explains them and has their coverage. What is not linear in the samples,
ratios and curves, is resampled.

Beside the dimensions of `ltkit.records`: `G` the figures of `metrics.group_weights` that exist; `R`
replicates of the bootstrap; `M` models.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.records import Ints, blocks

DRAWN_AT_ONCE = 1 << 22

LEVEL = 0.95
"""Of all intervals."""

LEAST_DIFFERENT = 3
"""Samples on which one of two is right at least, in the variance of their difference. Where none of
n was seen, up to three in n happen with a chance of 5 %."""

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure, and the interval that 95 % of such intervals have the true figure in.

    value: of all samples and seeds at hand.
    interval: (low, high); None where nothing can be said of the spread between samples.
    seed_share: part of the variance that comes from the seeds, 0..1; None of a single seed or
        without an interval.
    """

    value: float
    interval: tuple[float, float] | None
    seed_share: float | None = None


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


def accuracy_estimate(found: Moments, weights: Floats) -> Estimate:
    r"""Return an accuracy with its interval, for new samples of the same classes and new seeds.

    The samples' part is Wilson's interval with Student's t, of as many samples as would give a
    single proportion the variance that was found:

    .. math:: n' = p (1 - p) / v, \quad v = \sum_c w_c^2 s_c^2 / n_c

    but not of more than :math:`n = 1 / \sum_c w_c^2 / n_c` where less than one sample of them is
    expected to be wrong, or right. The seeds' part widens it (`_widened`).

    Args:
        found: of hits, by `moments`.
        weights: (C,) with sum 1, 0 for classes without samples.

    Example:
        >>> ten = moments(np.ones((1, 10)), np.zeros(10, int), 1)  # t² / (10 + t²), t = 2.262
        >>> low, high = accuracy_estimate(ten, np.ones(1)).interval
        >>> round(low, 2), high
        (0.66, 1.0)

    Source:
        Wilson, JASA 22, 1927; for weighted samples: Korn and Graubard, Survey Methodology 24, 1998.
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
    ends = min(centre - half, value), max(centre + half, value)
    return _widened(value, ends, variance, [_between_seeds(found, weights)], 0.0)


def difference_estimate(found: Moments, weights: Floats, seeds: Sequence[Moments] = ()) -> Estimate:
    r"""Return a paired difference of two accuracies with its interval, as `accuracy_estimate`.

    The samples' part is a t interval, of at least the variance that `LEAST_DIFFERENT` samples give
    on which only one is right: so two that agree on all samples at hand have an interval too.

    .. math::
        d \pm t \sqrt{\max(v, 3 / n^2)}, \quad v = \sum_c w_c^2 s_c^2 / n_c, \quad
        n = 1 / \sum_c w_c^2 / n_c

    Args:
        found: of differences of hits, -1..1, by `moments`; of two methods whose seeds have nothing
            to do with each other, of the difference of their means over seeds, (1, N).
        weights: (C,) with sum 1, 0 for classes without samples.
        seeds: what the seeds' part is taken from, if not from `found`: both methods' hits.

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
    variance = max(variance, LEAST_DIFFERENT / size**2)
    half = _quantile(freedom) * sqrt(variance)
    ends = value - half, value + half
    parts = [_between_seeds(each, weights) for each in seeds or [found]]
    return _widened(value, ends, variance, parts, -1.0)


def mean_difference(values: NDArray[Any], labels: Ints, weights: Floats) -> Estimate:
    """Return the weighted mean of paired differences of hits, with its interval.

    Args:
        values: (S, N) in -1..1, S seeds.
        labels: (N,) true classes.
        weights: (C,) with sum 1, 0 for classes without samples.

    Example:
        >>> labels, weights = np.repeat([0, 1], 50), np.array([0.5, 0.5])
        >>> better = np.tile([1, 0, 0, 0, 0], 20)[None]
        >>> found = mean_difference(better, labels, weights)
        >>> found.value, [round(end, 2) for end in found.interval]
        (0.2, [0.12, 0.28])
    """
    return difference_estimate(moments(values, labels, len(weights)), weights)


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
    factor = weights[inside] ** 2 / found.count[inside]  # (C',)
    spread, freedom = found.spread[inside], found.count[inside] - 1.0
    alone = freedom == 0
    if len(freedom) < 2 and alone.any():
        return None
    if alone.any():
        means = found.runs.mean(axis=0)[inside][alone]
        pooled = float(means.var(ddof=1)) if len(means) > 1 else found.overall
        share = float(factor[alone].sum())
        parts = np.append(factor[~alone], share)
        spread = np.append(spread[~alone], pooled)
        freedom = np.append(freedom[~alone], max(len(means) - 1, 1))
    else:
        parts = factor
    total = float(parts.sum())
    return float(parts @ spread), total**2 / float((parts**2 / freedom).sum()), 1 / total


def _between_seeds(found: Moments, weights: Floats) -> tuple[float, int]:
    """Return the variance that seeds give a figure beyond that of samples, and their number.

    The variance between the S runs' figures over S has a part that is in the samples' variance
    already: how differently runs treat single samples. Of that, ((S - 1) / S)² is taken off; with
    all of it, nothing is left too often where seeds are few (docs/statistics.md).
    """
    runs = len(found.runs)
    if runs == 1:
        return 0.0, 1
    figures = (found.runs @ weights).round(12)
    mixed = float((weights**2 / np.maximum(found.count, 1)) @ found.mixed)
    return max(float(figures.var(ddof=1)) - (1 - 1 / runs) ** 2 * mixed, 0.0) / runs, runs


def _widened(
    value: float,
    ends: tuple[float, float],
    variance: float,
    seeds: Sequence[tuple[float, int]],
    least: float,
) -> Estimate:
    """Return an estimate whose interval is widened by the seeds, from `least` to 1 at most.

    The half-widths of independent parts add in squares, each side by itself.

    Source:
        Zou and Donner, Statistics in Medicine 27, 2008 (variance estimates recovery).
    """
    more = sum(_quantile(runs - 1) ** 2 * part for part, runs in seeds if runs > 1)
    low, high = (sqrt((value - end) ** 2 + more) for end in ends)
    of_seeds = sum(part for part, _ in seeds)
    share = None
    if any(runs > 1 for _, runs in seeds):
        share = of_seeds / (of_seeds + variance) if of_seeds else 0.0
    bounds = _rounded(max(value - low, least)), _rounded(min(value + high, 1.0))
    return Estimate(_rounded(value), bounds, share)


def _quantile(freedom: float) -> float:
    """Return the quantile of Student's t for a two-sided 95 % interval."""
    from scipy.special import stdtrit

    return float(stdtrit(max(freedom, 1.0), (1 + LEVEL) / 2))


def _rounded(value: float) -> float:
    """Return a value to the digits that do not depend on the order of a sum."""
    return round(value, 12)


def bootstrap_classes(
    correct: NDArray[Any], labels: Ints, num_classes: int, *, replicates: int, seed: int
) -> Floats:
    """Resample each class's test samples; return the class accuracies of every replicate.

    The stratified bootstrap of a mean needs no resampling of samples: n draws from a class's
    samples are a multinomial draw over its distinct values. For values 0 and 1 that is a binomial.

    Args:
        correct: (N,) values in 0..1: right or wrong, or the mean over seeds of it.
        labels: (N,) true classes.
        num_classes: C.
        replicates: R.
        seed: seed of the draws.

    Returns:
        (R, C); 0 for a class without a sample.

    Example:
        >>> x = bootstrap_classes(np.array([1, 1]), np.array([0, 0]), 1, replicates=3, seed=0)
        >>> x.tolist()
        [[1.0], [1.0], [1.0]]

    Source:
        Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 8 (stratified samples).
    """
    rng = np.random.default_rng(seed)
    values, codes = np.unique(correct, return_inverse=True)
    table = np.bincount(labels * len(values) + codes, minlength=num_classes * len(values))
    table = table.reshape(num_classes, len(values))  # samples of a class with a value
    means = np.zeros((num_classes, replicates))
    for class_id, counts in enumerate(table):
        n = counts.sum()
        if n == 0:
            continue
        present = np.flatnonzero(counts)
        if len(present) <= 2:
            low, high = values[present[0]], values[present[-1]]
            drawn = rng.binomial(n, counts[present[-1]] / n, size=replicates)
            means[class_id] = low + (high - low) * drawn / n
        else:
            drawn = rng.multinomial(n, counts[present] / n, size=replicates)
            means[class_id] = drawn @ values[present] / n
    return means.T


def bootstrap_jointly(
    values: NDArray[Any], labels: Ints, num_classes: int, *, replicates: int, seed: int
) -> Floats:
    """Resample each class's test samples as `bootstrap_classes` does, for M values per sample.

    A sample's values are drawn together, so that what the models agree on cancels in a ratio.

    Args:
        values: (M, N) in 0..1, one row a model.
        labels: (N,) true classes.
        num_classes: C.
        replicates: R.
        seed: seed of the draws.

    Returns:
        (M, R, C); 0 for a class without a sample.

    Example:
        >>> right = np.array([[1, 0, 0, 1], [1, 0, 0, 1]])
        >>> a, b = bootstrap_jointly(right, np.zeros(4, int), 1, replicates=9, seed=0)
        >>> bool((a == b).all()), len(np.unique(a)) > 1
        (True, True)
    """
    rng = np.random.default_rng(seed)
    patterns, codes = np.unique(values, axis=1, return_inverse=True)  # (M, P), (N,)
    size = patterns.shape[1]
    table = np.bincount(labels * size + codes.ravel(), minlength=num_classes * size)
    means = np.zeros((len(patterns), replicates, num_classes))
    for class_id, counts in enumerate(table.reshape(num_classes, size)):
        if n := counts.sum():
            present = counts > 0
            drawn = rng.multinomial(n, counts[present] / n, size=replicates)  # (R, P)
            means[:, :, class_id] = patterns[:, present] @ drawn.T / n
    return means


def bootstrap(
    right: Bools, labels: Ints, weights: Mapping[str, Floats], *, replicates: int, seed: int
) -> Floats:
    """Resample each class's samples, the same for all runs; return every run's figures.

    Args:
        right: (S, N) whether each run is right.
        labels: (N,) true classes.
        weights: of `ltkit.metrics.group_weights`, G of them.
        replicates: R.
        seed: seed of the draws.

    Returns:
        (G, R, S).

    Example:
        >>> right, labels = np.array([[True, True], [False, False]]), np.array([0, 1])
        >>> weights = {"all": np.array([0.5, 0.5])}
        >>> bootstrap(right, labels, weights, replicates=2, seed=0).tolist()
        [[[1.0, 0.0], [1.0, 0.0]]]

    Source:
        Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 8 (stratified samples).
    """
    rng = np.random.default_rng(seed)
    found = np.zeros((len(weights), replicates, len(right)))
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], np.arange(1 + len(next(iter(weights.values())))))
    for class_id, (start, stop) in enumerate(pairwise(starts)):
        n = int(stop - start)
        if n == 0:
            continue
        own = right[:, order[start:stop]].T.astype(np.float32)  # (n, S)
        parts = [(g, w[class_id] / n) for g, w in enumerate(weights.values()) if w[class_id]]
        for rows in blocks(replicates, max(1, DRAWN_AT_ONCE // n)):
            count = rows.stop - rows.start
            drawn = rng.integers(0, n, size=(count, n)) + n * np.arange(count)[:, None]
            times = np.bincount(drawn.ravel(), minlength=count * n).reshape(count, n)
            hits = times.astype(np.float32) @ own  # (R, S), whole numbers
            for g, weight in parts:
                found[g, rows] += weight * hits
    return found


def mean_over_seeds(drawn: Floats, seed: Sequence[int]) -> Floats:
    """Return the mean over a setting's S runs in each replicate, with the runs resampled too.

    S runs are drawn with replacement in each replicate, the same ones for equal `seed`. S values
    drawn from S have (S - 1) / S of their variance; their distance from the mean over all runs is
    stretched by sqrt(S / (S - 1)), so that the spread over replicates is that of the samples and
    std² / S of the seeds together. One run stays as it is.

    Args:
        drawn: (G, R, S), a setting's part of `bootstrap`'s result.
        seed: seed of the draws.

    Returns:
        (G, R).

    Source:
        Rao and Wu, Resampling inference with complex survey data, JASA 83, 1988 (rescaling).
    """
    _, replicates, runs = drawn.shape
    mean: Floats = drawn.mean(axis=2)
    if runs == 1:
        return mean
    picks = np.random.default_rng(list(seed)).integers(0, runs, size=(1, replicates, runs))
    picked = np.take_along_axis(drawn, picks, axis=2).mean(axis=2)
    mean += sqrt(runs / (runs - 1)) * (picked - mean)
    return mean


def interval(values: Floats) -> list[float | None]:
    """Return the 95 % percentile interval of R replicates; None for an infinite bound.

    Example:
        >>> interval(np.arange(41.0))
        [1.0, 39.0]
    """
    # With infinite values there is nothing between two order statistics.
    method = "linear" if np.isfinite(values).all() else "inverted_cdf"
    bounds = np.quantile(values, (0.025, 0.975), method=method)  # type: ignore[call-overload]
    return [float(b) if np.isfinite(b) else None for b in bounds]
