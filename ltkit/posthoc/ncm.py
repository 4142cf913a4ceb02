"""Nearest class mean as a linear classifier."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ltkit.class_means import class_means
from ltkit.posthoc import check_choice, check_train
from ltkit.records import Classifier, FeatureSplit, Ints, Rows

VARIANTS = ("euclidean", "cosine", "cl2n")


def fit(
    base: Classifier,
    train: FeatureSplit | None,
    class_counts: Ints,
    *,
    variant: str = "euclidean",
) -> Classifier:
    r"""Classify by the nearest mean training feature.

    .. math::
        -\lVert f - \mu_c \rVert^2 &= 2 \mu_c \cdot f - \lVert \mu_c \rVert^2 + const
            \quad \text{(euclidean)} \\
        \cos(f, \mu_c) &\propto \mu_c \cdot f / \lVert \mu_c \rVert \quad \text{(cosine)} \\
        -\lVert f' - \mu'_c \rVert^2 &\approx \frac{1}{r} \bigl( 2 \mu'_c \cdot (f - m)
            - r \lVert \mu'_c \rVert^2 \bigr) + const, \quad f' = \frac{f - m}{\lVert f - m \rVert}
            \quad \text{(cl2n)}

    m is the mean training feature and mu' a class's mean of f'. Features are those of the file,
    whether or not `base` normalises them.

    Args:
        base: not used but for its number of classes and experts.
        train: (N, D) features and labels; every class needs a sample.
        class_counts: not used; every method takes it.
        variant: ``euclidean``; ``cosine``; or ``cl2n``, features centred and normalised. The first
            two predict exactly as their definition does. ``cl2n`` divides each feature by its own
            distance from m, which no linear classifier does; here r, the mean distance of training
            samples, stands for it where it decides: in front of the means' norms. On CIFAR-100-LT
            94 of 100 predictions are those of the definition.

    Raises:
        InputError: when there is no train split, a class has no sample in it, or the variant is
            unknown.

    Example:
        >>> train = FeatureSplit(np.float32([[1, 0], [3, 0], [0, 1]]), np.array([0, 0, 1]))
        >>> base = Classifier(np.zeros((2, 2), dtype=np.float32), np.zeros(2, dtype=np.float32))
        >>> c = fit(base, train, np.array([2, 1]))
        >>> c.weight.tolist(), c.bias.tolist()
        ([[4.0, 0.0], [0.0, 2.0]], [-4.0, -1.0])
        >>> fit(base, train, np.array([2, 1]), variant="cosine").weight.tolist()
        [[1.0, 0.0], [0.0, 1.0]]

    Source:
        Kang et al., ICLR 2020, arXiv:1910.09217, sec. 4 (nearest class mean classifier).

        ``cl2n`` is the released code's, after Wang et al., SimpleShot, arXiv:1911.04623.
    """
    check_choice("variant", variant, VARIANTS)
    train = check_train(train, base.num_classes)
    means, counts = class_means(train, base.num_classes)
    if variant == "euclidean":
        weight, bias = 2 * means, -(means**2).sum(axis=1)
    elif variant == "cosine":
        weight, bias = _unit(means), np.zeros(len(means))
    else:
        centre = counts @ means / counts.sum()
        unit_rows = FeatureSplit(_CentredUnit(train.features, centre), train.labels)
        processed, _ = class_means(unit_rows, base.num_classes)
        means, radius = processed[:, :-1], counts @ processed[:, -1] / counts.sum()
        weight = 2 * means
        bias = -weight @ centre - radius * (means**2).sum(axis=1)
    return Classifier(weight.astype(np.float32), bias.astype(np.float32), experts=base.experts)


@dataclass(frozen=True, eq=False)
class _CentredUnit:
    """Features less their centre, divided by their norm, which is one more column."""

    features: Rows
    centre: NDArray[np.float64]

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.features.shape[0], self.features.shape[1] + 1)

    @property
    def dtype(self) -> np.dtype[np.float64]:
        return np.dtype(np.float64)

    def __getitem__(self, rows: slice) -> NDArray[np.float64]:
        centred = self.features[rows] - self.centre
        return np.hstack([_unit(centred), np.linalg.norm(centred, axis=1, keepdims=True)])


def _unit(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: NDArray[np.float64] = rows / np.maximum(norms, 1e-12)
    return unit
