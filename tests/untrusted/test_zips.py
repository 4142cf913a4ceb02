"""A zip has one reading, and every member its checksum."""

import struct
import sys
import warnings
import zipfile
from pathlib import Path

import pytest
import torch

from ltkit.errors import FormatError
from ltkit.untrusted import zips
from ltkit.untrusted.zips import Zip

sys.path.append(str(Path(__file__).parents[1] / "fuzz"))
from damage_zips import One, deflated, write

HELLO = b"hello " * 20


def refused(path, words, read=None):
    with pytest.raises(FormatError, match=words), Zip(path) as archive:
        (read or (lambda archive: archive.verify()))(archive)


def written(path, ones, **settings):
    path.write_bytes(write(ones, **settings))
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "x.zip"


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_what_python_writes(path, method):
    large = bytes(range(256)) * (zips.BLOCK // 128)
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a/größe", HELLO)
        archive.writestr("a/large", large)
        archive.writestr("a/empty", b"")
        archive.mkdir("a/folder")
    with Zip(path) as archive:
        assert list(archive.entries) == ["a/größe", "a/large", "a/empty", "a/folder/"]
        assert archive.root == "a/"
        assert archive.read("a/größe") == HELLO
        assert archive.read("a/large") == large
        assert archive.read("a/empty") == b""
        archive.verify()


def test_what_torch_writes(path):
    torch.save({"w": torch.arange(5.0)}, path)
    with Zip(path) as archive:
        archive.verify()
        assert archive.read(f"{archive.root}byteorder") == b"little"


def test_what_is_written_to_a_pipe(path):
    """The sizes and checksums follow; the list has them."""

    class Pipe:
        def __init__(self, file):
            self.write, self.flush = file.write, file.flush

    with path.open("wb") as file, zipfile.ZipFile(Pipe(file), "w") as archive:
        archive.writestr("a/x", HELLO)
    with Zip(path) as archive:
        assert archive.read("a/x") == HELLO
        assert len(archive.entries["a/x"].crc_at) == 2


def test_an_empty_zip(path):
    path.write_bytes(write([]))
    with Zip(path) as archive:
        assert (archive.entries, archive.root) == ({}, "")
    refused(path, "its member a is absent", lambda archive: archive.read("a"))


def test_wide_sizes(path):
    wide = struct.pack("<HHQQ", 1, 16, len(HELLO), len(HELLO))
    given = {"size": zips.FULL_4, "packed": zips.FULL_4, "extra": wide}
    one = One(b"a/x", HELLO, local=given, listed=given)
    with Zip(written(path, [one], wide={}, end={"start": zips.FULL_4})) as archive:
        assert archive.read("a/x") == HELLO
    given["extra"] = wide * 2
    refused(written(path, [one]), "wide sizes twice")
    given["extra"] = b""
    refused(written(path, [one]), "wide sizes are absent")
    given["extra"] = wide[:-1]
    refused(written(path, [one]), "a header is damaged|differs")


def test_unequal_ends(path):
    for changes in ({"count": 2, "here": 2}, {"start": 1}, {"at": 1}, {"size": 45}):
        refused(written(path, [One(b"a/x", HELLO)], wide=changes), "its two ends differ")
    refused(written(path, [One(b"a/x", HELLO)], end={"start": 1}), "not where its end says")
    refused(written(path, [One(b"a/x", HELLO)], end={"count": 0, "here": 0}), "longer than its end")
    refused(written(path, [One(b"a/x", HELLO)], end={"of": 1}), "one of several parts")
    refused(written(path, [One(b"a/x", HELLO)], end={"count": 3, "here": 3}), "cut off")


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"before": b"x"}, "something stands before"),
     ({"before": b"x", "shift": 1}, "not where its end says"),
     ({"gap": b"x"}, "does not end where the next begins"), ({"after": b"x"}, "something follows"),
     ({"end": {"comment": b"x"}}, "something follows")],
)  # fmt: skip
def test_bytes_of_no_member(path, settings, words):
    refused(written(path, [One(b"a/x", HELLO)], **settings), words)


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"local": {"crc": 1}}, "differs from its list"), ({"local": {"name": b"a/y"}}, "differs"),
     ({"local": {"method": 8}}, "differs"), ({"local": {"flags": 0}}, "differs"),
     ({"local": {"size": 1}}, "differs"), ({"listed": {"header": 1}}, "before its members"),
     ({"listed": {"flags": 0x801}}, "encrypted"), ({"listed": {"method": 12}}, "way 12"),
     ({"listed": {"version": 64}}, "packed in way"), ({"listed": {"disk": 1}}, "list is damaged"),
     ({"listed": {"size": 1}}, "in other bytes than it has"), ({"before": b"x"}, "before its mem"),
     ({"listed": {"attributes": 0x10}}, "a folder with bytes"), ({"listings": 2}, "two members"),
     ({"listed": {"name": b"a/\xff"}}, "is no name"), ({"listed": {"name": b"a\0"}}, "is no name"),
     ({"listed": {"name": b"../x"}}, "lies outside"), ({"listed": {"name": b""}}, "is no name"),
     ({"described": b"x" * 16}, "what follows its member"),
     ({"local": {"crc": 1}, "listed": {"crc": 1}}, "checksum of its member a/x is wrong")],
)  # fmt: skip
def test_headers_that_differ(path, changes, words):
    refused(written(path, [One(b"a/x", HELLO, **changes)]), words)


def test_two_members_of_one_place_or_name(path):
    ones = [One(b"a/x", HELLO), One(b"a/y", HELLO)]
    ones[1].header = 0
    refused(written(path, ones), "does not end where the next begins")
    refused(written(path, [One(b"a/x", HELLO), One(b"A/X", b"")]), "two members are called 'A/X'")
    same = [One("é".encode(), b""), One(b"\x82", b"", local={"flags": 0}, listed={"flags": 0})]
    refused(written(path, same), "two members are called 'é'")
    refused(written(path, [One(b"a/", HELLO)]), "a folder with bytes")


@pytest.mark.parametrize(
    ("data", "words"),
    [(deflated(HELLO) + b"x", "goes on after its end"), (deflated(HELLO)[:-3], "has no end"),
     (b"\xff" * 9, "does not unpack"), (deflated(HELLO + b"x"), "has not the 120 bytes"),
     (deflated(HELLO[:-1]), "has not the 120 bytes"), (deflated(b"x" * 120), "checksum")],
)  # fmt: skip
def test_packed_bytes_that_are_wrong(path, data, words):
    given = {"method": 8}
    one = One(b"a/x", HELLO, data=data, local=given, listed=given)
    refused(written(path, [one]), words)
    refused(path, words, lambda archive: archive.read("a/x"))


def test_a_zip_without_checksums(path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"w": torch.arange(5.0)}, path)
    finally:
        torch.serialization.set_crc32_options(True)
    refused(path, "has no checksums .* save it again with them")


def test_a_zip_that_is_cut_while_it_is_read(path):
    with warnings.catch_warnings(action="ignore"):
        torch.save({"w": torch.zeros(1 << 20)}, path)
    with Zip(path) as archive:
        with path.open("r+b") as file:
            file.truncate(1 << 20)
        with pytest.raises(FormatError, match="has not the 4194304 bytes"):
            archive.verify()


def test_a_zip_that_unpacks_to_far_more(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in "ab":
            archive.writestr(name, bytes(40 << 20))
    refused(path, "bytes that unpack to 83886080")
