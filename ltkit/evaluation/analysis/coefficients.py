"""What an AlphaNet fit learned for a class, and how its samples' predictions changed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import InputError
from ltkit.records import Classifier, Correction, Ints

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ClassChange:
    """What a fit learned for one class in S runs, and what changed for its n samples.

    class_id: the class.
    neighbor: (M,) whose rows are added to its own, nearest first; with random neighbours those of
        all runs, in the order they are met.
    alpha: (S, M) coefficients that act, in a composition what was learned times the scale; 0 where
        a run has other neighbours.
    used: (M,) number of runs with the neighbour.
    bias: (1 + S,) of the model's own head, then of the runs.
    samples: n.
    accuracy: (1 + S,) before, then of the runs; NaN without a sample.
    mistaken: (W,) classes that its samples are mistaken for, before or in a run, ascending.
    mistakes: (1 + S, W) how many are, before and then in the runs.
    """

    class_id: int
    neighbor: Ints
    alpha: Floats
    used: Ints
    bias: Floats
    samples: int
    accuracy: Floats
    mistaken: Ints
    mistakes: Ints


def class_changes(
    correction: Correction,
    runs: Sequence[int],
    base: Classifier,
    before: Ints,
    after: NDArray[Any],
    labels: Ints,
    class_ids: Iterable[int],
) -> list[ClassChange]:
    """Return what an AlphaNet fit changed for classes.

    Args:
        correction: of `ltkit.alphanet.fit` or `apply`.
        runs: S of its runs.
        base: the model's own head.
        before: (N,) its predictions.
        after: (S, N) predictions of the runs.
        labels: (N,) true classes.
        class_ids: corrected classes.

    Raises:
        InputError: when the correction has no sound coefficients.

    Example:
        >>> base = Classifier(np.eye(3, dtype=np.float32), np.zeros(3, np.float32))
        >>> correction = Correction(
        ...     "alphanet", np.array([2]), np.float32([[[0.75, -0.25, 1]]]), np.float32([[0.5]]),
        ...     ({"rho": 1.0},),
        ...     extra={"alpha": np.array([[[0.75, -0.25]]]), "neighbor": np.array([[[0, 1]]])},
        ... )
        >>> before, after, labels = np.array([0, 0, 2]), np.array([[2, 1, 2]]), np.array([2, 2, 2])
        >>> (found,) = class_changes(correction, [0], base, before, after, labels, [2])
        >>> found.neighbor.tolist(), found.alpha.tolist(), found.bias.tolist()
        ([0, 1], [[0.75, -0.25]], [0.0, 0.5])
        >>> found.mistaken.tolist(), found.mistakes.tolist()
        ([0, 1], [[2, 0], [0, 1]])
    """
    alphas, neighbors = _coefficients(correction, base.num_classes)
    alphas, neighbors = alphas[runs], neighbors[runs]
    predicted = np.concatenate([before[None], after])  # (1 + S, N)
    changes = []
    for class_id in class_ids:
        (row,) = np.flatnonzero(correction.learned_class == class_id)
        (own_row,) = np.flatnonzero(correction.class_id == class_id)
        near = neighbors[:, row]  # (S, K)
        neighbor = np.array(list(dict.fromkeys(near.ravel().tolist())), dtype=np.int64)
        added = near[:, :, None] == neighbor  # (S, K, M)
        own = predicted[:, labels == class_id]  # (1 + S, n)
        mistaken = np.unique(own[own != class_id]).astype(np.int64)
        changes.append(
            ClassChange(
                int(class_id),
                neighbor,
                (alphas[:, row, :, None].astype(np.float64) * added).sum(axis=1),
                added.any(axis=1).sum(axis=0),
                np.append(base.bias[class_id], correction.bias[runs, own_row]).astype(np.float64),
                own.shape[1],
                (own == class_id).sum(axis=1) / (own.shape[1] or np.nan),
                mistaken,
                np.stack([np.bincount(run, minlength=base.num_classes)[mistaken] for run in own]),
            )
        )
    return changes


def _coefficients(correction: Correction, num_classes: int) -> tuple[Floats, Ints]:
    """Return a fit's (S, F, K) coefficients, as they act, and neighbours, checked."""
    alpha, neighbor = (correction.learned.get(name) for name in ("alpha", "neighbor"))
    if alpha is None or neighbor is None:
        raise InputError(
            f"{correction.method}: holds no coefficients, expected a fit of alphanet fit or apply"
        )
    shape = (len(correction.runs), len(correction.learned_class), *alpha.shape[2:3])
    sound = alpha.shape == neighbor.shape == shape and alpha.dtype.kind == "f"
    if not sound or neighbor.dtype.kind not in "iu" or not neighbor.size:
        raise InputError(
            f"{correction.method}: found coefficients {alpha.shape} and neighbours "
            f"{neighbor.shape}, expected both as runs, classes, neighbours; fit it again"
        )
    if correction.composed:
        scale = np.array([run["scale"] for run in correction.runs], np.float64)
        with np.errstate(over="ignore"):
            alpha = alpha * scale[:, None, None]
    if neighbor.min() < 0 or neighbor.max() >= num_classes or not np.isfinite(alpha).all():
        raise InputError(
            f"{correction.method}: found neighbours {neighbor.min()} to {neighbor.max()}, expected "
            f"classes from 0 to {num_classes - 1} with finite coefficients; fit it again"
        )
    return alpha, neighbor
