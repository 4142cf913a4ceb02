"""A file is a file, and has a bound."""

import os
import socket
import threading

import pytest

from ltkit.errors import FormatError, InputError
from ltkit.untrusted import budget
from ltkit.untrusted.budget import Budget


def test_small_claims_add_up(tmp_path):
    file = tmp_path / "x"
    file.write_bytes(b"1234")
    spent = Budget(file)
    for _ in range(8):
        spent.take(budget.BYTES // 8, "part")
    with pytest.raises(FormatError, match="x: part: claims 536870929 bytes, expected at most"):
        spent.take(17, "part")  # 4 bytes allow 16 more than BYTES


def test_negative_claims_are_refused(tmp_path):
    with pytest.raises(FormatError, match="claims -8 bytes"):
        Budget(tmp_path / "x", 1).take(-8)


def test_steps_end():
    spent = Budget("x", 10)
    spent.step(budget.STEPS + 40)
    with pytest.raises(FormatError, match="takes over 1000040 steps"):
        spent.step()


@pytest.mark.parametrize("kind", ["fifo", "socket", "folder", "device"])
def test_what_is_no_file_is_refused_at_once(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    path = tmp_path / "x"
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "socket":
            server = socket.socket(socket.AF_UNIX)
            server.bind("x")
            server.close()
        case "folder":
            path.mkdir()
        case "device":
            path.symlink_to("/dev/zero")
    refused = []

    def read():
        with pytest.raises(InputError, match=r"x: is a .*, expected a list; name a file"):
            budget.read_bytes(path, "a list", 10)
        refused.append(True)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    reader.join(5)
    assert refused


def test_missing_and_large_files(tmp_path):
    with pytest.raises(InputError, match="not found, expected a list"):
        budget.read_bytes(tmp_path / "x", "a list", 10)
    (tmp_path / "x").write_bytes(b"12345678901")
    with pytest.raises(FormatError, match="found 11 bytes, expected at most 10 of a list"):
        budget.read_bytes(tmp_path / "x", "a list", 10)
    assert budget.read_bytes(tmp_path / "x", "a list", 11) == b"12345678901"


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise PermissionError(13, "Permission denied", "x")

    monkeypatch.setattr(budget.os, "open", refuse)
    with pytest.raises(PermissionError):
        budget.opened(tmp_path / "x", "a list")


def test_what_stays_in_a_folder(tmp_path):
    folder, secret = tmp_path / "real", tmp_path / "secret.txt"
    (folder / "sub").mkdir(parents=True)
    secret.write_text("x")
    (folder / "a").write_text("x")
    root = tmp_path / "root"
    root.symlink_to(folder)  # the user's own choice
    links = {"inner": "a", "up": "sub/../a", "out": "../secret.txt", "far": str(secret),
             "chain": "out", "loop": "loop", "folder": "..", "nothing": "none"}  # fmt: skip
    for name, target in links.items():
        (folder / name).symlink_to(target)
    stays = ("a", "inner", "up", "loop", "nothing", "sub", "absent", "sub/../a")
    for name in stays:
        assert budget.stays_in(root, root / name), name
    for name in ("out", "far", "chain", "folder", "folder/secret.txt", "..", "../secret.txt"):
        assert not budget.stays_in(root, root / name), name
    assert not budget.stays_in(folder, tmp_path / "real2")
    assert not budget.stays_in(folder, secret)


HASH = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("download", "snapshots", "blob", "stays"),
    [("models--x--y", "snapshots", HASH, True), ("datasets--x--y", "snapshots", HASH[:40], True),
     ("models--x--y", "snapshots", "secret.txt", False), ("models", "snapshots", HASH, False),
     ("models--x--y", "versions", HASH, False), ("models--x--y", "snapshots", f"d/{HASH}", False)],
)  # fmt: skip
def test_files_of_the_hubs_cache_are_links_to_its_blobs(tmp_path, download, snapshots, blob, stays):
    snapshot, there = tmp_path / download / snapshots / "rev", tmp_path / download / "blobs" / blob
    (snapshot / "sub").mkdir(parents=True)
    there.parent.mkdir(parents=True)
    there.write_text("x")
    for place in (snapshot, snapshot / "sub"):
        (place / "f").symlink_to(os.path.relpath(there, place))
        assert budget.stays_in(place, place / "f") == stays
    there.unlink()
    there.symlink_to("/etc/hostname")
    assert not budget.stays_in(snapshot, snapshot / "f")
