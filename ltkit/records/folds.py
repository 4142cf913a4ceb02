"""Folds of a split: what is learned from some samples is judged on the others."""

import numpy as np

from ltkit.records.arrays import Ints


def stratified_folds(labels: Ints, folds: int, seed: int = 0) -> Ints:
    """Return (N,) fold numbers; each class, and all together, are spread as evenly as can be.

    Args:
        labels: (N,) classes.
        folds: how many.
        seed: which of a class's samples go together.

    Example:
        >>> fold = stratified_folds(np.array([0, 0, 0, 0, 1, 1]), 2)
        >>> np.bincount(fold).tolist(), np.bincount(fold[:4]).tolist()
        ([3, 3], [2, 2])
    """
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    fold = np.empty(len(labels), np.int64)
    fold[by_class] = np.arange(len(labels)) % folds
    return fold
