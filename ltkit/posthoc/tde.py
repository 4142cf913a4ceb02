"""TDE: the part of a logit that lies along the mean training feature is taken off."""

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import InputError
from ltkit.posthoc import check_range
from ltkit.records import Classifier, FeatureSplit, Floats, Ints, unit_rows

HEAD_ONLY = True
MEAN = True
GRID = {"alpha": tuple(i / 4 for i in range(17))}
"""0 to 4 in steps of 1/4."""


def fit(
    base: Classifier,
    train: FeatureSplit | None,
    class_counts: Ints,
    mean: Floats | None = None,
    *,
    alpha: float = 1.5,
) -> Classifier:
    r"""Take off what the direction of the mean training feature adds to each logit.

    .. math:: w'^k_c = w^k_c - \alpha\, (w^k_c \cdot \hat e^k)\, \hat e^k

    On a head that acts on normalised features, as that of ``train tde``, this is the total direct
    effect, :math:`w^k \cdot (\hat f^k - \alpha \cos(f^k, e^k)\, \hat e^k)` in each of its K parts.
    A head that does not loses the same share of its logits along the mean.

    Args:
        base: the classifier to correct; its bias stays.
        train: (N, D) features, whose mean is taken where there is no other.
        class_counts: not used; every method takes it.
        mean: (D,) e, the moving mean that training left in the features file; only its direction
            counts.
        alpha: 0 leaves the head as it is, 1 makes it blind to the mean's direction; 1.5 in the
            source for CIFAR, 3 for ImageNet-LT. It is to be chosen on validation data.

    Raises:
        InputError: when alpha is out of range, or there is neither a mean nor a train split.

    Example:
        >>> base = Classifier(np.float32([[3, 4], [1, 0]]), np.zeros(2, np.float32))
        >>> found = fit(base, None, None, np.float32([0, 5]), alpha=1.5)
        >>> found.weight.tolist()  # 4 - 1.5 * 4
        [[3.0, -2.0], [1.0, 0.0]]

    Source:
        Tang et al., NeurIPS 2020, arXiv:2009.12991, sec. 4 (total direct effect), in the form of
        the released code, whose logits are the same to 5e-7 of the largest.
    """
    check_range("alpha", alpha, 0, 10)
    mean = _mean(train) if mean is None else mean
    parts = base.weight.reshape(base.num_classes, base.experts, -1).astype(np.float64)
    directions = unit_rows(mean.astype(np.float64).reshape(base.experts, -1))  # (K, D / K)
    along = np.einsum("ckd,kd->ck", parts, directions)[..., None]
    weight = (parts - alpha * along * directions).reshape(base.weight.shape)
    return Classifier(
        weight.astype(np.float32), base.bias, base.normalize_features, base.experts
    )  # fmt: skip


def _mean(train: FeatureSplit | None) -> NDArray[np.float64]:
    """Return the (D,) mean feature of the train split.

    Raises:
        InputError: when there is none, or it is empty.
    """
    if train is None or not len(train):
        raise InputError(
            "no mean of the training features, which train tde leaves, and no train split to take "
            "it from; extract the train split"
        )
    total = np.zeros(train.features.shape[1])
    for _, features, _ in train.blocks():
        total += features.sum(axis=0, dtype=np.float64)
    return total / len(train)
