"""Which classes are taken for which: the whole table, the most confused pairs, shot groups."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.evaluation import metrics
from ltkit.evaluation.entries import Entry, label, settings_of
from ltkit.evaluation.networks import own_head, predict_entries
from ltkit.evaluation.prediction import predict_classes
from ltkit.records import ClassTable, FeatureSet, Ints, ShotGroups

HEADING = (
    "classifier", "true", "true_name", "predicted", "predicted_name", "samples", "share",
)  # fmt: skip

PAIRS = 10
"""Most confused pairs that a comparison of networks has."""


def most_confused(
    predicted: Sequence[NDArray[Any]], labels: Ints, of: int = 0, most: int = PAIRS
) -> list[tuple[int, int, list[float]]]:
    """Return the pairs that one setting confuses most: (true, predicted, samples by setting).

    Args:
        predicted: (S, N) class ids of each setting; samples are means over its S runs.
        labels: (N,) true classes.
        of: place of the setting whose pairs they are.
        most: how many.

    Example:
        >>> one, other = np.array([[1, 1, 1, 0]]), np.array([[0, 0, 1, 0]])
        >>> most_confused([one, other], np.array([0, 0, 1, 1]))
        [(0, 1, [2.0, 0.0]), (1, 0, [1.0, 1.0])]
    """
    tables = [
        {(t, p): n for t, p, n in zip(*map(np.ndarray.tolist, found), strict=True)}
        for found in (metrics.confusions(rows, labels) for rows in predicted)
    ]
    worst = sorted((-n, pair) for pair, n in tables[of].items() if pair[0] != pair[1])
    return [(*pair, [table.get(pair, 0.0) for table in tables]) for _, pair in worst[:most]]


def group_confusions(
    predicted: NDArray[Any], labels: Ints, groups: ShotGroups
) -> tuple[list[str], NDArray[np.float64]]:
    """Return the shot groups that have classes, and samples by true and predicted group.

    Args:
        predicted: (S, N) class ids; samples are means over runs.
        labels: (N,) true classes.
        groups: the shot groups.
    """
    there = [(name, ids) for name, ids in groups.items() if len(ids)]
    group = np.empty(sum(len(ids) for _, ids in there), np.int64)
    for place, (_, ids) in enumerate(there):
        group[ids] = place
    true, said, count = metrics.confusions(predicted, labels)
    size = len(there)
    table: NDArray[np.float64] = np.zeros((size, size))
    np.add.at(table, (group[true], group[said]), count)
    return [name for name, _ in there], table


def pair_rows(
    predicted: Sequence[NDArray[Any]],
    labels: Ints,
    classes: ClassTable,
    of: int = 0,
    most: int = PAIRS,
) -> list[dict[str, Any]]:
    """Return the most confused pairs as entries of a document.

    Returns:
        For each pair, true and predicted (id, name, train_count), samples of the true class, and by
        setting: count (mistaken samples, means over runs), share of the class's samples, of_errors
        (of its errors; None without any), change (of the share, from the setting's whose pairs they
        are).

    Source:
        The comparison of two networks' confusions in the paper on similarity windows (SWRM), table
        1: the error between two classes under each, and how much of it is gone.
    """
    total = np.bincount(labels, minlength=len(classes))
    errors = [
        np.bincount(labels, (rows != labels).mean(axis=0), minlength=len(classes))
        for rows in predicted
    ]

    def named(c: int) -> dict[str, Any]:
        return {"id": c, "name": classes.name(c), "train_count": int(classes.train_count[c])}

    return [
        {"true": named(true), "predicted": named(said), "samples": int(total[true])}
        | _shares(count, int(total[true]), [float(e[true]) for e in errors], of)
        for true, said, count in most_confused(predicted, labels, of, most)
    ]


def _shares(count: list[float], total: int, errors: list[float], of: int) -> dict[str, Any]:
    """Return a pair's figures by setting."""
    return {
        "count": count,
        "share": [n / total for n in count],
        "of_errors": [n / e if e else None for n, e in zip(count, errors, strict=True)],
        "change": [round((n - count[of]) / total, 12) for n in count],
    }


def confusion_table(
    features: FeatureSet, split: str, entries: Sequence[Entry]
) -> tuple[list[str], list[list[Any]]]:
    """Return the heading and the rows of a table of the pairs that occur, diagonal and all.

    Args:
        features: with a head.
        split: name of the split.
        entries: corrections.

    Returns:
        For the head and each setting, the samples of a true class that are given a class, means
        over runs, and their share of the true class's samples.
    """
    data, classes = features.split(split), features.classes
    every = [own_head(features), *entries]
    counts = np.bincount(data.labels, minlength=len(classes))
    table = []
    for entry, predicted in zip(
        every, predict_entries(features, split, every, predict_classes), strict=True
    ):
        settings = list(settings_of(entry.correction))
        for setting, runs in settings:
            told = label(entry.name, setting, [other for other, _ in settings])
            pairs = zip(*metrics.confusions(predicted[runs], data.labels), strict=True)
            table += [
                [
                    told, true, classes.name(int(true)), other, classes.name(int(other)), mean,
                    mean / counts[true],
                ]
                for true, other, mean in pairs
            ]  # fmt: skip
    return list(HEADING), table
