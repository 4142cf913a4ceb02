"""Samples of classes that a head does not know: another file's, or held-out classes of its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ltkit.errors import InputError, SettingError, listed
from ltkit.files import hdf5
from ltkit.records import Classifier, FeatureSet, FeatureSplit, Ints, classifier_digest

HELD_OUT = (
    "the network was trained on the held-out classes, which are easier to tell than new ones: "
    "what is found is too good"
)


@dataclass(frozen=True, eq=False)
class Sides:
    """What is known and what is not.

    train: training samples of known classes, with the features' own class ids.
    known, outsiders: samples to tell apart.
    classes: ids of the known classes, in the order of the classifier's rows.
    classifier: of the known classes.
    described: what a document says of the outsiders.
    notes: what was assumed or left out.
    """

    train: FeatureSplit
    known: FeatureSplit
    outsiders: FeatureSplit
    classes: Ints
    classifier: Classifier
    described: dict[str, Any]
    notes: list[str]


def of_another_file(
    features: FeatureSet, classifier: Classifier, split: str, other: FeatureSet, of: str | None
) -> Sides:
    """Return a split's samples, and another file's as outsiders.

    Args:
        features: with train, of the known classes.
        classifier: of them.
        split: of the known samples.
        other: features of the same network.
        of: its split; None: test, or the only one.

    Raises:
        InputError: for features of another network, without a split, or of known classes alone.
    """
    notes = _same_network(features, other)
    if of is None:
        of = next(iter(other.splits)) if len(other.splits) == 1 else "test"
    samples, shared = other.split(of), _shared(features, other)
    kept = np.flatnonzero(~np.isin(samples.labels, shared))
    if not len(kept):
        found = "no sample" if not len(samples) else "samples of known classes alone"
        raise InputError(
            f"{other.source}: {of}: found {found}, expected classes that {features.source} has "
            "not; name other features, or --hold-out some classes"
        )
    if len(shared):
        names = listed(other.classes.name(int(c)) for c in shared)
        notes.append(f"{len(samples) - len(kept)} outsiders of known classes left out: {names}")
        samples = samples.at(kept)
    described = {"features": other.source, "split": of, "n": len(samples),
                 "classes": len(np.unique(samples.labels))}  # fmt: skip
    known = np.arange(len(features.classes))
    train, told = _split(features, "train"), _split(features, split)
    return Sides(train, told, samples, known, classifier, described, notes)


def of_held_out(
    features: FeatureSet, classifier: Classifier, split: str, held_out: Sequence[int]
) -> Sides:
    """Return a split's samples, those of some classes as outsiders that the head does not know.

    Raises:
        SettingError: for no class, or one that there is not, or with fewer than two left.
        InputError: without train or the split, or samples of either side.
    """
    size = len(features.classes)
    out = np.unique(np.asarray(held_out, np.int64))
    if not len(out) or out[0] < 0 or out[-1] >= size or size - len(out) < 2:
        raise SettingError(
            "hold_out",
            f"found {listed(held_out)}, expected ids from 0 to {size - 1}, of all but two classes "
            "at most",
        )
    known = np.setdiff1d(np.arange(size), out)
    sides = list[FeatureSplit]()
    for name, ids in (("train", known), (split, known), (split, out)):
        samples = _split(features, name)
        sides.append(samples.at(np.flatnonzero(np.isin(samples.labels, ids))))
    for samples, what in zip(sides, ("known", "known", "held-out"), strict=True):
        if not len(samples):
            raise InputError(
                f"{features.source}: found no sample of a {what} class in {split} or train; hold "
                "out other classes"
            )
    described = {"held_out": [features.classes.name(int(c)) for c in out], "split": split,
                 "n": len(sides[2]), "classes": len(np.unique(sides[2].labels))}  # fmt: skip
    some = Classifier(
        classifier.weight[known], classifier.bias[known], classifier.normalize_features,
        classifier.experts,
    )  # fmt: skip
    train, told, others = sides
    return Sides(train, told, others, known, some, described, [HELD_OUT])


def _split(features: FeatureSet, name: str) -> FeatureSplit:
    """Return a split with samples.

    Raises:
        InputError: when there is none, or it is empty.
    """
    found = features.split(name)
    if not len(found):
        raise InputError(f"{features.source}: {name}: is empty, expected samples; extract it again")
    return found


def _shared(features: FeatureSet, other: FeatureSet) -> Ints:
    """Return the classes of other features that these have, too, by name or WordNet id."""
    found = np.zeros(len(other.classes), np.bool_)
    for column in ("names", "wnids"):
        mine, theirs = (getattr(f.classes, column) for f in (features, other))
        if mine and theirs:
            found |= np.isin(theirs, mine)
    return np.flatnonzero(found)


def _same_network(features: FeatureSet, other: FeatureSet) -> list[str]:
    """Return a note where nothing says that two files' features are of one network.

    Raises:
        InputError: when they are not.
    """
    if features.feature_size != other.feature_size:
        raise InputError(
            f"{other.source}: found features of width {other.feature_size}, expected "
            f"{features.feature_size} as in {features.source}; extract them with the same network"
        )
    digests = [_checkpoint(features), _checkpoint(other)]
    if None in digests and features.head and other.head:
        digests = [classifier_digest(f.head.fold()) for f in (features, other) if f.head]
    if None in digests:
        notes = [f"nothing says that {other.source} is of the network of {features.source}"]
    elif digests[0] != digests[1]:
        raise InputError(
            f"{other.source}: is of the network {str(digests[1])[:12]}, expected "
            f"{str(digests[0])[:12]} of {features.source}; extract it with the same checkpoint"
        )
    else:
        notes = []
    named = all(f.classes.names or f.classes.wnids for f in (features, other))
    return (
        notes if named else [*notes, f"classes without names: {other.source} may have known ones"]
    )


def _checkpoint(features: FeatureSet) -> str | None:
    """Return the digest of the checkpoint that features were extracted from, if it is known."""
    found = hdf5.header(Path(features.source)).get("inputs", {}).get("checkpoint")
    return None if found is None else str(found)
