"""Arrays as NumPy stores them: alone in an .npy file, or several in an .npz archive."""

import lzma
import math
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import FormatError, InputError
from ltkit.sources.arrays.stored import COPIES, Header, Stored
from ltkit.untrusted.budget import Budget, opened

DAMAGED = (
    EOFError, LookupError, MemoryError, OSError, RuntimeError, ValueError,
    lzma.LZMAError, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What zipfile and NumPy raise at a damaged archive."""

Opening = Callable[[], AbstractContextManager[IO[bytes]]]


class Npy(Stored):
    """An array behind the header that NumPy writes."""

    def __init__(self, path: Path, key: str, budget: Budget, size: int, opening: Opening) -> None:
        """Take what opens a stream of so many bytes."""
        super().__init__(path, key, budget)
        self._size, self._opening = size, opening

    @cached_property
    def header(self) -> Header:
        """Shape and type."""
        with self._opened() as (_, shape, dtype, _):
            return shape, dtype

    @cached_property
    def by_columns(self) -> bool:
        """Whether it is stored column after column."""
        with self._opened() as (_, shape, _, fortran):
            return fortran and len(shape) > 1

    def pieces(self) -> Iterator[NDArray[Any]]:
        """Yield the rows block by block.

        Raises:
            FormatError: when they are stored column after column, or are damaged.
        """
        if self.by_columns:
            raise FormatError(
                f"{self.where}: stored by columns; save numpy.ascontiguousarray of it"
            )
        with self._opened() as (stream, shape, dtype, _):
            for block in self.slices():
                raw = stream.read((block.stop - block.start) * self.row_bytes)
                yield _values(raw, (block.stop - block.start, *shape[1:]), dtype)
            if stream.read(1):  # reading on to the end also checks the checksum
                raise EOFError("it is longer than its header says")

    def whole(self, kinds: str = "iuf") -> NDArray[Any]:
        """Read a small array, in whichever order it is stored."""
        if not self.by_columns:
            return super().whole(kinds)
        self.check(kinds)
        self.budget.take(COPIES * self.row_bytes * self.shape[0], self.name)
        with self._opened() as (stream, shape, dtype, _):
            raw = stream.read(math.prod(shape) * dtype.itemsize)
            return np.ascontiguousarray(_values(raw, shape[::-1], dtype).T)

    @contextmanager
    def _opened(self) -> Iterator[tuple[IO[bytes], tuple[int, ...], np.dtype[Any], bool]]:
        """Give the stream behind the header; what is damaged, also later, is a `FormatError`."""
        try:
            with self._opening() as stream:
                shape, fortran, dtype = _header(stream)
                if any(type(size) is not int or size < 0 for size in shape):
                    raise ValueError(f"its shape is {shape}")
                claimed = stream.tell() + math.prod(shape) * dtype.itemsize
                if claimed != self._size and not dtype.hasobject:
                    longer = claimed < self._size
                    raise EOFError(
                        f"it is {'longer than its header says' if longer else 'truncated'}"
                    )
                if dtype.hasobject:
                    raise FormatError(
                        f"{self.where}: holds Python objects; save plain arrays, not pickles"
                    )
                yield stream, shape, dtype, fortran
        except DAMAGED as error:
            raise FormatError(
                f"{self.where}: cannot be read ({error}); write the file again"
            ) from error


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    first = np.lib.format.read_magic(stream) == (1, 0)
    read = getattr(np.lib.format, f"read_array_header_{'1_0' if first else '2_0'}")
    with warnings.catch_warnings(action="ignore"):  # of headers that Python 2 wrote
        found: tuple[tuple[int, ...], bool, np.dtype[Any]] = read(stream)
    return found


def _values(raw: bytes, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    if len(raw) < math.prod(shape) * dtype.itemsize:
        raise EOFError("it is truncated")
    return np.frombuffer(raw, dtype).reshape(shape)


def alone(path: Path, key: str = "") -> Npy:
    """Return the array of an .npy file.

    Raises:
        InputError: when there is no such file.
    """
    with opened(path, "an .npy file"):
        pass
    return Npy(path, key, Budget(path), path.stat().st_size, lambda: path.open("rb"))


def archive(path: Path) -> dict[str, Stored]:
    """Return the arrays of an .npz archive.

    Raises:
        InputError: when there is no such file, or an array is there twice.
        FormatError: when it is not an .npz archive.
    """
    with opened(path, "an .npz archive"):
        pass
    try:
        with zipfile.ZipFile(path) as held:
            listed = held.infolist()
    except DAMAGED as error:
        raise FormatError(f"{path}: not an .npz archive; write it with numpy.savez") from error
    budget, found = Budget(path), dict[str, Stored]()
    for info in listed:
        key = info.filename.removesuffix(".npy")
        if key in found:
            raise InputError(f"{path}: {key}: found twice, expected once; save it again")
        found[key] = Npy(path, key, budget, info.file_size, partial(_member, path, key))
    return found


@contextmanager
def _member(path: Path, key: str) -> Iterator[IO[bytes]]:
    with zipfile.ZipFile(path) as held, held.open(f"{key}.npy") as stream:
        yield stream
