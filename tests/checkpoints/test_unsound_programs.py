"""Programs that are not sound: damaged, malicious, of other versions."""

import io
import json
import pickle
import struct
import sys
import zipfile
from pathlib import Path

import made
import numpy as np
import payloads
import pytest
import torch
from containers import MAKERS, TRUSTED, Small, export, exported, rezip, small, torchscript
from family_files import C
from torch import nn

from ltkit import checkpoints
from ltkit.errors import FormatError, InputError

pytestmark = pytest.mark.usefixtures("one_thread")


# Programs that are not sound


def test_damaged_programs_are_refused_or_read(program, path):
    _, make = program
    make()
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for length in (1, 4, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        made.refused(lambda: checkpoints.load(path), "m.pt", error=FormatError)
    for position in rng.choice(len(whole), 300, replace=False):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        made.refused(lambda: checkpoints.load(path), "m.pt")


def test_programs_that_torch_does_not_load(path, caplog):
    torchscript(small(), path)
    rezip(path, lambda name, content: content.replace(b"def forward", b"def f0rw ard"))
    words = ("m.pt: torch does not load the program (", "fetch it again")
    made.refused(lambda: checkpoints.load(path, TRUSTED), *words, error=FormatError)
    exported(small(), path)
    caplog.clear()
    checkpoints.load(path, TRUSTED)
    assert not caplog.records
    rezip(path, lambda name, content: content.replace(b"aten.linear", b"aten.lunear"))
    caplog.clear()
    made.refused(lambda: checkpoints.load(path, TRUSTED), *words, error=FormatError)
    exported(small(), path)
    rezip(path, lambda name, content: None if "sample_inputs" in name else content)
    caplog.clear()
    made.refused(lambda: checkpoints.load(path, TRUSTED), *words, error=FormatError)
    assert not caplog.records


def member(name, shape, strides, storage=b"ctorch\nFloatStorage\n", offset=0):
    """The pickle of a module with one tensor, as TorchScript writes it."""

    def number(n):
        return b"\x8a\x08" + struct.pack("<q", n)

    def text(s):
        return b"X" + struct.pack("<I", len(s)) + s.encode()

    def many(items):
        return b"(" + b"".join(items) + b"t"

    saved = many([text("storage"), storage, text("0"), text("cpu"), number(1)]) + b"Q"
    sizes = [many(map(number, v)) for v in (shape, strides)]
    arguments = many([saved, number(offset), *sizes, b"\x89", b"ccollections\nOrderedDict\n)R"])
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"R"
    return b"\x80\x02c__torch__\nM\n)\x81}" + text(name) + tensor + b"sb."


def script_with(path, pickled):
    torchscript(small(), path)
    rezip(path, lambda name, content: pickled if name.endswith("data.pkl") else content)


class Malicious:
    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return Path.touch, (self.canary,)


def test_pickles_in_torchscript_that_are_not_weights(path, tmp_path):
    found = checkpoints.read
    script_with(path, member("w", (2, 3), (1, 2), offset=4))
    expected = small().conv.weight.flatten()[4:10].reshape(3, 2).T
    assert torch.equal(found(path).states["program",]["w"], expected)
    script_with(path, member("w", (1 << 20, 1 << 20), (0, 0)))
    words = "m.pt: w: claims 4398046511104 bytes that are not in the file"
    made.refused(lambda: found(path), words, error=FormatError)
    script_with(path, member("w", (1 << 20,), (1,)))
    made.refused(lambda: found(path), "m.pt: not sound TorchScript", "values of w are not")
    script_with(path, member("w", (1,), (1,), b"ctorch\nQInt8Storage\n"))
    made.refused(lambda: found(path), "not sound TorchScript", "torch.qint8")
    script_with(path, pickle.dumps(Malicious(tmp_path / "canary"), 2))
    made.refused(lambda: found(path), "m.pt: not sound TorchScript", error=FormatError)
    assert not (tmp_path / "canary").exists()
    script_with(path, b"\x80\x02c__torch__\nM\n)\x81}X\x01\0\0\0x]sb.")
    assert found(path).states["program",] == {}


def config_with(path, **changes):
    """Change the first entry of a torch.export file's list of weights."""
    exported(small(), path)

    def change(name, content):
        if not name.endswith("model_weights_config.json"):
            return content
        config = json.loads(content)
        entry = config["config"]["head.weight"]
        for key, value in changes.items():
            (entry if key in entry else entry["tensor_meta"])[key] = value
        return json.dumps(config).encode()

    rezip(path, change)


def ints(*values):
    return [{"as_int": value} for value in values]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sizes": ints(1 << 20, 1 << 20), "strides": ints(0, 0)}, ["claims 4398046511104 bytes"]),
        ({"sizes": ints(1 << 20, 6)}, ["not a sound torch.export file", "are not in the file"]),
        ({"path_name": "../../../x"}, ["its member", "is absent"]),
        ({"dtype": 99}, ["not a sound torch.export file"]),
        ({"sizes": 3}, ["not a sound torch.export file"]),
        ({"tensor_meta": None}, ["not a sound torch.export file"]),
    ],
)
def test_lists_of_weights_that_are_not_sound(path, changes, words):
    config_with(path, **changes)
    made.refused(lambda: checkpoints.read(path), "m.pt", *words, error=FormatError)


def test_pickled_weights_of_torch_export_are_not_read(path):
    config_with(path, use_pickle=True)
    found = checkpoints.read(path).states["program",]
    assert "head.weight" not in found
    assert "head.bias" in found


def test_what_torch_export_packs_in_turn_has_an_end(path):
    """The sample inputs: torch reads them before the program runs."""
    exported(small(), path)
    key = payloads.whole(b"}" + payloads.ONE + b"2\x86" * 64 + b"Ns")

    def change(name, content):
        if not name.endswith(".pt"):
            return content
        with zipfile.ZipFile(io.BytesIO(content)) as inner:
            members = {own: inner.read(own) for own in inner.namelist()}
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as inner:
            for own, raw in members.items():
                inner.writestr(own, key if own.endswith("data.pkl") else raw)
        return file.getvalue()

    rezip(path, change)
    words = ("not a sound torch.export file", "of too many values")
    made.refused(lambda: checkpoints.load(path, TRUSTED), *words, error=FormatError)


def test_files_of_an_older_torch_export(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("serialized_exported_program.json", "{}")
        archive.writestr("version", "7.3")
    made.refused(lambda: checkpoints.load(path, TRUSTED), "m.pt", "torch 2.8", error=FormatError)


def test_weights_of_programs_that_are_not_finite(program, path):
    family, _ = program
    net = small()
    net.head.weight.data[2, 3] = torch.inf
    MAKERS[family](net, path)
    words = "m.pt: head.weight: holds NaN or infinity"
    made.refused(lambda: checkpoints.load(path, TRUSTED), words, error=FormatError)


class Tied(Small):
    """The head's weight is used before, too."""

    def __init__(self):
        super().__init__()
        self.twin = nn.Linear(6, C)
        self.twin.weight = self.head.weight

    def features(self, images):
        f = super().features(images)
        return f + 0 * self.twin(f)[:, :6]


def test_a_head_that_is_used_elsewhere_is_not_written(program, path, tmp_path):
    family, _ = program
    torch.manual_seed(0)
    MAKERS[family](Tied(), path)
    words = ("shares its values with another tensor", "--to npz")
    made.refused(lambda: export(path, tmp_path / "o", TRUSTED), *words, error=InputError)
    assert made.beside(path) == ["m.pt"]


def test_a_compressed_program_is_not_patched(program, path, tmp_path):
    _, make = program
    make()
    rezip(path, lambda name, content: content, zipfile.ZIP_DEFLATED)
    content = checkpoints.read(path)
    changes = {(("program",), "head.bias"): torch.zeros(C)}
    made.refused(
        lambda: checkpoints.rewrite(content, tmp_path / "o", changes), "is compressed",
        error=FormatError,
    )  # fmt: skip


def test_onnx_without_its_package(tmp_path, monkeypatch):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"\x08\x0a\x12\x07pytorch\x1a\x032.1")
    monkeypatch.setitem(sys.modules, "onnx", None)
    words = ("m.onnx: is ONNX, and onnx is not installed", "pip install 'ltkit[onnx]'")
    made.refused(lambda: checkpoints.load(path), *words, error=InputError)
