"""A file is a file, and has a bound."""

import os
import socket
import threading

import pytest

from ltkit import budget
from ltkit.budget import Budget
from ltkit.errors import FormatError, InputError


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
