"""The diagnosis: how much of the rare classes' error has which cause, as plain data."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ltkit.diagnosis.answers import answer
from ltkit.diagnosis.causes import CAUSES, Found, Outcomes, find
from ltkit.diagnosis.heads import Three, predict_three
from ltkit.errors import InputError, SettingError
from ltkit.evaluation import metrics
from ltkit.evaluation.documents import opening
from ltkit.evaluation.intervals import Moments, accuracy_estimate, moments
from ltkit.neighbors.search import nearest_of_groups
from ltkit.records import FeatureSet, FeatureSplit, Ints, Neighbors
from ltkit.records.progress import Report, silent
from ltkit.settings import FOLDS, RANGES, REPLICATES, NeighborSettings

SCHEMA = "ltkit.diagnose/1"
HEADS = ("own", "offsets", "anew")
"""The model's own head, the same with the right offsets, and one fitted to balanced features."""


@dataclass(frozen=True, eq=False)
class Diagnosis:
    """What the rare classes' error is made of.

    cause: the largest of `ltkit.diagnosis.causes.CAUSES`; None without an error.
    document: plain data, what ``ltkit diagnose --json`` prints.
    """

    cause: str | None
    document: dict[str, Any] = field(repr=False)

    def __str__(self) -> str:
        """Return what it says to a person, line by line."""
        return "\n".join(answer(self.document))


def diagnose(
    features: FeatureSet,
    split: str = "val",
    *,
    k: int = NeighborSettings.k,
    folds: int = FOLDS,
    bins: Sequence[int] | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
    report: Report = silent,
) -> Diagnosis:
    """Say how much of each rare class's error has which cause.

    Args:
        features: with a head, or a base in its place.
        split: whose errors are explained; heads are fitted to its folds, and to no other split.
        k: frequent classes that count as near a rare one, at most half of them.
        folds: parts of the split.
        bins: bounds of the medium shot group; None: the file's own.
        replicates: of the bootstrap.
        seed: of the folds and the bootstrap.
        report: called before each step and at the end.

    Raises:
        SettingError: for a number out of its range, or without rare or frequent classes.
        InputError: without a head or the split, or a sample of a rare class in it.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> y = np.repeat(range(4), 50)
        >>> x = np.float32(rng.normal(size=(200, 4)) + 5 * np.eye(4)[y])
        >>> from ltkit.records import ClassTable, Head
        >>> head = Head(np.float32(5 * np.eye(4)), np.float32([30, 30, 0, 0]))  # a prior too strong
        >>> parts = {"train": FeatureSplit(x, y), "val": FeatureSplit(x, y)}
        >>> diagnose(FeatureSet(parts, ClassTable(np.array([900, 900, 9, 9])), head)).cause
        'prior'
    """
    for name, value in (("k", k), ("folds", folds), ("replicates", replicates), ("seed", seed)):
        RANGES[name].check(value, name)
    notes = list[str]()
    sample = _sample(features, split)
    near = _near(features, split, k, bins, notes)
    three = predict_three(
        features, split, folds=folds, seed=seed, bins=bins, note=notes.append, report=report
    )
    outcomes = Outcomes(
        sample.labels, three.predicted, near.few_class, near.base_class, features.groups(bins).base
    )
    found = find(outcomes, replicates=replicates, seed=seed)
    document = opening(SCHEMA, features, split, bins, replicates, seed)
    document |= {
        "folds": folds, "k": near.k, "notes": notes, "heads": _heads(features, split, three, bins),
        **_together(features, outcomes, found),
        "classes": _by_class(features, outcomes, found),
    }  # fmt: skip
    return Diagnosis(document["cause"], document)


def _sample(features: FeatureSet, split: str) -> FeatureSplit:
    """Return the split to explain.

    Raises:
        InputError: when there is none, or it is empty.
    """
    if split not in features.splits or not len(features.splits[split]):
        present = ", ".join(name for name, of in features.splits.items() if len(of)) or "none"
        raise InputError(
            f"{features.source}: {split}: absent or empty; there are: {present}; diagnose needs "
            "images that the network was not trained on: extract val, or say --split test"
        )
    return features.split(split)


def _tested(features: FeatureSet, split: str, bins: Sequence[int] | None, notes: list[str]) -> Ints:
    """Return the rare classes that have samples.

    Raises:
        SettingError: without rare or frequent classes.
        InputError: without a sample of a rare class.
    """
    groups, source = features.groups(bins), features.source
    for kind, ids in (("rare (few)", groups.few), ("frequent", groups.base)):
        if not len(ids):
            raise SettingError("bins", f"found no {kind} class in {source}; set other bounds")
    rare = np.setdiff1d(groups.few, features.without_images)
    tested = np.intersect1d(rare, features.split(split).labels)
    if not len(tested):
        raise InputError(
            f"{source}: {split}: no image of a rare (few) class that has training images; move the "
            "bins, or name another split"
        )
    if len(tested) < len(rare):
        notes.append(f"{len(rare) - len(tested)} rare classes have no {split} image: left out")
    return tested


def _near(
    features: FeatureSet, split: str, k: int, bins: Sequence[int] | None, notes: list[str]
) -> Neighbors:
    """Return the rare classes that have samples, and the frequent ones near them.

    Raises:
        SettingError, InputError: as `_tested`.
    """
    tested, frequent = _tested(features, split, bins, notes), len(features.groups(bins).base)
    if split == "train":
        notes.append("the network has learned the train images: errors on others have other causes")
    if "train" not in features.splits:
        notes.append(f"no train split: classes are near by the means of {split}")
        features = replace(features, splits={"train": features.split(split)})
    most = max(1, frequent // 2)
    if k > most:
        notes.append(f"k {k} is cut to {most}, half of {frequent} frequent classes")
    if frequent == 1:
        notes.append("with one frequent class confusion cannot be told from lack of separation")
    settings = NeighborSettings(min(k, most))
    near = nearest_of_groups(features, settings, bins=bins, note=notes.append)
    kept = np.isin(near.few_class, tested)
    return Neighbors(near.few_class[kept], near.base_class[kept], near.distance[kept])


def _heads(
    features: FeatureSet, split: str, three: Three, bins: Sequence[int] | None
) -> list[dict[str, Any]]:
    """Return each head's accuracies by group, and what was chosen for it."""
    labels, size = features.split(split).labels, len(features.classes)
    weights = metrics.group_weights(labels, size, features.groups(bins))
    accuracy = metrics.class_accuracy(three.predicted == labels, labels, size)
    return [
        {"head": name, "accuracy": metrics.summarize(row, weights), "chosen": dict(chosen)}
        for name, row, chosen in zip(HEADS, accuracy, ({}, *three.chosen), strict=True)
    ]


def _together(features: FeatureSet, outcomes: Outcomes, found: Found) -> dict[str, Any]:
    """Return the error of all rare classes together, and its parts."""
    size = len(features.classes)
    weights = np.isin(np.arange(size), outcomes.rare) / len(outcomes.rare)
    return _error(_own(outcomes, size), weights) | _parts(found, -1)


def _by_class(features: FeatureSet, outcomes: Outcomes, found: Found) -> list[dict[str, Any]]:
    """Return a row for each rare class, the greatest error first."""
    table, size = features.classes, len(features.classes)
    samples, own = np.bincount(outcomes.labels, minlength=size), _own(outcomes, size)
    rows = [
        {
            "id": int(c), "name": table.name(int(c)), "train_count": int(table.train_count[c]),
            "samples": int(samples[c]), "near": [table.name(int(b)) for b in near],
            **_error(own, np.arange(size) == c), **_parts(found, place),
        }
        for place, (c, near) in enumerate(zip(outcomes.rare, outcomes.near, strict=True))
    ]  # fmt: skip
    return sorted(rows, key=lambda row: -row["error"])


def _own(outcomes: Outcomes, num_classes: int) -> Moments:
    """Return what intervals need of the hits of the model's own head."""
    hits = (outcomes.predicted[:1] == outcomes.labels).astype(np.int8)
    return moments(hits, outcomes.labels, num_classes)


def _error(own: Moments, weights: Any) -> dict[str, Any]:
    """Return the weighted mean error of the model's own head, and its interval."""
    told = accuracy_estimate(own, 1.0 * weights)
    ends = None if told.interval is None else [round(1 - v, 12) for v in told.interval[::-1]]
    return {"error": round(1 - told.value, 12), "interval": ends}


def _parts(found: Found, place: int) -> dict[str, Any]:
    """Return the parts of an error, the largest, and in how many replicates it is so."""
    parts, wins = found.parts[place], found.wins[place]
    gained, taken = (round(float(of[place, 0]), 12) for of in (found.gained, found.taken))
    largest = int(parts.argmax())
    known = not np.isnan(wins).any()
    cause = CAUSES[largest] if parts[largest] > 0 else None
    ends = zip(found.low[place].tolist(), found.high[place].tolist(), strict=True)
    return {
        "parts": dict(zip(CAUSES, parts.tolist(), strict=True)),
        "intervals": dict(zip(CAUSES, (list(e) if known else None for e in ends), strict=True)),
        "cause": cause,
        "sure": float(wins[largest]) if known and cause else None,
        "offset": {"gained": gained, "taken": taken},
    }
