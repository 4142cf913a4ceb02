"""Nearest class mean as a linear classifier."""

import numpy as np

from ltkit.class_means import class_means
from ltkit.errors import InputError
from ltkit.records import Classifier, FeatureSplit, Ints


def fit(base: Classifier, train: FeatureSplit | None, class_counts: Ints) -> Classifier:
    r"""Classify by the nearest mean training feature, in Euclidean distance.

    .. math:: -\lVert f - \mu_c \rVert^2 = 2 \mu_c \cdot f - \lVert \mu_c \rVert^2 + const

    Args:
        base: not used but for its number of classes.
        train: (N, D) features and labels; every class needs a sample.
        class_counts: not used; every method takes it.

    Raises:
        InputError: when there is no train split, or a class has no sample in it.

    Example:
        >>> train = FeatureSplit(np.float32([[1, 0], [3, 0], [0, 1]]), np.array([0, 0, 1]))
        >>> base = Classifier(np.zeros((2, 2), dtype=np.float32), np.zeros(2, dtype=np.float32))
        >>> c = fit(base, train, np.array([2, 1]))
        >>> c.weight.tolist(), c.bias.tolist()
        ([[4.0, 0.0], [0.0, 2.0]], [-4.0, -1.0])

    Source:
        Kang et al., ICLR 2020, arXiv:1910.09217, sec. 4 (nearest class mean classifier).
    """
    if train is None:
        raise InputError("no train split to take class means of; extract it")
    means, counts = class_means(train, base.num_classes)
    empty = np.flatnonzero(counts == 0)
    if len(empty):
        raise InputError(
            f"class {empty[0]}: no training sample, so no mean feature; {len(empty)} such classes; "
            "extract the train split"
        )
    return Classifier((2 * means).astype(np.float32), (-(means**2).sum(axis=1)).astype(np.float32))
