"""Arrays in a file: blocks of rows, each with a checksum."""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from ltkit.errors import FormatError
from ltkit.records import block_rows


@dataclass(frozen=True, eq=False)
class StoredRows:
    """A dataset in a file, (N, ...), read by slices; each block read is checked."""

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    offset: int
    block_rows: int
    checksums: NDArray[np.uint64]

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.dtype.itemsize * math.prod(self.shape[1:])

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        """Read consecutive rows in native byte order.

        Raises:
            FormatError: when a block does not have its checksum; the message names the rows.
        """
        start, stop, _ = rows.indices(self.shape[0])
        first = start // self.block_rows
        last = max(first, math.ceil(stop / self.block_rows))
        begin, end = first * self.block_rows, min(last * self.block_rows, self.shape[0])
        count = (end - begin) * math.prod(self.shape[1:])
        offset = self.offset + begin * self.row_bytes
        values = np.fromfile(self.path, self.dtype, count, offset=offset)
        if len(values) < count:
            raise FormatError(f"{self.path}: {self.name}: truncated; make the file again")
        values = values.reshape(end - begin, *self.shape[1:])
        for block in range(first, last):
            at = (block - first) * self.block_rows
            if checksum(values[at : at + self.block_rows]) != self.checksums[block]:
                until = min((block + 1) * self.block_rows, self.shape[0]) - 1
                raise FormatError(
                    f"{self.path}: {self.name}: block {block} (rows {block * self.block_rows}.."
                    f"{until}) does not have its checksum; the file is damaged, make it again"
                )
        values = values[start - begin : max(stop, start) - begin]
        return values.astype(self.dtype.newbyteorder("="), copy=False)

    def verify(self, *, finite: bool = False) -> Iterator[str]:
        """Read every block; yield a line for each with a wrong checksum or non-finite numbers.

        Args:
            finite: whether all numbers must be finite.
        """
        for start in range(0, self.shape[0], self.block_rows):
            try:
                block = self[start : start + self.block_rows]
            except FormatError as error:
                yield str(error)
                continue
            if finite and not np.isfinite(block).all():
                row = start + np.argwhere(~np.isfinite(block))[0][0]
                yield (
                    f"{self.path}: {self.name}: row {row}: found NaN or infinity, expected finite "
                    "numbers; make the file again"
                )


def checksum(values: NDArray[Any]) -> int:
    """Return the 64-bit checksum (XXH3) of the bytes of an array."""
    return xxhash.xxh3_64_intdigest(np.ascontiguousarray(values).view(np.uint8).data)


def block_checksums(values: NDArray[Any]) -> tuple[int, NDArray[np.uint64]]:
    """Return the rows per block and the checksum of each block, for an array in memory."""
    rows = block_rows(values.dtype.itemsize * math.prod(values.shape[1:]))
    sums = [checksum(values[i : i + rows]) for i in range(0, len(values), rows)]
    return rows, np.array(sums, dtype=np.uint64)


def bytes_of(values: NDArray[Any]) -> memoryview:
    """Return an array's bytes, row by row."""
    return np.ascontiguousarray(values).reshape(-1).view(np.uint8).data


def put(descriptor: int, content: memoryview, offset: int) -> None:
    """Write bytes at an offset, in as many calls as needed."""
    while content:
        written = os.pwrite(descriptor, content, offset)
        content, offset = content[written:], offset + written
