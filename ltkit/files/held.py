"""Files whose HDF5 changes stay in memory, so that HDF5 never meets a full disk."""

import io
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ltkit.files.blocks import put

PAGE = 1 << 12
"""Bytes of a page, the unit in which changes are kept in memory."""


class Held(io.RawIOBase):
    """A file whose changes stay in memory until `commit`.

    HDF5 itself writes when objects are closed, where h5py loses errors; after one, the library
    ends the process with a segmentation fault when that wants to end. So it never sees a full disk.
    """

    def __init__(self, path: Path, *, new: bool) -> None:
        """Open a file, or start an empty one if it is new."""
        self._file = path.open("w+b" if new else "r+b", buffering=0)
        self._size = os.fstat(self._file.fileno()).st_size
        self._place = 0
        self._pages: dict[int, bytearray] = {}

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Move to a position, from the start or the end."""
        self._place = offset + (self._size if whence == os.SEEK_END else 0)
        return self._place

    def tell(self) -> int:
        """Return the position."""
        return self._place

    def truncate(self, size: int | None = None, /) -> int:
        """Set the size that `commit` gives the file."""
        self._size = self._place if size is None else size
        return self._size

    def _pieces(self, length: int) -> Iterator[tuple[bytearray, slice, slice]]:
        """Yield the pages at this position, with matching slices of the page and of the bytes."""
        begin = self._place
        self._place += length
        for number in range(begin // PAGE, math.ceil(self._place / PAGE)):
            page = self._pages.get(number)
            if page is None:
                stored = os.pread(self._file.fileno(), PAGE, number * PAGE)
                page = self._pages[number] = bytearray(stored.ljust(PAGE, b"\0"))
            first, last = max(begin, number * PAGE), min(self._place, (number + 1) * PAGE)
            yield (
                page, slice(first - number * PAGE, last - number * PAGE),
                slice(first - begin, last - begin),
            )  # fmt: skip

    def readinto(self, buffer: Any, /) -> int:
        """Fill a buffer, including uncommitted changes."""
        view = memoryview(buffer).cast("B")
        for page, there, here in self._pieces(len(view)):
            view[here] = page[there]
        return len(view)

    def write(self, data: Any, /) -> int:
        """Change bytes in memory."""
        view = memoryview(data).cast("B")
        for page, there, here in self._pieces(len(view)):
            page[there] = view[here]
        self._size = max(self._size, self._place)
        return len(view)

    def commit(self) -> None:
        """Write all changes."""
        os.ftruncate(self._file.fileno(), self._size)
        for number, page in sorted(self._pages.items()):
            begin = number * PAGE
            put(self._file.fileno(), memoryview(page)[: max(0, self._size - begin)], begin)

    def close(self) -> None:
        """Release the file, dropping uncommitted changes."""
        self._file.close()
        super().close()
