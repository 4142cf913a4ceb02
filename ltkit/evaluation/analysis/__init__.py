"""What a correction does, and where: by neighbour distance, as flows, over rho, class by class.

Functions of predictions, labels and neighbours. What they return is small and made for figures:
accuracies and shares are fractions in 0..1, changes of accuracy in -1..1, and NaN stands for what
is not defined. Beside the dimensions of `ltkit.records`: `P` points of a curve; `A` statuses;
`M` neighbours of a class over all runs; `W` classes that a class is mistaken for.

Source:
    Chang et al., AlphaNet, arXiv:2008.07073, figures 1, 3, 4, 5 and 6.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import InputError
from ltkit.evaluation import metrics
from ltkit.evaluation.entries import Entry, label, settings_of
from ltkit.records import Classifier, Correction, Ints, Neighbors, ShotGroups

STATUSES = ("correct", "neighbor", "other")
"""What a prediction is: right, wrong as a neighbour of the true class, wrong otherwise."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Case:
    """One setting of a correction: what its runs, which differ in the seed only, predict.

    name, file: of the correction, as it is shown.
    label: the name, and what tells its settings apart.
    settings: of the runs, without the seed.
    class_id: (R,) corrected classes.
    seeds: of the S runs; None where a method has none.
    predicted: (S, N) class ids.
    """

    name: str
    label: str
    file: str
    settings: Mapping[str, Any]
    class_id: Ints
    seeds: tuple[int | None, ...]
    predicted: NDArray[Any]


def cases(entries: Iterable[Entry], predicted: Iterable[NDArray[Any]]) -> list[Case]:
    """Take corrections apart into their settings.

    Args:
        entries: corrections.
        predicted: (S, N) class ids of each, as `ltkit.evaluation.predict_classes` gives them.
    """
    found = []
    for entry, rows in zip(entries, predicted, strict=True):
        every = list(settings_of(entry.correction))
        for settings, runs in every:
            seeds = tuple(entry.correction.runs[run].get("seed") for run in runs)
            told = label(entry.name, settings, [other for other, _ in every])
            found.append(
                Case(
                    entry.name, told, entry.file, settings, entry.correction.class_id, seeds,
                    rows[runs],
                )
            )  # fmt: skip
    return found


def mean_and_std(values: NDArray[Any]) -> tuple[Floats, Floats]:
    """Return mean and standard deviation over S runs; the deviation of a single run is NaN.

    Args:
        values: (S, ...).

    Example:
        >>> mean_and_std(np.array([[1.0], [3.0]]))  # sqrt(((1 - 2)**2 + (3 - 2)**2) / 1)
        (array([2.]), array([1.41421356]))
    """
    mean: Floats = np.mean(values, axis=0, dtype=np.float64)
    if len(values) < 2:
        return mean, np.full_like(mean, np.nan)
    return mean, np.std(values, axis=0, ddof=1, dtype=np.float64)


def spearman(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Return Spearman's rank correlation, -1..1; equal values share their mean rank.

    NaN below three pairs, and where one side is constant.

    Example:
        >>> round(spearman(np.array([1, 2, 3, 4]), np.array([1, 3, 2, 9])), 6)  # 1 - 6 * 2 / 60
        0.8

    Source:
        Spearman, The American Journal of Psychology 15, 1904.
    """
    from scipy.stats import spearmanr

    if len(first) < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(spearmanr(first, second).statistic)


@dataclass(frozen=True, eq=False)
class ByDistance:
    """Accuracy of F classes beside their distance to the nearest others.

    class_id: (F,) ascending; classes without a sample in the split are left out.
    distance: (F,) mean over the K neighbours, in the metric's unit.
    before: (F,) accuracy of the model's own head.
    after: (S, F) accuracy of each run.
    before_r: Spearman's r of `before` with `distance`.
    after_r, change_r: of the mean of `after` over runs, and of its change from `before`.
    run_after_r, run_change_r: (S,) the same of each run.
    """

    class_id: Ints
    distance: Floats
    before: Floats
    after: Floats
    before_r: float
    after_r: float
    change_r: float
    run_after_r: Floats
    run_change_r: Floats

    def thirds(self) -> list[Ints]:
        """Return the positions of the nearest, the middle and the farthest third, of n/3 each."""
        return [
            np.sort(part) for part in np.array_split(np.argsort(self.distance, kind="stable"), 3)
        ]


def by_distance(
    before: Ints, after: NDArray[Any], labels: Ints, num_classes: int, near: Neighbors
) -> ByDistance:
    """Relate class accuracies to the mean distance of a class to its neighbours.

    Args:
        before: (N,) predictions of the model's own head.
        after: (S, N) predictions of the runs of a correction.
        labels: (N,) true classes.
        num_classes: C.
        near: of the F classes of interest.

    Raises:
        InputError: when none of them has a sample.

    Example:
        >>> near = Neighbors(np.array([0, 1]), np.array([[2], [2]]), np.array([[1.5], [2.5]]))
        >>> before, after = np.array([2, 1]), np.array([[0, 1], [2, 1]])
        >>> found = by_distance(before, after, np.array([0, 1]), 3, near)
        >>> found.distance.tolist(), found.before.tolist(), found.after.tolist()
        ([1.5, 2.5], [0.0, 1.0], [[1.0, 1.0], [0.0, 1.0]])

    Source:
        Chang et al., arXiv:2008.07073, figures 1c (before) and 4 (change).
    """
    right = np.concatenate([before[None], after]) == labels  # (1 + S, N)
    accuracy = metrics.class_accuracy(right, labels, num_classes)[:, near.few_class]
    tested = ~np.isnan(accuracy[0])
    if not tested.any():
        raise InputError("distance: found no sample of these classes; choose others with --of")
    distance = near.distance.mean(axis=1, dtype=np.float64)[tested]
    own, runs = accuracy[0, tested], accuracy[1:, tested]
    mean = runs.mean(axis=0).round(12)  # ties are ties, whatever order they were summed in
    change = (runs - own).round(12)
    return ByDistance(
        near.few_class[tested],
        distance,
        own,
        runs,
        spearman(own, distance),
        spearman(mean, distance),
        spearman((mean - own).round(12), distance),
        np.array([spearman(run, distance) for run in runs]),
        np.array([spearman(run, distance) for run in change]),
    )


def pairs_of(near: Neighbors) -> Ints:
    """Return the (F K, 2) pairs (class, neighbour).

    Example:
        >>> near = Neighbors(np.array([7]), np.array([[2, 4]]), np.ones((1, 2)))
        >>> pairs_of(near).tolist()
        [[7, 2], [7, 4]]
    """
    return np.stack([np.repeat(near.few_class, near.k), near.base_class.ravel()], axis=1)


def pairs_within(related: NDArray[np.bool_]) -> Ints:
    """Return the pairs (class, neighbour) of a (C, C) table of `ltkit.hierarchy`, itself left out.

    Example:
        >>> pairs_within(np.array([[True, True], [False, True]])).tolist()
        [[0, 1]]
    """
    pairs: Ints = np.argwhere(related & ~np.eye(len(related), dtype=np.bool_))
    return pairs


def statuses(
    predicted: NDArray[Any], labels: Ints, num_classes: int, pairs: Ints
) -> NDArray[np.int8]:
    """Say of each prediction which of `STATUSES` it is.

    Args:
        predicted: (N,) or (S, N) class ids.
        labels: (N,) true classes.
        num_classes: C.
        pairs: (n, 2) pairs (class, neighbour).

    Returns:
        Positions in `STATUSES`, of the shape of `predicted`.

    Example:
        >>> statuses(np.array([0, 1, 2]), np.array([0, 0, 0]), 3, np.array([[0, 1]])).tolist()
        [0, 1, 2]
    """
    keys = labels.astype(np.int64) * num_classes + predicted
    as_neighbor = np.isin(keys, pairs[:, 0].astype(np.int64) * num_classes + pairs[:, 1])
    found: NDArray[np.int8] = np.where(predicted == labels, 0, np.where(as_neighbor, 1, 2))
    return found.astype(np.int8)


@dataclass(frozen=True, eq=False)
class Flow:
    """Where the predictions of n samples went.

    count: (S, A, A) samples of each run by status before (row) and after (column), in the order of
        `STATUSES`; each run's sum is n.
    """

    count: Ints

    @property
    def n(self) -> int:
        """How many samples."""
        return int(self.count[0].sum())

    @property
    def before(self) -> Ints:
        """(A,) samples by status before."""
        before: Ints = self.count[0].sum(axis=1)
        return before

    @property
    def after(self) -> Ints:
        """(S, A) samples by status after."""
        after: Ints = self.count.sum(axis=1)
        return after


def flow(before: Ints, after: Ints, labels: Ints, num_classes: int, pairs: Ints) -> Flow:
    """Count the samples that move between correct, a neighbour of the true class, and other.

    Args:
        before: (N,) predictions of the model's own head.
        after: (S, N) predictions of the runs of a correction.
        labels: (N,) true classes.
        num_classes: C.
        pairs: (n, 2) pairs (class, neighbour).

    Example:
        >>> before, after = np.array([1, 2, 0]), np.array([[0, 1, 0]])
        >>> flow(before, after, np.array([0, 0, 0]), 3, np.array([[0, 1]])).count.tolist()
        [[[1, 0, 0], [1, 0, 0], [0, 1, 0]]]

    Source:
        Chang et al., arXiv:2008.07073, figures 1a, 5 and 6. Their counts are summed over ten runs,
        these are kept apart.
    """
    was = statuses(before, labels, num_classes, pairs)
    size = len(STATUSES)
    counts = [
        np.bincount(size * was.astype(np.int64) + now, minlength=size**2).reshape(size, size)
        for now in statuses(after, labels, num_classes, pairs)
    ]
    return Flow(np.stack(counts))


@dataclass(frozen=True, eq=False)
class RhoCurve:
    """Change of accuracy against rho, of fits that differ in rho and seed only.

    name: metric and k, and the fits' name where that is not enough.
    files: where the fits are.
    metric, k: of the fits.
    rho: (P,) ascending.
    runs: (P,) int64 seeds.
    change, std: by group of `ltkit.metrics.group_weights`, (P,) mean over runs of the change of
        accuracy from the model's own head, and its deviation, NaN for a single run.
    """

    name: str
    files: tuple[str, ...]
    metric: str
    k: int
    rho: Floats
    runs: Ints
    change: Mapping[str, Floats]
    std: Mapping[str, Floats]


def rho_curves(
    found: Iterable[Case], before: Ints, labels: Ints, num_classes: int, groups: ShotGroups
) -> list[RhoCurve]:
    """Return accuracy changes against rho, a curve for all fits that agree in everything else.

    A run that is in several files counts once.

    Args:
        found: settings of fits.
        before: (N,) predictions of the model's own head.
        labels: (N,) true classes.
        num_classes: C.
        groups: the shot groups.

    Raises:
        InputError: for a correction without rho.

    Source:
        Chang et al., arXiv:2008.07073, figure 3 (nearest and random neighbours).
    """
    together: dict[str, list[Case]] = {}
    for case in found:
        if not {"rho", "k", "metric"} <= case.settings.keys():
            raise InputError(
                f"{case.file}: found a correction without rho, expected fits of alphanet fit; "
                "leave it out"
            )
        rest = {name: value for name, value in case.settings.items() if name != "rho"}
        together.setdefault(repr((rest, case.class_id.tolist())), []).append(case)
    names = [f"{c[0].settings['metric']}, k {c[0].settings['k']}" for c in together.values()]
    weights = metrics.group_weights(labels, num_classes, groups)

    def accuracies(predicted: NDArray[Any]) -> Floats:  # (S, N) -> (S, G)
        by_class = metrics.class_accuracy(predicted == labels, labels, num_classes)
        return np.stack([np.nan_to_num(by_class) @ w for w in weights.values()], axis=-1)

    own, curves = accuracies(before[None]), []
    for name, same in zip(names, together.values(), strict=True):
        runs: dict[float, dict[int | None, NDArray[Any]]] = {}
        for case in same:
            at = runs.setdefault(float(case.settings["rho"]), {})
            for seed, predicted in zip(case.seeds, case.predicted, strict=True):
                at.setdefault(seed, predicted)
        rhos = sorted(runs)
        points = [accuracies(np.stack(list(runs[rho].values()))) - own for rho in rhos]
        change, std = (
            np.stack(part).round(12) for part in zip(*map(mean_and_std, points), strict=True)
        )  # (P, G)
        curves.append(
            RhoCurve(
                name if names.count(name) == 1 else f"{name} ({same[0].name})",
                tuple(dict.fromkeys(case.file for case in same)),
                same[0].settings["metric"],
                same[0].settings["k"],
                np.array(rhos),
                np.array([len(runs[rho]) for rho in rhos]),
                dict(zip(weights, change.T, strict=True)),
                dict(zip(weights, std.T, strict=True)),
            )
        )
    return curves


@dataclass(frozen=True, eq=False)
class ClassChange:
    """What a fit made of one class in S runs, and what became of its n samples.

    class_id: the class.
    neighbor: (M,) whose rows are added to its own, nearest first; with random neighbours those of
        all runs, in the order they are met.
    alpha: (S, M) coefficients; 0 where a run has other neighbours.
    used: (M,) runs that have the neighbour.
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
    """Say what an AlphaNet fit did to classes.

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
        (row,) = np.flatnonzero(correction.class_id == class_id)
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
                np.append(base.bias[class_id], correction.bias[runs, row]).astype(np.float64),
                own.shape[1],
                (own == class_id).sum(axis=1) / (own.shape[1] or np.nan),
                mistaken,
                np.stack([np.bincount(run, minlength=base.num_classes)[mistaken] for run in own]),
            )
        )
    return changes


def _coefficients(correction: Correction, num_classes: int) -> tuple[Floats, Ints]:
    """Return the (S, F, K) coefficients and neighbours that a fit keeps, checked."""
    alpha, neighbor = (correction.extra.get(name) for name in ("alpha", "neighbor"))
    if alpha is None or neighbor is None:
        raise InputError(
            f"{correction.method}: holds no coefficients, expected a fit of alphanet fit or apply"
        )
    shape = (*correction.weight.shape[:2], *alpha.shape[2:3])
    sound = alpha.shape == neighbor.shape == shape and alpha.dtype.kind == "f"
    if not sound or neighbor.dtype.kind not in "iu" or not neighbor.size:
        raise InputError(
            f"{correction.method}: found coefficients {alpha.shape} and neighbours "
            f"{neighbor.shape}, expected both as runs, classes, neighbours; fit it again"
        )
    if neighbor.min() < 0 or neighbor.max() >= num_classes or not np.isfinite(alpha).all():
        raise InputError(
            f"{correction.method}: found neighbours {neighbor.min()} to {neighbor.max()}, expected "
            f"classes from 0 to {num_classes - 1} with finite coefficients; fit it again"
        )
    return alpha, neighbor
