"""What a prior's correction gains, on validation samples weighted to that prior.

Each sample is predicted by a classifier that was calibrated without its fold: with offsets learned
from the same samples, the gain would look a point too large (benchmarks/adaptation.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ltkit.adaptation.likelihoods import Calibrated, Doubles
from ltkit.evaluation.intervals import difference_estimate, moments
from ltkit.evaluation.prediction import best_logits
from ltkit.records import Classifier, FeatureSplit, Ints

LEAST = 1e-9
"""Share of a class at least, so that it has a logarithm."""


@dataclass(frozen=True)
class Gain:
    """Accuracies under a prior, and their difference.

    interval: of the difference, 95 %; None where nothing can be said of it.
    """

    before: float
    after: float
    interval: tuple[float, float] | None

    @property
    def unsure(self) -> bool:
        """Whether it may be none, or a loss."""
        return self.interval is not None and self.interval[0] <= 0


def expected(val: FeatureSplit, calibrated: Calibrated, shares: Doubles) -> Gain | None:
    """Return what the correction for a prior gains; None without folds, or samples of its classes.

    Args:
        val: the split that the classifier was calibrated on.
        calibrated: the classifier.
        shares: (C,) of the classes.
    """
    there = np.bincount(val.labels, minlength=len(shares)) > 0
    if not calibrated.folds or not shares[there].any():
        return None
    right = np.zeros((2, len(val)))
    for rows, classifier in calibrated.folds:
        pair = (calibrated.own, prior_corrected(classifier, shares))
        right[:, rows] = list(_right(val.at(rows), pair))
    return gain_of(right, val.labels, shares)


def gain_of(right: Doubles, labels: Ints, shares: Doubles) -> Gain:
    """Return what is gained under shares of classes, of those that there are samples of.

    Args:
        right: (2, N) whether each sample is predicted rightly, before and after.
        labels: (N,) true classes.
        shares: (C,) of the classes.

    Example:
        >>> right = np.array([[1, 1, 0, 0], [1, 0, 1, 1.0]])
        >>> found = gain_of(right, np.array([0, 0, 1, 1]), np.array([0.25, 0.75]))
        >>> found.before, found.after  # 1/4 of 1 and 3/4 of 0; 1/4 of 1/2 and 3/4 of 1
        (0.25, 0.875)
    """
    size = len(shares)
    weights = np.where(np.bincount(labels, minlength=size) > 0, shares, 0.0)
    weights /= weights.sum()
    before, after = moments(right, labels, size).runs @ weights
    apart = moments(right[1:] - right[:1], labels, size)
    return Gain(float(before), float(after), difference_estimate(apart, weights).interval)


def _right(split: FeatureSplit, classifiers: tuple[Classifier, ...]) -> Iterator[NDArray[np.bool_]]:
    """Yield whether each classifier is right, of (N,) samples."""
    every = np.arange(classifiers[0].num_classes)
    for classifier in classifiers:
        parts = split.blocks(len(every))
        found = [best_logits(classifier.logits(x), every)[1] for _, x, _ in parts]
        yield np.concatenate(found) == split.labels


def prior_corrected(calibrated: Classifier, shares: Doubles) -> Classifier:
    """Return a classifier calibrated under equal priors, with a prior added to its logits.

    Example:
        >>> equal = Classifier(np.zeros((2, 1), np.float32), np.zeros(2, np.float32))
        >>> np.exp(prior_corrected(equal, np.array([0.75, 0.25])).bias).round(3).tolist()
        [1.5, 0.5]
    """
    told = calibrated.told
    added = np.log(np.maximum(shares, LEAST) * told.sum())
    bias = np.where(told, calibrated.bias + added, calibrated.bias).astype(np.float32)
    return replace(calibrated, bias=bias)
