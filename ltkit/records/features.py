"""Cached features: splits, facts about the classes, and nearest classes."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import InputError
from ltkit.records.arrays import (
    STREAM_BLOCKS,
    WIDE_BYTES,
    Floats,
    Ints,
    Rows,
    SomeRows,
    block_rows,
    blocks,
)
from ltkit.records.groups import ShotGroups, shot_groups
from ltkit.records.heads import Classifier, Correction, Head
from ltkit.settings import BINS

SPLITS = ("train", "val", "test")

MAKE_BASE = (
    "make one with ltkit posthoc ncm, ridge, logistic or crt, or ltkit train ce, and name it"
)
"""What to do where features have no head and a command starts from one."""


@dataclass(frozen=True, eq=False)
class FeatureSplit:
    """The cached features of one split.

    features: (N, D) float32 or float16.
    labels: (N,) int64 in 0..C-1.
    ids: (N,) what each image was called, or None.
    local: (N, K) shares of each image's positions by prototype of local vectors, or None.
    """

    features: Rows
    labels: Ints
    ids: NDArray[np.str_] | None = None
    local: Rows | None = None

    def __post_init__(self) -> None:
        """Check the shapes."""
        if len(self.features.shape) != 2 or self.labels.shape != self.features.shape[:1]:
            raise ValueError(f"features {self.features.shape}, labels {self.labels.shape}")

    def __len__(self) -> int:
        """N."""
        return len(self.labels)

    def slices(self, width: int = 1) -> Iterator[slice]:
        """Cut the split into consecutive slices of a few MiB, whole blocks of a file.

        Args:
            width: as for `blocks`, which cuts the split in the same places.
        """
        row_bytes = self.features.shape[1] * self.features.dtype.itemsize
        for rows in blocks(len(self), STREAM_BLOCKS * block_rows(row_bytes)):
            yield from _parts(rows, width)

    def blocks(self, width: int = 1) -> Iterator[tuple[slice, NDArray[Any], Ints]]:
        """Yield (rows, features (B, D), labels (B,)) slice by slice.

        Args:
            width: float32 numbers that are computed of each row; where there are many, fewer rows
                come at a time.
        """
        for rows in self.slices():
            features = self.features[rows]
            for at in _parts(rows, width):
                yield at, features[at.start - rows.start : at.stop - rows.start], self.labels[at]

    def at(self, rows: Ints) -> "FeatureSplit":
        """Return the samples in some rows, which are read as they are asked for.

        Example:
            >>> FeatureSplit(np.zeros((3, 1)), np.array([4, 5, 6])).at(np.array([0, 2])).labels
            array([4, 6])
        """
        ids = None if self.ids is None else self.ids[rows]
        local = None if self.local is None else SomeRows(self.local, rows)
        return FeatureSplit(SomeRows(self.features, rows), self.labels[rows], ids, local)


def wide_rows(width: int) -> int:
    """Return how many rows, at least one, `width` float32 numbers of each take `WIDE_BYTES` of."""
    return max(1, WIDE_BYTES // (4 * width))


def _parts(rows: slice, width: int) -> Iterator[slice]:
    """Cut rows so that `width` float32 numbers of each take `WIDE_BYTES` at most."""
    for part in blocks(rows.stop - rows.start, wide_rows(width)):
        yield slice(rows.start + part.start, rows.start + part.stop)


@dataclass(frozen=True, eq=False)
class ClassTable:
    """Facts about the classes of a dataset.

    train_count: (C,) int64 training images per class, which decide the shot groups.
    names, wnids, coarse: (C,) names, WordNet ids and superclass names, or None.
    """

    train_count: Ints
    names: tuple[str, ...] | None = None
    wnids: tuple[str, ...] | None = None
    coarse: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        """Check that every column has C entries."""
        for column in (self.names, self.wnids, self.coarse):
            if column is not None and len(column) != len(self):
                raise ValueError(f"{len(column)} entries for {len(self)} classes")

    def __len__(self) -> int:
        """C."""
        return len(self.train_count)

    def name(self, class_id: int) -> str:
        """Return a class's name, or its number if there are no names."""
        return str(class_id) if self.names is None else self.names[class_id]


@dataclass(frozen=True, eq=False)
class Base:
    """The classifier that stands for the head of features: corrections start from it.

    name: what its row in a table is called.
    source: the file it is from.
    digest: of that file.
    """

    name: str
    classifier: Classifier
    source: str = "memory"
    digest: str = ""


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """The contents of a features file.

    base: what stands for the head, where there is none or another one is wanted.
    called: what the row of its own head is called; of several networks, each one's name.
    prototypes: (K, D) of local vectors, where the splits have shares in them.
    moving_mean: (D,) of the training features, as `train tde` leaves it beside a head.
    """

    splits: Mapping[str, FeatureSplit]
    classes: ClassTable
    head: Head | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    digest: str = ""
    source: str = "features"
    base: Base | None = None
    prototypes: NDArray[np.float32] | None = None
    moving_mean: NDArray[np.float32] | None = None
    called: str = "baseline"

    def split(self, name: str) -> FeatureSplit:
        """Return a split.

        Raises:
            InputError: when the file has no such split; the message lists those present.
        """
        if name not in self.splits:
            present = ", ".join(self.splits) or "none"
            raise InputError(
                f"{self.source}: no split {name}; there are: {present}; choose one of them, or add "
                "it to the data and extract again"
            )
        return self.splits[name]

    def classifier(self) -> Classifier:
        """Return the base, or else the file's own head in its linear form.

        Raises:
            InputError: when there is neither.
        """
        if self.base is not None:
            return self.base.classifier
        if self.head is None:
            raise InputError(f"{self.source}: head: absent, and no base stands for it; {MAKE_BASE}")
        return self.head.fold()

    def corrected(self, correction: Correction, run: int = 0) -> Classifier:
        """Return the classifier that a run of a correction makes; a whole one needs no head.

        Raises:
            InputError: when some rows are those of a head, and there is none.
        """
        if self.base is None and self.head is None and correction.is_whole(len(self.classes)):
            return correction.classifier(self.empty_classifier(), run)
        return correction.classifier(self.classifier(), run)

    def empty_classifier(self) -> Classifier:
        """Return zeros: the base of a method that asks for no more than its form."""
        shape = (len(self.classes), self.feature_size)
        return Classifier(np.zeros(shape, np.float32), np.zeros(shape[0], np.float32))

    def with_base(self, base: Base) -> "FeatureSet":
        """Return the same features with a classifier in the place of their head.

        Raises:
            InputError: when it has other classes or another width than the features.
        """
        expected = (len(self.classes), self.feature_size)
        if base.classifier.weight.shape != expected:
            raise InputError(
                f"{base.source}: found a weight of {base.classifier.weight.shape}, expected "
                f"{expected} as {self.source} has classes and features; name a classifier of these"
            )
        return replace(self, base=base)

    def recalibrated(self, other: "FeatureSet", split: str = "val") -> "FeatureSet":
        """Return the same features with another file's split in the place of val.

        Raises:
            InputError: when the other file has other classes, another width, or no such split.
        """
        found, expected = ((len(f.classes), f.feature_size, f.classes.names) for f in (other, self))
        if found[:2] != expected[:2] or (found[2] and expected[2] and found[2] != expected[2]):
            raise InputError(
                f"{other.source}: found {found[0]} classes of {found[1]} features, expected the "
                f"{expected[0]} classes of {expected[1]} features of {self.source}, in their order"
            )
        return replace(self, splits={**self.splits, "val": other.split(split)})

    @property
    def baseline(self) -> str:
        """What the row is called that corrections are compared with."""
        return self.called if self.base is None else self.base.name

    @property
    def baseline_source(self) -> str:
        """The file that the baseline is from."""
        return self.source if self.base is None else self.base.source

    @property
    def inputs(self) -> dict[str, str]:
        """The digests of the files that what is made of them is made from, by role."""
        of_base = {} if self.base is None else {"base": self.base.digest}
        return {"features": self.digest} | of_base

    @property
    def train_samples(self) -> Ints:
        """(C,) samples of the train split by class; where there is none, the counted images."""
        counts = self.classes.train_count
        if "train" not in self.splits:
            return counts
        return np.bincount(self.splits["train"].labels, minlength=len(counts))

    @property
    def without_images(self) -> Ints:
        """The classes of which no training image is counted, nor in the train split."""
        return np.flatnonzero((self.classes.train_count == 0) & (self.train_samples == 0))

    @property
    def bins(self) -> Sequence[int]:
        """The least and the greatest training count of medium: the file's own, or the usual ones.

        Raises:
            InputError: when the file says what cannot be.
        """
        said = self.settings.get("bins")
        if said is None:
            return BINS
        whole = isinstance(said, list | tuple) and all(type(count) is int for count in said)
        if not whole or len(said) != 2 or not 0 < said[0] <= said[1]:
            raise InputError(
                f"{self.source}: bins: found {str(said)[:40]}, expected two counts, as 20,100"
            )
        return tuple(said)

    def groups(self, bins: Sequence[int] | None = None) -> ShotGroups:
        """Return the shot groups, by bins or by those of the file."""
        return shot_groups(self.classes.train_count, self.bins if bins is None else bins)

    @property
    def feature_size(self) -> int:
        """D."""
        return int(next(iter(self.splits.values())).features.shape[1])


@dataclass(frozen=True, eq=False)
class Neighbors:
    """The nearest other classes of each class of interest.

    few_class: (F,) int64 class ids, ascending.
    base_class: (F, K) int64 class ids, nearest first, ties by class id; those of
        ``random-once`` as drawn.
    distance: (F, K) float32 in the metric's unit.
    """

    few_class: Ints
    base_class: Ints
    distance: Floats
    metric: str = "euclidean"

    def __post_init__(self) -> None:
        """Check the shapes."""
        shape = (len(self.few_class), *self.base_class.shape[1:])
        if self.base_class.shape != shape or self.distance.shape != shape:
            raise ValueError(f"neighbours {self.base_class.shape}, distances {self.distance.shape}")

    @property
    def k(self) -> int:
        """K."""
        return int(self.base_class.shape[1])
