"""Folds of a split: what is learned from some samples is judged on the others."""

import numpy as np

from ltkit.records.arrays import Ints
from ltkit.records.features import FeatureSplit
from ltkit.records.present import SomeRows


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


def some_samples(split: FeatureSplit, rows: Ints) -> FeatureSplit:
    """Return some samples of a split, read from it as they are asked for.

    Args:
        split: N samples.
        rows: their numbers, ascending.

    Example:
        >>> split = FeatureSplit(np.arange(6).reshape(3, 2), np.array([0, 1, 1]))
        >>> some_samples(split, np.array([0, 2])).features[0:2].tolist()
        [[0, 1], [4, 5]]
    """
    ids = None if split.ids is None else split.ids[rows]
    return FeatureSplit(SomeRows(split.features, rows), split.labels[rows], ids)
