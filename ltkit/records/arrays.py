"""Arrays and how they are read: rows in blocks, and norms and products that float32 holds."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[Any]
Ints = NDArray[np.int64]


class Rows(Protocol):
    """(N, ...) values read in blocks; NumPy arrays and files' datasets qualify."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, ...)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """The element type as stored."""

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        """Read the rows of a contiguous slice."""


def blocks(count: int, size: int) -> Iterator[slice]:
    """Cut ``range(count)`` into consecutive slices of at most `size`.

    Example:
        >>> [(s.start, s.stop) for s in blocks(5, 2)]
        [(0, 2), (2, 4), (4, 5)]
    """
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


BLOCK_BYTES = 1 << 20
"""Size of a file's block, the unit of checksums and of resuming: about 1 MiB."""

STREAM_BLOCKS = 8
"""Blocks read at a time: enough for a matrix product to run at full speed."""


WIDE_BYTES = 64 << 20
"""Bytes of what is computed of a block at once, as its logits for 20,000 classes."""

CACHED_BYTES = 512 << 10
"""Bytes of a part of it that stays in a core's cache while it is read several times."""


def block_rows(row_bytes: int) -> int:
    """Return how many rows make a block of about `BLOCK_BYTES`, at least one."""
    return max(1, BLOCK_BYTES // max(1, row_bytes))


MIDDLING = (1e-12, 1e12)
"""Norms of float32 rows whose squares neither underflow nor overflow."""


def lengths(rows: NDArray[Any]) -> NDArray[Any]:
    """Return L2 norms over the last axis, which is kept, for numbers of any size.

    Example:
        >>> lengths(np.float32([[3e-30, 4e-30]])).round(32).tolist()
        [[5.000000015855384e-30]]
    """
    with np.errstate(over="ignore", under="ignore"):
        norms: NDArray[Any] = np.linalg.norm(rows, axis=-1, keepdims=True)
        odd = ~((norms >= MIDDLING[0]) & (norms <= MIDDLING[1]))
        if odd.any():
            exact = np.linalg.norm(rows.astype(np.float64), axis=-1, keepdims=True)
            norms = np.where(odd, exact, norms).astype(norms.dtype)
    return norms


def unit_rows(rows: NDArray[Any]) -> NDArray[Any]:
    """Divide by the L2 norms over the last axis, for numbers of any size; zeros stay.

    Example:
        >>> unit_rows(np.float32([[3e-30, 4e-30], [0, 0]])).round(2).tolist()
        [[0.6000000238418579, 0.800000011920929], [0.0, 0.0]]
    """
    norms = lengths(rows)
    odd = ~((norms >= MIDDLING[0]) & (norms <= MIDDLING[1]))
    unit: NDArray[Any] = rows / np.where(odd, 1, norms).astype(norms.dtype)
    if odd.any():
        which = odd[..., 0]
        exact = rows[which].astype(np.float64)
        exact_norms = np.linalg.norm(exact, axis=-1, keepdims=True)
        unit[which] = exact / np.where(exact_norms > 0, exact_norms, 1)
    return unit


PRODUCTS = (1e-20, 1e30)
"""Bound on the largest feature times the largest weight for safe float32 sums of products."""


def products(features: NDArray[Any], weight: Floats) -> NDArray[Any]:
    """Return the (B, R) products ``features @ weight.T``.

    In float32, unless its range could cut off what float64 holds: there the products of finite
    numbers are finite, and tiny ones are not lost.

    Args:
        features: (B, D) float32.
        weight: (R, D) float32.

    Example:
        >>> [f"{p:.3g}" for p in products(np.float32([[1e30]]), np.float32([[1e30], [2]]))[0]]
        ['1e+60', '2e+30']
    """
    most = _largest(features) * _largest(weight)
    if PRODUCTS[0] <= most <= PRODUCTS[1] or most == 0:
        return np.asarray(features @ weight.T)
    return np.asarray(features.astype(np.float64) @ weight.T.astype(np.float64))


def shifted(logits: NDArray[Any], bias: Floats, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Return (B, R) products plus biases, in float64 if float32 may not hold the sum.

    Args:
        logits: the products.
        bias: (R,).
        out: (B, R) or more rows where the sum may lie; new memory is slow where there is much.
    """
    if _largest(bias) > PRODUCTS[1]:
        logits = logits.astype(np.float64)
    if out is None or out.dtype != np.result_type(logits, bias):
        return np.asarray(logits + bias)
    return np.asarray(np.add(logits, bias, out=out[: len(logits)]))


def _largest(values: NDArray[Any]) -> float:
    """Return the largest absolute value; 0 for an empty array, NaN if it contains one."""
    return max(float(values.max(initial=0)), -float(values.min(initial=0)))


@dataclass(frozen=True, eq=False)
class SomeRows:
    """Some rows of others, read as they are asked for, a few blocks of the file at a time.

    rows: (M,) their numbers; where they do not ascend, parts of the file are read more than once.
    """

    every: Rows
    rows: Ints

    @property
    def shape(self) -> tuple[int, ...]:
        """(M, ...)."""
        return (len(self.rows), *self.every.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """The element type as stored."""
        return self.every.dtype

    def __getitem__(self, wanted: slice) -> NDArray[Any]:
        """Read the rows of a slice."""
        used = self.rows[wanted]
        values = np.empty((len(used), *self.shape[1:]), self.dtype)
        if not len(used):
            return values
        if (used[1:] < used[:-1]).any():
            order = np.argsort(used, kind="stable")
            values[order] = SomeRows(self.every, used[order])[:]
            return values
        size = block_rows(self.shape[1] * self.dtype.itemsize)
        for span in blocks(int(used[-1]) + 1 - int(used[0]), size):
            start, stop = int(used[0]) + span.start, int(used[0]) + span.stop
            first, last = np.searchsorted(used, (start, stop))
            if first < last:
                values[first:last] = self.every[start:stop][used[first:last] - start]
        return values
