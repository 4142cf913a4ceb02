"""Means of the features of each class, in one pass over the file."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.records import FeatureSplit

ROUNDING = 1e-12
"""Relative to the largest number: smaller differences are rounding of a mean."""


def around_centre(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return points minus their mean, in a unit that suits methods with fixed tolerances.

    Args:
        points: (C, D), finite.

    Returns:
        (C, D), all zeros where the points are the same; divided by a power of two where the
        numbers are far from 1.

    Example:
        >>> around_centre(np.array([[1.0], [3.0]])).tolist()
        [[-1.0], [1.0]]
        >>> around_centre(np.array([[0.1 + 0.2], [0.3]])).tolist()
        [[0.0], [0.0]]
    """
    centred: NDArray[np.float64] = points - points.mean(axis=0)
    size = float(np.abs(centred).max(initial=0))
    if size <= ROUNDING * np.abs(points).max(initial=0):
        return np.zeros_like(centred)
    if not 2**-20 <= size <= 2**20:
        centred = centred * 2.0 ** -round(np.log2(size))
    return centred


def class_means(
    split: FeatureSplit,
    num_classes: int,
    prepare: Callable[[NDArray[Any]], NDArray[np.float32]] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the mean feature of each class.

    Rows are read block by block and summed in float64, so neither memory nor rounding grows with
    N. A block is summed by class as a product with its (C, B) membership matrix, held sparse.

    Args:
        split: (N, D) features and their labels.
        num_classes: C.
        prepare: what features go through first, as `Classifier.prepare`.

    Returns:
        (C, D) means, NaN for a class without a sample, and (C,) sample counts.

    Example:
        >>> x = np.float32([[1, 0], [3, 0], [0, 5]])
        >>> means, counts = class_means(FeatureSplit(x, np.array([0, 0, 1])), 2)
        >>> means.tolist(), counts.tolist()
        ([[2.0, 0.0], [0.0, 5.0]], [2, 1])
    """
    from scipy.sparse import csr_array

    sums = np.zeros((num_classes, split.features.shape[1]))
    for _, features, labels in split.blocks():
        features = features if prepare is None else prepare(features)
        ones = np.ones(len(labels))
        members = csr_array((ones, (labels, np.arange(len(labels)))), (num_classes, len(labels)))
        sums += members @ features.astype(np.float64)
    counts = np.bincount(split.labels, minlength=num_classes)
    with np.errstate(invalid="ignore"):
        return sums / counts[:, None], counts
