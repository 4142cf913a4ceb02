"""Tau-normalised classifier: rows divided by a power of their norm, no bias."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import InputError
from ltkit.records import NEVER, Classifier, FeatureSplit, Ints, lengths
from ltkit.settings import RANGES

HEAD_ONLY = True
GRID = {"tau": tuple(i / 10 for i in range(21))}
"""0 to 2 in steps of 0.1, as in the released code."""


def row_scales(
    base: Classifier, runs: Sequence[Mapping[str, Any]]
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Return the (S, C) factors of rows, and biases, of many runs: they share a matrix product."""
    norms = lengths(base.weight.astype(np.float64))[:, 0]
    norms = np.where(norms > 0, norms, 1)
    with np.errstate(all="ignore"):  # an extreme tau overflows; whoever uses the rows checks them
        scales = np.stack([norms ** -run["tau"] for run in runs])
    return scales, np.stack([_bias(base)] * len(runs))


def _bias(base: Classifier) -> NDArray[Any]:
    return np.where(base.bias > NEVER, 0, base.bias).astype(base.bias.dtype)


def fit(
    base: Classifier, train: FeatureSplit | None, class_counts: Ints, *, tau: float = 1.0
) -> Classifier:
    r"""Divide each class's row by its norm to the power tau.

    .. math:: w'_c = w_c / \lVert w_c \rVert_2^{\tau}, \quad b'_c = 0

    Args:
        base: the classifier to correct; its bias is dropped, as in the source, but for classes
            that it never predicts.
        train: not used; every method takes it.
        class_counts: not used; every method takes it.
        tau: 0 keeps the rows, 1 makes all norms 1.

    Raises:
        InputError: when tau is out of its range, or so large that nothing of a row is left.

    Example:
        >>> base = Classifier(np.float32([[3, 4], [0, 2]]), np.float32([1, 1]))
        >>> weight = fit(base, None, None, tau=1.0).weight  # norms 5 and 2
        >>> [[round(w, 2) for w in row] for row in weight.tolist()]
        [[0.6, 0.8], [0.0, 1.0]]

    Source:
        Kang et al., ICLR 2020, arXiv:1910.09217, sec. 4 (tau-normalised classifier).
    """
    RANGES["tau"].check(tau, "tau")
    norms = lengths(base.weight.astype(np.float64))
    with np.errstate(all="ignore"):  # an extreme tau overflows; whoever uses the rows checks them
        weight = (base.weight / np.where(norms > 0, norms, 1) ** tau).astype(np.float32)
    if (base.weight.any(axis=1) & ~weight.any(axis=1)).any():
        raise InputError(f"tau: found {tau:g}, which makes rows 0 in float32; set it nearer to 1")
    return Classifier(weight, _bias(base), base.normalize_features, base.experts)
