"""The subject of an analysis: a split, and all predictions on it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit import neighbors
from ltkit.errors import InputError
from ltkit.evaluation import networks
from ltkit.evaluation.entries import Entry, label, settings_of
from ltkit.evaluation.prediction import predict_classes
from ltkit.neighbors.class_means import class_means
from ltkit.records import (
    Classifier,
    ClassTable,
    FeatureSet,
    Ints,
    Neighbors,
    ShotGroups,
    members,
    shot_groups,
)
from ltkit.settings import NeighborSettings

Floats = NDArray[np.float64]

Note = Callable[[str], None]
"""Receives one-line notes on what an analysis leaves out."""


@dataclass(frozen=True, eq=False)
class Case:
    """One setting of a correction: what its runs, which differ only in seed, predict.

    entry: the correction.
    label: its name, and what distinguishes its settings.
    settings: settings of the runs, without the seed.
    runs: positions of the S runs in the correction.
    predicted: (S, N) class ids.
    """

    entry: Entry
    label: str
    settings: Mapping[str, Any]
    runs: Sequence[int]
    predicted: NDArray[Any]

    @property
    def name(self) -> str:
        """Name of the correction."""
        return self.entry.name

    @property
    def file(self) -> str:
        """File of the correction."""
        return self.entry.file

    @property
    def class_id(self) -> Ints:
        """(R,) corrected classes."""
        return self.entry.correction.class_id

    @property
    def seeds(self) -> tuple[int | None, ...]:
        """Seeds of the S runs; None for a method without seeds."""
        return tuple(self.entry.correction.runs[run].get("seed") for run in self.runs)


def cases(entries: Iterable[Entry], predicted: Iterable[NDArray[Any]]) -> list[Case]:
    """Split corrections into their settings.

    Args:
        entries: corrections.
        predicted: (S, N) class ids of each, as `ltkit.evaluation.predict_classes` gives them.
    """
    found = []
    for entry, rows in zip(entries, predicted, strict=True):
        every = list(settings_of(entry.correction))
        for settings, runs in every:
            told = label(entry.name, settings, [other for other, _ in every])
            found.append(Case(entry, told, settings, runs, rows[runs]))
    return found


@dataclass(frozen=True, eq=False)
class Subject:
    """A split, and what the model's own head and every correction predict on it.

    features: with a head.
    split: name of the split.
    bins: bounds of the medium shot group; None: the file's own.
    before: (N,) predictions of the model's own head.
    cases: every setting of every correction.
    """

    features: FeatureSet
    split: str
    bins: tuple[int, ...]
    before: Ints
    cases: Sequence[Case]

    @property
    def classes(self) -> ClassTable:
        """The table of C classes."""
        return self.features.classes

    @property
    def labels(self) -> Ints:
        """(N,) true classes."""
        return self.features.split(self.split).labels

    @cached_property
    def base(self) -> Classifier:
        """The model's own head."""
        return self.features.classifier()

    @cached_property
    def networks(self) -> list[FeatureSet]:
        """The features, and those of other networks among the cases."""
        return networks.every(self.features, [case.entry for case in self.cases])

    @cached_property
    def groups(self) -> ShotGroups:
        """The shot groups."""
        return shot_groups(self.classes.train_count, self.bins)

    @cached_property
    def means(self) -> tuple[Floats, Ints]:
        """(C, D) means of the training features, and the classes that have one.

        Raises:
            InputError: without a train split.
        """
        means, counts = class_means(self.features.split("train"), len(self.classes))
        return means, np.flatnonzero(counts)

    @cached_property
    def sought(self) -> Floats:
        """(C, D) means among which neighbours are sought, `ltkit.neighbors.mean_features`."""
        plain = neighbors.preparation(self.features) is None
        return self.means[0] if plain else neighbors.mean_features(self.features)

    def note_untrained(self, note: Note) -> None:
        """Note how many classes have no training sample, if any."""
        if unseen := len(self.classes) - len(self.means[1]):
            note(f"{unseen} classes have no training sample: left out")

    def trained(self, group: str, setting: str = "") -> Ints:
        """Return the classes of a group that have training samples.

        Raises:
            InputError: for another group; it says which setting has it.
        """
        return np.intersect1d(members(self.groups, group, setting), self.means[1])

    def nearest(self, of: Ints, among: Ints, settings: NeighborSettings) -> Neighbors:
        """Return the nearest classes of some classes among others.

        Raises:
            InputError: as `ltkit.neighbors.nearest_classes`.
        """
        means = self.means[0] if settings.metric == "raw" else self.sought
        return neighbors.nearest_classes(self.features, means, of, among, settings)

    @property
    def described(self) -> dict[str, Any]:
        """What every document of an analysis says of it."""
        base = {"name": self.features.baseline, "file": self.features.baseline_source}
        return {
            "features": self.features.source, "networks": [of.source for of in self.networks],
            "base": base, "split": self.split, "bins": list(self.bins),
        }  # fmt: skip


def observe(
    features: FeatureSet, split: str, entries: Sequence[Entry], bins: Sequence[int] | None = None
) -> Subject:
    """Predict a split with the model's own head and every correction.

    Args:
        features: with a head.
        split: name of the split.
        entries: corrections, in display order.
        bins: bounds of the medium shot group; None: the file's own.

    Raises:
        InputError: for an absent split or head, an empty split, a correction that does not fit.
    """
    if not len(features.split(split)):
        raise InputError(f"{features.source}: {split}: found no sample")
    every = [networks.own_head(features), *entries]
    before, *after = networks.predict_entries(features, split, every, predict_classes)
    return Subject(
        features, split, tuple(features.bins if bins is None else bins),
        before[0].astype(np.int64), cases(entries, after),
    )  # fmt: skip


def mean_and_std(values: NDArray[Any]) -> tuple[Floats, Floats]:
    """Return mean and standard deviation over S runs; the deviation is NaN for a single run.

    Args:
        values: (S, ...).

    Example:
        >>> mean_and_std(np.array([[1.0], [3.0]]))  # sqrt(((1 - 2)**2 + (3 - 2)**2) / 1)
        (array([2.]), array([1.41421356]))
    """
    mean: Floats = np.mean(values, axis=0, dtype=np.float64)
    if len(values) < 2:
        return mean, np.full_like(mean, np.nan)
    return mean, np.std(values, axis=0, ddof=1, dtype=np.float64)


def silent(message: str) -> None:
    """Drop a note."""


def known(value: float) -> float | None:
    """Return a number for a document: None for an undefined one.

    Example:
        >>> known(0.5), known(float("nan"))
        (0.5, None)
    """
    return None if np.isnan(value) else float(value)


def described(case: Case) -> dict[str, Any]:
    """Return the entries that every row of a document has for a setting."""
    return {
        "name": case.name, "label": case.label, "file": case.file, "settings": dict(case.settings)
    }  # fmt: skip


def baseline(subject: Subject) -> dict[str, Any]:
    """Return the same entries for the model's own head."""
    return {
        "name": subject.features.baseline, "label": subject.features.baseline,
        "file": subject.features.baseline_source, "settings": {},
    }  # fmt: skip
