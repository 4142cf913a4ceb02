"""What the validation samples leave open: offsets and statistics of other draws of them.

A class with n samples is drawn n - 1 times, as in `ltkit.evaluation.resampling`. Offsets of a draw
are found by one Newton step from those of all samples, at the same temperature.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ltkit.adaptation.likelihoods import STATISTICS, Calibrated, Doubles, Likelihoods
from ltkit.records import WIDE_BYTES, FeatureSplit, Ints

MOST_JOINT = 2000
"""Most classes whose offsets' steps are found jointly; of more, each by itself."""


@dataclass(frozen=True, eq=False)
class ValDraws:
    """What R draws of the validation samples give.

    odds: (C, R) factors of each class's probabilities, by the draws' offsets.
    means: (C, d) mean statistics of each class, over all samples; drawn: (R, C, d) of the draws.
    confusion: (C, C) mean probabilities by true class, in columns, over all samples; (C, 0) where
        they are not asked for.
    there: (C,) whether a class has samples. Others have the mean statistics of those that have.
    """

    odds: Doubles
    means: Doubles
    drawn: Doubles
    confusion: Doubles
    there: NDArray[np.bool_]


def draw(
    val: FeatureSplit, calibrated: Calibrated, *, replicates: int, seed: int, confused: bool = False
) -> ValDraws:
    """Draw validation samples anew.

    Args:
        val: the split that the classifier was calibrated on.
        calibrated: the classifier.
        replicates: R.
        seed: of the draws.
        confused: whether the confusions are wanted, too.
    """
    size, seen = calibrated.classifier.num_classes, calibrated.seen
    means, drawn = np.zeros((size, len(STATISTICS))), np.zeros((replicates, size, len(STATISTICS)))
    confusion, gradients = np.zeros((size, size * confused)), np.zeros((size, replicates))
    curvature = np.zeros((len(seen),) * (2 if len(seen) <= MOST_JOINT else 1))
    for some in _some_classes(val, calibrated, replicates, seed):
        ids, p = some.ids, some.probabilities
        means[ids] = some.mean(some.statistics)
        drawn[:, ids] = some.sums(some.shares[..., None] * some.statistics, axis=1)
        if confused:
            confusion[:, ids] = some.mean(p).T
        gradients += (some.shares @ p).T
        gradients[ids] -= some.sums(some.shares, axis=1).T
        curvature += _curvature(p[:, seen] if len(seen) < size else p, some.each, curvature.ndim)
    weight = len(val) / len(seen)
    there = np.isin(np.arange(size), seen)
    means[~there], drawn[:, ~there] = means[there].mean(axis=0), drawn[:, there].mean(1)[:, None]
    odds = np.ones((size, replicates))
    odds[seen] = np.exp(_steps(weight * curvature, weight * gradients[seen], calibrated))
    return ValDraws(odds, means, drawn, confusion, there)


def _curvature(p: Doubles, each: Doubles, axes: int) -> Doubles:
    """Return the (P, P) second derivatives of samples' costs in offsets, or the (P,) diagonal."""
    if axes == 1:
        return each @ (p * (1 - p))
    found: Doubles = np.diag(each @ p) - (each[:, None] * p).T @ p
    return found


@dataclass(frozen=True, eq=False)
class _SomeClasses:
    """All n samples of some classes, those of a class next to each other.

    ids: the classes; starts: where each begins.
    probabilities: (n, C); statistics: (n, d).
    shares: (R, n) of the draws; those of a class sum to 1.
    each: (n,) one over the number of samples of the class.
    """

    ids: Ints
    starts: Ints
    probabilities: Doubles
    statistics: Doubles
    shares: Doubles
    each: Doubles

    def sums(self, values: Doubles, axis: int = 0) -> Doubles:
        """Return sums by class of (n, ...) values."""
        found: Doubles = np.add.reduceat(values, self.starts, axis=axis)
        return found

    def mean(self, values: Doubles) -> Doubles:
        """Return means by class of (n, k) values."""
        return self.sums(self.each[:, None] * values)


def _some_classes(
    val: FeatureSplit, calibrated: Calibrated, replicates: int, seed: int
) -> Iterator[_SomeClasses]:
    """Yield the samples of all classes that are seen, and draws of them, some classes at a time."""
    rng = np.random.default_rng(seed)
    counts = np.bincount(val.labels, minlength=calibrated.classifier.num_classes)
    order, ends = np.argsort(val.labels, kind="stable"), np.cumsum(counts)
    seen, most = calibrated.seen, max(1, WIDE_BYTES // (8 * len(counts)))
    passed = np.cumsum(counts[seen]) - counts[seen]
    for ids in np.split(seen, np.flatnonzero(np.diff(passed // most)) + 1):
        n = counts[ids]
        own = val.at(np.concatenate([order[ends[c] - counts[c] : ends[c]] for c in ids]))
        parts = [(p, s) for _, p, s in Likelihoods(own, calibrated).blocks()]
        p, s = (np.concatenate(column).astype(float) for column in zip(*parts, strict=True))
        shares = [
            rng.multinomial(max(1, k - 1), np.full(k, 1 / k), replicates) / max(1, k - 1) for k in n
        ]
        yield _SomeClasses(ids, np.cumsum(n) - n, p, s, np.hstack(shares), np.repeat(1 / n, n))


def _steps(curvature: Doubles, gradients: Doubles, calibrated: Calibrated) -> Doubles:
    """Return (P, R) Newton steps of the seen classes' offsets, whose mean is 0.

    Args:
        curvature: of the cost without its penalty; (P,) where classes are taken one by one.
        gradients: (P, R) of the draws; that of all samples, and of the penalty, is 0 at the start.
        calibrated: whose penalty and groups hold.
    """
    groups = calibrated.groups[calibrated.seen]
    if curvature.ndim == 1:
        steps = -gradients / (curvature + calibrated.penalty)[:, None]
    else:
        same = np.equal.outer(groups, groups)
        pull = np.eye(len(groups)) - same / same.sum(axis=1, keepdims=True)
        full = curvature + calibrated.penalty * pull + 1e-6 * np.eye(len(groups))
        steps = -np.linalg.solve(full, gradients)
    found: Doubles = steps - steps.mean(axis=0)
    return found
