"""The figures of a bundle: accuracy by shot group, and what the rules beside it do."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit import abstention, evaluation, prediction_sets
from ltkit.errors import InputError
from ltkit.evaluation import metrics
from ltkit.evaluation.intervals import accuracy_estimate, moments
from ltkit.records import Base, Classifier, FeatureSet, Ints, Rule, ShotGroups
from ltkit.settings import GROUPS

Bins = Sequence[int] | None
Figures = dict[str, dict[str, Any]]
"""By name: ``value`` and ``interval``, fractions in 0..1, of which more is better."""


def _of_sets(
    features: FeatureSet, split: str, classifier: Classifier, rule: Rule, bins: Bins
) -> Figures:
    """Return how often the true class is in the set, and the share of classes that are not."""
    found = prediction_sets.measure(features, classifier, rule, split, bins)
    covered: Figures = {
        f"coverage {group}": {"value": value, "interval": ends}
        for group, value in found["coverage"].items()
        if value is not None and (ends := found["coverage_interval"][group]) is not None
    }
    size, ends = found["size"]["all"], found["size_interval"]["all"]
    if size is None or ends is None:
        return covered
    share = [end / classifier.num_classes for end in (size, *ends)]
    left_out = {"value": 1 - share[0], "interval": [1 - share[2], 1 - share[1]]}
    return covered | {"classes left out of sets": left_out}


def _of_rejector(
    features: FeatureSet, split: str, classifier: Classifier, rule: Rule, bins: Bins
) -> Figures:
    """Return how many samples are answered, and how many of the answers are right."""
    found = abstention.rejections(features, rule, classifier, split)
    labels, groups = features.split(split).labels, features.groups(bins)
    kept = ~found.rejected
    right = found.answers == labels
    return _estimated("answered", kept, labels, groups, ("all",)) | _estimated(
        "right of the answers", right[kept], labels[kept], groups, ("all", "balanced")
    )


def _estimated(
    name: str, values: NDArray[np.bool_], labels: Ints, groups: ShotGroups, of: Sequence[str]
) -> Figures:
    """Return shares of samples, by group, that have an interval."""
    count = sum(len(ids) for _, ids in groups.items())
    if not len(labels):
        return {}
    weights = metrics.group_weights(labels, count, groups)
    parts = moments(values[None].astype(np.float64), labels, count)
    found = {group: accuracy_estimate(parts, weights[group]) for group in of}
    return {
        f"{name} {group}": {"value": one.value, "interval": list(one.interval)}
        for group, one in found.items()
        if one.interval is not None
    }


RULED: Mapping[str, Callable[[FeatureSet, str, Classifier, Rule, Bins], Figures]] = {
    "sets": _of_sets,
    "rejector": _of_rejector,
}


def measure(
    features: FeatureSet,
    split: str,
    classifier: Classifier,
    rules: Sequence[Rule],
    bins: Bins = None,
) -> tuple[Figures, dict[str, Any]]:
    """Return a classifier's figures on a split, and the row of its evaluation.

    Args:
        features: labelled ones of its model.
        split: the split.
        classifier: the whole of it.
        rules: how its answers are used.
        bins: bounds of the medium shot group; None: the features' own.

    Raises:
        InputError: as `ltkit.evaluation.evaluate`, or when a rule is of another classifier.
    """
    whole = features.with_base(Base("bundle", classifier))
    document, _ = evaluation.evaluate(whole, split, [], bins=bins, topk=())
    row = document["rows"][0]
    found: Figures = {
        f"accuracy {group}": {"value": row["accuracy"][group], "interval": row["interval"][group]}
        for group in GROUPS
        if row["accuracy"].get(group) is not None and row["interval"][group] is not None
    }
    if not found:
        raise InputError(
            f"{features.source}: {split}: found {document['n']} samples, too few for an interval; "
            "name a split with more"
        )
    for rule in rules:
        found |= RULED[rule.kind](features, split, classifier, rule, bins)
    return found, document | {"ece": row["calibration"].get("all")}


KINDS = ("accuracy", "coverage", "classes", "answered", "right")


def place(figure: str) -> tuple[int, int]:
    """Return what figures are sorted by: their kind, then the shot groups, rare ones first.

    Example:
        >>> sorted(["coverage all", "accuracy many", "accuracy few"], key=place)
        ['accuracy few', 'accuracy many', 'coverage all']
    """
    kind, _, group = figure.partition(" ")
    group = group.rpartition(" ")[2]
    return KINDS.index(kind), GROUPS.index(group) if group in GROUPS else len(GROUPS)


def class_shares(features: FeatureSet, split: str) -> list[float]:
    """Return the (C,) share of each class in a split."""
    labels = features.split(split).labels
    counts = np.bincount(labels, minlength=len(features.classes))
    shares: list[float] = (counts / max(1, len(labels))).tolist()
    return shares
