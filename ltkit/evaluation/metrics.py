"""Scores of predictions: pure functions of arrays."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.records import Ints, ShotGroups
from ltkit.settings import GROUPS

Floats = NDArray[np.float64]

ECE_BINS = 15
"""Bins of the expected calibration error (Zhong et al., CVPR 2021)."""


def class_accuracy(correct: NDArray[Any], labels: Ints, num_classes: int) -> Floats:
    """Return the mean of `correct` over the samples of each class; NaN where a class has none.

    Args:
        correct: (N,) or (S, N), in 0..1; for S runs one row each.
        labels: (N,) true classes.
        num_classes: C.

    Returns:
        (C,) or (S, C).

    Example:
        >>> class_accuracy(np.array([1, 0, 1]), np.array([0, 0, 1]), 3).tolist()
        [0.5, 1.0, nan]
    """
    counts = np.bincount(labels, minlength=num_classes).astype(np.float64)
    counts[counts == 0] = np.nan
    rows = np.atleast_2d(correct)
    sums = np.stack([np.bincount(labels, row, minlength=num_classes) for row in rows])
    means = sums / counts
    return means if np.ndim(correct) == 2 else means[0]


def group_weights(
    labels: Ints, num_classes: int, groups: ShotGroups, prior: Floats | None = None
) -> dict[str, Floats]:
    """Return how each summary weights the class accuracies, so that each is one dot product.

    A shot group and ``balanced`` weight their classes alike, ``all`` weights a class by its test
    samples. Under a prior ``all`` weights a class by its share, and a shot group does so within
    the group; ``balanced`` stays. A class without a test sample has no accuracy and is left out; a
    group of which nothing remains is absent.

    Args:
        labels: (N,) true classes of the split.
        num_classes: C.
        groups: the shot groups, by training count.
        prior: (C,) share of each class where the classifier is used; None: as in the split.

    Returns:
        Of ``few``, ``medium``, ``many``, ``all``, ``balanced`` those that exist: (C,) weights with
        sum 1.

    Example:
        >>> groups = ShotGroups(np.array([2]), np.array([], dtype=int), np.array([0, 1]))
        >>> weights = group_weights(np.array([0, 0, 0, 1]), 3, groups)
        >>> {name: w.tolist() for name, w in weights.items()}
        {'many': [0.5, 0.5, 0.0], 'all': [0.75, 0.25, 0.0], 'balanced': [0.5, 0.5, 0.0]}
        >>> weights = group_weights(np.array([0, 0, 1]), 3, groups, np.array([0.2, 0.2, 0.6]))
        >>> weights["all"].tolist()  # of the last class nothing is known
        [0.5, 0.5, 0.0]
    """
    counts = np.bincount(labels, minlength=num_classes)
    members = {name: np.isin(np.arange(num_classes), ids) for name, ids in groups.items()}
    there = counts > 0
    share = there if prior is None else there * prior
    raw: dict[str, NDArray[Any]] = {name: share * member for name, member in members.items()}
    raw |= {"all": counts if prior is None else share, "balanced": there}
    return {name: w / w.sum() for name, w in raw.items() if w.any()}


def summarize(by_class: Floats, weights: Mapping[str, Floats]) -> dict[str, float | None]:
    """Return every group's accuracy, None for an absent group.

    Args:
        by_class: (C,) class accuracies, NaN where there is no sample.
        weights: of `group_weights`.

    Example:
        >>> summarize(np.array([0.5, 1.0]), {"all": np.array([0.5, 0.5])})["all"]
        0.75
    """
    known = np.nan_to_num(by_class)
    means = {name: float(known @ weight) for name, weight in weights.items()}
    # Sums of the same hits must compare as equal, whatever order they were rounded in.
    return {name: round(means[name], 12) if name in means else None for name in GROUPS}


def deviations(runs: Sequence[Mapping[str, float | None]]) -> dict[str, float | None] | None:
    """Return the standard deviation over runs of each group's accuracy; None for a single run.

    Args:
        runs: of `summarize`, one of each run.

    Example:
        >>> deviations([{"all": 0.25, "few": None}, {"all": 0.75, "few": None}])  # sqrt(2 / 16)
        {'all': 0.3535533905932738, 'few': None}
    """
    if len(runs) < 2:
        return None
    return {
        name: None if value is None else float(np.std([run[name] for run in runs], ddof=1))  # type: ignore[arg-type]
        for name, value in runs[0].items()
    }


def means(runs: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """Return the mean over runs of each group's accuracy.

    Args:
        runs: of `summarize`, one of each run.

    Example:
        >>> means([{"all": 0.25, "few": None}, {"all": 0.75, "few": None}])
        {'all': 0.5, 'few': None}
    """
    return {
        name: None if value is None else float(np.mean([run[name] for run in runs]))
        for name, value in runs[0].items()
    }


def relative_accuracy(accuracy: Floats, references: Floats) -> Floats:
    """Return accuracies relative to the best from balanced training; NaN where that is 0.

    .. math:: RA = A_t / A_u, A_u = max(A_v, A_b)

    Args:
        accuracy: (...) A_t, the method's on the long-tailed training set.
        references: (M, ...), of models trained on the balanced set of equal size: A_v of plain
            cross-entropy, A_b of the method itself.

    Example:
        >>> relative_accuracy(np.array([0.3, 0.2]), np.array([[0.6, 0.0], [0.5, 0.0]])).tolist()
        [0.5, nan]

    Source:
        Zhang et al., 2021, arXiv:2110.04596, sec. 4 (relative accuracy).
    """
    best = np.max(references, axis=0)
    unknown = np.full(np.shape(best), np.nan)
    return np.asarray(np.divide(accuracy, best, out=unknown, where=best > 0))


def confusions(predicted: NDArray[Any], labels: Ints) -> tuple[Ints, Ints, Floats]:
    """Return (true, predicted, mean samples over S runs) of every pair that occurs.

    Args:
        predicted: (S, N) class ids.
        labels: (N,) true classes.

    Example:
        >>> pairs = confusions(np.array([[0, 1], [1, 1]]), np.array([0, 1]))
        >>> [column.tolist() for column in pairs]
        [[0, 0, 1], [0, 1, 1], [0.5, 0.5, 1.0]]
    """
    size = int(max(predicted.max(), labels.max())) + 1
    keys, count = np.unique(labels * size + predicted, return_counts=True)
    return keys // size, keys % size, count / len(predicted)


def reliability(confidence: Floats, correct: NDArray[Any]) -> tuple[Ints, Floats, Floats]:
    """Return the values of a reliability diagram with `ECE_BINS` equal bins of confidence.

    A bin has its upper end, and not its lower one, as in the source.

    Args:
        confidence: (N,) largest softmax probability, 0..1.
        correct: (N,) whether the prediction is right.

    Returns:
        Of each bin the samples, the sum of their confidences and the number that are right.

    Example:
        >>> count, confidence, right = reliability(np.array([0.9, 0.9]), np.array([True, False]))
        >>> count[13], confidence[13], right[13]  # from 13 / 15 to 14 / 15
        (np.int64(2), np.float64(1.8), np.float64(1.0))

    Source:
        Guo et al., ICML 2017, arXiv:1706.04599, section 2.
    """
    bins = _bins(confidence)
    count = np.bincount(bins, minlength=ECE_BINS).astype(np.int64)
    said, right = (np.bincount(bins, w, minlength=ECE_BINS) for w in (confidence, correct))
    return count, said.astype(np.float64), right.astype(np.float64)


def calibration_error(
    confidence: Floats, correct: NDArray[np.bool_], weights: Floats | None = None
) -> float:
    """Return the expected calibration error with `ECE_BINS` equal bins.

    .. math:: ECE = sum_b (n_b / N) |accuracy_b - confidence_b|

    Args:
        confidence: (N,) largest softmax probability, 0..1.
        correct: (N,) whether the prediction is right.
        weights: (N,) of the samples; None: all count the same.

    Example:
        >>> calibration_error(np.array([0.9, 0.9]), np.array([True, False]))  # |0.5 - 0.9|
        0.4

    Source:
        Guo et al., ICML 2017, arXiv:1706.04599, eq. 3.
    """
    weights = np.ones(len(correct)) if weights is None else weights
    gaps = np.bincount(_bins(confidence), weights * (confidence - correct), minlength=ECE_BINS)
    return float(np.abs(gaps).sum() / weights.sum())


def _bins(confidence: Floats) -> Ints:
    ends = np.arange(1, ECE_BINS) / ECE_BINS
    return np.searchsorted(ends, confidence, side="left")
