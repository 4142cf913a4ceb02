"""Names beside an output: who holds them, and what is known to be ltkit's."""

import errno
import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import made
import pytest

from ltkit import records
from ltkit.errors import InputError
from ltkit.files import atomic, features, scratch
from ltkit.files.features_writer import FeaturesWriter

MOVE = ("not known to be ltkit's", "move it away, or choose another -o")


def contents(folder):
    return {
        path.name: str(path.readlink()) if path.is_symlink() else path.is_dir() or path.read_bytes()
        for path in folder.iterdir()
        if not path.is_fifo()
    }


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(records.arrays, "BLOCK_BYTES", 256)


HOLDER = """
import sys
from pathlib import Path
from ltkit.files import atomic
with atomic.locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def held(tmp_path):
    """Have another process hold the lock of f.h5; return a function that kills it."""
    other = subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path / "f.h5"], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert other.stdout.readline() == "held\n"

    def kill():
        other.kill()
        other.wait()

    yield kill
    kill()
    other.stdin.close()
    other.stdout.close()


# Locks


def test_what_another_process_writes_is_refused(tmp_path, held):
    path = tmp_path / "f.h5"
    for call in (
        lambda: atomic.check_output(path, overwrite=True),
        lambda: atomic.write_text(path, "mine"),
        lambda: FeaturesWriter(path, made.plan(), command="x", resume=False),
        lambda: atomic.hold(tmp_path / "f.h5.jsonl"),
        lambda: atomic.hold(tmp_path / "f.h5.partial.journal"),
    ):
        made.refused(call, "another process (", "is writing it; wait, or choose another -o")
    atomic.check_output(tmp_path / "g.h5", overwrite=False)
    (left,) = contents(tmp_path)
    assert left.startswith(".ltkit-lock-")
    held()
    assert atomic.check_output(path, overwrite=True) is None  # the lock goes with the process
    assert contents(tmp_path) == {}


def test_who_does_not_write_asks_for_no_lock(tmp_path, held):
    atomic.check_output(tmp_path / "f.h5", overwrite=True, writes=False)


def test_a_command_holds_what_it_checked_until_its_end(tmp_path):
    with atomic.command():
        atomic.check_output(tmp_path / "f.h5", overwrite=False)
        assert len(contents(tmp_path)) == 1
        atomic.write_text(tmp_path / "f.h5", "x")
        atomic.write_text(tmp_path / "f.h5.jsonl", "x")
        assert len(contents(tmp_path)) == 3
    assert contents(tmp_path) == {"f.h5": b"x", "f.h5.jsonl": b"x"}


def test_the_output_of_another_command_is_seen_once_the_lock_is_there(tmp_path, monkeypatch):
    hold = atomic.hold

    def after_another(path, **how):
        path.write_text("of another command that has just ended")
        hold(path, **how)

    monkeypatch.setattr(atomic, "hold", after_another)
    made.refused(lambda: atomic.check_output(tmp_path / "f", overwrite=False), "f: exists")


def test_a_lock_is_let_go_in_any_order(tmp_path):
    first, second = atomic.locked(tmp_path / "f"), atomic.locked(tmp_path / "f")
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    second.__exit__(None, None, None)
    assert contents(tmp_path) == {}
    assert atomic._held == {}


@pytest.mark.parametrize("kind", ["text", "link", "folder", "pipe"])
def test_a_lock_whose_name_is_taken(tmp_path, kind):
    with atomic.locked(tmp_path / "f"):
        (name,) = contents(tmp_path)
    lie(tmp_path / name, kind, tmp_path / "beyond")
    before = contents(tmp_path)
    made.refused(lambda: atomic.write_text(tmp_path / "f", "x"), name, *MOVE)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_folder_without_locks(tmp_path, monkeypatch, code):
    def fail(*given):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", fail)
    words = "does not support locks", os.strerror(code), "choose an -o on another file system"
    made.refused(lambda: atomic.write_text(tmp_path / "f", "x"), *words)


def test_a_lock_that_may_not_be_made(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "open", lambda *given: (_ for _ in ()).throw(PermissionError("no")))
    with pytest.raises(PermissionError):
        atomic.write_text(tmp_path / "f", "x")


# Names that are taken


def lie(path, kind, beyond):
    """Put something of a stranger's there."""
    beyond.write_text("precious")
    if kind == "link":
        path.symlink_to(beyond)
    elif kind == "link to nowhere":
        path.symlink_to("nowhere")
    elif kind == "folder":
        path.mkdir()
        (path / "notes").write_text("mine")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "finished":
        made.write_features(path)
    else:
        path.write_bytes(kind.encode())


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("name", ["journal", "partial"])
@pytest.mark.parametrize("kind", [
    "text", "link", "link to nowhere", "folder", "pipe", "finished", "", "ltkit-journal 3 x 1 1\n",
])  # fmt: skip
def test_a_stranger_s_is_never_written(tmp_path, resume, name, kind):
    path = tmp_path / "f.h5"
    with FeaturesWriter(path, made.plan(), command="x", resume=False) as writer:
        made.append(writer, made.plan(), 50)
    taken = path.with_name(f"f.h5.{name}")
    taken.unlink()
    lie(taken, kind, tmp_path / "beyond")
    before = contents(tmp_path)
    made.refused(
        lambda: FeaturesWriter(path, made.plan(), command="x", resume=resume), taken.name, *MOVE
    )
    assert contents(tmp_path) == before


def test_what_comes_under_a_name_in_the_meantime_stays(tmp_path, monkeypatch):
    path, place = tmp_path / "f.h5", scratch.place

    def late(temporary, name):
        if name.suffix == ".partial":
            name.write_text("mine")
        place(temporary, name)

    monkeypatch.setattr(scratch, "place", late)
    made.refused(
        lambda: FeaturesWriter(path, made.plan(), command="x", resume=False), "f.h5.partial", *MOVE
    )
    assert contents(tmp_path) == {"f.h5.partial": b"mine"}


def test_a_partial_file_that_was_exchanged_is_not_given_the_name(tmp_path):
    path, plan = tmp_path / "f.h5", made.plan()
    with FeaturesWriter(path, plan, command="x", resume=False) as writer:
        made.append(writer, plan)
        writer.partial.unlink()
        writer.partial.write_text("mine")
        made.refused(writer.finish, "f.h5.partial", *MOVE)
    assert not path.exists()
    assert writer.partial.read_text() == "mine"


def test_an_unfinished_run_may_be_copied(tmp_path):
    (there := tmp_path / "there").mkdir()
    path, plan = tmp_path / "f.h5", made.plan()
    with FeaturesWriter(path, plan, command="x", resume=False) as writer:
        made.append(writer, plan, 50)
    for name in ("f.h5.partial", "f.h5.journal"):
        (there / name).write_bytes((tmp_path / name).read_bytes())
    with FeaturesWriter(there / "f.h5", plan, command="x", resume=True) as writer:
        assert writer.done("train") == 48
        made.append(writer, plan)
        writer.finish()
    made.write_features(tmp_path / "whole.h5", command="x")
    assert (there / "f.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()


@pytest.mark.parametrize("code", scratch.LINKLESS)
def test_a_file_system_without_links(tmp_path, monkeypatch, code):
    def fail(*given):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", fail)
    made.write_features(tmp_path / "f.h5")
    assert len(features.read(tmp_path / "f.h5").split("train")) == 100
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    made.refused(lambda: scratch.place(tmp_path / "a", tmp_path / "b"), "b: found", *MOVE)
    assert contents(tmp_path).keys() == {"a", "b", "f.h5"}


def test_another_error_of_a_link_is_told(tmp_path, monkeypatch):
    def fail(*given):
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "link", fail)
    with pytest.raises(InputError, match=r"f\.h5: cannot be written \(broken\)"):
        made.write_features(tmp_path / "f.h5")
    assert contents(tmp_path) == {}


# Parts


def parts(folder, run=None, *, resume=False):
    return scratch.Parts(folder / "o.parts", run or {"seed": 1}, resume=resume)


def test_parts_begin_with_the_first_and_leave_together(tmp_path):
    own = parts(tmp_path)
    assert not own.has(own.path("a"))
    assert contents(tmp_path) == {}
    own.begin()
    own.begin()
    assert [path.name for path in own.folder.iterdir()] == ["ltkit-parts"]
    (own.folder / ".ltkit-left").write_text("by a kill")
    own.remove()
    own.remove()
    assert contents(tmp_path) == {}


def test_parts_of_another_run(tmp_path):
    parts(tmp_path).begin()
    parts(tmp_path, resume=True)
    made.refused(
        lambda: parts(tmp_path, {"seed": 2}, resume=True), "o.parts: belongs to a sweep with other"
    )
    parts(tmp_path, {"seed": 2}).begin()  # without --resume, in the place of the others
    parts(tmp_path, {"seed": 2}, resume=True)


@pytest.mark.parametrize("kind", ["link", "pipe", "text", "\x89HDF\r\n\x1a\nxx", "finished"])
def test_what_is_no_part_stays(tmp_path, kind):
    own = parts(tmp_path)
    own.begin()
    lie(own.path("euclidean-1"), kind, tmp_path / "beyond")
    for call in (own.remove, lambda: parts(tmp_path), lambda: parts(tmp_path, resume=True)):
        made.refused(call, "o.parts/euclidean-1.h5", *MOVE)
    assert os.path.lexists(own.path("euclidean-1"))


def test_a_part_that_a_link_takes_the_place_of_is_not_read(tmp_path):
    own = parts(tmp_path)
    own.begin()
    lie(own.path("a"), "link", tmp_path / "beyond")
    made.refused(lambda: own.has(own.path("a")), "o.parts/a.h5", *MOVE)


def test_a_sweep_does_not_begin_beside_another(tmp_path, held):
    own = scratch.Parts(tmp_path / "f.h5.parts", {}, resume=False)
    made.refused(own.locked().__enter__, "f.h5.parts: another process")


def test_a_log_is_no_part_of_the_digest_s_order():
    assert scratch.digest_of({"a": 1, "b": (1, 2)}) == scratch.digest_of({"b": [1, 2], "a": 1})
    assert scratch.digest_of({"a": 1}) != scratch.digest_of({"a": 2})


def test_threads_do_not_wait_for_signals(tmp_path):
    done = []
    thread = threading.Thread(target=lambda: done.append(atomic.write_text(tmp_path / "f", "x")))
    thread.start()
    thread.join()
    assert done == [None]


def test_errors_go_where_they_can(tmp_path):
    """A message that cannot be written leaves the exit code as it is."""
    words = [sys.executable, "-m", "ltkit", "inspect", tmp_path / "none.h5"]
    with Path("/dev/full").open("w") as full:
        assert subprocess.run(words, stderr=full, check=False).returncode == 2
