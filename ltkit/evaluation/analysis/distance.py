"""Accuracy against the distance of a class to its nearest others: ``ltkit analyze distance``."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import InputError, SettingError
from ltkit.evaluation import metrics
from ltkit.evaluation.analysis.subject import (
    Case,
    Note,
    Subject,
    baseline,
    described,
    known,
    mean_and_std,
    silent,
)
from ltkit.records import Ints, Neighbors
from ltkit.settings import NeighborSettings

Floats = NDArray[np.float64]


def spearman(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Return Spearman's rank correlation, -1..1; equal values share their mean rank.

    NaN with fewer than three pairs, or if one side is constant.

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
    """Accuracy of F classes and their distance to the nearest others.

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


def by_distance(
    before: Ints, after: NDArray[Any], labels: Ints, num_classes: int, near: Neighbors
) -> ByDistance:
    """Relate class accuracies to the mean distance of a class to its neighbours.

    Args:
        before: (N,) predictions of the model's own head.
        after: (S, N) predictions of the runs of a correction.
        labels: (N,) true classes.
        num_classes: C.
        near: neighbours of the F classes of interest.

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
        raise InputError("distance: found no sample of these classes; choose others")
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


def thirds(distance: Sequence[float]) -> list[list[int]]:
    """Return the positions of the nearest, middle and farthest third, n/3 each.

    Example:
        >>> thirds([2.0, 9.0, 1.0])
        [[2], [0], [1]]
    """
    order = np.argsort(distance, kind="stable")
    return [np.sort(part).tolist() for part in np.array_split(order, 3)]


def analyze_distance(
    subject: Subject,
    settings: NeighborSettings,
    *,
    of: str = "few",
    among: str = "base",
    note: Note = silent,
) -> dict[str, Any]:
    """Relate class accuracies, and their changes, to the distance of the nearest classes.

    Args:
        subject: from `observe`.
        settings: how the nearest classes are found.
        of: the group of classes: few, medium, many, base or all.
        among: the group of classes that may be neighbours.
        note: called with what is left out.

    Returns:
        The document of ``analyze distance --json``.

    Raises:
        InputError: where a group has no trained class, for a k out of range, and where no class
            has a sample in the split.
    """
    subject.note_untrained(note)
    chosen, others = subject.trained(of, "of"), subject.trained(among, "among")
    for setting, group, ids in (("of", of, chosen), ("among", among, others)):
        if not len(ids):
            bins = ",".join(map(str, subject.bins))
            raise SettingError(
                setting, f"found no {group} class in {subject.features.source} with bins {bins}"
            )
    near = subject.nearest(chosen, others, settings)
    rows = distance_rows(subject, subject.cases, near)
    counts = np.bincount(subject.labels, minlength=len(subject.classes))
    tested = counts[near.few_class] > 0
    distance = near.distance.mean(axis=1, dtype=np.float64)
    table = zip(
        near.few_class[tested].tolist(), distance[tested].tolist(),
        near.base_class[tested].tolist(), strict=True,
    )  # fmt: skip
    classes = [
        {
            "class": c, "name": subject.classes.name(c),
            "train_count": int(subject.classes.train_count[c]), "samples": int(counts[c]),
            "distance": mean, "neighbors": others_of_c,
        }
        for c, mean, others_of_c in table
    ]  # fmt: skip
    return {
        "schema": "ltkit.analyze-distance/1", **subject.described, "of": of, "among": among,
        "k": settings.k, "metric": settings.metric, "n": len(classes), "classes": classes,
        "rows": rows,
    }  # fmt: skip


def distance_rows(subject: Subject, asked: Iterable[Case], near: Neighbors) -> list[dict[str, Any]]:
    """Return the document's rows: the model's own head, then each setting.

    Raises:
        InputError: as `by_distance`.
    """
    labels, count = subject.labels, len(subject.classes)
    own = by_distance(subject.before, subject.before[None], labels, count, near)
    rows = [
        baseline(subject)
        | {"runs": 1, "accuracy": own.before.tolist(), "std": None, "r": known(own.before_r)}
    ]
    for case in asked:
        found = by_distance(subject.before, case.predicted, labels, count, near)
        rows.append(described(case) | _row(found))
    return rows


def _row(found: ByDistance) -> dict[str, Any]:
    accuracy, std = mean_and_std(found.after)
    return {
        "runs": len(found.after), "accuracy": accuracy.tolist(),
        "std": std.tolist() if len(found.after) > 1 else None, "r": known(found.after_r),
        "r_std": known(float(mean_and_std(found.run_after_r)[1])),
        "change": (accuracy - found.before).round(12).tolist(), "change_r": known(found.change_r),
        "change_r_std": known(float(mean_and_std(found.run_change_r)[1])),
    }  # fmt: skip
