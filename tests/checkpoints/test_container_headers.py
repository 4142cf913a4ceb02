"""Zips that are not what torch writes, safetensors whose header is wrong."""

import json
import os
import zipfile

import made
import pytest
import torch
from containers import published, rezip
from safetensors.torch import save_file

from ltkit import checkpoints
from ltkit.checkpoints.containers import safetensors_file
from ltkit.errors import FormatError

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_zip_that_unpacks_to_far_more_is_refused_before_it_is(path):
    torch.save(published(), path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/data/9999", bytes(100 << 20))
    assert path.stat().st_size < 2 << 20
    words = ("m.pt: refused", "bytes that unpack to", "save the checkpoint again")
    made.refused(lambda: checkpoints.load(path), *words, error=FormatError)


def test_a_zip_of_ordinary_size_may_be_compressed(path):
    torch.save(published(), path)
    rezip(path, lambda name, content: content, zipfile.ZIP_DEFLATED)
    assert checkpoints.load(path).family == "state-dict"


@pytest.mark.parametrize(
    "name", ["../x", "m/../../x", "/x", "\\x", "..\\x", "m\\..\\x", "C:x", "..", "m/.."]
)
def test_members_outside_of_a_zip(path, name):
    torch.save(published(), path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, b"x")
    made.refused(lambda: checkpoints.load(path), "m.pt: refused", "outside", error=FormatError)


def test_dots_in_a_name_lead_nowhere(path):
    torch.save(published(), path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("m/..x/y..", b"x")
    assert checkpoints.load(path).family == "state-dict"


def test_safetensors_that_are_cut_while_they_are_read(path, monkeypatch):
    """A mapped file would end the process."""
    save_file({"w": torch.zeros(1 << 20), "z": torch.ones(3)}, path)
    whole = safetensors_file._header

    def cut(*given):
        found = whole(*given)
        os.truncate(path, 100_000)
        return found

    monkeypatch.setattr(safetensors_file, "_header", cut)
    words = ("m.pt: not sound safetensors", "its values are cut off")
    made.refused(lambda: checkpoints.read(path), *words, error=FormatError)


@pytest.mark.parametrize(
    ("header", "words"),
    [({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 8]}}, "are not its own"),
     ({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, "4 bytes are of no tensor"),
     ({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, True]}}, "no two numbers"),
     ({"w": {"dtype": "F32", "shape": [-2, -1], "data_offsets": [0, 8]}}, "its shape is no list"),
     ({"w": {"dtype": 5, "shape": [2], "data_offsets": [0, 8]}}, "values of type 5"),
     ({"w": 1}, "no two numbers"), ([], "no mapping of texts"),
     ({"__metadata__": {"a": 1}}, "no mapping of texts"), ({"__metadata__": 7}, "no mapping"),
     (b'{"w": 1, "w": 2}', "there twice"), (b'{"\\ud800": 1}', "is not JSON"),
     (b"{\xff}", "is not JSON"), (b'{"w":' + b"[" * 100_000, "is not JSON")],
)  # fmt: skip
def test_safetensors_whose_header_is_wrong(path, header, words):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    raw = b"{" + raw[1:] if raw[:1] == b"[" else raw
    raw = raw if words != "no mapping of texts" or header else b"[]"
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + b"\0" * 8)
    found = safetensors_file.read
    made.refused(lambda: found(path), "m.pt", words, error=FormatError)
