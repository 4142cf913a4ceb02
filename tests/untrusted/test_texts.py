"""Lines of text files, as editors end them, and within bounds."""

import gzip

import numpy as np
import pytest

from ltkit.errors import InputError
from ltkit.sources.arrays import read_names
from ltkit.untrusted import texts
from ltkit.untrusted.texts import in_array, lines


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("inside", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1d"])
def test_only_ends_of_lines_end_them(tmp_path, end, inside):
    path = tmp_path / "x.txt"
    path.write_bytes(f"\ufeffa{inside}b{end}{end}c".encode())
    assert list(lines(path, "names")) == [f"a{inside}b", "", "c"]


@pytest.mark.parametrize("name", ["x.txt", "x.txt.gz"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a\nb\0\n", "line 2: found a NUL"),
        ("a\n\ufeffb\n".encode(), "line 2: found a byte order mark within"),
        (b"a\n\xff", "line 1 or later: invalid start byte"),
        (b"x" * 300, "line 1: found over 256 characters"),
        (b"a\n" * 40, "found more than 2000 bytes or 30 lines"),
        (b"abcdefghi\n" * 201, "found more than 2000 bytes"),
    ],
)
def test_texts_that_are_none(tmp_path, monkeypatch, name, content, words):
    for limit, value in (
        ("MOST_LINE", 256), ("MOST_BYTES", 2000), ("MOST_LINES", 30), ("UNPACKED_FOLD", 0),
        ("UNPACKED", 2000), ("LINES", 30), ("LINES_FOLD", 0),
    ):  # fmt: skip
        monkeypatch.setattr(texts, limit, value)
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    with pytest.raises(InputError, match=f"{name}: .*{words}.*; "):
        list(lines(path, "names"))


def test_thirty_lines_are_not_more_than_thirty(tmp_path, monkeypatch):
    monkeypatch.setattr(texts, "MOST_LINES", 30)
    path = tmp_path / "x.txt"
    path.write_bytes(b"a\n" * 30)
    assert len(list(lines(path, "names"))) == 30


def test_one_long_text_among_many_is_refused(monkeypatch):
    monkeypatch.setattr(texts, "PADDING", 1000)
    assert in_array(["a", "b" * 200], "names").dtype == np.dtype("<U200")  # as many as they have
    with pytest.raises(InputError, match="names: row 7: found 200 characters among 100 texts"):
        in_array(["a"] * 7 + ["b" * 200] + ["a"] * 92, "names")


def test_names_are_lines(tmp_path):
    path = tmp_path / "names.txt"
    path.write_bytes("a\u2028b\r\n b \n\x85c\n\n \n".encode())
    assert read_names(path) == ("a\u2028b", " b ", "\x85c")
    path.write_bytes(b"a\n\nb\n")
    with pytest.raises(InputError, match=r"names.txt: line 2: is blank, expected a class name"):
        read_names(path)
