"""What sets come to on labelled images: coverage and size by shot group, with intervals."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.evaluation import metrics
from ltkit.evaluation.intervals import accuracy_estimate, moments
from ltkit.records import ClassTable, Ints, ShotGroups
from ltkit.settings import GROUPS

Floats = NDArray[np.float64]
Interval = list[float] | None


@dataclass(frozen=True, eq=False)
class Outcome:
    """What sets come to on each image.

    labels: (N,) true classes.
    covered: (N,) whether the true class is in the set.
    size: (N,) classes in the set.
    """

    labels: Ints
    covered: NDArray[np.bool_]
    size: NDArray[np.int32]


def figures(found: Outcome, table: ClassTable, groups: ShotGroups) -> dict[str, Any]:
    """Return coverage and mean size by group, the worst class, single and empty sets.

    Args:
        found: of the images.
        table: of the classes.
        groups: the shot groups.

    Returns:
        coverage, coverage_interval, size, size_interval: by group, None for an absent one.
        worst_class: id, name, samples, coverage and its interval; by chance some class is low.
        single, empty: shares of the sets that have one class, and none, with their intervals.
    """
    labels, classes = found.labels, len(table)
    weights = metrics.group_weights(labels, classes, groups)
    coverage, of_coverage = _by_group(found.covered, labels, weights, 1)
    size, of_size = _by_group(found.size / classes, labels, weights, classes)
    single, empty = (
        _by_group(found.size == count, labels, {"all": weights["all"]}, 1) for count in (1, 0)
    )
    return {
        "coverage": coverage, "coverage_interval": of_coverage,
        "size": size, "size_interval": of_size,
        "worst_class": _worst(found, table),
        "single": single[0]["all"], "single_interval": single[1]["all"],
        "empty": empty[0]["all"], "empty_interval": empty[1]["all"],
    }  # fmt: skip


def _by_group(
    values: NDArray[Any], labels: Ints, weights: Mapping[str, Floats], unit: int
) -> tuple[dict[str, float | None], dict[str, Interval]]:
    """Return the mean by group, and its interval, of values in 0..1, times a unit."""
    size = len(next(iter(weights.values())))
    parts = moments(values[None].astype(np.float64), labels, size)
    means: dict[str, float | None] = dict.fromkeys(GROUPS)
    ends: dict[str, Interval] = dict.fromkeys(GROUPS)
    for name, weight in weights.items():
        told = accuracy_estimate(parts, weight)
        means[name] = round(unit * told.value, 10)
        ends[name] = None if told.interval is None else [round(unit * e, 10) for e in told.interval]
    return means, ends


def _worst(found: Outcome, table: ClassTable) -> dict[str, Any]:
    """Return the class with the lowest coverage, the rarest of equals."""
    by_class = metrics.class_accuracy(found.covered, found.labels, len(table))
    tested = np.flatnonzero(~np.isnan(by_class))
    worst = int(tested[np.lexsort((table.train_count[tested], by_class[tested]))[0]])
    own = found.labels == worst
    parts = moments(found.covered[own][None].astype(np.float64), np.zeros(own.sum(), int), 1)
    told = accuracy_estimate(parts, np.ones(1))
    return {
        "id": worst, "name": table.name(worst), "train_count": int(table.train_count[worst]),
        "samples": int(own.sum()), "coverage": told.value,
        "interval": None if told.interval is None else list(told.interval),
    }  # fmt: skip
