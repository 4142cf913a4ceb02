"""A short run of tests/fuzz: what is damaged is read or refused, and nothing runs."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from watched import Watched

import ltkit
from ltkit import records
from ltkit.files.opening import MAGIC

sys.path.append(str(Path(__file__).parent / "fuzz"))
import fuzz_checkpoints
import fuzz_files
import fuzz_scratch
import own_files
from damage_hdf5 import metadata
from fuzzing import fuzz, lay
from watched import Outcome

SCRIPTS = [
    path
    for pattern in ("fuzz/fuzz_*.py", "faults/*.py")
    for path in sorted(Path(__file__).parent.glob(pattern))
    if "__main__" in path.read_text() and "--count" in path.read_text()
]
COUNT, FILES, SEED = 50, 25, 1
DEMO = Path(ltkit.__file__).parent / "data" / "demo" / "feats.h5"


@pytest.fixture(scope="module")
def watched():
    with Watched() as child:
        yield child


@pytest.mark.parametrize("container", fuzz_checkpoints.available())
def test_damaged_checkpoints(watched, container):
    outcomes, wrong, _ = fuzz(fuzz_checkpoints.TARGETS[container], COUNT, SEED, watched)
    assert not wrong
    assert outcomes.total() == COUNT
    assert outcomes["refused"] > COUNT // 4


@pytest.mark.parametrize("kind", fuzz_files.available())
def test_damaged_files(watched, kind):
    before = records.arrays.BLOCK_BYTES
    outcomes, wrong, _ = fuzz(fuzz_files.TARGETS[kind], FILES, SEED, watched)
    assert not wrong
    assert outcomes["ok"] + outcomes["refused"] == FILES
    least = FILES if kind.endswith("-values") else 1 if kind == "folder" else FILES // 4
    assert outcomes["refused"] >= least
    assert before == records.arrays.BLOCK_BYTES


@pytest.mark.parametrize("command", sorted(fuzz_scratch.TARGETS))
def test_names_that_are_taken(watched, command):
    outcomes, wrong, _ = fuzz(fuzz_scratch.TARGETS[command], FILES, SEED, watched)
    assert not wrong
    assert outcomes["ok"] + outcomes["refused"] == FILES
    assert outcomes["refused"] >= FILES // 4


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_the_scripts_start_alone(script, tmp_path):
    asked = [sys.executable, script, "--help"]
    done = subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--count" in done.stdout


def test_what_is_lost_is_seen(tmp_path):
    target = fuzz_scratch.Names("import")
    target.result = "right"
    theirs = {"a": b"mine", "l": "a", "p": None}
    folder = tmp_path / "mutant"

    class Losing(Fake):
        def run(self, function, **named):
            if self.lost == "l":
                (folder / "a").write_bytes(b"through the link")
            elif self.lost:
                (folder / self.lost).unlink()
            return self.outcome

    for output, lost, kind in (
        ("right", "", "ok"), ("wrong", "", "changed"), ("right", "a", "lost"),
        ("right", "l", "lost"), ("right", "p", "lost"),
    ):  # fmt: skip
        child = Losing(Outcome("ok", 0.0, output=output))
        child.lost = lost
        lay(folder, theirs)
        assert target.read(child, folder, theirs, ([], theirs), 0).kind == kind
        shutil.rmtree(folder)


@pytest.mark.more
def test_what_is_wrong_is_seen(watched, tmp_path):
    path, out = tmp_path / "m.pt", tmp_path / "out.npz"
    path.write_bytes(b"x")
    assert watched.run("inspect", file=path).kind == "refused"
    assert watched.run("inspect", file=path, nonsense=1).kind == "traceback"
    wanted = {"classifier": DEMO, "to": "npz", "output": out, "quiet": True}
    assert watched.run("export", **wanted).kind == "executed"  # it wrote a file
    wanted |= {"quiet": False, "overwrite": True}
    assert watched.run("export", **wanted, writes=tmp_path).kind == "noise"  # and said so
    with Watched() as hasty:
        assert hasty.run("inspect", file=path, seconds=60).kind == "refused"
        os.kill(hasty.child.pid, signal.SIGSTOP)
        assert hasty.run("inspect", file=path, seconds=0.05).kind == "hang"


class Fake:
    """A child that always says the same."""

    child = None

    def __init__(self, outcome):
        self.outcome = outcome

    def run(self, function, **named):
        return self.outcome


def test_another_result_is_seen(tmp_path):
    target = own_files.Own("neighbors")
    target.expected = {0: "digest"}
    for output, note, kind in (("digest", 0, "ok"), ("other", 0, "changed"), ("other", -1, "ok")):
        child = Fake(Outcome("ok", 0.0, output=output))
        assert target.read(child, tmp_path, {}, note, 0).kind == kind
    child = Fake(Outcome("refused", 0.0, output="f.h5: x: block 1 (rows 8..15) ..."))
    target = own_files.Values("neighbors-values")
    for note, kind in (
        ("x: block 1 (rows 8..15)", "refused"),
        ("x: block 0 (rows 0..7)", "missed"),
    ):
        assert target.read(child, tmp_path, {}, note, 0).kind == kind
    with pytest.raises(ValueError, match="a sound one, 3, was"):
        target.read(child, tmp_path, {}, None, 3)


def test_what_ends_the_child_is_read_in_a_process_of_its_own(tmp_path):
    (tmp_path / "f.h5").write_bytes(b"x")
    child = Fake(Outcome("crash", 0.0))
    found = own_files.Own("neighbors").read(child, tmp_path, {}, 0, 0)
    assert (found.kind, found.isolated) == ("refused", True)


def test_metadata_is_damaged_behind_its_checksums():
    raw = own_files.written(own_files.neighbors_file)
    pieces = metadata(raw)
    assert raw[:8] == MAGIC
    assert (0, 44) in pieces
    assert len(pieces) >= raw.count(b"OHDR")
