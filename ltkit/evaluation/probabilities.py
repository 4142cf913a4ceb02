"""Softmax probabilities of a split, block by block: no array of all samples by all classes."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import InputError
from ltkit.records import BLOCK_BYTES, Classifier, FeatureSplit, Ints, blocks

Floats = NDArray[np.float64]

AT_ONCE = 8 * BLOCK_BYTES
"""Bytes of a block of logits, in float64."""


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
