"""Novelty on a features file, as plain data."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ltkit.errors import SettingError
from ltkit.evaluation import metrics
from ltkit.evaluation.documents import opening
from ltkit.evaluation.intervals import accuracy_estimate, moments
from ltkit.open_set import scores
from ltkit.open_set.measures import (
    NOVEL,
    Floats,
    as_answers,
    auroc,
    false_positives,
    flagged,
    open_set_f,
    threshold_keeping,
)
from ltkit.open_set.outsiders import Sides, of_another_file, of_held_out
from ltkit.records import Classifier, FeatureSet, FeatureSplit, Ints
from ltkit.records.progress import Report, silent
from ltkit.settings import KNOWN_KEPT, NOVELTY_NEIGHBORS, RANGES, REPLICATES

SCHEMA = "ltkit.novelty/1"


def novelty(
    features: FeatureSet,
    classifier: Classifier,
    *,
    outsiders: FeatureSet | None = None,
    of: str | None = None,
    hold_out: Sequence[int] | None = None,
    split: str = "test",
    k: int = NOVELTY_NEIGHBORS,
    kept: float = KNOWN_KEPT,
    bins: Sequence[int] | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
    report: Report = silent,
) -> dict[str, Any]:
    """Return how well scores tell samples of new classes, and how many rare ones they take for new.

    Args:
        features: with train, on which two of the scores are fitted.
        classifier: whose logits the others are of.
        outsiders: features of new classes, by the same network.
        of: their split; None: test, or the only one.
        hold_out: ids of classes that stand for new ones instead.
        split: of the known samples.
        k: which nearest training sample tells how new a sample is.
        kept: share of known samples that the threshold keeps.
        bins: bounds of the medium shot group; None: the file's own.
        replicates: of the bootstrap.
        seed: of the bootstrap.
        report: called with how many samples were compared with the training samples.

    Returns:
        What ``ltkit analyze novelty --json`` prints.

    Raises:
        SettingError: for a number out of its range, both or neither kind of outsiders, or train.
        InputError: without train or the split, or outsiders of another network or known classes.
    """
    for name, value in (("k", k), ("kept", kept), ("replicates", replicates), ("seed", seed)):
        RANGES[name].check(value, name)
    if (outsiders is None) == (hold_out is None):
        raise SettingError(
            "outsiders",
            "expected features of new classes, or ids of some to hold out (hold_out)",
        )
    if split == "train":
        raise SettingError("split", "found train, which the scores are fitted to; name val or test")
    if outsiders is not None:
        sides = of_another_file(features, classifier, split, outsiders, of)
    else:
        sides = of_held_out(features, classifier, split, hold_out or ())
    if k > len(sides.train):
        sides.notes.append(f"k {k} is cut to {len(sides.train)}, all training samples")
    found, predicted = _scored(sides, min(k, len(sides.train)), report)
    document = opening(SCHEMA, features, split, bins, replicates, seed)
    groups = _groups(features, sides, bins)
    document |= {
        "outsiders": sides.described, "known": len(sides.known), "kept": kept, "k": k,
        "notes": sides.notes, "scores": [
            {"score": name, **_row(sides, groups, both, predicted, kept, replicates, seed)}
            for name, both in found.items()
        ],
    }  # fmt: skip
    return document


Pair = tuple[Floats, Floats]
"""Of the known samples and of the outsiders."""


def _scored(sides: Sides, k: int, report: Report) -> tuple[dict[str, Pair], tuple[Ints, Ints]]:
    """Return each score of both sides, and the classes that both are taken for."""
    splits: tuple[FeatureSplit, ...] = (sides.known, sides.outsiders)
    (known, said), (others, said_of_others) = (
        scores.of_logits(split, sides.classifier) for split in splits
    )
    found = {name: (known[name], others[name]) for name in known}
    near = [scores.nearest_distances(split, sides.train, k, report) for split in splits]
    shape = scores.shape_of(sides.train, int(sides.classes[-1]) + 1)
    far = [scores.distances_to_classes(split, shape) for split in splits]
    found |= {"knn": (near[0], near[1]), "mahalanobis": (far[0], far[1])}
    return found, (sides.classes[said], sides.classes[said_of_others])


def _groups(features: FeatureSet, sides: Sides, bins: Sequence[int] | None) -> dict[str, Floats]:
    """Return the weights of the known classes in each group."""
    return metrics.group_weights(sides.known.labels, len(features.classes), features.groups(bins))


def _row(
    sides: Sides, groups: dict[str, Floats], both: Pair, predicted: tuple[Ints, Ints],
    kept: float, replicates: int, seed: int,
) -> dict[str, Any]:  # fmt: skip
    """Return what a document says of one score."""
    threshold = threshold_keeping(both[0], kept)
    novel = [flagged(scores, threshold) for scores in both]
    area, area_ends = auroc(*both)
    share, share_ends = false_positives(*both, kept, replicates=replicates, seed=seed)
    labels = np.concatenate([sides.known.labels, np.full(len(both[1]), NOVEL)])
    size = len(next(iter(groups.values())))
    hits = moments(novel[0][None].astype(np.int8), sides.known.labels, size)
    taken = {name: accuracy_estimate(hits, weights) for name, weights in groups.items()}
    return {
        "auroc": area, "auroc_interval": area_ends,
        "threshold": threshold, "fpr": share, "fpr_interval": share_ends,
        "taken_for_novel": {name: one.value for name, one in taken.items()},
        "taken_interval": {
            name: None if one.interval is None else list(one.interval)
            for name, one in taken.items()
        },
        "f_measure": open_set_f(as_answers(predicted, novel), labels),
    }  # fmt: skip
