"""A short run of tests/fuzz: damaged checkpoints are read or refused, and nothing runs."""

import os
import signal
import sys
from pathlib import Path

import pytest
from watched import Watched

import ltkit

sys.path.append(str(Path(__file__).parent / "fuzz"))
import fuzz_checkpoints

COUNT, SEED = 50, 1
DEMO = Path(ltkit.__file__).parent / "data" / "demo" / "feats.h5"


@pytest.fixture(scope="module")
def watched():
    with Watched() as child:
        yield child


@pytest.mark.parametrize("container", fuzz_checkpoints.available())
def test_damaged_checkpoints(watched, container):
    outcomes, wrong, _ = fuzz_checkpoints.fuzz(container, COUNT, SEED, watched)
    assert not wrong
    assert outcomes.total() == COUNT
    assert outcomes["refused"] > COUNT // 4


def test_what_is_wrong_is_seen(watched, tmp_path):
    path, out = tmp_path / "m.pt", tmp_path / "out.npz"
    path.write_bytes(b"x")
    assert watched.run("inspect", file=path).kind == "refused"
    assert watched.run("inspect", file=path, nonsense=1).kind == "traceback"
    wanted = {"classifier": DEMO, "to": "npz", "output": out, "quiet": True}
    assert watched.run("export", **wanted).kind == "executed"  # it wrote a file
    with Watched() as hasty:
        assert hasty.run("inspect", file=path, seconds=60).kind == "refused"
        os.kill(hasty.child.pid, signal.SIGSTOP)
        assert hasty.run("inspect", file=path, seconds=0.2).kind == "hang"
