"""Class-balanced ridge regression of the label, in closed form from the features' moments."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ltkit.errors import InputError
from ltkit.posthoc import check_range, check_train
from ltkit.posthoc._stacked import balanced_moments, balanced_weights
from ltkit.records import Classifier, FeatureSplit, Ints

ANEW = True
GRID = {"penalty": (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)}


def fit(
    base: Classifier,
    train: FeatureSplit | None,
    class_counts: Ints,
    *,
    penalty: float = 1e-2,
) -> Classifier:
    r"""Regress the one-hot label on the features, every class with the same total weight.

    .. math:: \min_{W, b} \frac{1}{C} \sum_c \frac{1}{n_c} \sum_{i: y_i = c}
            \lVert e_c - W f_i - b \rVert^2 + \alpha \lVert W \rVert^2, \quad
        W = \frac{1}{C} (\mu_c - m) (S + \alpha I)^{-1}

    with m and S the class-balanced mean and covariance of the features and alpha the penalty times
    the mean eigenvalue of S, so that a penalty means the same whatever the features' size. One
    pass over the features gives the moments, in float64.

    Args:
        base: used only for its number of classes and the form of its features.
        train: (N, D) features and labels; every class needs a sample.
        class_counts: not used; the samples decide.
        penalty: above 0; the greater, the nearer to the nearest of the centred means.

    Raises:
        InputError: when there is no train split, a class has no sample in it, or the penalty is
            out of range.

    Example:
        >>> train = FeatureSplit(np.float32([[1], [-1], [-1]]), np.array([0, 1, 1]))
        >>> base = Classifier(np.zeros((2, 1), dtype=np.float32), np.zeros(2, dtype=np.float32))
        >>> c = fit(base, train, np.array([1, 2]), penalty=1.0)  # m = 0, S = 1, alpha = 1
        >>> c.weight.tolist(), c.bias.tolist()
        ([[0.25], [-0.25]], [0.5, 0.5])

    Source:
        Hoerl and Kennard, Technometrics 1970, doi:10.1080/00401706.1970.10488634.

        It is scikit-learn's RidgeClassifier with ``class_weight="balanced"`` and alpha times N, for
        targets 0 and 1.
    """
    return fit_many(base, train, class_counts, [{"penalty": penalty}])[0]


def fit_many(
    base: Classifier,
    train: FeatureSplit | None,
    class_counts: Ints,
    tried: Sequence[Mapping[str, Any]],
) -> list[Classifier]:
    """Fit several penalties from one pass over the features; each of `tried` is as for `fit`."""
    train = check_train(train, base.num_classes)
    for settings in tried:
        check_range("penalty", settings["penalty"], 0)
        if settings["penalty"] == 0:
            raise InputError("penalty: found 0, expected above 0: features may be collinear")
    rows = ((base.prepare(features), labels) for _, features, labels in train.blocks())
    weights = balanced_weights(train.labels, base.num_classes)
    means, centre, covariance = balanced_moments(rows, base.feature_size, weights)
    values, vectors = np.linalg.eigh(covariance)
    size = max(values.mean(), np.finfo(np.float64).tiny)
    turned = (means - centre) @ vectors / base.num_classes
    found = []
    for settings in tried:
        weight = turned / (values.clip(0) + settings["penalty"] * size) @ vectors.T
        bias = 1 / base.num_classes - weight @ centre
        found.append(
            Classifier(
                weight.astype(np.float32), bias.astype(np.float32),
                base.normalize_features, base.experts,
            )
        )  # fmt: skip
    return found
