"""Numbers for the page: rounded, None if undefined, as text and in per cent."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def numbers(values: NDArray[Any], digits: int = 6) -> list[Any]:
    """Return rounded numbers for JSON.

    Example:
        >>> numbers(np.array([0.12345678, np.nan]))
        [0.123457, None]
    """
    rounded = np.round(values.astype(np.float64), digits)
    found = rounded.astype(object)
    found[np.isnan(rounded)] = None
    listed: list[Any] = found.tolist()
    return listed


def lengths(values: NDArray[Any], digits: int = 6) -> list[Any]:
    """Return numbers in the features' unit, with enough digits for small ones.

    Example:
        >>> lengths(np.array([0.000123456789]))
        [0.0001234568]
    """
    largest = float(np.nanmax(np.abs(values), initial=0))
    more = -math.floor(math.log10(largest)) if 0 < largest < 1e-2 else 0
    return numbers(values, digits + more)


def number(value: float | None, digits: int = 6) -> float | None:
    """Return one rounded number for JSON."""
    return None if value is None or np.isnan(value) else round(float(value), digits)


def percent(value: float | None, sign: str = "") -> str:
    """Return a fraction in per cent; what rounds to 0 has no minus.

    Example:
        >>> percent(0.125, "+"), percent(-0.0001, "+"), percent(None)
        ('+12.5', '+0.0', '–')
    """
    return "–" if value is None else f"{round(100 * value, 1) + 0.0:{sign}.1f}"


def span(interval: Sequence[float] | None, sign: str = "") -> str:
    """Return an interval in per cent, or nothing without one."""
    return "" if interval is None else " to ".join(percent(v, sign) for v in interval)


def counted(count: int, one: str, more: str = "") -> str:
    """Return a number of things.

    Example:
        >>> counted(1, "class", "classes"), counted(2, "image")
        ('1 class', '2 images')
    """
    return f"{count} {one if count == 1 else more or one + 's'}"


def hundred(values: Iterable[float | None]) -> list[float | None]:
    """Return fractions times 100."""
    return [None if v is None else round(100 * v, 4) for v in values]
