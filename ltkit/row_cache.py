"""Rows of a split that training draws again and again: held where they fit a budget of memory."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from ltkit.records import FeatureSplit, Ints

Held = TypeVar("Held")
"""What rows are held as: an array, or a tensor on a device."""


@dataclass(frozen=True)
class Stretch(Generic[Held]):
    """The rows of a stretch of draws.

    used: (U,) their numbers in the split, rising.
    values: (U, W).
    """

    used: Ints
    values: Held

    def places(self, rows: Ints) -> Ints:
        """Return where rows of the stretch are in its values."""
        return np.searchsorted(self.used, rows)


class RowCache(Generic[Held]):
    """(N, W) rows made of a split's features: all of them where they fit, else a stretch at a time.

    The budget decides how often the split is read, never what is given.

    Args:
        split: the samples.
        width: W.
        dtype: of the rows.
        budget: bytes of rows that may be held.
        place: brings rows to where they are held.
        made_of: the (B, W) rows of (B, D) features as stored; None: the features themselves.
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
        """Read some rows, rising, in one pass over the split."""
        width, dtype = self._shape
        values = np.empty((len(used), width), dtype)
        for rows in self._split.slices():
            first, last = np.searchsorted(used, (rows.start, rows.stop))
            if first < last:
                found = self._split.features[rows][used[first:last] - rows.start]
                values[first:last] = found if self._made_of is None else self._made_of(found)
        return values
