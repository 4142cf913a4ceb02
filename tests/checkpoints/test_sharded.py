"""Sharded safetensors, and folders as Hugging Face has them."""

import errno
import hashlib
import json
import os

import made
import pytest
import torch
from containers import export, logits_of, published, reproduced
from family_files import C, randn
from safetensors.torch import load_file, save_file

from ltkit import checkpoints
from ltkit.checkpoints.containers import folder as folder_container
from ltkit.errors import FormatError, InputError

pytestmark = pytest.mark.usefixtures("one_thread")


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
