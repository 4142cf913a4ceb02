"""Flows of predictions between correct, a neighbour of the true class, and other."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import InputError
from ltkit.evaluation.analysis.subject import (
    Case,
    Note,
    Subject,
    baseline,
    described,
    mean_and_std,
    silent,
)
from ltkit.neighbors.wordnet import related_classes
from ltkit.records import Ints, Neighbors, members
from ltkit.settings import NeighborSettings, PathRule

STATUSES = ("correct", "neighbor", "other")
"""Status of a prediction: right, wrong as a neighbour of the true class, wrong otherwise."""

SIDES = (("few", "base"), ("base", "few"), ("all", "all"))
"""Groups of samples, and the groups of their neighbours by features."""

By = Literal["features", "wordnet", "both"]


def pairs_of(near: Neighbors) -> Ints:
    """Return the (F K, 2) pairs (class, neighbour).

    Example:
        >>> near = Neighbors(np.array([7]), np.array([[2, 4]]), np.ones((1, 2)))
        >>> pairs_of(near).tolist()
        [[7, 2], [7, 4]]
    """
    return np.stack([np.repeat(near.few_class, near.k), near.base_class.ravel()], axis=1)


def pairs_within(related: NDArray[np.bool_]) -> Ints:
    """Return the pairs (class, neighbour) in a (C, C) table of related classes, without itself.

    Example:
        >>> pairs_within(np.array([[True, True], [False, True]])).tolist()
        [[0, 1]]
    """
    pairs: Ints = np.argwhere(related & ~np.eye(len(related), dtype=np.bool_))
    return pairs


def statuses(
    predicted: NDArray[Any], labels: Ints, num_classes: int, pairs: Ints
) -> NDArray[np.int8]:
    """Return the status of each prediction, as a position in `STATUSES`.

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
    """Flows of n samples' predictions.

    count: (S, A, A) samples of each run by status before (row) and after (column), in the order of
        `STATUSES`; each run's sum is n.
    """

    count: Ints

    @property
    def n(self) -> int:
        """Number of samples."""
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
    """Count moves of samples between correct, a neighbour of the true class, and other.

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
class Kind:
    """The samples of a group of classes, and their kind of neighbours.

    samples: few, base or all.
    by: features or wordnet.
    k: neighbours of a class by features; None in WordNet.
    of: the classes.
    pairs: (n, 2) pairs (class, neighbour).
    """

    samples: str
    by: str
    k: int | None
    of: Ints
    pairs: Ints


def kind_by_features(
    subject: Subject, settings: NeighborSettings, samples: str, among: str
) -> Kind | None:
    """Return the neighbours by mean feature, at most k each; None if there are none.

    Args:
        subject: from `observe`.
        settings: how the nearest classes are found.
        samples: the group of classes.
        among: the group of classes that may be neighbours.

    Raises:
        InputError: as `Subject.nearest`.
    """
    of, others = subject.trained(samples), subject.trained(among)
    k = min(settings.k, len(others) - (samples == among))
    if not len(of) or k < 1:
        return None
    near = subject.nearest(of, others, replace(settings, k=k))
    return Kind(samples, "features", k, of, pairs_of(near))


def kinds_by_wordnet(subject: Subject, rule: PathRule, level: int) -> list[Kind]:
    """Return the classes' neighbours in WordNet; none if classes have no wnids.

    Raises:
        InputError: for a wnid that is not in WordNet.
    """
    if subject.classes.wnids is None:
        return []
    pairs = pairs_within(related_classes(subject.classes.wnids, rule=rule, level=level))
    return [
        Kind(samples, "wordnet", None, members(subject.groups, samples, ""), pairs)
        for samples, _ in SIDES
    ]


def analyze_flows(
    subject: Subject,
    settings: NeighborSettings,
    *,
    by: By = "both",
    rule: PathRule = "path",
    level: int = 4,
    note: Note = silent,
) -> dict[str, Any]:
    """Count each correction's flows; without one, the status of the head's predictions.

    Args:
        subject: from `observe`.
        settings: how the nearest classes by features are found.
        by: kind of neighbour: nearest by features, near in WordNet, or both.
        rule: WordNet rule.
        level: WordNet level.
        note: called with what is left out.

    Returns:
        The document of ``analyze flows --json``.

    Raises:
        InputError: for WordNet alone without wnids; as `kind_by_features`, `kinds_by_wordnet`.
    """
    if subject.classes.wnids is None:
        if by == "wordnet":
            raise InputError(
                f"{subject.features.source}: classes/wnid: absent, so WordNet has no neighbours; "
                "take neighbours by features"
            )
        if by == "both":
            note("classes/wnid: absent, so no WordNet neighbours")
    kinds: list[Kind] = []
    if by != "wordnet":
        subject.note_untrained(note)
        for samples, among in SIDES:
            kind = kind_by_features(subject, settings, samples, among)
            if kind is None:
                note(f"no {samples} classes with neighbours among {among}")
            else:
                kinds.append(kind)
    if by != "features":
        kinds += kinds_by_wordnet(subject, rule, level)
    return {
        "schema": "ltkit.analyze-flows/1", **subject.described, "k": settings.k,
        "metric": settings.metric, "rule": rule, "level": level,
        "rows": flow_rows(subject, [*subject.cases] or [None], kinds),
    }  # fmt: skip


def flow_rows(
    subject: Subject, asked: Iterable[Case | None], kinds: Iterable[Kind]
) -> list[dict[str, Any]]:
    """Return the document's rows: for each setting, every kind with samples.

    Args:
        subject: from `observe`.
        asked: settings; None is the model's own head.
        kinds: groups of samples and their neighbours.
    """
    inside = [(kind, np.isin(subject.labels, kind.of)) for kind in kinds]
    return [
        _row(subject, case, kind, rows) for case in asked for kind, rows in inside if rows.any()
    ]


def _row(
    subject: Subject, case: Case | None, kind: Kind, inside: NDArray[np.bool_]
) -> dict[str, Any]:
    after: Any = subject.before[None] if case is None else case.predicted
    found = flow(
        subject.before[inside], after[:, inside], subject.labels[inside], len(subject.classes),
        kind.pairs,
    )  # fmt: skip
    mean, std = mean_and_std(found.count)
    after_mean, after_std = mean_and_std(found.after)
    several = len(found.count) > 1
    return (baseline(subject) if case is None else described(case)) | {
        "runs": len(found.count), "samples": kind.samples, "by": kind.by, "k": kind.k,
        "classes": len(kind.of), "n": found.n,
        "mean_neighbors": float(np.isin(kind.pairs[:, 0], kind.of).sum() / len(kind.of)),
        "before": dict(zip(STATUSES, found.before.tolist(), strict=True)),
        "after": dict(zip(STATUSES, after_mean.tolist(), strict=True)),
        "after_std": dict(zip(STATUSES, after_std.tolist(), strict=True)) if several else None,
        "count": mean.tolist(), "share": (mean / found.n).tolist(),
        "std": std.tolist() if several else None,
    }  # fmt: skip
