"""Softmax probabilities of a split, block by block: no array of all samples by all classes."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import InputError
from ltkit.records import BLOCK_BYTES, Classifier, FeatureSplit, Ints, blocks

Floats = NDArray[np.float64]

AT_ONCE = 8 * BLOCK_BYTES
"""Bytes of a block of logits, in float64."""

RANKED_AT_ONCE = 64 << 20
"""Bytes of the scores of all samples for some classes, one at least."""

LEAST = float(np.finfo(np.float64).eps)
"""Probability below which a likelihood counts as this, as in scikit-learn."""


def logit_blocks(
    split: FeatureSplit, classifier: Classifier
) -> Iterator[tuple[slice, Floats, Ints]]:
    """Yield (rows, (B, C) float64 logits, (B,) labels), a few MiB at a time.

    Raises:
        InputError: when logits are not finite.
    """
    size = max(1, AT_ONCE // (8 * classifier.num_classes))
    for rows, features, labels in split.blocks():
        for part in blocks(len(labels), size):
            with np.errstate(over="ignore", invalid="ignore"):
                logits = classifier.logits(features[part]).astype(np.float64)
            if not np.isfinite(logits).all():
                raise InputError(
                    "logits: not finite; the classifier is damaged, or the features too large"
                )
            yield slice(rows.start + part.start, rows.start + part.stop), logits, labels[part]


def softmax(logits: Floats) -> Floats:
    """Turn (B, C) logits into probabilities, in place.

    Example:
        >>> softmax(np.array([[0.0, np.log(3)]])).round(2).tolist()
        [[0.25, 0.75]]
    """
    logits -= logits.max(axis=1, keepdims=True)
    np.exp(logits, out=logits)
    logits /= logits.sum(axis=1, keepdims=True)
    return logits


def mean_softmax(split: FeatureSplit, classifier: Classifier) -> Floats:
    """Return (C,) mean probability of each class over a split's samples.

    Over the samples that a head was trained on with plain cross-entropy it is the frequency of
    classes: at the minimum, the cost's derivative in each bias is their difference.

    Example:
        >>> split = FeatureSplit(np.float32([[1], [-1]]), np.array([0, 1]))
        >>> head = Classifier(np.float32([[0], [0]]), np.log(np.float32([1, 3])))
        >>> mean_softmax(split, head).round(2).tolist()
        [0.25, 0.75]
    """
    total = np.zeros(classifier.num_classes)
    for _, logits, _ in logit_blocks(split, classifier):
        total += softmax(logits).sum(axis=0)
    return total / len(split)


def likelihoods(split: FeatureSplit, classifier: Classifier) -> tuple[Floats, Floats, Floats]:
    r"""Return (N,) negative log-likelihoods, Brier scores, and normalisers of the logits.

    .. math:: -\log p_y, \quad \sum_c (p_c - [c = y])^2, \quad \log \sum_c e^{z_c}

    Example:
        >>> split = FeatureSplit(np.float32([[1]]), np.array([0]))
        >>> head = Classifier(np.zeros((2, 1), np.float32), np.log(np.float32([1, 3])))
        >>> nll, brier, _ = likelihoods(split, head)  # p = 1/4, 3/4
        >>> round(float(np.exp(-nll[0])), 6), round(float(brier[0]), 6)
        (0.25, 1.125)
    """
    nll, brier, normaliser = (np.empty(len(split)) for _ in range(3))
    for rows, logits, labels in logit_blocks(split, classifier):
        samples, most = np.arange(len(labels)), logits.max(axis=1)
        own = logits[samples, labels]
        p = softmax(logits)
        true = p[samples, labels]
        normaliser[rows] = most - np.log(p.max(axis=1))
        nll[rows] = np.minimum(normaliser[rows] - own, -np.log(LEAST))
        brier[rows] = np.einsum("bc,bc->b", p, p) - 2 * true + 1
    return nll, brier, normaliser


def one_against_rest(
    split: FeatureSplit,
    classifier: Classifier,
    normaliser: Floats,
    weights: Floats,
) -> tuple[Floats, Floats]:
    """Return each class's (C,) area under the ROC curve, and average precision.

    Samples are ranked by the class's probability. All samples of some classes at a time, so that
    the features are read once for each such part.

    Args:
        split: N samples.
        classifier: with C classes.
        normaliser: (N,) of `likelihoods`.
        weights: (N,) of the samples.

    Returns:
        NaN for a class without a sample, and for one without a sample of any other.
    """
    size = classifier.num_classes
    auroc, precision = np.full(size, np.nan), np.full(size, np.nan)
    counts = np.bincount(split.labels, minlength=size)
    starts, members = np.cumsum(counts) - counts, np.argsort(split.labels, kind="stable")
    for part in blocks(size, max(1, RANKED_AT_ONCE // (8 * len(split)))):
        some = Classifier(
            classifier.weight[part], classifier.bias[part], classifier.normalize_features,
            classifier.experts,
        )  # fmt: skip
        scores = np.empty((part.stop - part.start, len(split)))
        for rows, logits, _ in logit_blocks(split, some):
            scores[:, rows] = (logits - normaliser[rows, None]).T
        for score, class_id in zip(scores, range(part.start, part.stop), strict=True):
            if 0 < counts[class_id] < len(split):
                own = members[starts[class_id] : starts[class_id] + counts[class_id]]
                auroc[class_id], precision[class_id] = areas(score, own, weights)
    return auroc, precision


def areas(score: Floats, own: Ints, weights: Floats) -> tuple[float, float]:
    """Return the area under the ROC curve, and the average precision, of one class.

    Only samples that lie no lower than the lowest of the class are sorted in among its own: with
    thousands of classes that is far less than ranking all of them for each.

    Args:
        score: (N,).
        own: (P,) samples of the class.
        weights: (N,) of the samples.

    Returns:
        NaN where either side has no weight.

    Example:
        >>> areas(np.array([0.1, 0.4, 0.35, 0.8]), np.array([1, 3]), np.ones(4))
        (1.0, 1.0)
        >>> low, precision = areas(np.array([0.1, 0.4, 0.35, 0.8]), np.array([2, 3]), np.ones(4))
        >>> low, round(precision, 4)  # (1 + 2/3) / 2
        (0.75, 0.8333)
    """
    levels, level = np.unique(score[own], return_inverse=True)
    there = np.bincount(level, weights[own])
    total, others = there.sum(), weights.sum() - there.sum()
    if total <= 0 or others <= 0:
        return np.nan, np.nan
    high = np.flatnonzero(score >= levels[0])
    reached = np.searchsorted(levels, score[high], "right") - 1
    passed = np.searchsorted(levels, score[high], "left")
    found = _from_the_top(there)
    every = _from_the_top(np.bincount(reached, weights[high]))
    above = _from_the_top(np.bincount(passed, weights[high], len(levels) + 1))[1:]
    ahead = (every - found + above - (found - there)) / 2  # of others; equal ones count half
    share = there / total
    return float(share @ (1 - ahead / others)), float(share @ (found / every))


def _from_the_top(weights: NDArray[Any]) -> Floats:
    """Return the sum of each weight and those after it."""
    sums: Floats = weights[::-1].cumsum()[::-1]
    return sums
