"""Rows of a split that training draws repeatedly, held if they fit a memory budget."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from ltkit.records import FeatureSplit, Ints

Held = TypeVar("Held")
"""Type of held rows: an array, or a tensor on a device."""


@dataclass(frozen=True)
class Stretch(Generic[Held]):
    """The rows for a stretch of draws.

    used: (U,) their numbers in the split, ascending.
    values: (U, W).
    """

    used: Ints
    values: Held

    def places(self, rows: Ints) -> Ints:
        """Return the positions in its values of rows of the stretch."""
        return np.searchsorted(self.used, rows)


class RowCache(Generic[Held]):
    """(N, W) rows computed from a split's features: all if they fit, else a stretch at a time.

    The budget decides how often the split is read, never what is returned.

    Args:
        split: the samples.
        width: W.
        dtype: type of the rows.
        budget: bytes of rows that may be held.
        place: moves rows to where they are held.
        made_of: returns the (B, W) rows of (B, D) stored features; None: the features themselves.
        once: each drawn row is needed once; nothing is held.
    """

    def __init__(
        self,
        split: FeatureSplit,
        width: int,
        dtype: np.dtype[Any],
        *,
        budget: int,
        place: Callable[[NDArray[Any]], Held],
        made_of: Callable[[NDArray[Any]], NDArray[Any]] | None = None,
        once: bool = False,
    ) -> None:
        """Read the split if it fits."""
        self._split, self._shape, self._place, self._made_of = split, (width, dtype), place, made_of
        self.room = max(1, budget // (width * dtype.itemsize))
        self.held: Held | None = None
        if len(split) <= self.room and not once:
            self.held = place(self._read(np.arange(len(split))))

    def stretch(self, draws: Ints) -> Stretch[Held]:
        """Read the rows of a stretch of draws, each once."""
        used = np.unique(draws)
        return Stretch(used, self._place(self._read(used)))

    def _read(self, used: Ints) -> NDArray[Any]:
        """Read some rows, in ascending order, in one pass over the split."""
        width, dtype = self._shape
        values = np.empty((len(used), width), dtype)
        for rows, features, _ in self._split.at(used).blocks(width):
            values[rows] = features if self._made_of is None else self._made_of(features)
        return values
