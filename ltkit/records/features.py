"""Cached features: splits, facts about the classes, and nearest classes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import InputError
from ltkit.records.arrays import STREAM_BLOCKS, Floats, Ints, Rows, block_rows, blocks
from ltkit.records.heads import Classifier, Head

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, eq=False)
class FeatureSplit:
    """The cached features of one split.

    features: (N, D) float32 or float16.
    labels: (N,) int64 in 0..C-1.
    ids: (N,) what each image was called, or None.
    """

    features: Rows
    labels: Ints
    ids: NDArray[np.str_] | None = None

    def __post_init__(self) -> None:
        """Check the shapes."""
        if len(self.features.shape) != 2 or self.labels.shape != self.features.shape[:1]:
            raise ValueError(f"features {self.features.shape}, labels {self.labels.shape}")

    def __len__(self) -> int:
        """N."""
        return len(self.labels)

    def slices(self) -> Iterator[slice]:
        """Cut the split into consecutive slices of a few MiB, whole blocks of a file."""
        row_bytes = self.features.shape[1] * self.features.dtype.itemsize
        return blocks(len(self), STREAM_BLOCKS * block_rows(row_bytes))

    def blocks(self) -> Iterator[tuple[slice, NDArray[Any], Ints]]:
        """Yield (rows, features (B, D), labels (B,)) slice by slice."""
        for rows in self.slices():
            yield rows, self.features[rows], self.labels[rows]


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
class FeatureSet:
    """The contents of a features file."""

    splits: Mapping[str, FeatureSplit]
    classes: ClassTable
    head: Head | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    digest: str = ""
    source: str = "features"

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
        """Return the file's own head in its linear form.

        Raises:
            InputError: when the file has no head.
        """
        if self.head is None:
            raise InputError(f"{self.source}: head: absent; extract or import with a classifier")
        return self.head.fold()

    @property
    def feature_size(self) -> int:
        """D."""
        return int(next(iter(self.splits.values())).features.shape[1])


@dataclass(frozen=True, eq=False)
class Neighbors:
    """The nearest other classes of each class of interest.

    few_class: (F,) int64 class ids, ascending.
    base_class: (F, K) int64 class ids, nearest first, ties by class id.
    distance: (F, K) float32 in the metric's unit, ascending.
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
