"""Containers of checkpoints: read without running them, written back with nothing else changed."""

import errno
import hashlib
import io
import json
import os
import pickle
import struct
import sys
import warnings
import zipfile
from dataclasses import replace
from pathlib import Path

import made
import numpy as np
import payloads
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ltkit import architectures, checkpoints
from ltkit.architectures.heads import LinearHead
from ltkit.architectures.programs import Program
from ltkit.checkpoints import plain
from ltkit.checkpoints.containers import folder as folder_container
from ltkit.checkpoints.containers import safetensors_file
from ltkit.checkpoints.content import Content
from ltkit.checkpoints.families import lightning, state_dict
from ltkit.errors import FormatError, InputError
from ltkit.exports.checkpoint import export_into
from ltkit.files import features as features_file
from ltkit.records import ClassTable, Correction, Dataset, ImageSplit
from ltkit.settings import ExtractSettings, LoadSettings
from ltkit.sources import extraction

pytestmark = pytest.mark.usefixtures("one_thread")
C = 7
TRUSTED = LoadSettings(trust_code=True)


def randn(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def backbone(arch="resnet20", seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = architectures.build(arch, 1).backbone.eval()
        for name, tensor in network.state_dict().items():
            if name.endswith("running_mean"):
                tensor.normal_(0, 0.1)
    return network


def published(prefix="", head="fc", seed=0):
    """The tensors of a CIFAR ResNet-20 with a linear head, as others write them."""
    state = {f"{prefix}{n}": t.clone() for n, t in backbone(seed=seed).state_dict().items()}
    return state | {f"{head}.weight": randn(C, 64), f"{head}.bias": randn(C, seed=2)}


def logits_of(state, images, prefix="", head="fc"):
    """The published network's logits from its raw tensors."""
    body = architectures.build("resnet20", 1).backbone.eval()
    own = body.state_dict()
    body.load_state_dict({name: state[prefix + name].to(own[name].dtype) for name in own})
    return body(images) @ state[f"{head}.weight"].float().T + state[f"{head}.bias"].float()


def correction(base, free=True):
    """New rows for the last two classes; where the head has no bias, without one."""
    rng, rows = np.random.default_rng(0), np.array([C - 2, C - 1])
    weight = rng.normal(size=(1, 2, base.feature_size)).astype(np.float32)
    bias = rng.normal(size=(1, 2)).astype(np.float32) if free else np.zeros((1, 2), np.float32)
    return Correction("made", rows, weight, bias, ({},))


def export(path, output, wanted=None, free=True):
    """Write a correction into a checkpoint; return the corrected linear classifier."""
    model = checkpoints.load(path, wanted)
    base = model.head.fold()
    new = correction(base, free)
    export_into(path, new, 0, output, made_from=model.digest, wanted=wanted)
    return new.classifier(base, 0)


def reproduced(model, classifier, images):
    features, logits = model.network.features_and_logits(images)
    expected = classifier.logits(features.detach().numpy())
    np.testing.assert_allclose(logits.detach(), expected, atol=1e-4 * np.abs(expected).max())


def rezip(path, change, compress=zipfile.ZIP_STORED):
    """Write a zip again; `change` takes a member's name and bytes and gives new ones, or None."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compress) as archive:
        for name, content in members.items():
            if (new := change(name, content)) is not None:
                archive.writestr(name, new)


# Sharded safetensors and folders as Hugging Face has them

INDEX = "model.safetensors.index.json"


def shards(state):
    """The tensors in three files, the head in the last two."""
    body = {name: tensor for name, tensor in state.items() if not name.startswith("fc.")}
    head = [{name: state[name]} for name in ("fc.weight", "fc.bias")]
    return {f"model-0000{n}-of-00003.safetensors": s for n, s in enumerate([body, *head], 1)}


@pytest.fixture
def folder(tmp_path):
    """A sharded folder with a configuration and what else lies about in such folders."""
    path, state = tmp_path / "hf", published()
    path.mkdir()
    for name, part in shards(state).items():
        save_file(part, path / name, {"format": "pt"})
    listed = {tensor: name for name, part in shards(state).items() for tensor in part}
    (path / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": listed}))
    (path / "config.json").write_text('{"architectures": ["X"], "id2label": {"0": "a"}}')
    (path / "README.md").write_text("words")
    (path / "pytorch_model.bin").write_bytes(b"the old head")
    (path / ".hidden").write_text("x")
    (path / "sub").mkdir()
    return path


@pytest.mark.parametrize("given", ["", INDEX])
def test_all_shards_are_read(folder, given):
    path = folder / given
    content = checkpoints.read(path)
    assert (content.container, content.path) == ("folder", path)
    assert content.top == {"architectures": ["X"], "id2label": {"0": "a"}}
    expected = published()
    assert list(content.states) == [()]
    assert content.tensors.keys() == expected.keys()
    assert all(torch.equal(content.tensors[name], expected[name]) for name in expected)
    model, images = checkpoints.load(path), randn(2, 3, 32, 32)
    torch.testing.assert_close(model.network(images), logits_of(expected, images))


def test_the_digest_is_that_of_the_files_digests(folder):
    def by_hand():
        names = sorted(["config.json", INDEX, *shards(published())])
        parts = [hashlib.sha256((folder / name).read_bytes()).digest() for name in names]
        return hashlib.sha256(b"".join(parts)).hexdigest()

    before = by_hand()
    assert checkpoints.read(folder).digest == before
    (folder / "README.md").write_text("other words")
    assert checkpoints.read(folder).digest == before
    (folder / "config.json").write_text("{}")
    assert checkpoints.read(folder).digest == by_hand() != before


@pytest.mark.parametrize("given", ["", INDEX])
def test_only_the_changed_shards_differ(folder, tmp_path, given):
    output = tmp_path / "out"
    classifier = export(folder / given, output)
    first, *heads = shards(published())
    copied = {"config.json", "README.md", INDEX, first}
    assert {p.name for p in output.iterdir()} == copied | set(heads)
    for name in copied:
        assert (output / name).read_bytes() == (folder / name).read_bytes()
    old, new = (load_file(f / heads[0])["fc.weight"] for f in (folder, output))
    assert torch.equal(old[:-2], new[:-2])
    assert not torch.equal(old, new)
    reproduced(checkpoints.load(output), classifier, randn(2, 3, 32, 32))
    assert made.beside(output) == ["hf", "out"]
    assert oct(output.stat().st_mode)[-3:] == oct((tmp_path / "hf").stat().st_mode)[-3:]


def test_an_export_that_fails_leaves_no_folder(folder, tmp_path, monkeypatch):
    whole = folder_container.rewrite

    def halfway(content, output, changes):
        whole(content, output, changes)
        raise InputError("disk full")

    monkeypatch.setattr(folder_container, "rewrite", halfway)
    with pytest.raises(InputError, match="disk full"):
        export(folder, tmp_path / "out")
    assert made.beside(folder) == ["hf"]


def test_a_full_disk_leaves_no_folder(folder, tmp_path, monkeypatch):
    def fail(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    words = ("out: cannot be written", "free some space")
    made.refused(lambda: export(folder, tmp_path / "out"), *words, error=InputError)
    assert made.beside(folder) == ["hf"]


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_a_folder_replaces_nothing(folder, tmp_path, kind):
    output = tmp_path / "out"
    {"folder": output.mkdir, "file": output.touch,
     "link": lambda: output.symlink_to(tmp_path / "none")}[kind]()  # fmt: skip
    words = ("out: exists, and the output is a folder, which replaces nothing", "-o")
    made.refused(lambda: export(folder, output), *words, error=InputError)
    assert made.beside(folder) == ["hf", "out"]


@pytest.mark.parametrize("single", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("half", [False, True])
def test_a_folder_with_one_file_of_weights(tmp_path, single, half):
    path, state, images = tmp_path / "hf", published(), randn(2, 3, 32, 32)
    path.mkdir()
    state = {n: t.half() if half and t.is_floating_point() else t for n, t in state.items()}
    (save_file if single.endswith("safetensors") else torch.save)(state, path / single)
    model = checkpoints.load(path)
    torch.testing.assert_close(model.network(images), logits_of(state, images))
    said = ("float16 weights are computed with in float32",) if half else ()
    assert model.notes == (made.ASSUMED, *said)
    export(path, tmp_path / "out")
    new = checkpoints.read(tmp_path / "out").tensors
    assert {n for n in state if not torch.equal(state[n], new[n])} == {"fc.weight", "fc.bias"}
    assert new["fc.weight"].dtype == state["fc.weight"].dtype


def test_shards_of_torchs_own(folder, tmp_path):
    expected = published()
    index = json.loads((folder / INDEX).read_text())
    for name, part in shards(expected).items():
        (folder / name).unlink()
        torch.save(part, folder / name.replace("safetensors", "bin"))
    (folder / INDEX).unlink()
    index["weight_map"] = {
        k: v.replace("safetensors", "bin") for k, v in index["weight_map"].items()
    }
    (folder / "pytorch_model.bin").unlink()
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    found = checkpoints.read(folder).tensors
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    classifier = export(folder, tmp_path / "out")
    reproduced(checkpoints.load(tmp_path / "out"), classifier, randn(2, 3, 32, 32))


def test_an_index_of_another_name(folder, tmp_path):
    (folder / INDEX).rename(folder / "other.safetensors.index.json")
    (folder / "pytorch_model.bin").unlink()
    export(folder / "other.safetensors.index.json", tmp_path / "out")
    assert checkpoints.read(tmp_path / "out").tensors.keys() == published().keys()


def listing(changes):
    """Change the index: names to files, None takes one away."""

    def change(folder):
        index = json.loads((folder / INDEX).read_text())
        listed = index["weight_map"] | changes
        index["weight_map"] = {k: v for k, v in listed.items() if v is not None}
        (folder / INDEX).write_text(json.dumps(index))

    return change


def writing(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def shard_with(name, tensor):
    def change(folder):
        path = folder / "model-00003-of-00003.safetensors"
        save_file(load_file(path) | {name: tensor}, path)

    return change


SECOND = "model-00002-of-00003.safetensors"
BAD_FOLDERS = {
    "a shard is missing": (
        lambda f: (f / SECOND).unlink(), [f"hf/{SECOND}: missing, 1 of 3 shards", INDEX]),
    "a shard outside": (
        listing({"fc.bias": "../other.safetensors"}), [INDEX, "fc.bias", "'../other.safetensors'"]),
    "a shard anywhere": (listing({"fc.bias": "/etc/passwd"}), [INDEX, "'/etc/passwd'"]),
    "a shard with a backslash": (listing({"fc.bias": "..\\x"}), [INDEX, "same folder"]),
    "a shard above": (listing({"fc.bias": ".."}), [INDEX, "'..'"]),
    "a shard without a name": (listing({"fc.bias": ""}), [INDEX, "''"]),
    "a shard that is a number": (listing({"fc.bias": 3}), [INDEX, "fc.bias: found 3"]),
    "a tensor that the shard lacks": (
        listing({"fc.scale": SECOND}), [SECOND, "fc.scale: missing, but in " + INDEX]),
    "a tensor that the index lacks": (
        shard_with("fc.scale", torch.zeros(3)), ["fc.scale: there, but not in " + INDEX]),
    "an empty shard": (writing(SECOND, b""), [SECOND, "is empty"]),
    "a shard that is a web page": (writing(SECOND, b"<html>"), [SECOND, "web page"]),
    "a shard that is a pointer": (
        writing(SECOND, b"version https://git-lfs.github.com/spec/v1"), [SECOND, "git lfs pull"]),
    "a truncated shard": (
        lambda f: (f / SECOND).write_bytes((f / SECOND).read_bytes()[:-9]),
        [SECOND, "not sound safetensors"]),
    "a shard with NaN": (
        shard_with("fc.bias", torch.full((C,), torch.nan)), ["fc.bias: holds NaN"]),
    "an index that is cut off": (writing(INDEX, b'{"weight_map": {"a"'), [INDEX, "is not JSON"]),
    "an index that nests": (writing(INDEX, b'{"a":' * 99999), [INDEX, "is not JSON"]),
    "an index without files": (writing(INDEX, b'{"weight_map": {}}'), [INDEX, "absent"]),
    "an index without a map": (writing(INDEX, b'{"weight_map": 3}'), [INDEX, "weight_map: absent"]),
    "an index that is a list": (writing(INDEX, b"[]"), [INDEX, "found a list"]),
    "a configuration that is none": (writing("config.json", b"nope"), ["config.json: is not JSON"]),
    "an empty configuration": (writing("config.json", b""), ["config.json: is empty"]),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_FOLDERS)
def test_folders_that_are_not_sound(folder, case):
    change, words = BAD_FOLDERS[case]
    change(folder)
    made.refused(lambda: checkpoints.load(folder), *words, error=FormatError)


def test_a_shard_that_is_a_pipe_or_too_much_json(folder, monkeypatch):
    (folder / SECOND).unlink()
    os.mkfifo(folder / SECOND)
    made.refused(lambda: checkpoints.load(folder), SECOND, "a pipe", error=InputError)
    monkeypatch.setattr(folder_container, "MAX_JSON_BYTES", 100)
    made.refused(lambda: checkpoints.load(folder), INDEX, "expected at most 100")


SHARDED = (INDEX, SECOND, "config.json", "preprocessor_config.json")


@pytest.mark.parametrize("name", SHARDED)
@pytest.mark.parametrize("how", ["out", "far", "chain", "folder", "pipe", "nothing", "loop"])
def test_a_folder_whose_files_are_elsewhere_or_none(folder, tmp_path, name, how):
    if name == "preprocessor_config.json":
        (folder / name).write_text("{}")
    (folder / name).rename(tmp_path / "secret")
    (folder / "chained").symlink_to("../secret")
    if how == "folder":
        (folder / name).mkdir()
    elif how == "pipe":
        os.mkfifo(folder / name)
    else:
        targets = {"out": "../secret", "far": str(tmp_path / "secret"), "chain": "chained"}
        (folder / name).symlink_to(targets.get(how, {"nothing": "none", "loop": name}.get(how)))
    said = "refused: a link leads out of the folder" if how in ("out", "far", "chain") else (
        "is a folder, a pipe or a link to nothing")  # fmt: skip
    made.refused(lambda: checkpoints.read(folder), f"{name}: {said}", error=InputError)


def test_single_weights_that_are_elsewhere(tmp_path):
    folder = tmp_path / "hf"
    folder.mkdir()
    save_file(published(), tmp_path / "secret")
    (folder / "model.safetensors").symlink_to("../secret")
    made.refused(lambda: checkpoints.read(folder), "refused: a link leads out", error=InputError)
    (folder / "model.safetensors").unlink()
    (folder / "other.index.json").symlink_to("../secret")
    made.refused(lambda: checkpoints.read(folder), "refused: a link leads out", error=InputError)


def test_links_within_the_folder_and_to_it(folder, tmp_path):
    before = checkpoints.read(folder).digest
    (folder / SECOND).rename(folder / "sub" / "x")
    (folder / SECOND).symlink_to("sub/x")
    (tmp_path / "mine").symlink_to("hf")
    (tmp_path / "mine.json").symlink_to(f"hf/{INDEX}")
    assert checkpoints.read(folder).digest == checkpoints.read(tmp_path / "mine").digest == before
    export(tmp_path / "mine", tmp_path / "out")
    assert not (tmp_path / "out" / SECOND).is_symlink()


def test_what_is_copied_does_not_come_from_elsewhere(folder, tmp_path):
    (tmp_path / "secret.txt").write_text("mine")
    (folder / "LICENSE.txt").symlink_to("../secret.txt")
    words = ("LICENSE.txt: refused: a link leads out of the folder", "take the link away")
    made.refused(lambda: export(folder, tmp_path / "out"), *words, error=InputError)
    assert not (tmp_path / "out").exists()
    (folder / "LICENSE.txt").unlink()
    (folder / "LICENSE.txt").symlink_to("README.md")
    (folder / "all").symlink_to("..")  # a folder, which is left behind
    os.mkfifo(folder / "pipe")
    export(folder, tmp_path / "out")
    assert (tmp_path / "out" / "LICENSE.txt").read_text() == "words"
    assert sorted(p.name for p in (tmp_path / "out").iterdir() if p.name in ("all", "pipe")) == []


def test_a_snapshot_in_the_hubs_cache(folder, tmp_path):
    snapshot = tmp_path / "models--x--y" / "snapshots" / "rev"
    blobs = tmp_path / "models--x--y" / "blobs"
    for new in (snapshot, blobs):
        new.mkdir(parents=True)
    for name in (INDEX, "config.json", "README.md", *shards(published())):
        content = (folder / name).read_bytes()
        blob = blobs / hashlib.sha256(content).hexdigest()
        blob.write_bytes(content)
        (snapshot / name).symlink_to(f"../../blobs/{blob.name}")
    assert checkpoints.read(snapshot).digest == checkpoints.read(folder).digest
    export(snapshot, tmp_path / "out")
    assert (tmp_path / "out" / "README.md").read_text() == "words"


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "a/b", "..", "", "x" * 256, "a\nb", "é" * 128])
def test_an_index_whose_entries_are_no_names(folder, name):
    (folder / INDEX).write_text(json.dumps({"weight_map": {"fc.weight": name}}))
    words = (f"{INDEX}: fc.weight: found", "expected a file's name")
    message = made.refused(lambda: checkpoints.read(folder), *words, error=FormatError)
    assert len(message) < 300


def test_a_folder_without_weights(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    words = ("is a folder without model.safetensors or pytorch_model.bin", "Hugging Face")
    made.refused(lambda: checkpoints.load(tmp_path), *words, error=InputError)


# Zips that are not what torch writes


@pytest.fixture
def path(tmp_path):
    return tmp_path / "m.pt"


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


# Programs


class Small(nn.Module):
    """A small network whose end is written in different ways; `head` has the (C, 6) weight."""

    def __init__(self, end="linear", channels=3):
        super().__init__()
        self.conv = nn.Conv2d(channels, 6, 3)
        self.bn = nn.BatchNorm2d(6)
        self.end = end
        self.drop = nn.Dropout(0.5)
        bias = not end.endswith("without bias")
        if "convolution" in end:
            self.head = nn.Conv2d(6, C, 1, bias=bias)
        elif end != "columns":
            self.head = nn.Linear(6, C, bias=bias)
        else:
            self.weight, self.shift = nn.Parameter(randn(6, C)), nn.Parameter(randn(C))
        self.eval()

    def features(self, images):
        return torch.relu(self.bn(self.conv(images))).mean((2, 3))

    def forward(self, images):
        f = self.drop(self.features(images))
        if "convolution" in self.end:
            return self.head(f[:, :, None, None]).flatten(1)
        if self.end == "columns":
            return self.shift + f @ self.weight
        if self.end == "addmm":
            return torch.addmm(self.head.bias, f, self.head.weight.t())
        if self.end == "matmul":
            return torch.matmul(f, self.head.weight.t()) + self.head.bias
        if self.end == "probabilities":
            return self.head(f).softmax(1)
        if self.end == "tuple":
            return self.head(f), f
        if self.end == "dictionary":
            return {"logits": self.head(f), "features": f}
        return self.head(f)

    def logits(self, images):
        weight = self.weight.T if self.end == "columns" else self.head.weight.flatten(1)
        bias = self.shift if self.end == "columns" else self.head.bias
        return self.features(images) @ weight.T + (0 if bias is None else bias)


ENDS = (
    "linear", "linear without bias", "addmm", "matmul", "columns", "convolution",
    "convolution without bias", "probabilities", "tuple", "dictionary",
)  # fmt: skip


def small(end="linear", half=False, channels=3):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Small(end, channels)
        for tensor in (net.bn.running_mean, net.bn.bias):
            tensor.data.normal_()
    return net.half() if half else net


def quietly(make):
    with warnings.catch_warnings(action="ignore"):  # TorchScript is deprecated
        return make()


def torchscript(net, path, frozen=False, size=16):
    """Trace, since a script does not take the names of ends."""
    example = torch.zeros(2, net.conv.in_channels, size, size, dtype=net.conv.weight.dtype)

    def make():
        program = torch.jit.trace(net, example, strict=False)
        torch.jit.save(torch.jit.freeze(program) if frozen else program, path,
                       _extra_files={"labels.txt": b"cat"})  # fmt: skip

    quietly(make)


def exported(net, path, batch=None, size=16):
    images = torch.zeros(batch or 2, net.conv.in_channels, size, size, dtype=net.conv.weight.dtype)
    varying = None if batch else ({0: torch.export.Dim("batch")},)
    quietly(
        lambda: torch.export.save(torch.export.export(net, (images,), dynamic_shapes=varying), path)
    )


MAKERS = {"torchscript": torchscript, "torch-export": exported}


@pytest.fixture(params=MAKERS)
def program(request, path):
    """Write a program in one of the containers; (its family, what writes it)."""
    return request.param, lambda *words, **named: MAKERS[request.param](
        small(*words), path, **named
    )


@pytest.mark.parametrize("end", ENDS)
def test_a_program_is_cut_at_its_last_layer(program, path, tmp_path, end):
    family, make = program
    make(end)
    net, images = small(end), randn(3, 3, 16, 16)
    model = checkpoints.load(path, TRUSTED)
    assert (model.family, model.head.num_classes, model.head.feature_size) == (family, C, 6)
    features, logits = model.network.features_and_logits(images)
    torch.testing.assert_close(features, net.features(images))
    torch.testing.assert_close(logits, net.logits(images))
    extraction.check_head(model.network, model.head, images)
    soft = ("the program's softmax is left out: logits are its input",)
    assert model.notes == (soft if end == "probabilities" else ()) + (made.ASSUMED,)
    head = {"columns": {"head.weight": "weight", "head.bias": "shift"}}.get(
        end, {f"head.{n}": f"head.{n}" for n in model.network.head.state_dict()}
    )
    assert {ours: there.name for ours, there in model.stored.items()} == head
    assert model.stored["head.weight"].transposed == (end == "columns")


@pytest.mark.parametrize("end", ENDS)
def test_a_corrected_program_differs_in_its_head_alone(program, path, tmp_path, end):
    _, make = program
    make(end)
    output, images = tmp_path / "out.pt", randn(3, 3, 16, 16)
    classifier = export(path, output, TRUSTED, free="without" not in end)
    after = checkpoints.load(output, TRUSTED)
    reproduced(after, classifier, images)
    expected = classifier.logits(small(end).features(images).detach().numpy())
    np.testing.assert_allclose(
        after.network.features_and_logits(images)[1].detach(), expected, atol=1e-5
    )
    old, new = (checkpoints.read(p).states["program",] for p in (path, output))
    assert len(old) >= 7
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert changed == {there.name for there in after.stored.values()}
    with zipfile.ZipFile(path) as first, zipfile.ZipFile(output) as second:
        assert second.testzip() is None
        assert first.namelist() == second.namelist()
        differing = [n for n in first.namelist() if first.read(n) != second.read(n)]
    assert len(differing) == len(after.stored)
    a, b = path.read_bytes(), output.read_bytes()
    assert len(a) == len(b)


def test_a_frozen_program_has_its_head_among_its_constants(path, tmp_path):
    torchscript(small(), path, frozen=True)
    model = checkpoints.load(path, TRUSTED)
    assert all(there.name.startswith("constants.") for there in model.stored.values())
    classifier = export(path, tmp_path / "out.pt", TRUSTED)
    reproduced(checkpoints.load(tmp_path / "out.pt", TRUSTED), classifier, randn(3, 3, 16, 16))


def test_a_script_in_training_with_a_second_argument(path):
    class Masked(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.drop = nn.Linear(3, C), nn.Dropout()

        def forward(self, images: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
            if mask is not None:
                images = images * mask
            return self.head(self.drop(images.mean((2, 3))))

    net = Masked()
    quietly(lambda: torch.jit.save(torch.jit.script(net), path))
    net.eval()
    images = randn(3, 3, 8, 8)
    found = checkpoints.load(path, TRUSTED).network(images)
    torch.testing.assert_close(found, net(images))


def test_programs_do_not_run_unless_they_may(program, path, monkeypatch):
    family, make = program
    make()
    monkeypatch.setattr(torch.jit, "load", None)
    monkeypatch.setattr(torch.export, "load", None)
    words = ("m.pt", "pass --trust-code if you trust its maker", "save the weights: torch.save(")
    made.refused(lambda: checkpoints.load(path), *words, error=InputError)
    content = checkpoints.read(path)
    assert content.container == family
    assert torch.equal(content.states["program",]["head.weight"], small().head.weight)
    assert content.tensors == {}


def test_the_recipes_work(path):
    net = small()
    torchscript(net, path)
    weights = quietly(lambda: torch.jit.load(path).state_dict())
    assert torch.equal(weights["head.weight"], net.head.weight)
    exported(net, path)
    assert torch.equal(torch.export.load(path).state_dict["head.weight"], net.head.weight)


def test_half_precision_is_computed_with_in_float32(program, path, tmp_path):
    _, make = program
    make("linear", True)
    net, images = small(half=True).float(), randn(3, 3, 16, 16)
    model = checkpoints.load(path, TRUSTED)
    assert model.notes[-1] == "float16 weights are computed with in float32"
    features, logits = model.network.features_and_logits(images)
    assert features.dtype == logits.dtype == torch.float32
    torch.testing.assert_close(logits, net.logits(images))
    export(path, tmp_path / "out.pt", TRUSTED)
    weight = checkpoints.read(tmp_path / "out.pt").states["program",]["head.weight"]
    assert weight.dtype == torch.float16


def test_a_program_for_one_number_of_images_and_one_size(path):
    exported(small(), path, batch=4, size=96)
    model, images = checkpoints.load(path, TRUSTED), randn(7, 3, 96, 96)
    torch.testing.assert_close(model.network(images), small().logits(images))
    torch.testing.assert_close(
        model.network.features_and_logits(images)[0], small().features(images)
    )
    assert "the program takes 4 images at a time" in model.notes
    assert (model.image_size, model.view.resize, model.view.crop) == (96, 109, 96)
    with pytest.raises(InputError, match="does not take a batch of"):
        extraction.check_head(model.network, model.head, images[..., :32, :32])


def test_images_of_a_size_are_taken_whole_when_small(path):
    exported(small(), path, size=32)
    view = checkpoints.load(path, TRUSTED).view
    assert (view.resize, view.crop) == (32, 32)


def test_a_program_that_does_not_say_is_tried(path):
    class Flat(Small):
        def features(self, images):  # of larger images, it makes more rows
            return images.reshape(-1, 3 * 32 * 32)[:, :6]

    torchscript(Flat(), path, size=32)
    assert checkpoints.load(path, TRUSTED).image_size == 32


def test_equal_biases_are_told_apart_by_their_layer(program, path):
    class Zeros(Small):
        def __init__(self):
            super().__init__()
            self.after, self.before = nn.Linear(6, C), nn.Linear(6, C)
            for layer in (self.after, self.head, self.before):
                layer.bias.data.zero_()

        def forward(self, images):
            f = self.features(images)
            return self.head(f + self.before(f)[:, :6] + self.after(f)[:, :6])

    MAKERS[program[0]](Zeros(), path)
    stored = checkpoints.load(path, TRUSTED).stored
    assert (stored["head.weight"].name, stored["head.bias"].name) == ("head.weight", "head.bias")


def test_grey_images_need_their_statistics(program, path):
    _, make = program
    make("linear", False, 1)
    said = LoadSettings(mean=(0.5,), std=(0.2,), trust_code=True)
    model = checkpoints.load(path, said)
    assert (model.mean, model.std) == ((0.5,), (0.2,))
    assert not any("ImageNet" in note for note in model.notes)
    words = "found 1 and 3" if program[0] == "torchscript" else "found 3 and 3, expected 1"
    wanted = LoadSettings(mean=(0.5,), trust_code=True) if "1 and" in words else TRUSTED
    made.refused(lambda: checkpoints.load(path, wanted), words, "--mean", error=InputError)


class Ends(Small):
    """The same with an end that cannot be taken."""

    def forward(self, images):
        f = self.features(images)
        if self.end == "relu":
            return self.head(f).relu()
        if self.end == "normalised":
            return nn.functional.linear(f, nn.functional.normalize(self.head.weight))
        if self.end == "tokens":
            return self.head(f[:, None].expand(-1, 3, -1)).flatten(1)
        if self.end == "input":
            return images
        return self.head(f).sum(0, keepdim=True)


@pytest.mark.parametrize(
    ("end", "words"),
    [
        ("relu", ["found relu at the program's end, expected a linear layer"]),
        ("input", ["found an input at the program's end"]),
        ("summed", ["found sum at the program's end"]),
        ("tokens", ["the last layer's input is (2, 3, 6), its weight (7, 6)"]),
    ],
)
def test_ends_that_are_not_linear(path, end, words):
    torchscript(Ends(end), path)
    made.refused(lambda: checkpoints.load(path, TRUSTED), "m.pt", *words, error=InputError)
    exported(Ends(end), path)
    made.refused(lambda: checkpoints.load(path, TRUSTED), "m.pt", *words, error=InputError)


def test_a_weight_that_the_program_makes_is_extracted_but_not_written(program, path, tmp_path):
    family, _ = program
    net = Ends("normalised without bias")
    net.end = "normalised"
    MAKERS[family](net, path)
    model, images = checkpoints.load(path, TRUSTED), randn(3, 3, 16, 16)
    assert model.stored == {}
    extraction.check_head(model.network, model.head, images)
    torch.testing.assert_close(model.network(images), net(images))
    words = ("the program makes its weights itself", "--to npz")
    made.refused(lambda: export(path, tmp_path / "o", TRUSTED, False), *words, error=InputError)
    assert made.beside(path) == ["m.pt"]


def test_a_program_that_takes_no_images(path):
    class Text(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(3, C)

        def forward(self, x):
            return self.head(x)

    for make in (
        lambda: torch.jit.save(torch.jit.trace(Text(), torch.zeros(2, 3)), path),
        lambda: torch.export.save(torch.export.export(Text(), (torch.zeros(2, 3),)), path),
    ):
        quietly(make)
        words = ("m.pt: the program does not take images of 224 or 32", "pixels (")
        made.refused(lambda: checkpoints.load(path, TRUSTED), *words, error=InputError)


def test_images_that_are_no_squares(path):
    images = torch.zeros(2, 3, 16, 24)
    quietly(lambda: torch.export.save(torch.export.export(small(), (images,)), path))
    words = "m.pt: takes images of 16 x 24, 2 at once; expected squares, and"
    made.refused(lambda: checkpoints.load(path, TRUSTED), words, error=InputError)


def test_a_program_moves_and_stays_as_it_is():
    net = small()

    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, images):
            assert images.is_contiguous()
            return net(images), net.features(images)[:, :, None, None]

    head = LinearHead(6, C)
    whole = Program(Whole(), head, batch=2)
    assert whole.train().training is False
    assert whole.to("cpu", torch.float64, memory_format=torch.channels_last) is whole
    assert net.conv.weight.is_contiguous()
    assert net.conv.weight.dtype == torch.float64
    images = randn(5, 3, 16, 16).double().to(memory_format=torch.channels_last)
    features, logits = whole.features_and_logits(images)
    assert (features.shape, logits.shape) == ((5, 6), (5, C))
    torch.testing.assert_close(logits, net.logits(images))


def test_an_extracted_program_gives_its_own_logits(program, path, tmp_path):
    _, make = program
    make("linear", size=32)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (14, 32, 32, 3), dtype=np.uint8)
    split = ImageSplit(images, np.arange(14) % C, np.arange(14).astype(str))
    data = Dataset(
        {"test": split}, ClassTable(np.full(C, 2)), (0.5,) * 3, (0.5,) * 3, 0, False,
        {"spec": "random", "index_digest": "x"},
    )  # fmt: skip
    model = checkpoints.load(path, TRUSTED)
    output = tmp_path / "f.h5"
    extraction.extract(model, data, ("test",), output, ExtractSettings(batch_size=8))
    found = features_file.read(output)
    values = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(v)[:, None, None] for v in (model.mean, model.std))
    expected = small().logits((values - mean) / std).detach().numpy()
    logits = found.classifier().logits(found.split("test").features[:])
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    assert "trust_code" not in found.settings["load"]


def test_the_command_line_asks_for_trust(tmp_path, monkeypatch, ltkit):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LTKIT_FEATURES", raising=False)
    net = small(channels=1)
    net.head = nn.Linear(6, 10)
    torchscript(net, "m.pt", size=8)
    said = ("--mean", "0.3", "--std", "0.4")
    torchscript(small(), "colour.pt")
    code, _, err = ltkit("inspect", "colour.pt")
    assert code == 2
    assert "--trust-code" in err
    code, out, _ = ltkit("inspect", "colour.pt", "--trust-code", "--json")
    assert code == 0
    assert json.loads(out)["head"]["classes"] == C
    words = ["extract", "m.pt", "--data", "digits_lt", *said, "-o", "f.h5"]
    assert ltkit(*words)[0] == 2
    assert ltkit(*words, "--trust-code")[0] == 0
    assert "trust_code" not in features_file.read(Path("f.h5")).settings["load"]
    assert ltkit("posthoc", "logit-adjust", "f.h5", "--set", "tau=1", "-o", "a.h5")[0] == 0
    words = ["export", "a.h5", "--into", "m.pt", "-o", "out.pt"]
    code, _, err = ltkit(*words)
    assert (code, Path("out.pt").exists()) == (2, False)
    assert "--trust-code" in err
    assert ltkit(*words, "--trust-code")[0] == 0
    with zipfile.ZipFile("out.pt") as archive:
        assert archive.read("m/extra/labels.txt") == b"cat"


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


# Lightning


def ckpt(path, state, **entries):
    class AttributeDict(dict):
        """As Lightning pickles a user's settings."""

    AttributeDict.__qualname__ = "AttributeDict"
    globals()["AttributeDict"] = AttributeDict
    content = {
        "epoch": 3, "global_step": 100, "pytorch-lightning_version": "2.5.0", "state_dict": state,
        "loops": {}, "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.5)}},
        "optimizer_states": [{"state": {0: {"momentum_buffer": torch.zeros(3)}}}],
        "lr_schedulers": [], "hparams_name": "kwargs",
        "hyper_parameters": AttributeDict(arch="resnet20", lr=0.1), **entries,
    }  # fmt: skip
    torch.save(content, path)


METRICS = {
    "criterion.weight": torch.ones(C), "train_acc.confmat": torch.zeros(C, C),
    "val_acc.total": torch.tensor(3), "metrics.f1.tp": torch.zeros(C), "loss_fn.m": torch.ones(C),
}  # fmt: skip


@pytest.mark.parametrize(
    ("prefix", "head"),
    [("model.", "model.fc"), ("net.", "net.linear"), ("resnet.", "resnet.fc"),
     ("backbone.", "classifier"), ("my.own.resnet.", "my.own.head"), ("", "fc"),
     ("model._orig_mod.", "model._orig_mod.fc")],
)  # fmt: skip
@pytest.mark.parametrize("metrics", [False, True])
def test_lightnings_networks_under_any_attribute(path, tmp_path, prefix, head, metrics):
    state = published(prefix, head) | (METRICS if metrics else {})
    ckpt(path, state)
    content = checkpoints.read(path)
    special = [m for m in checkpoints.families.in_order() if not getattr(m, "GENERAL", False)]
    assert [m for m in special if m.matches(content, LoadSettings())] == [lightning]
    model, images = checkpoints.load(path), randn(2, 3, 32, 32)
    assert (model.family, model.arch) == ("lightning", "resnet20")
    torch.testing.assert_close(model.network(images), logits_of(state, images, prefix, head))
    assert {ours: there.name for ours, there in model.stored.items()} == {
        "head.weight": f"{head}.weight", "head.bias": f"{head}.bias",
    }  # fmt: skip
    note = "left out: 5 tensors of criterion, loss_fn, metrics, train_acc, val_acc"
    assert model.notes == (made.ASSUMED, *([note] if metrics else []))
    classifier = export(path, tmp_path / "out.ckpt")
    reproduced(checkpoints.load(tmp_path / "out.ckpt"), classifier, images)
    old, new = (checkpoints.read(p).states["state_dict",] for p in (path, tmp_path / "out.ckpt"))
    changed = {name for name in old if not torch.equal(old[name], new[name])}
    assert changed == {f"{head}.weight", f"{head}.bias"}


def test_lightnings_two_networks_and_two_heads(path):
    two = published("model.", "model.fc") | published("teacher.", "teacher.fc", seed=5)
    ckpt(path, two)
    words = ("m.pt: found 2 networks (model., teacher.)", "--head")
    made.refused(lambda: checkpoints.load(path), *words, error=InputError)
    heads = published("model.", "model.fc") | {"auxiliary.weight": randn(3, 64, seed=9)}
    ckpt(path, heads)
    words = ("head: found 2 that are 64 wide", "auxiliary.weight (3, 64)", "--head")
    made.refused(lambda: checkpoints.load(path), *words, error=InputError)
    for name in ("model.fc", "fc", "model.fc.weight"):
        found = checkpoints.load(path, LoadSettings(head=name))
        assert found.stored["head.weight"].name == "model.fc.weight"
        assert found.wanted.head == name
        assert "left out: auxiliary.weight" in found.notes


def test_a_head_that_is_called_as_a_loss_can_be_named(path):
    state = published("model.", "criterion")
    ckpt(path, state)
    made.refused(lambda: checkpoints.load(path), "head: found 0 that are 64 wide")
    found = checkpoints.load(path, LoadSettings(head="criterion"))
    assert found.stored["head.weight"].name == "criterion.weight"


def test_what_else_lightnings_file_has_is_not_left_out(path):
    ckpt(path, published("model.", "fc") | {"neck.weight": randn(65, 66)})
    words = ("does not fit resnet20", "unexpected: 1 (backbone.neck.weight)")
    made.refused(lambda: checkpoints.load(path), *words, error=FormatError)
    ckpt(path, published("model.", "fc") | {"gloss.weight": randn(3)})
    words = ("does not fit resnet20", "unexpected: 1 (backbone.gloss.weight)")
    made.refused(lambda: checkpoints.load(path), *words, error=FormatError)
    ckpt(path, published("model.", "model.fc") | {"fc.weight": randn(C, 64)})
    words = ("model.fc.weight, fc.weight: differ only in their prefix",)
    made.refused(lambda: checkpoints.load(path), *words, error=FormatError)


def test_lightnings_files_of_unknown_networks(path):
    ckpt(path, {"model.embed.weight": randn(3, 3)})
    made.refused(lambda: checkpoints.load(path), "layout not recognised", error=InputError)
    words = "does not fit resnet20"
    ckpt(path, published("model.", "model.fc") | {"model.odd.weight": randn(5)})
    made.refused(lambda: checkpoints.load(path, LoadSettings("resnet20")), words)
    assert not lightning.matches(checkpoints.read(path), LoadSettings("timm:resnet20"))
    torch.save({"pytorch-lightning_version": "2.5.0"}, path)
    made.refused(lambda: checkpoints.load(path), "layout not recognised")


def test_attributes_without_end_are_told_apart_in_one_pass(path):
    """Twenty thousand attributes with ten tensors each, and one network among them."""
    names = {f"a{i}.b{j}": torch.zeros(()) for i in range(20_000) for j in range(10)}
    content = Content(
        path, "torch", {"pytorch-lightning_version": "2"}, {lightning.PLACE: names}, ""
    )
    gathered = plain.gather(content).names
    assert set(state_dict._likeness(content, gathered).values()) == set()
    content = replace(content, states={lightning.PLACE: names | published("net.")})
    likeness = state_dict._likeness(content, plain.gather(content).names)
    assert (max(likeness, key=likeness.get), likeness["net."]) == ("net.", 1)


def test_few_tensors_are_no_network():
    smallest = len(architectures.backbone_shapes("digits_net"))
    assert plain.LIKE * smallest > plain.FEWEST
