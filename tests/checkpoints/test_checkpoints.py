"""Checkpoints: recognised by what is in them, extracted and written back."""

import argparse
import math
import sys
from pathlib import Path

import made
import numpy as np
import pytest
import safetensors.torch
import torch
import torch.hub
from family_files import Config
from shared_data import shared
from stored_networks import as_safetensors, load, network, published

from ltkit import checkpoints
from ltkit.checkpoints.containers import inert
from ltkit.checkpoints.content import Content
from ltkit.checkpoints.families import _library
from ltkit.errors import FormatError, InputError
from ltkit.settings import LoadSettings

pytestmark = pytest.mark.usefixtures("one_thread")


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
