"""Whether numbers survive storage in fewer bytes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import InputError

MOST_LOST = 2.0**-8
"""Largest relative error of a value: that of bfloat16, the coarsest type in use."""


def first_lost(values: NDArray[Any], stored: NDArray[Any]) -> int | None:
    """Return the first row that a narrower type cannot hold, None if it holds all.

    Types overflow into infinity, which is not looked at here, and underflow into zero, where
    nothing tells. A row is lost when one of its values is off by more than `MOST_LOST` of the
    largest; and the first row where any value is, when more than half of all values other than
    zero are off by more than that part of themselves: a few large values beside them hide it.

    Args:
        values: (B, ...) in at least two dimensions, finite.
        stored: the same in another type.

    Example:
        >>> rows = np.float32([[1, 0], [3e-8, 2e-8]])
        >>> first_lost(rows, rows.astype(np.float16))
        1
    """
    if values.dtype.kind == "f" and values.dtype.itemsize <= stored.dtype.itemsize:
        return None
    exact = values if values.dtype.kind == "f" else values.astype(np.float64)
    size, off, parts = np.abs(exact), np.abs(exact - stored), tuple(range(1, values.ndim))
    bad = off.max(axis=parts, initial=0) > MOST_LOST * size.max(axis=parts, initial=0)
    blurred = off > MOST_LOST * size
    if 2 * np.count_nonzero(blurred) > np.count_nonzero(size):
        bad |= blurred.any(axis=parts)
    rows = np.flatnonzero(bad)
    return int(rows[0]) if len(rows) else None


def narrowed(features: NDArray[Any], dtype: np.dtype[Any], where: str, first: int) -> NDArray[Any]:
    """Return features in the type they are stored in.

    Args:
        features: (B, D) numbers.
        dtype: float32 or float16.
        where: their name in messages, to which the row is added.
        first: number of the first row.

    Raises:
        InputError: for a row that is not finite, or that the type does not hold: values too large
            for it, or so small that they vanish (see `first_lost`).
    """
    with np.errstate(over="ignore", invalid="ignore"):
        stored = features.astype(dtype)
    hint = "use --dtype float32" if dtype.itemsize == 2 else "scale the features"
    if not np.isfinite(stored).all():
        row = int(np.flatnonzero(~np.isfinite(stored).all(axis=1))[0])
        if not np.isfinite(features[row]).all():
            raise InputError(
                f"{where} {first + row}: features are not finite; the model or the image is damaged"
            )
        found = f"value {float(np.abs(features[row]).max()):g} does not fit {dtype.name}"
        raise InputError(f"{where} {first + row}: {found}; {hint}")
    lost = first_lost(features, stored)
    if lost is not None:
        sizes = np.abs(features[lost])
        raise InputError(
            f"{where} {first + lost}: values of {sizes[sizes > 0].min():.2g} to "
            f"{sizes.max():.2g} lose more than 0.4 % in {dtype.name}; {hint}"
        )
    return stored


def as_float32(
    values: NDArray[Any],
    where: str,
    advice: str = "multiply weight and bias by one large number",
) -> NDArray[np.float32]:
    """Return weights as float32.

    Args:
        values: (C, ...), of which no row may be lost; or a vector, not lost as a whole.
        where: what they are, for messages.
        advice: what to do where float32 loses them.

    Raises:
        InputError: when they are not finite, or float32 cannot hold them.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        stored = values.astype(np.float32)
    if not np.isfinite(stored).all():
        raise InputError(
            f"{where}: holds NaN or infinity, or numbers beyond float32; the model is damaged, "
            "take another copy of it"
        )
    rows = np.atleast_2d(values)
    row = first_lost(rows, np.atleast_2d(stored))
    if row is not None:
        place = f"row {row}: " if values.ndim > 1 else ""
        found = f"values of at most {np.abs(rows[row]).max():.2g} are lost in float32"
        raise InputError(f"{where}: {place}{found}; {advice}")
    return stored
