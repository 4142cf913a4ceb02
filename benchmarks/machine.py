"""What a measurement was made on, and how two things are timed side by side."""

import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path


def machine() -> str:
    """Name the processor, its cores and the load of other processes now."""
    model = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    load = os.getloadavg()[0]
    return f"{model}, {os.cpu_count()} cores, load {load:.1f}"


def side_by_side(
    first: Callable[[], object], second: Callable[[], object], rounds: int
) -> tuple[list[float], list[float]]:
    """Time two functions in turns, after one round of each to warm up; seconds of each round."""
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 1):
        for function, found in zip((first, second), times, strict=True):
            start = time.perf_counter()
            function()
            if number:
                found.append(time.perf_counter() - start)
    return times


def spread(times: list[float]) -> str:
    """Return the median with the least and the greatest, in seconds."""
    return f"{statistics.median(times):.3g} s ({min(times):.3g}..{max(times):.3g}, n {len(times)})"
