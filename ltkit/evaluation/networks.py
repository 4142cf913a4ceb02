"""Several networks on one test set: whether their samples are the same, and what each predicts.

One features file is evaluated; an `Entry` of another network has that network's features, whose
head it corrects. Its samples are those of the first: the same ids, in any order; without ids, the
same labels in order.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ltkit.errors import InputError
from ltkit.evaluation.entries import Entry
from ltkit.evaluation.prediction import Predictions, predict_classes
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
    kept, found = _KEPT.get(), dict[int, Any]()
    for network in every(features, entries):
        of = [n for n, e in enumerate(entries) if (e.network or features) is network]
        data = same_samples(features, network, split)
        if kept is not None:
            known = {n: kept.told(network, split, entries[n], how) for n in of}
            found |= {n: told for n, told in known.items() if told is not None}
            of = [n for n in of if n not in found]
        if of:
            told = how(data, network.classifier(), [entries[n].correction for n in of])
            found |= dict(zip(of, told, strict=True))
        if kept is not None:
            kept.keep(network, split, {n: (entries[n], found[n]) for n in of}.values())
    return [found[n] for n in range(len(entries))]


class _Kept:
    """Predictions of networks' splits by corrections, and what these are, lest they be others."""

    def __init__(self) -> None:
        """Begin without any."""
        self._found: dict[tuple[object, ...], tuple[FeatureSet, Correction, Any]] = {}

    def keep(self, network: FeatureSet, split: str, told: Iterable[tuple[Entry, Any]]) -> None:
        """Keep predictions; those that say more are not replaced by those that say less."""
        for entry, found in told:
            one = entry.correction
            self._found[id(network), split, *_which(one)] = network, one, found

    def told(self, network: FeatureSet, split: str, entry: Entry, how: Predict[Any]) -> Any:
        """Return what is predicted in one of two ways; None where it is not known."""
        key = (id(network), split, *_which(entry.correction))
        _, _, found = self._found.get(key, (None, None, None))
        if how is predict_classes and isinstance(found, Predictions):
            return found.predicted.astype(np.int32)
        return found if how is predict_classes or isinstance(found, Predictions) else None


def _which(correction: Correction) -> tuple[int, ...]:
    """Return what corrections of the same arrays share, as long as one of them is there.

    All that change no class do, too.
    """
    if not len(correction.class_id):
        return (len(correction.runs),)
    return id(correction.weight), id(correction.bias), id(correction.class_id)


_KEPT: ContextVar[_Kept | None] = ContextVar("kept predictions", default=None)


@contextmanager
def remembered() -> Iterator[None]:
    """Let `predict_entries` compute what several parts of a page need once."""
    token = _KEPT.set(_Kept())
    try:
        yield
    finally:
        _KEPT.reset(token)


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
