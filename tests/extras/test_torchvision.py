"""torchvision's networks: recognised by their tensors, or named by the reference script."""

import argparse
import re
import warnings
from pathlib import Path

import made
import numpy as np
import pytest
import torch
from round_trip import C, check, close, shaken

from ltkit import checkpoints
from ltkit.errors import FormatError, InputError
from ltkit.records import ImageView
from ltkit.settings import LoadSettings

pytestmark = [pytest.mark.extras, pytest.mark.usefixtures("one_thread")]

HEADS = {
    "alexnet": "classifier.6", "convnext_tiny": "classifier.2", "densenet121": "classifier",
    "efficientnet_b0": "classifier.1", "efficientnet_v2_s": "classifier.1", "googlenet": "fc",
    "inception_v3": "fc", "maxvit_t": "classifier.5", "mnasnet0_75": "classifier.1",
    "mobilenet_v2": "classifier.1", "mobilenet_v3_small": "classifier.3", "regnet_y_400mf": "fc",
    "resnext101_32x8d": "fc", "shufflenet_v2_x1_0": "fc", "squeezenet1_1": "classifier.1",
    "swin_t": "head", "swin_v2_t": "head", "vgg11_bn": "classifier.6", "vgg13": "classifier.6",
    "vit_b_32": "heads.head", "wide_resnet50_2": "fc",
}  # fmt: skip
"""One network of each kind, and its last layer."""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "m.pt"


def network(name, **settings):
    from torchvision import models

    with torch.random.fork_rng(), warnings.catch_warnings(action="ignore"):
        torch.manual_seed(0)
        return shaken(models.get_model(name, weights=None, num_classes=C, **settings))


def of_file(path):
    return torch.load(path, weights_only=True)


def reloading(name, prefix="", **settings):
    def reload(state):
        model = network(name, **settings)
        new = model.state_dict()  # with the layers' versions, which MNASNet asks for
        new.update({n.removeprefix(prefix): t for n, t in state.items()})
        model.load_state_dict(new)
        return model

    return reload


def load(path, arch=None, **wanted):
    return checkpoints.load(path, LoadSettings(arch and f"torchvision:{arch}", **wanted))


@pytest.mark.parametrize(
    ("name", "classes"), [(n, C) for n in HEADS] + [("swin_t", 1000), ("vgg13", 1000)]
)
def test_a_network_is_recognised_by_its_tensors(name, classes):
    """Names and shapes alone: none of these is built with values."""
    from torchvision import models

    from ltkit.checkpoints import plain
    from ltkit.checkpoints.families import torchvision as family

    settings = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    try:
        with torch.device("meta"):
            model = models.get_model(name, weights=None, num_classes=classes, **settings)
    except NotImplementedError:
        model = models.get_model(name, weights=None, num_classes=classes)
    state = {f"module.{n}": t for n, t in sorted(model.state_dict().items())}
    content = checkpoints.Content(None, "torch", {}, {(): state}, "")
    found, likeness = family._most_like(content, plain.gather(content).names)
    assert (found, likeness >= 0.8) == (name, True)
    assert family._head(name) == HEADS[name]
    assert family.matches(content, LoadSettings())


@pytest.mark.parametrize("name", ["shufflenet_v2_x0_5", "mnasnet0_5"])
def test_from_file_to_file(path, name):
    model = network(name)
    torch.save(model.state_dict(), path)
    found = check(path, model, of_file, reloading(name), size=64)
    assert found.notes[0].startswith("images are cut as for torchvision's IMAGENET1K_V1")
    assert found.notes[1] == made.ASSUMED


def reference(name, averaged, changes=None, **settings):
    """What torchvision's reference script writes."""
    model, args = network(name, **settings), {"model": name, "weights": None, "lr": 0.5}
    state = {
        "model": model.state_dict(), "optimizer": {"state": {}}, "lr_scheduler": {"step": 3},
        "epoch": 3, "args": argparse.Namespace(**args, **(changes or {})),
    }  # fmt: skip
    if averaged:
        ema = torch.optim.swa_utils.AveragedModel(model)
        state["model"] = {n: t + 1 for n, t in state["model"].items()}
        state["model_ema"] = ema.state_dict()
    return model, state


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"val_resize_size": 8000}, "args.val_resize_size: found 8000"),
     ({"val_crop_size": -1}, "args.val_crop_size: found -1"),
     ({"val_crop_size": True}, "args.val_crop_size: found True"),
     ({"val_resize_size": "256"}, "args.val_resize_size: found '256'"),
     ({"val_resize_size": [256]}, "args.val_resize_size: found [256]")],
)  # fmt: skip
def test_sizes_that_cannot_be(path, changes, words):
    _, state = reference("mobilenet_v3_small", False, changes)
    torch.save(state, path)
    made.refused(lambda: checkpoints.load(path), f"m.pt: {words}", error=FormatError)


def test_sizes_of_tensors_cannot_make_a_network_of_any_size(path):
    tensors = {"conv_proj.weight": torch.zeros(768, 3, 32, 32),
               "encoder.pos_embedding": torch.zeros(1, 10**6, 1)}  # fmt: skip
    torch.save(tensors | {"heads.head.weight": torch.zeros(7, 768)}, path)
    made.refused(lambda: load(path, "vit_b_32"), "does not fit vit_b_32", error=FormatError)


@pytest.mark.parametrize("averaged", [False, True])
def test_the_reference_scripts_files(path, averaged):
    name, cut = "mobilenet_v3_small", {"val_resize_size": 96, "val_crop_size": 80,
                                       "interpolation": "bicubic"}  # fmt: skip
    model, state = reference(name, averaged, cut)
    torch.save(state, path)
    place, prefix = ("model_ema", "module.") if averaged else ("model", "")

    def read(path):
        with torch.serialization.safe_globals([argparse.Namespace]):
            state = of_file(path)[place]
        return {n: t for n, t in state.items() if n != "n_averaged"}

    found = check(path, model, read, reloading(name, prefix))
    assert found.view == ImageView(96, 80, "bicubic")
    assert found.skipped == ("argparse.Namespace",)
    said = ("weights: ema taken; --weights raw takes others",) if averaged else ()
    assert found.notes == said
    if averaged:
        raw = load(path, weights="raw").network.state_dict()
        assert torch.equal(raw["model.classifier.3.bias"], state["model"]["classifier.3.bias"])


def test_the_reference_scripts_name_must_be_known(path):
    _, state = reference("mobilenet_v3_small", False)
    state["args"].model = "mobilenet_v3_tiny"
    torch.save(state, path)
    words = ("torchvision:mobilenet_v3_tiny: unknown network", "did you mean mobilenet_v")
    made.refused(lambda: load(path), *words, error=InputError)
    assert load(path, "mobilenet_v3_small").arch == "torchvision:mobilenet_v3_small"


@pytest.mark.parametrize(
    ("name", "size", "left"), [("googlenet", 64, "aux"), ("inception_v3", 96, "AuxLogits")]
)
@pytest.mark.parametrize("auxiliary", [True, False])
@torch.no_grad()
def test_auxiliary_heads_are_left_out(path, name, size, left, auxiliary):
    model = network(name, aux_logits=auxiliary, init_weights=False)
    torch.save(model.state_dict(), path)
    found = load(path)
    assert found.arch == f"torchvision:{name}"
    out = sum(n.startswith(left) for n in model.state_dict())
    assert (f"left out: {out} tensors of auxiliary heads" in found.notes) == auxiliary
    images = torch.randn(2, 3, size, size)
    features, _ = found.network.features_and_logits(images)
    close(found.head.fold().logits(features.numpy()), model(images))
    assert {there.name for there in found.stored.values()} == {"fc.weight", "fc.bias"}


@torch.no_grad()
def test_statistics_that_a_network_turns_within_itself(path):
    """A published GoogLeNet takes ImageNet's statistics and turns them into 0.5."""
    model = network("googlenet", aux_logits=False, init_weights=False, transform_input=True)
    torch.save(model.state_dict(), path)
    found, pixels = load(path), torch.rand(2, 3, 64, 64)
    assert any("--mean 0.485,0.456,0.406" in note for note in found.notes)
    mean, std = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406),
                                                          (0.229, 0.224, 0.225)))  # fmt: skip
    ours, own = (torch.tensor(v)[:, None, None] for v in (found.mean, found.std))
    close(found.network((pixels - ours) / own), model((pixels - mean) / std))
    assert found.mean == found.std == (0.5, 0.5, 0.5)
    _, state = reference("googlenet", False, aux_logits=False, init_weights=False)
    torch.save(state, path)
    assert load(path).mean == (0.485, 0.456, 0.406)


def test_the_old_names_of_densenet(path):
    model = network("densenet121")
    old = {re.sub(r"(norm|conv)([12])\.", r"\1.\2.", n) for n in model.state_dict()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    pattern = r"(denselayer\d+\.(?:norm|conv))([12])\."
    torch.save({re.sub(pattern, r"\1.\2.", n): t for n, t in model.state_dict().items()}, path)
    found = load(path)
    assert found.arch == "torchvision:densenet121"
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        close(found.network(images), model(images))


def test_our_own_networks_come_first_and_torchvisions_by_name(path):
    model = network("resnet18")
    torch.save(model.state_dict(), path)
    assert load(path).family == "state-dict"
    found = load(path, "resnet18")
    assert (found.family, found.view) == ("torchvision", ImageView(256, 224))
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        close(found.network(images), model(images))


@torch.no_grad()
def test_a_vit_of_another_image_size(path):
    model = network("vit_b_32", image_size=64)
    torch.save(model.state_dict(), path)
    found, images = load(path), torch.randn(2, 3, 64, 64)
    assert (found.arch, found.image_size) == ("torchvision:vit_b_32", 64)
    assert found.view == ImageView(64, 64)
    close(found.network(images), model(images))


@pytest.mark.parametrize(
    ("name", "side"), [("resnet50", 224), ("swin_v2_b", 256), ("vit_h_14", 518)]
)
def test_the_view_is_torchvisions(name, side):
    from PIL import Image
    from torchvision import models

    from ltkit.checkpoints.families.torchvision import _images
    from ltkit.datasets.images import transform

    images, _ = _images(checkpoints.Content(Path("m.pt"), "torch", {}, {}, ""), models, name, {})
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (600, 700, 3), dtype=np.uint8))
    expected = models.get_model_weights(name).DEFAULT.transforms()(picture)
    pixels = transform(picture, images.view)
    values = torch.from_numpy(pixels.copy()).permute(2, 0, 1) / 255
    mean, std = (torch.tensor(v)[:, None, None] for v in (images.mean, images.std))
    torch.testing.assert_close((values - mean) / std, expected)
    assert images.size == side


@pytest.mark.parametrize("name", ["squeezenet1_0", "squeezenet1_1"])
def test_squeezenets_logits_are_linear_in_nothing(path, name):
    torch.save(network(name).state_dict(), path)
    words = (f"m.pt: {name}", "cut at zero", "linear in no pooled feature")
    made.refused(lambda: load(path), *words, error=InputError)


def test_tensors_that_do_not_fit_are_named(path):
    state = network("shufflenet_v2_x0_5").state_dict()
    state["conv5.0.scale"] = state.pop("conv5.0.weight")
    state["extra"] = torch.zeros(1)
    torch.save(state, path)
    words = ("does not fit shufflenet_v2_x0_5", "tensors missing: 1 (conv5.0.weight)",
             "unexpected: 2 (conv5.0.scale, extra)")  # fmt: skip
    made.refused(lambda: load(path), *words, error=FormatError)
    del state["fc.weight"]
    torch.save(state, path)
    made.refused(lambda: load(path), "tensors missing: 2 (conv5.0.weight, fc.weight)")


def test_wrong_words(path):
    torch.save(network("shufflenet_v2_x0_5").state_dict(), path)
    words = ("torchvision:shufflenet: unknown network", "shufflenet_v2_x")
    made.refused(lambda: load(path, "shufflenet"), *words, error=InputError)
    made.refused(lambda: load(path, head="conv9"), "head conv9: no linear layer", "torchvision:")
    words = ("mean, std: found 1 and 3, expected 3 each", "--mean and --std")
    made.refused(lambda: load(path, mean=(0.5,)), *words, error=InputError)
    words = ("fc.weight: found (7, 1024), expected (classes, 2048)", "--arch")
    made.refused(lambda: load(path, "resnet50"), *words, error=FormatError)


def test_half_precision_is_said(path):
    torch.save(network("shufflenet_v2_x0_5").half().state_dict(), path)
    assert load(path).notes[-1] == "float16 weights are computed with in float32"


def test_what_is_no_network_of_torchvisions(path):
    torch.save({"a.weight": torch.zeros(3, 4), "b.weight": torch.zeros(5)}, path)
    made.refused(lambda: load(path), "layout not recognised; found a.weight", error=InputError)


def test_the_command(ltkit, tmp_path, monkeypatch):
    """From a checkpoint and a folder of pictures to the corrected checkpoint."""
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for split, count in (("train", 3), ("val", 1), ("test", 1)):
        for name in "abcdefg":
            folder = tmp_path / "pictures" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                picture = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
                Image.fromarray(picture).save(folder / f"{i}.png")
    _, state = reference("mobilenet_v3_small", True, {"val_resize_size": 40, "val_crop_size": 32})
    torch.save(state, "model.pth")
    code, _, said = ltkit("extract", "model.pth", "--data", "pictures")
    assert code == 0, said
    assert "torchvision checkpoint, torchvision:mobilenet_v3_small, head 7 x 1024" in said
    assert ltkit("posthoc", "tau-norm", "--set", "tau=1", "-q")[0] == 0
    code, _, said = ltkit("export", "feats.tau-norm.h5", "--into", "model.pth", "-o", "fixed.pth")
    assert code == 0, said
    code, out, _ = ltkit("inspect", "fixed.pth")
    assert code == 0
    assert "model_ema.module.classifier.3.weight" in out
