"""What every test here has: torchvision's import works, and memory is bounded."""

import resource
from pathlib import Path

import missing_operators  # noqa: F401
import pytest

BOUND = 1536 << 20
"""Bytes beyond what the process has before a test: what strangers' files may take, and the rest."""


def _held(what):
    """Return bytes, from what the system knows of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(what):
            return int(line.split()[1]) << 10
    raise KeyError(what)


@pytest.fixture(autouse=True)
def _bounded_memory():
    """Refuse a test, refusals of bombs among them, whose peak of memory is above the bound."""
    if not Path("/proc/self/clear_refs").exists():
        yield
        return
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _held("VmRSS")
    yield
    assert _held("VmHWM") - before < BOUND
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10  # the largest so far
    assert children < BOUND + before
