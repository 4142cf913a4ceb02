"""Several networks on one test set: whether their samples are the same, and what each predicts.

One features file is evaluated; an `Entry` of another network has that network's features, whose
head it corrects. Its samples are those of the first: the same ids, in any order; without ids, the
same labels in order.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from ltkit.errors import InputError
from ltkit.evaluation.entries import Entry
from ltkit.records import Classifier, Correction, FeatureSet, FeatureSplit, Ints

T = TypeVar("T")

Predict = Callable[[FeatureSplit, Classifier, Sequence[Correction]], list[T]]
"""`ltkit.evaluation.predict` or `ltkit.evaluation.predict_classes`."""

SHOWN = 40
"""Most characters of a name in a message."""


def own_head(features: FeatureSet, network: FeatureSet | None = None) -> Entry:
    """Return the head of the evaluated features, or that of another network, as it is."""
    of = network or features
    return Entry(of.baseline, of.baseline_source, Correction.baseline(of.classifier()), network)


def of_network(entry: Entry, network: FeatureSet, features: FeatureSet) -> Entry:
    """Return a correction of one of several networks, called by that, too.

    Args:
        entry: the correction.
        network: what it corrects, from `named`.
        features: the evaluated features, which may be that network.
    """
    name = f"{network.called} {entry.name}"
    return replace(entry, name=name, network=None if network is features else network)


def several(entries: Sequence[Entry]) -> bool:
    """Tell whether one of the entries is of another network than the evaluated features."""
    return any(entry.network is not None for entry in entries)


def every(features: FeatureSet, entries: Sequence[Entry]) -> list[FeatureSet]:
    """Return the networks: the evaluated features, and those of other entries, each once."""
    found = {id(of): of for of in (features, *(e.network for e in entries)) if of is not None}
    return list(found.values())


def named(networks: Sequence[FeatureSet]) -> list[FeatureSet]:
    """Return networks whose heads are called by their files' names, or by their paths if alike.

    Raises:
        InputError: when a file is there twice.
    """
    paths = [Path(of.source) for of in networks]
    stems = [path.stem for path in paths]
    found = []
    for place, (of, path) in enumerate(zip(networks, paths, strict=True)):
        if path.resolve() in {other.resolve() for other in paths[:place]}:
            raise InputError(f"{path}: named twice, expected each network once; leave one out")
        called = path.stem if stems.count(path.stem) == 1 else str(path)
        base = of.base and replace(of.base, name=f"{called} {of.base.name}")
        found.append(replace(of, called=called, base=base))
    return found


def predict_entries(
    features: FeatureSet, split: str, entries: Sequence[Entry], how: Predict[T]
) -> list[T]:
    """Return what each entry predicts of a split's samples, in the order of `features`.

    Args:
        features: the evaluated ones.
        split: name of the split.
        entries: corrections of their head, or of other networks'.
        how: `ltkit.evaluation.predict` or `ltkit.evaluation.predict_classes`.

    Raises:
        InputError: as those; when a network has other classes or samples.
    """
    found: dict[int, T] = {}
    for network in every(features, entries):
        of = [n for n, e in enumerate(entries) if (e.network or features) is network]
        data = same_samples(features, network, split)
        told = how(data, network.classifier(), [entries[n].correction for n in of])
        found |= dict(zip(of, told, strict=True))
    return [found[n] for n in range(len(entries))]


def check_classes(features: FeatureSet, other: FeatureSet) -> None:
    """Refuse a network of other classes, or of the same in another order.

    Raises:
        InputError: when numbers or names of classes differ.
    """
    ours, theirs = features.classes, other.classes
    if len(ours) != len(theirs):
        raise InputError(
            f"{other.source}: found {len(theirs)} classes, expected the {len(ours)} of "
            f"{features.source}; name networks of one dataset"
        )
    if ours.names and theirs.names and ours.names != theirs.names:
        pairs = enumerate(zip(ours.names, theirs.names, strict=True))
        c, (own, their) = next((n, pair) for n, pair in pairs if pair[0] != pair[1])
        raise InputError(
            f"{other.source}: found class {c} to be {their[:SHOWN]!r}, expected {own[:SHOWN]!r} as "
            f"in {features.source}; name networks of one dataset, with its classes in one order"
        )


def same_samples(features: FeatureSet, other: FeatureSet, split: str) -> FeatureSplit:
    """Return another network's features of a split's samples, in the order of `features`.

    Raises:
        InputError: when it has other classes, ids or labels, or no such split.
    """
    data = features.split(split)
    if other is features:
        return data
    check_classes(features, other)
    found = other.split(split)
    if len(data) == len(found) and data.ids is not None and found.ids is not None:
        found = found if np.array_equal(data.ids, found.ids) else found.at(_order(data, found))
        same = np.array_equal(data.ids, found.ids)  # type: ignore[arg-type]
    else:
        same = True
    if not (same and np.array_equal(data.labels, found.labels)):
        raise InputError(
            f"{other.source}: {split}: found other samples than in {features.source}, expected the "
            "same; extract both from one dataset"
        )
    return found


def _order(data: FeatureSplit, other: FeatureSplit) -> Ints:
    """Return the rows of another split in the order of the first's ids; both have ids.

    An image that is listed twice may have two labels, so that labels decide between equal ids.
    """
    order = np.empty(len(data), np.int64)
    ours, theirs = (np.lexsort((of.labels, of.ids)) for of in (data, other))  # type: ignore[arg-type]
    order[ours] = theirs
    return order


def assumed(features: FeatureSet, other: FeatureSet, split: str | None) -> list[str]:
    """Return what is taken for granted when two networks are compared, a line each.

    Args:
        features: the evaluated ones.
        other: another network.
        split: whose samples are compared; None: none are.

    Raises:
        InputError: as `same_samples`.
    """
    found = []
    known = split and same_samples(features, other, split).ids is not None
    if split and (not known or features.split(split).ids is None):
        found.append(
            f"{other.source}: {split}: samples are matched with those of {features.source} by "
            "their order, since not both files have ids; their labels agree"
        )
    if not np.array_equal(features.classes.train_count, other.classes.train_count):
        found.append(
            f"{other.source}: trained on other numbers of images than {features.source}, whose "
            "shot groups are taken"
        )
    return found
