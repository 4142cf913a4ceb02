"""How much memory may be used to hold what could also be computed again."""

import os
from pathlib import Path

from ltkit.numerals import Range, number

VARIABLE = "LTKIT_MEMORY"
MOST = 2 << 30
"""Bytes, unless more is allowed: the same on every machine that has twice as much free."""

GIGABYTES = Range(0.01, 1e6)


def budget() -> int:
    """Return the bytes that may be held: $LTKIT_MEMORY in GB, or 2 GiB, or half of what is free.

    It decides what is computed again, and never what is computed.

    Raises:
        InputError: when the variable is no number of gigabytes.
    """
    said = os.environ.get(VARIABLE)
    if said:
        return int(number(said, f"${VARIABLE}, in gigabytes", GIGABYTES) * 1e9)
    return min(MOST, _free() // 2)


def _free() -> int:
    """Return the bytes that are free, as far as the system says."""
    info = Path("/proc/meminfo")
    if info.is_file():
        for line in info.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    return 2 * MOST
