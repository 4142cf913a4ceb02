"""HDF5 and Parquet of other programs: a child process copies what is wanted into .npy files."""

import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import InputError
from ltkit.files import foreign_hdf5, foreign_parquet, isolated
from ltkit.sources.arrays import npy
from ltkit.sources.arrays.stored import Header, Stored
from ltkit.untrusted.budget import BYTES, Budget, opened

UNPACKED = 100
"""How many times its size a file's arrays may have; zeros pack up to a thousand times."""


def check_unpacked(path: Path, size: int, claimed: int) -> None:
    """Refuse features that would fill the disk: they may not be so much larger than their file.

    Raises:
        InputError: when they are.
    """
    most = BYTES + UNPACKED * size
    if claimed > most:
        raise InputError(
            f"{path}: features: unpack to {claimed} bytes, expected at most {most} for a file of "
            f"{size}; write it with numpy.savez, unpacked"
        )


class _Copied(Stored):
    """An array that is copied into a folder when its values are first asked for."""

    def __init__(self, path: Path, key: str, budget: Budget, folder: Path, header: Header) -> None:
        super().__init__(path, key, budget)
        self._folder, self._header = folder, header

    @property
    def header(self) -> Header:
        """Shape and type; of texts their true length only when they are read."""
        return self._header

    @cached_property
    def _copy(self) -> npy.Npy:
        shape, dtype = self._header
        claimed = math.prod(shape) * dtype.itemsize
        check_unpacked(self.path, self.budget.size, claimed)
        target = self._folder / f"{len(list(self._folder.iterdir()))}.npy"
        isolated.call(foreign_hdf5.copy, self.path, self.key, str(target), unpacked=claimed)
        return npy.alone(target, self.key)

    def pieces(self) -> Iterator[NDArray[Any]]:
        """Yield the rows block by block."""
        return self._copy.pieces()

    def whole(self, kinds: str = "iuf") -> NDArray[Any]:
        """Read a small array."""
        self.check(kinds)
        return self._copy.whole(kinds)


def of_hdf5(path: Path, folder: Path) -> dict[str, Stored]:
    """Return the datasets of an HDF5 file that another program wrote.

    Args:
        path: the file.
        folder: an empty one for copies.

    Raises:
        FormatError: when it is damaged, or takes too long.
    """
    budget = Budget(path)
    return {
        name: _Copied(path, name, budget, folder, (tuple(shape), np.dtype(kind)))
        for name, shape, kind in isolated.call(foreign_hdf5.listing, path)
    }


def of_parquet(path: Path, folder: Path) -> tuple[Mapping[str, str], "ParquetColumns"]:
    """Return the kinds of a Parquet file's columns, and what gives columns as arrays.

    Raises:
        InputError: when there is no such file, or pyarrow is not installed.
        FormatError: when it is damaged.
    """
    with opened(path, "a Parquet file"):
        pass
    found = isolated.call(foreign_parquet.columns, path)
    return found["columns"], ParquetColumns(path, folder, found["rows"])


class ParquetColumns:
    """Columns of a Parquet file as arrays."""

    def __init__(self, path: Path, folder: Path, rows: int) -> None:
        """Say where copies go."""
        self._path, self._folder, self._rows = path, folder, rows

    def array(self, key: str, names: list[str], kind: str) -> Stored:
        """Return columns of one kind, side by side, as an array of that name."""
        size = self._path.stat().st_size
        claimed = 8 * self._rows * len(names)
        check_unpacked(self._path, size, claimed)
        target = self._folder / f"{len(list(self._folder.iterdir()))}.npy"
        isolated.call(
            foreign_parquet.copy, self._path, names, kind, str(target), unpacked=claimed
        )  # fmt: skip
        copy = npy.alone(target, key)
        copy.path = self._path
        return copy
