r"""How new a sample looks: five scores, each the greater the newer.

- ``max-softmax``: :math:`1 - \max_c p_c`
- ``max-logit``: :math:`-\max_c z_c`
- ``energy``: :math:`-\log \sum_c e^{z_c}`
- ``knn``: distance to the k-th nearest training feature, all of length 1
- ``mahalanobis``: squared distance to the nearest class mean by the covariance that all classes
  share, of features of length 1; shrunk towards a multiple of the identity

Source:
    Hendrycks and Gimpel, ICLR 2017, arXiv:1610.02136 (max softmax); Hendrycks et al., ICML 2022,
    arXiv:1911.11132 (max logit); Liu et al., NeurIPS 2020, arXiv:2010.03759 (energy); Sun et al.,
    ICML 2022, arXiv:2204.06507 (k nearest); Lee et al., NeurIPS 2018, arXiv:1807.03888
    (Mahalanobis); Chen et al., IEEE Transactions on Signal Processing 58, 2010 (shrinkage: OAS).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import InputError
from ltkit.evaluation.probabilities import logit_blocks
from ltkit.neighbors.class_means import class_means
from ltkit.records import Classifier, FeatureSplit, Ints, blocks, unit_rows
from ltkit.records.progress import Report, silent

SCORES = ("max-softmax", "max-logit", "energy", "knn", "mahalanobis")

QUERIES, COMPARED = 4096, 512
"""Samples that are looked up at a time, and training samples they are compared with at a time: few,
so that most such parts have nothing nearer, and the nearest need not be sorted out anew."""

Floats = NDArray[np.float64]


def unit(features: NDArray[Any]) -> NDArray[np.float32]:
    """Return (B, D) float32 features of length 1."""
    return np.asarray(unit_rows(features.astype(np.float32)), np.float32)


def of_logits(split: FeatureSplit, classifier: Classifier) -> tuple[dict[str, Floats], Ints]:
    """Return the three scores of a split's logits, and the class that each sample is taken for.

    Example:
        >>> split = FeatureSplit(np.float32([[1]]), np.array([0]))
        >>> head = Classifier(np.float32([[0], [0]]), np.log(np.float32([1, 3])))
        >>> found, predicted = of_logits(split, head)
        >>> {name: round(float(v[0]), 3) for name, v in found.items()}, predicted.tolist()
        ({'max-softmax': 0.25, 'max-logit': -1.099, 'energy': -1.386}, [1])
    """
    found = {name: np.empty(len(split)) for name in SCORES[:3]}
    predicted = np.empty(len(split), np.int64)
    for rows, logits, _ in logit_blocks(split, classifier):
        most = logits.max(axis=1)
        rest = np.log(np.exp(logits - most[:, None]).sum(axis=1))
        found["max-softmax"][rows] = -np.expm1(-rest)
        found["max-logit"][rows], found["energy"][rows] = -most, -(most + rest)
        predicted[rows] = logits.argmax(axis=1)
    return found, predicted


def nearest_distances(
    split: FeatureSplit, train: FeatureSplit, k: int, report: Report = silent
) -> Floats:
    """Return (N,) distances to the k-th nearest training feature, all of length 1.

    Args:
        split: N samples.
        train: what they are compared with, read once for each `QUERIES` of them.
        k: which of the nearest.
        report: called with how many are finished.

    Example:
        >>> train = FeatureSplit(np.float32([[2, 0], [0, 1]]), np.array([0, 1]))
        >>> split = FeatureSplit(np.float32([[3, 0]]), np.array([0]))
        >>> nearest_distances(split, train, 1).tolist(), nearest_distances(split, train, 2).round(3)
        ([0.0], array([1.414]))
    """
    found = np.empty(len(split))
    for rows, features, _ in split.blocks():
        for part in blocks(len(features), QUERIES):
            cosines = _greatest_cosines(unit(features[part]), train, k)
            squared = np.maximum(2 - 2 * cosines.min(axis=1).astype(np.float64), 0)
            done = rows.start + part.stop
            found[rows.start + part.start : done] = np.sqrt(squared)
            report("nearest training images", done, len(split))
    return found


def _greatest_cosines(
    queries: NDArray[np.float32], train: FeatureSplit, k: int
) -> NDArray[np.float32]:
    """Return (B, k) cosines with the nearest training features."""
    best = np.full((len(queries), k), -np.inf, np.float32)
    least = best[:, 0].copy()  # of those with the nearest
    for _, features, _ in train.blocks():
        rows = unit(features)
        for part in blocks(len(rows), COMPARED):
            cosines = queries @ rows[part].T
            nearer = np.flatnonzero(cosines.max(axis=1) > least)
            both = np.concatenate([best[nearer], cosines[nearer]], axis=1)
            best[nearer] = np.partition(both, both.shape[1] - k, axis=1)[:, -k:]
            least[nearer] = best[nearer].min(axis=1)
    return best


@dataclass(frozen=True, eq=False)
class Shape:
    """Where the classes are, in coordinates in which the covariance that they share is one.

    whiten: (D, D); means: (C, D) of the classes with training samples, whitened.
    shrinkage: how far the covariance was drawn to a multiple of the identity, 0..1.
    """

    whiten: Floats
    means: Floats
    shrinkage: float


def shape_of(train: FeatureSplit, num_classes: int) -> Shape:
    """Return the class means and the shared covariance of features of length 1.

    Raises:
        InputError: when all features of a class are one point, so that there is no covariance.
    """
    means, counts = class_means(train, num_classes, unit)
    covariance = np.zeros((means.shape[1],) * 2)
    for _, features, labels in train.blocks():
        centred = unit(features) - means[labels]
        covariance += centred.T @ centred
    covariance /= counts.sum()
    shrunk, shrinkage = oas(covariance, int(counts.sum()))
    values, vectors = np.linalg.eigh(shrunk)
    if values[0] <= 0:
        raise InputError(
            "train: found no spread within the classes, expected several samples of one; extract "
            "more training images"
        )
    whiten = vectors / np.sqrt(values)
    return Shape(whiten, means[counts > 0] @ whiten, shrinkage)


def oas(covariance: Floats, samples: int) -> tuple[Floats, float]:
    r"""Return a covariance drawn to :math:`\mu I`, and how far: by oracle approximating shrinkage.

    .. math::
        \rho = \min\left(1, \frac{\overline{S^2} + \mu^2}
        {(n + 1) (\overline{S^2} - \mu^2 / D)}\right), \quad \mu = \mathrm{tr}(S) / D

    with :math:`\overline{S^2}` the mean of the squared entries, as scikit-learn has it.

    Example:
        >>> oas(np.diag([3.0, 1.0]), 9)[1]  # (2.5 + 4) / (10 * (2.5 - 2)) is above 1
        1.0
    """
    size = len(covariance)
    mu, squares = float(np.trace(covariance)) / size, float((covariance**2).mean())
    apart = (samples + 1) * (squares - mu**2 / size)
    rho = 1.0 if apart <= 0 else min((squares + mu**2) / apart, 1.0)
    return (1 - rho) * covariance + rho * mu * np.eye(size), rho


def distances_to_classes(split: FeatureSplit, shape: Shape) -> Floats:
    """Return (N,) squared Mahalanobis distances to the nearest class."""
    found, squares = np.empty(len(split)), (shape.means**2).sum(axis=1)
    for rows, features, _ in split.blocks(6 * len(squares)):  # three arrays of float64
        at = unit(features) @ shape.whiten
        apart = squares - 2 * at @ shape.means.T + (at**2).sum(axis=1, keepdims=True)
        found[rows] = apart.min(axis=1)
    return np.maximum(found, 0)
