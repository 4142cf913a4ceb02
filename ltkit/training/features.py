"""A file's cached features on a device, as far as they fit."""

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ltkit import memory
from ltkit.records import FeatureSet, FeatureSplit
from ltkit.row_cache import RowCache, Stretch
from ltkit.settings import Augment


def _placed(
    device: torch.device, values: "np.ndarray[tuple[int, ...], np.dtype[np.generic]]"
) -> Tensor:
    return torch.from_numpy(values).to(device)


class FeatureStore:
    """Cached features, held on the device if they fit the budget, else read as needed.

    split: (N, D) features and their labels.
    device: where they are held.
    num_classes: C, so that few enough come at a time for their logits.
    """

    unit = "samples"

    def __init__(self, split: FeatureSplit, device: str, num_classes: int = 1) -> None:
        """Read the split if it fits."""
        self.device, self._num_classes = torch.device(device), num_classes
        self._split, self._order = split, torch.arange(0)
        self._rows = RowCache(
            split,
            split.features.shape[1],
            split.features.dtype,
            budget=memory.budget(),
            place=partial(_placed, self.device),
        )
        self._stretch: Stretch[Tensor] | None = None
        self._next = self._ready = 0

    def __len__(self) -> int:
        """N."""
        return len(self._split)

    def slices(self) -> Iterator[slice]:
        """Cut the samples into blocks of the file, smaller ones where there are many classes."""
        return self._split.slices(self._num_classes)

    def block(self, rows: slice) -> Tensor:
        """Return consecutive (B, D) features in float32."""
        if self._rows.held is not None:
            return self._rows.held[rows].float()
        return _placed(self.device, self._split.features[rows]).float()

    def drawn(self, order: Tensor) -> None:
        """Note the epoch's draws, so that those of many steps are read in one pass."""
        self._order, self._next, self._ready = order, 0, 0

    def augmented(
        self, index: Tensor, generator: torch.Generator, augment: Augment | None = None
    ) -> Tensor:
        """Return the (B, D) features of the next draws, unchanged."""
        if self._rows.held is not None:
            return self._rows.held[index].float()
        rows = index.cpu().numpy()
        if self._stretch is None or self._next + len(rows) > self._ready:
            self._stretch = None  # let go before the next are read
            self._ready = self._next + max(self._rows.room, len(rows))
            self._stretch = self._rows.stretch(self._order[self._next : self._ready].numpy())
        self._next += len(rows)
        place = torch.from_numpy(self._stretch.places(rows))
        return self._stretch.values[place.to(self.device)].float()


class Stores(NamedTuple):
    """The splits of a features file on a device, shared by runs."""

    train: FeatureStore
    val: FeatureStore | None


def stores(features: FeatureSet, device: str) -> Stores:
    """Move the splits that training needs to a device, as far as they fit."""
    val, num_classes = features.splits.get("val"), len(features.classes)
    return Stores(
        FeatureStore(features.split("train"), device, num_classes),
        FeatureStore(val, device, num_classes) if val is not None and len(val) else None,
    )
