"""An array of a file, whatever kind of file it is: its shape, its type, its rows block by block."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import InputError
from ltkit.records import block_rows, blocks
from ltkit.untrusted.budget import Budget
from ltkit.untrusted.texts import in_array

NUMBERS, TEXTS = "iuf", "US"
"""The kinds of type that numbers and texts may have."""

COPIES = 3
"""How many times their size labels and texts take on the way."""

LAST_SIGN = 0x10FFFF
"""Of Unicode; four bytes of a text can hold more."""

Header = tuple[tuple[int, ...], np.dtype[Any]]


class Stored(ABC):
    """An array of a file, read without pickles, a large one block by block.

    path: the file; key: what the array is called there; name: what it is here.
    """

    def __init__(self, path: Path, key: str, budget: Budget) -> None:
        """Say where it is; nothing is read."""
        self.path, self.key, self.name, self.budget = path, key, key, budget

    @property
    @abstractmethod
    def header(self) -> Header:
        """Shape and type."""

    @abstractmethod
    def pieces(self) -> Iterator[NDArray[Any]]:
        """Yield the rows block by block."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its lengths."""
        return self.header[0]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Its type."""
        return self.header[1]

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    @property
    def where(self) -> str:
        """What messages call it."""
        return f"{self.path}: {self.name}"

    def slices(self) -> Iterator[slice]:
        """Cut the rows into blocks."""
        return blocks(self.shape[0] if self.shape else 1, block_rows(self.row_bytes))

    def rows(self, kinds: str = NUMBERS) -> Iterator[NDArray[Any]]:
        """Yield the rows block by block; the type must be of one of the kinds.

        Raises:
            InputError: when it is of another.
        """
        self.check(kinds)
        self.budget.take(self.row_bytes, self.name)
        yield from self.pieces()

    def whole(self, kinds: str = NUMBERS) -> NDArray[Any]:
        """Read a small array.

        Raises:
            FormatError: when it is damaged, or with the others too large for such a file.
            InputError: when its type is of another kind.
        """
        self.check(kinds)
        self.budget.take(COPIES * self.row_bytes * self.shape[0], self.name)
        values, done = np.empty(self.shape, self.dtype), 0
        for block in self.pieces():
            values[done : done + len(block)] = block
            done += len(block)
        return values

    def check(self, kinds: str) -> None:
        """Refuse another type, and what is no array of rows.

        Raises:
            InputError: see above.
        """
        shape, dtype = self.header
        if dtype.kind not in kinds or not shape or 0 in shape[1:] or not dtype.itemsize:
            what = "numbers" if set(NUMBERS) <= set(kinds) else "strings"
            raise InputError(f"{self.where}: found {dtype} {shape}, expected an array of {what}")

    def texts(self) -> NDArray[np.str_]:
        """Read texts, which are UTF-8 where they are bytes.

        Raises:
            InputError: when it holds none, or bytes and signs that are no text.
        """
        values = self.whole(TEXTS)
        count, wide = values.size, values.dtype.kind == "U"
        flat = np.ascontiguousarray(values).reshape(-1)
        parts: NDArray[Any] = flat.view(f"{values.dtype.str[0]}u4" if wide else np.uint8)
        signs = parts.reshape(count, values.itemsize // parts.itemsize)
        for bad, found in (
            ((signs > LAST_SIGN).any(axis=1), "a sign that Unicode does not have"),
            (((signs[:, 1:] != 0) & (signs[:, :-1] == 0)).any(axis=1), "NUL within a text"),
        ):
            if bad.any():
                raise InputError(
                    f"{self.where}: row {bad.argmax()}: found {found}, expected text; the array is "
                    "damaged, save it again"
                )
        if wide:
            return values.astype(np.str_)
        try:
            return np.char.decode(values, "utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"{self.where}: found other bytes, expected UTF-8") from error


class Held(Stored):
    """An array that is in memory already."""

    def __init__(self, path: Path, key: str, budget: Budget, values: NDArray[Any]) -> None:
        """Take the values."""
        super().__init__(path, key, budget)
        self._values = values

    @property
    def header(self) -> Header:
        """Shape and type."""
        return self._values.shape, self._values.dtype

    def pieces(self) -> Iterator[NDArray[Any]]:
        """Yield the rows block by block."""
        for rows in self.slices():
            yield np.atleast_1d(self._values)[rows]


def held_texts(path: Path, key: str, budget: Budget, texts: list[str]) -> Held:
    """Return texts as an array of a file."""
    return Held(path, key, budget, in_array(texts, f"{path}: {key}"))
