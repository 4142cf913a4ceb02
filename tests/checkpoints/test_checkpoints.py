"""Checkpoints: recognised by what is in them, and nothing in them is executed."""

import argparse
import codecs
import contextlib
import io
import json
import math
import os
import pickle
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path

import made
import numpy as np
import pytest
import safetensors.torch
import torch
import torch.hub
from shared_data import shared

from ltkit import architectures, checkpoints, datasets
from ltkit.checkpoints.containers import inert
from ltkit.checkpoints.content import Content
from ltkit.checkpoints.families import _library
from ltkit.cli import main
from ltkit.errors import FormatError, InputError
from ltkit.settings import LoadSettings
from ltkit.training import checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")


def network(arch="digits_net", cosine=False, scale=1.0):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return architectures.build(arch, 10, cosine=cosine, scale=scale)


def recipe(cosine=False, scale=1.0):
    dataset = datasets.load("digits_lt")
    return {"arch": "digits_net", "cosine": cosine, "scale": scale, "dataset": dataset.record}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "m.pt"


@pytest.fixture
def native(path):
    """Write a checkpoint as ``ltkit train`` does, with entries changed; None takes one away."""

    def write(cosine=False, scale=1.0, changes=None):
        net = network(cosine=cosine, scale=scale)
        checkpoint.save(path, recipe(cosine, scale), 1, net, datasets.load("digits_lt"))
        content = torch.load(path, weights_only=True) | (changes or {})
        if changes:
            torch.save({k: v for k, v in content.items() if v is not None}, path)
        return net

    return write


def load(path, arch=None, **wanted):
    return lambda: checkpoints.load(path, LoadSettings(arch, **wanted))


def same(found, expected):
    assert found.state_dict().keys() == expected.state_dict().keys()
    for name, tensor in expected.state_dict().items():
        assert torch.equal(found.state_dict()[name], tensor), name


@pytest.mark.parametrize(("cosine", "scale"), [(False, 1.0), (True, 16.0)])
def test_our_own_checkpoints(path, native, cosine, scale):
    net = native(cosine, scale)
    found = checkpoints.load(path)
    same(found.network, net)
    assert (found.family, found.arch) == ("native", "digits_net")
    assert (found.mean, found.std) == ((0.3053,), (0.3764,))
    assert found.trained_on["spec"].startswith("digits_lt:")
    assert not found.network.training
    features = torch.randn(7, 64)
    logits = found.head.fold().logits(features.numpy())
    np.testing.assert_allclose(logits, net.head(features).detach().numpy(), atol=1e-5)


def as_safetensors(path, net, half=False, **changes):
    tensors = {k: v.half() if half and v.is_floating_point() else v
               for k, v in net.state_dict().items()}  # fmt: skip
    entries = {
        "format": "ltkit-checkpoint", "format_version": 1, **recipe(),
        "mean": [0.5], "std": [0.25], "recipe": {"dataset": {"spec": "x"}}, **changes,
    }  # fmt: skip
    safetensors.torch.save_file(tensors, path, {k: json.dumps(v) for k, v in entries.items()})


@pytest.mark.parametrize("half", [False, True])
def test_our_own_checkpoints_as_safetensors(path, half):
    net = network()
    as_safetensors(path, net, half)
    found = checkpoints.load(path)
    same(found.network, net.half().float() if half else net)
    assert all(p.dtype == torch.float32 for p in found.network.parameters())
    assert (found.family, found.mean, found.std) == ("native", (0.5,), (0.25,))
    assert found.trained_on == {"spec": "x"}


def test_safetensors_with_other_metadata_are_not_ours(path):
    safetensors.torch.save_file({"w": torch.zeros(3)}, path, {"format": "pt"})
    made.refused(load(path), "m.pt: layout not recognised; found format", error=InputError)


def test_the_statistics_of_grey_images_must_be_said(path):
    torch.save(network().state_dict(), path)
    said = "mean, std: found 3 and 3, expected 1 each for digits_net; pass --mean and --std"
    made.refused(load(path), said, error=InputError)
    found = checkpoints.load(path, LoadSettings(mean=(0.5,), std=(0.2,)))
    assert (found.mean, found.std) == ((0.5,), (0.2,))


@pytest.mark.parametrize(
    ("file", "arch", "blocks"), [("cifar10_resnet20.th", "resnet20", 3),
                                 ("cifar10_resnet32.th", "resnet32", 5)],
)  # fmt: skip
def test_published_cifar_networks_are_recognised(file, arch, blocks):
    found = checkpoints.load(shared("checkpoints", file))
    assert (found.family, found.arch) == ("state-dict", arch)
    assert len(found.network.get_submodule("backbone.layer3")) == blocks
    assert (found.head.num_classes, found.head.feature_size) == (10, 64)
    assert found.mean == (0.485, 0.456, 0.406)
    state = torch.load(shared("checkpoints", file), "cpu", weights_only=True)["state_dict"]
    weight = state["module.linear.weight"].float().numpy()
    np.testing.assert_array_equal(found.head.weight, weight)


def published(prefix="", head="linear"):
    """The state dict of a CIFAR ResNet as others write it."""
    names = {"backbone.": "", "head.": f"{head}."}
    found = OrderedDict()
    for name, tensor in network("resnet20").state_dict().items():
        for ours, theirs in names.items():
            if name.startswith(ours):
                found[prefix + theirs + name.removeprefix(ours)] = tensor
    return found


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "model."])
@pytest.mark.parametrize("nested", [True, False])
def test_prefixes_are_taken_off(path, prefix, nested):
    state = published(prefix, "fc")
    torch.save({"state_dict": state, "epoch": 3} if nested else state, path)
    same(checkpoints.load(path).network, network("resnet20"))


def test_names_that_differ_only_in_their_prefix(path):
    torch.save(published() | published("module."), path)
    made.refused(load(path), "differ only in their prefix", error=FormatError)


def test_the_old_container_of_torch(path):
    torch.save(published(), path, _use_new_zipfile_serialization=False)
    same(checkpoints.load(path).network, network("resnet20"))


# Weights that do not fit


def test_missing_and_unexpected_tensors_are_named(path):
    state = published()
    del state["layer2.1.bn1.bias"]
    state["layer2.1.bn1.offset"] = torch.zeros(32)
    torch.save(state, path)
    words = ("does not fit resnet20: tensors missing: 1 (backbone.layer2.1.bn1.bias)",
             "unexpected: 1 (backbone.layer2.1.bn1.offset)", "--arch")  # fmt: skip
    made.refused(load(path), *words, error=FormatError)


def test_another_architecture_lists_the_first_five(path):
    torch.save(published(), path)
    message = made.refused(
        load(path, "resnet32"), "m.pt: does not fit resnet32: tensors missing: 60"
    )
    assert message.count("backbone.") == 5
    assert "unexpected: 0 (none)" in message


@pytest.mark.parametrize("change", [lambda t: t[:, :2], lambda t: t.to(torch.int8)])
def test_tensors_of_another_shape_or_type(path, change):
    state = published()
    state["layer1.0.conv1.weight"] = change(state["layer1.0.conv1.weight"]).clone()
    torch.save(state, path)
    words = (
        "backbone.layer1.0.conv1.weight: found torch.",
        "expected torch.float32 (16, 16, 3, 3)",
    )
    made.refused(load(path), *words, "for resnet20", error=FormatError)


def test_a_head_of_another_width(path):
    state = published()
    state["linear.weight"] = torch.zeros(10, 63)
    torch.save(state, path)
    words = ("head: found 0 that are 64 wide (none)", "name it with --head")
    made.refused(load(path), *words, error=InputError)


@pytest.mark.parametrize("shape", [(), (10,)])
def test_a_head_that_is_no_matrix(path, shape):
    state = published()
    state["linear.weight"] = torch.zeros(shape)
    torch.save(state, path)
    made.refused(load(path), "head: found 0 that are 64 wide (none)", error=InputError)


@pytest.mark.parametrize("arch", ["resnet23", "digits_nt"])
def test_an_unknown_architecture_suggests_the_nearest(path, arch):
    torch.save(published(), path)
    nearest = "resnet20" if arch == "resnet23" else "digits_net"
    made.refused(load(path, arch), arch, "unknown architecture", "did you mean", nearest)


@pytest.mark.parametrize("arch", ["resnet10t", "efficientnet_b0"])
def test_an_architecture_of_a_library_that_is_not_installed(path, monkeypatch, arch):
    for library in ("timm", "torchvision"):
        monkeypatch.setitem(sys.modules, library, None)
    torch.save(published(), path)
    words = (f"arch {arch}: unknown architecture", "timm and torchvision, not installed",
             "or LIBRARY:NAME")  # fmt: skip
    made.refused(load(path, arch), *words, error=InputError)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e5m2])
def test_weights_that_are_not_finite_are_named(path, value, dtype):
    state = published()
    broken = state["bn1.weight"].clone()
    broken[3] = value
    state["bn1.weight"] = broken.to(dtype)
    torch.save(state, path)
    made.refused(load(path), "m.pt: bn1.weight: holds NaN or infinity", error=FormatError)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ({"epoch": 3}, "found epoch"),
        ({"encoder.weight": torch.zeros(3)}, "found encoder.weight"),
        ({}, "found nothing"),
        ({"state_dict": [1]}, "found state_dict"),
    ],
)
def test_an_unknown_layout_has_two_ways_out(path, content, word):
    torch.save(content, path)
    ways = ("--arch timm:NAME", "--model PKG.MODULE:NAME", "ltkit import", "inspect --families")
    made.refused(load(path), "m.pt: layout not recognised", word, *ways, error=InputError)


@pytest.mark.parametrize(
    "name", ["vit.embeddings.cls_token", "module.swin.embeddings.norm.bias",
             "resnet.embedder.embedder.convolution.weight", "embeddings.position_ids"],
)  # fmt: skip
def test_what_looks_like_a_network_of_transformers_is_told_its_own_way(path, name):
    torch.save({"state_dict": {name: torch.zeros(3)}}, path)
    words = ("looks like transformers': save it there with save_pretrained(FOLDER)", "--model")
    made.refused(load(path), *words, error=InputError)


def test_statistics_that_are_assumed_are_said(path):
    torch.save(published(), path)
    assert checkpoints.load(path).notes == (made.ASSUMED,)
    own = LoadSettings(mean=(0.5,) * 3, std=(0.25,) * 3)
    assert checkpoints.load(path, own).notes == ()
    half = checkpoints.load(path, LoadSettings(mean=(0.5,) * 3))
    assert (half.mean, half.notes) == ((0.5,) * 3, (made.ASSUMED,))


def test_a_bottleneck_network_is_not_taken_for_basic_blocks(path):
    torch.save(published() | {"layer1.0.conv3.weight": torch.zeros(1)}, path)
    words = ("does not fit resnet20", "unexpected: 1 (backbone.layer1.0.conv3.weight)")
    made.refused(load(path), *words, error=FormatError)


# Our own, changed


@pytest.mark.parametrize("key", ["arch", "cosine", "scale", "mean", "std", "recipe"])
def test_entries_that_are_missing(path, native, key):
    native(changes={key: None})
    made.refused(load(path), f"m.pt: {key}: absent; train it again", error=FormatError)


@pytest.mark.parametrize("version", [2, None, "x"])
def test_another_format_version(path, native, version):
    native(changes={"format_version": version})
    made.refused(load(path), "format_version", f"found {version}, expected 1", "upgrade ltkit")


@pytest.mark.parametrize(
    ("change", "words"),
    [({"scale": "big"}, "scale: found 'big'"), ({"scale": [1]}, "scale: found [1]"),
     ({"mean": 3}, "mean: found 3, expected a list of numbers; pass --mean"),
     ({"std": ["a"]}, "std: found 'a'"), ({"std": [True]}, "std: found True"),
     ({"mean": [torch.ones((), requires_grad=True)]}, "mean: found a Tensor"),
     ({"mean": {0.5: 1}}, "mean: found a dict"), ({"mean": "0.5"}, "mean: found '0.5'"),
     ({"recipe": "none"}, "recipe: found 'none'"), ({"recipe": {"dataset": 3}}, "recipe: found"),
     ({"cosine": torch.ones(2)}, "cosine: found a Tensor"), ({"cosine": "x"}, "cosine: found 'x'"),
     ({"std": [0.0]}, "std: found 0.0, expected a number from 1e-06"),
     ({"std": [-0.5]}, "std: found -0.5"), ({"std": [math.nan]}, "std: found nan"),
     ({"std": [1e-300]}, "std: found 1e-300"), ({"mean": [math.inf]}, "mean: found inf"),
     ({"mean": [10**60]}, "mean: found a number of 200 bits"),
     ({"scale": math.nan}, "scale: found nan"), ({"scale": 0}, "scale: found 0"),
     ({"scale": -30.0}, "scale: found -30.0"), ({"scale": 1e300}, "scale: found 1e+300"),
     ({"scale": True}, "scale: found True"), ({"scale": 10**60}, "scale: found a number of")],
)  # fmt: skip
def test_entries_that_cannot_be(path, native, change, words):
    native(changes=change)
    made.refused(load(path), f"m.pt: {words}", error=FormatError)


@pytest.mark.parametrize("change", [{"mean": [0.5] * 3}, {"std": []}])
def test_statistics_of_other_channels(path, native, change):
    native(changes=change)
    words = ("m.pt: mean, std: found", "expected 1 each for digits_net; pass --mean and --std")
    made.refused(load(path), *words, error=InputError)


@pytest.mark.parametrize("field", ["mean", "std"])
def test_the_user_may_say_what_the_file_says_wrongly(path, native, field):
    native(changes={field: "x"})
    found = checkpoints.load(path, LoadSettings(**{field: (0.125,)}))
    assert getattr(found, field) == (0.125,)
    wild = LoadSettings(**{field: (1e300,)})
    made.refused(lambda: checkpoints.load(path, wild), f"{field}: found 1e+300", error=FormatError)


def test_a_head_of_other_features_is_refused_before_it_is_built(path, native):
    native(changes={"state_dict": {"head.weight": torch.zeros(10**6, 1, dtype=torch.uint8)}})
    words = ("m.pt: head: found (1000000, 1), expected 64 x classes",)
    made.refused(load(path), *words, error=FormatError)


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


class Config(dict):
    """A project's class, as some repositories pickle into their checkpoints."""


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


# Which weights, which head


def test_averaged_weights_are_taken_first(path):
    raw, ema = published(), published("module.")
    ema["module.linear.bias"] = torch.ones(10)
    torch.save({"model": raw, "model_ema": ema | {"n_averaged": torch.tensor(3)}}, path)
    found = checkpoints.load(path)
    assert found.head.bias.tolist() == [1.0] * 10
    assert found.notes == ("weights: ema taken; --weights raw takes others", made.ASSUMED)
    assert found.stored["head.bias"].place == ("model_ema",)
    other = checkpoints.load(path, LoadSettings(weights="raw"))
    assert other.head.bias.tolist() != [1.0] * 10
    made.refused(load(path, weights="best"), "weights best: not in the file; it has ema, raw")


def test_two_heads_are_listed_and_one_is_named(path):
    state = published() | {"aux.weight": torch.ones(3, 64), "aux.bias": torch.zeros(3)}
    torch.save(state, path)
    words = ("found 2 that are 64 wide", "linear.weight (10, 64)", "aux.weight (3, 64)", "--head")
    made.refused(load(path), *words, error=InputError)
    found = checkpoints.load(path, LoadSettings(head="aux"))
    assert (found.head.num_classes, found.stored["head.weight"].name) == (3, "aux.weight")
    assert found.notes == ("left out: linear.weight, linear.bias", made.ASSUMED)
    made.refused(load(path, head="fc"), "found 0 that are 64 wide", "aux.weight (3, 64)")


def test_a_layer_before_the_head_is_not_taken_for_another_head(path):
    torch.save(published() | {"projection.weight": torch.ones(64, 64)}, path)
    words = ("does not fit resnet20", "unexpected: 1 (backbone.projection.weight)")
    made.refused(load(path, head="linear"), *words, error=FormatError)


def test_a_head_without_bias_is_asked_about(path):
    state = published()
    del state["linear.bias"]
    torch.save(state, path)
    made.refused(load(path), "linear.weight: has no bias", "--scale", "--linear", error=InputError)
    cosine = checkpoints.load(path, LoadSettings(scale=16.0)).head
    assert (cosine.normalize, cosine.scale) == ("cosine", 16.0)
    plain = checkpoints.load(path, LoadSettings(linear=True)).head
    assert (plain.normalize, plain.bias.tolist()) == ("none", [0.0] * 10)


# Optional libraries


@pytest.mark.parametrize(
    ("library", "package", "extra"),
    [("timm", "timm", "timm"), ("torchvision", "torchvision", "torchvision"),
     ("open_clip", "open_clip_torch", "open-clip")],
)  # fmt: skip
def test_a_library_that_is_not_installed_is_named(path, monkeypatch, library, package, extra):
    monkeypatch.setitem(sys.modules, library, None)
    torch.save(published(), path)
    words = (f"m.pt: needs {package}, which is not installed", f"pip install 'ltkit[{extra}]'")
    made.refused(load(path, f"{library}:any"), *words, error=InputError)


def hugging_face_folder(folder):
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "vit"}', encoding="utf-8")
    safetensors.torch.save_file({"w": torch.zeros(3)}, folder / "model.safetensors")
    return folder


def test_transformers_that_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    folder = hugging_face_folder(tmp_path / "hub")
    words = ("hub: needs transformers, which is not", "pip install 'ltkit[transformers]'")
    made.refused(load(folder), *words, error=InputError)


@pytest.mark.parametrize("error", ["RuntimeError", "OSError"])
def test_a_torchvision_for_another_torch_is_named(path, tmp_path, monkeypatch, error):
    """Its import raises no ImportError; a file that is not for it is not held up by it."""
    package = tmp_path / "packages" / "torchvision"
    package.mkdir(parents=True)
    text = f"raise {error}('operator torchvision::nms does not exist\\nmore')"
    (package / "__init__.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(package.parent)
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    torch.save(published(), path)
    words = ("m.pt: needs torchvision, whose import fails (operator torchvision::nms does not",
             f"install the torchvision that matches torch {torch.__version__}")  # fmt: skip
    made.refused(load(path, "torchvision:resnet18"), *words, error=InputError)
    torch.save({"w": torch.zeros(3)}, path)
    made.refused(load(path), "layout not recognised; found w", error=InputError)


def test_transformers_blames_the_import_that_failed(path):
    """It raises ModuleNotFoundError whatever the cause, when a network is looked up."""
    words = ("m.pt: needs transformers, whose import fails (operator torchvision::nms)",)

    def look_up():
        with _library.needed(path, "transformers", "transformers"):
            raise ModuleNotFoundError("any") from RuntimeError("operator torchvision::nms\nmore")

    made.refused(look_up, *words, error=InputError)


@pytest.mark.parametrize(
    ("said", "name"),
    [({"depths": [2, 1 << 31]}, "depths"), ({"depth": 200}, "depth"),
     ({"x": [{"num_hidden_layers": 101}]}, "num_hidden_layers"),
     ({"num_encoder_blocks": 1 << 40}, "num_encoder_blocks")],
)  # fmt: skip
def test_networks_that_would_take_hours_to_build(said, name):
    content = Content(Path("m"), "folder", said, {(): {"w": torch.zeros(3)}}, "")
    found = {"depths": 2 + (1 << 31), "num_hidden_layers": 101, "depth": 200}.get(name, 1 << 40)
    words = (f"m: {name}: found {found}, expected no more than the file has tensors, 1;",)
    made.refused(lambda: _library.check_depth(content, said), *words, error=FormatError)
    sound = {
        "depths": [3, 4, 23, 3],
        "block_size": 512,
        "depth": None,
        "layer": ["a"],
        "depth_": 1e9,
    }
    _library.check_depth(content, sound)


def test_what_the_files_of_libraries_say_of_themselves(path, monkeypatch):
    """Their families know them without the libraries; other files with arguments are not theirs."""
    for library in ("timm", "torchvision"):
        monkeypatch.setitem(sys.modules, library, None)
    state = {"stem.weight": torch.zeros(3, 3)}
    script = {"epoch": 1, "arch": "made", "state_dict": state, "optimizer": {}, "version": 2}
    torch.save(script, path)
    made.refused(load(path), "needs timm", error=InputError)
    reference = {"model": state, "lr_scheduler": {}, "args": argparse.Namespace(model="made")}
    torch.save(reference, path)
    made.refused(load(path), "needs torchvision", error=InputError)
    torch.save(reference | {"args": {"model": "made", "nb_classes": 7}}, path)
    made.refused(load(path), "needs timm", error=InputError)
    for other in ({"version": 3}, {"arch": 7}):
        torch.save(script | other, path)
        made.refused(load(path), "layout not recognised", error=InputError)
    del reference["lr_scheduler"]
    torch.save(reference, path)
    made.refused(load(path), "layout not recognised", error=InputError)


def test_an_unknown_library(path):
    torch.save(published(), path)
    words = ("arch tim:resnet18: unknown library", "did you mean timm?")
    made.refused(load(path, "tim:resnet18"), *words, error=InputError)


def test_of_a_scripts_arguments_plain_values_are_kept(path):
    plain = {"model": "resnet18", "lr": 0.1, "epochs": 3, "pretrained": False, "seed": None,
             "mean": (0.1, 0.2), "size": [3, 8, 8], "model_kwargs": {"img_size": 8}}  # fmt: skip
    others = {"path": Path("x"), "deep": [[1]], "long": [0] * 101, "tensor": torch.zeros(1),
              "config": Config(a=1), "set": {1}}  # fmt: skip
    torch.save({"args": argparse.Namespace(**plain, **others)}, path)
    content = checkpoints.read(path)
    assert "argparse.Namespace" in content.skipped
    assert inert.arguments_of(content.top["args"]) == plain
    assert inert.arguments_of(plain | {"set": {1}, "deep": [[1]]}) == plain
    assert inert.arguments_of(None) == {}


def test_only_zero_shot_heads_need_the_names_of_classes(path, native):
    native()
    assert load(path, class_names=("a", "b"))().wanted.class_names is None
