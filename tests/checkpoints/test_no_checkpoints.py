"""Files that are no checkpoints, or unsafe ones: nothing in them is executed."""

import argparse
import codecs
import contextlib
import io
import json
import os
import pickle
import sys
import zipfile
from pathlib import Path

import made
import numpy as np
import pytest
import torch
import torch.hub
from family_files import Config
from stored_networks import as_safetensors, load, network, published

from ltkit import architectures, checkpoints
from ltkit.cli import main
from ltkit.errors import FormatError, InputError

pytestmark = pytest.mark.usefixtures("one_thread")

# Files that are no checkpoints, or unsafe ones


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["is empty"]),
        (b" \n<!DOCTYPE html>", ["web page"]),
        (b"version https://git-lfs.github.com/spec/v1", ["git lfs pull"]),
        (b"hello", ["m.pt"]),
        (b"\x80\x02}q\x00.", ["m.pt"]),
        (b"PK\x03\x04", ["is not a sound zip", "it is truncated"]),
        (b"\x10\0\0\0\0\0\0\0{", ["not sound safetensors"]),
        (b"\x10\0\0\0\0\0\0\0{               ", ["not sound safetensors"]),
    ],
)
def test_what_is_no_checkpoint(path, content, words):
    path.write_bytes(content)
    made.refused(load(path), "m.pt", *words, error=FormatError)


def test_no_such_checkpoint_and_a_folder(tmp_path):
    made.refused(load(tmp_path / "none.pt"), "none.pt: not found", error=InputError)
    made.refused(load(tmp_path), "is a folder", error=InputError)


@pytest.mark.parametrize("value", [[1, 2], torch.zeros(3), 7])
def test_what_is_no_dictionary(path, value):
    torch.save(value, path)
    made.refused(load(path), f"found a {type(value).__name__}, expected a dictionary")


@pytest.mark.parametrize("old", [False, True])
def test_damage_is_met(path, old):
    torch.save(published(), path, _use_new_zipfile_serialization=not old)
    content = path.read_bytes()
    for length in [1, 2, 10, 100, 1000, len(content) // 2, len(content) - 1]:
        path.write_bytes(content[:length])
        made.refused(load(path), "m.pt", error=FormatError)
    rng = np.random.default_rng(0)
    for position in rng.choice(3000, 60, replace=False):
        damaged = bytearray(content)
        damaged[position] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        with contextlib.suppress(FormatError, InputError):
            checkpoints.load(path)


def test_truncated_safetensors(path):
    as_safetensors(path, network())
    content = path.read_bytes()
    for length in [9, 100, len(content) - 1]:
        path.write_bytes(content[:length])
        made.refused(load(path), "m.pt: not sound safetensors", error=FormatError)


def test_a_tensor_larger_than_its_storage(path):
    state = published()
    state["linear.weight"] = torch.zeros(1).expand(1 << 20, 1 << 20)
    torch.save(state, path)
    made.refused(
        load(path),
        "linear.weight: found a tensor that claims 4398046511104 bytes",
        error=FormatError,
    )


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (lambda t: t.to_sparse(), "a sparse tensor"),
        (lambda t: t.to("meta"), "a meta tensor"),
        (lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8), "a quantised tensor"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
def test_tensors_that_are_not_plain(path, make, word):
    state = published()
    state["linear.weight"] = make(state["linear.weight"])
    torch.save(state, path)
    made.refused(load(path), "m.pt", "linear.weight: found a", word, error=FormatError)


class Calls:
    """An object whose pickle calls a function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


class Path2:
    pass


@pytest.mark.parametrize(
    ("function", "name"), [(os.system, "system"), (eval, "eval"), (print, "print"), (open, "open")]
)
@pytest.mark.parametrize("container", ["zip", "old", "pickle"])
def test_a_pickle_that_runs_code_is_refused(path, tmp_path, function, name, container):
    canary = tmp_path / "canary"
    argument = {
        os.system: f"touch {canary}", eval: f"open({str(canary)!r}, 'w')", print: "x", open: "x",
    }[function]  # fmt: skip
    evil = published() | {"x": Calls(function, argument)}
    if container == "pickle":
        path.write_bytes(pickle.dumps({"x": Calls(function, argument)}))
    else:
        torch.save(evil, path, _use_new_zipfile_serialization=container == "zip")
    message = made.refused(load(path), "m.pt: refused", "state_dict", error=FormatError)
    assert name in message or container == "pickle"
    assert not canary.exists()


@pytest.mark.parametrize(
    "thing", [np.float64(3), np.zeros(2), argparse.Namespace(lr=0.1), Path("x"), Path2()]
)
@pytest.mark.parametrize("zipped", [True, False])
def test_objects_that_are_not_plain_data_are_skipped(path, thing, zipped):
    """The weights are those of the file without the objects; a stand-in takes their place."""
    torch.save(published(), path)
    plain = checkpoints.load(path).network.state_dict()
    content = {"state_dict": published(), "best": thing}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    model = checkpoints.load(path)
    assert len(model.skipped) > 0
    assert all(torch.equal(v, plain[k]) for k, v in model.network.state_dict().items())
    assert not isinstance(checkpoints.read(path).top["best"], type(thing))


def test_what_was_skipped_cannot_be_written_again(path, tmp_path):
    torch.save(
        {"state_dict": published(), "args": argparse.Namespace(lr=0.1)},
        path, _use_new_zipfile_serialization=False,
    )  # fmt: skip
    content = checkpoints.read(path)
    assert content.skipped == ("argparse.Namespace",)
    with pytest.raises(InputError, match=r"holds argparse.Namespace.*--to npz"):
        checkpoints.rewrite(content, tmp_path / "out.pt", {})


def test_text_is_encoded_in_one_way_alone(path):
    """As old pickles write bytes; other codecs are not asked."""
    content = {"state_dict": published(), "args": argparse.Namespace(lr=1)}
    torch.save(content | {"x": Calls(codecs.encode, "x", "rot13")}, path)
    made.refused(load(path), "refused: it holds _codecs.encode", error=FormatError)


def test_a_pickled_module_is_refused(path):
    torch.save(torch.nn.Linear(2, 2), path)
    made.refused(load(path), "refused: it holds torch.nn.modules.linear.Linear, not plain data")


def test_code_beside_the_weights_is_refused(path):
    """A zip whose data.pkl was replaced."""
    torch.save(published(), path)
    with zipfile.ZipFile(path) as old:
        members = {n: old.read(n) for n in old.namelist()}
    (inner,) = [n for n in members if n.endswith("data.pkl")]
    members[inner] = pickle.dumps(Calls(os.system, "true"), protocol=2)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as new:
        for name, content in members.items():
            new.writestr(name, content)
    path.write_bytes(buffer.getvalue())
    made.refused(load(path), "m.pt: refused: it holds posix.system", error=FormatError)


def test_inspect_shows_a_checkpoint(path, native, monkeypatch, capsys):
    native(True, 16.0)
    monkeypatch.setattr(sys, "argv", ["ltkit", "inspect", "--json", str(path)])
    with pytest.raises(SystemExit) as exit_:
        main()
    assert not exit_.value.code
    document = json.loads(capsys.readouterr().out)
    assert (document["format"], document["arch"]) == ("checkpoint, native", "digits_net")
    assert document["head"] == {
        "classes": 10, "features": 64, "experts": 1, "normalize": "cosine", "scale": 16.0,
    }  # fmt: skip
    assert document["trained_on"].startswith("digits_lt:")


def ldam_drw(classes=7, stored="D x C"):
    """A checkpoint as the LDAM-DRW family writes it: a cosine head, stored by columns."""
    net = architectures.build("resnet32", classes, cosine=True, scale=30.0)
    state = {
        f"module.{k.removeprefix('backbone.').replace('head.', 'linear.')}": v.clone()
        for k, v in net.state_dict().items()
    }
    if stored == "D x C":
        state["module.linear.weight"] = 3 * state["module.linear.weight"].T.contiguous()
    top = {"epoch": 200, "arch": "resnet32", "best_acc1": torch.tensor(42.0), "optimizer": {}}
    return net, top | {"state_dict": state}


@pytest.mark.parametrize("stored", ["D x C", "C x D"])
@torch.no_grad()
def test_the_cosine_heads_of_the_ldam_family(path, stored):
    net, content = ldam_drw(stored=stored)
    torch.save(content, path)
    model = checkpoints.load(path)
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(model.network(images), net.eval()(images))
    assert (model.head.normalize, model.head.scale) == ("cosine", 30.0)
    assert model.head.weight.shape == (7, 64)
    assert model.mean == (0.4914, 0.4822, 0.4465)
    where = model.stored["head.weight"]
    assert (where.name, where.transposed) == ("module.linear.weight", stored == "D x C")


def test_a_cosine_head_of_another_width(path):
    _, content = ldam_drw()
    content["state_dict"]["module.linear.weight"] = torch.ones(3, 7)
    torch.save(content, path)
    made.refused(load(path), "head: found (3, 7), expected 64 x classes", error=FormatError)


def test_a_zip_keeps_every_other_byte(path, tmp_path):
    """New values in place: objects of unknown classes stay, and torch finds the checksums right."""
    state = published()
    state["linear.weight"] = torch.randn(64, 10).T  # stored by columns
    shared_storage = torch.arange(20.0)
    state["linear.bias"] = shared_storage[5:15]
    torch.save({"state_dict": state, "config": Config(lr=1), "args": Path("x")}, path)
    content, output = checkpoints.read(path), tmp_path / "out.pt"
    assert content.skipped
    place = ("state_dict",)
    weight, bias = torch.randn(10, 64), torch.randn(10)
    changes = {(place, "linear.weight"): weight, (place, "linear.bias"): bias}
    checkpoints.rewrite(content, output, changes)
    before, after = path.read_bytes(), output.read_bytes()
    assert len(before) == len(after)
    different = sum(a != b for a, b in zip(before, after, strict=True))
    assert different <= 4 * (640 + 10) + 4 * 2 * 3  # values; checksums, twice or three times
    with zipfile.ZipFile(output) as archive:
        assert archive.testzip() is None
    found = torch.load(output, weights_only=False)  # written by this test
    assert found["config"] == {"lr": 1}
    for name, tensor in state.items():
        expected = {"linear.weight": weight, "linear.bias": bias}.get(name, tensor)
        assert torch.equal(found["state_dict"][name], expected), name


def test_values_that_another_tensor_shares_are_saved_apart(path, tmp_path):
    state = published()
    state["best.linear.bias"] = state["linear.bias"]
    torch.save({"state_dict": state, "epoch": 1}, path)
    content, new = checkpoints.read(path), torch.ones(10)
    checkpoints.rewrite(content, tmp_path / "o.pt", {(("state_dict",), "linear.bias"): new})
    found = torch.load(tmp_path / "o.pt", weights_only=True)
    assert found["epoch"] == 1
    assert torch.equal(found["state_dict"]["linear.bias"], new)
    assert torch.equal(found["state_dict"]["best.linear.bias"], state["linear.bias"])


def test_a_compressed_zip_is_not_patched(path, tmp_path):
    torch.save(published(), path)
    with zipfile.ZipFile(path) as old:
        members = {n: old.read(n) for n in old.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name, content in members.items():
            new.writestr(name, content)
    content = checkpoints.read(path)
    changes = {((), "linear.bias"): torch.zeros(10)}
    made.refused(
        lambda: checkpoints.rewrite(content, tmp_path / "o.pt", changes),
        "is compressed, torch stores it", error=FormatError,
    )  # fmt: skip
