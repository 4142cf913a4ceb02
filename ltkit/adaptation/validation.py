"""What the validation samples leave open: offsets and statistics of other draws of them.

A class with n samples is drawn n - 1 times, as in `ltkit.evaluation.resampling`. Offsets of a draw
are found by one Newton step from those of all samples, at the same temperature.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ltkit.adaptation.likelihoods import STATISTICS, Calibrated, Doubles, Likelihoods
from ltkit.records import FeatureSplit

MOST_JOINT = 2000
"""Most classes whose offsets' steps are found jointly; of more, each by itself."""


@dataclass(frozen=True, eq=False)
class ValDraws:
    """What R draws of the validation samples give.

    odds: (C, R) factors of each class's probabilities, by the draws' offsets.
    means: (C, d) mean statistics of each class, over all samples; drawn: (R, C, d) of the draws.
    confusion: (C, C) mean probabilities by true class, in columns, over all samples.
    there: (C,) whether a class has samples. Others have the mean statistics of those that have.
    """

    odds: Doubles
    means: Doubles
    drawn: Doubles
    confusion: Doubles
    there: NDArray[np.bool_]


def draw(val: FeatureSplit, calibrated: Calibrated, *, replicates: int, seed: int) -> ValDraws:
    """Draw validation samples anew.

    Args:
        val: the split that the classifier was calibrated on.
        calibrated: the classifier.
        replicates: R.
        seed: of the draws.
    """
    size, seen = calibrated.classifier.num_classes, calibrated.seen
    means, drawn = np.zeros((size, len(STATISTICS))), np.zeros((replicates, size, len(STATISTICS)))
    confusion, gradients = np.zeros((size, size)), np.zeros((size, replicates))
    joint = len(seen) <= MOST_JOINT
    curvature = np.zeros((len(seen),) * 2) if joint else np.zeros(len(seen))
    weight = len(val) / len(seen)
    for class_id, p, s, times in _by_class(val, calibrated, replicates, seed):
        share = times / len(p)  # (R, n)
        means[class_id], drawn[:, class_id] = s.mean(axis=0), share @ s
        confusion[:, class_id] = p.mean(axis=0)
        gradients += weight * (share @ p).T
        gradients[class_id] -= weight * share.sum(axis=1)
        some, each = p[:, seen], weight / len(p)
        if joint:
            curvature += each * (np.diag(some.sum(axis=0)) - some.T @ some)
        else:
            curvature += each * (some * (1 - some)).sum(axis=0)
    there = np.isin(np.arange(size), seen)
    means[~there], drawn[:, ~there] = means[there].mean(axis=0), drawn[:, there].mean(1)[:, None]
    odds = np.ones((size, replicates))
    odds[seen] = np.exp(_steps(curvature, gradients[seen], calibrated))
    return ValDraws(odds, means, drawn, confusion, there)


def _by_class(
    val: FeatureSplit, calibrated: Calibrated, replicates: int, seed: int
) -> Iterator[tuple[int, Doubles, Doubles, Doubles]]:
    """Yield each seen class's (n, C) probabilities, (n, d) statistics and (R, n) counts of draws.

    The counts of a draw sum to n.
    """
    rng = np.random.default_rng(seed)
    for class_id in calibrated.seen:
        own = val.at(np.flatnonzero(val.labels == class_id))
        parts = [np.hstack([p, s]) for _, p, s in Likelihoods(own, calibrated).blocks()]
        p, s = np.split(np.concatenate(parts).astype(float), [-len(STATISTICS)], axis=1)
        n = len(p)
        draws = max(1, n - 1)
        times: Doubles = rng.multinomial(draws, np.full(n, 1 / n), replicates).astype(float)
        yield int(class_id), p, s, times * (n / draws)


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
