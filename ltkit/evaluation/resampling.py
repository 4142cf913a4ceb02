"""Bootstraps over test samples and seeds, for what is no mean: ratios and curves.

A class with n samples is drawn n - 1 times: so the variance of a class's mean over replicates is
s² / n with the unbiased s², where n draws give (n - 1) / n of it. A class with one sample has no
spread to draw from; figures with such classes have no interval (`resampled_groups`).

Beside the dimensions of `ltkit.records`: `G` the figures of `metrics.group_weights` that exist; `R`
replicates of the bootstrap; `M` models.

Source:
    Rao and Wu, Resampling inference with complex survey data, JASA 83, 1988 (draws of n - 1).
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.records import Ints, blocks

DRAWN_AT_ONCE = 1 << 22

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def resampled_groups(labels: Ints, weights: Mapping[str, Floats]) -> list[str]:
    """Return the figures whose classes have two samples or more each.

    Args:
        labels: (N,) true classes of the split.
        weights: of `ltkit.evaluation.metrics.group_weights`.

    Example:
        >>> weights = {"few": np.array([0, 1.0]), "all": np.array([2 / 3, 1 / 3])}
        >>> resampled_groups(np.array([0, 0, 1]), weights)
        []
        >>> resampled_groups(np.array([0, 1, 1]), weights)
        ['few']
    """
    counts = np.bincount(labels, minlength=len(next(iter(weights.values()))))
    return [name for name, weight in weights.items() if counts[weight > 0].min() > 1]


def bootstrap_jointly(
    values: NDArray[Any], labels: Ints, num_classes: int, *, replicates: int, seed: int
) -> Floats:
    """Resample each class's test samples, M values of a sample together; return class means.

    No samples are drawn one by one: draws from a class's samples are a multinomial draw over its
    distinct values. What the models agree on cancels in a ratio.

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
            present, draws = counts > 0, max(1, n - 1)
            drawn = rng.multinomial(draws, counts[present] / n, size=replicates)  # (R, P)
            means[:, :, class_id] = patterns[:, present] @ drawn.T / draws
    return means


def bootstrap(
    right: Bools,
    labels: Ints,
    weights: Mapping[str, Floats],
    *,
    replicates: int,
    seed: int | Sequence[int],
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
        draws = max(1, n - 1)
        parts = [(g, w[class_id] / draws) for g, w in enumerate(weights.values()) if w[class_id]]
        for rows in blocks(replicates, max(1, DRAWN_AT_ONCE // n)):
            count = rows.stop - rows.start
            drawn = rng.integers(0, n, size=(count, draws)) + n * np.arange(count)[:, None]
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
