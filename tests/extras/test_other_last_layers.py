"""Libraries' networks with last layers of the user's own, under any prefix, or with none."""

import numpy as np
import pytest
import torch
from round_trip import C, dataset, shaken
from torch import nn

from ltkit import checkpoints
from ltkit.exports.checkpoint import export_into
from ltkit.files import features as features_file
from ltkit.records import Correction
from ltkit.settings import ExtractSettings, LoadSettings
from ltkit.sources import extraction

pytestmark = [pytest.mark.extras, pytest.mark.usefixtures("one_thread")]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "m.pt"


def mobilenet(head, at="classifier.3"):
    from torchvision import models

    model = models.mobilenet_v3_small(num_classes=C)
    parent, _, leaf = at.rpartition(".")
    setattr(model.get_submodule(parent), leaf, head)
    return shaken(model)


def timm_model(head):
    import timm

    model = timm.create_model("resnet10t", num_classes=C)
    model.fc = head
    return shaken(model)


MODELS = {
    "dropout": lambda: mobilenet(nn.Sequential(nn.Dropout(), nn.Linear(1024, C))),
    "batch norm": lambda: mobilenet(nn.Sequential(nn.BatchNorm1d(1024), nn.Linear(1024, C))),
    "weight norm": lambda: mobilenet(nn.utils.parametrizations.weight_norm(nn.Linear(1024, C))),
    "MLP": lambda: mobilenet(
        nn.Sequential(nn.Linear(1024, 32), nn.ReLU(), nn.Dropout(), nn.Linear(32, C))
    ),
    "one layer for two": lambda: mobilenet(nn.Linear(576, C), "classifier"),
    "timm, dropout": lambda: timm_model(nn.Sequential(nn.Dropout(), nn.Linear(512, C))),
    "timm, MLP": lambda: timm_model(nn.Sequential(nn.Linear(512, 32), nn.ReLU(), nn.Linear(32, C))),
}


@torch.no_grad()
@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("prefix", ["", "model.backbone."])
def test_last_layers_of_the_users_own(path, tmp_path, kind, prefix):
    model = MODELS[kind]()
    arch = {"timm, dropout": "timm:resnet10t", "timm, MLP": "timm:resnet10t",
            "one layer for two": "torchvision:mobilenet_v3_small"}.get(kind)  # fmt: skip
    wanted = LoadSettings(arch=arch)
    losses = {"criterion.weight": torch.ones(C)} if prefix else {}
    torch.save({prefix + n: t for n, t in model.state_dict().items()} | losses, path)
    found, images = checkpoints.load(path, wanted), torch.randn(3, 3, 64, 64)
    features, logits = found.network.features_and_logits(images)
    expected = model(images)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    base = found.head.fold()
    np.testing.assert_allclose(base.logits(features.numpy()), expected, rtol=1e-3, atol=1e-4)
    rows = np.array([1, 5])
    correction = Correction("made", rows, (base.weight[rows] * 2)[None],
                            (base.bias[rows] + 1)[None], ({},))  # fmt: skip
    output = tmp_path / "fixed.pt"
    export_into(path, correction, 0, output, made_from=found.digest, wanted=wanted)
    saved = torch.load(output)
    model.load_state_dict({n.removeprefix(prefix): t for n, t in saved.items() if n not in losses})
    changed = correction.classifier(base, 0).logits(features.numpy())
    np.testing.assert_allclose(model(images), changed, rtol=1e-3, atol=1e-3)


@torch.no_grad()
@pytest.mark.parametrize("at", ["classifier", "head", "fc"])
def test_a_backbone_of_torchvision_and_a_head_beside_it(path, at):
    model = mobilenet(nn.Linear(1024, C))
    last = model.classifier[3]
    model_state = {n: t for n, t in model.state_dict().items() if "classifier.3" not in n}
    torch.save({"backbone": model_state, at: last.state_dict()}, path)
    found, images = checkpoints.load(path), torch.randn(2, 3, 64, 64)
    assert found.arch == "torchvision:mobilenet_v3_small"
    torch.testing.assert_close(found.network(images), model(images), rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("library", ["torchvision", "torchvision resnet", "timm", "timm, two"])
def test_backbones_without_a_head(path, tmp_path, library):
    import timm
    from torchvision import models

    arch = None
    if library == "torchvision":
        model = mobilenet(nn.Identity())
    elif library == "torchvision resnet":
        model = models.resnet18(num_classes=C)
        model.fc = nn.Identity()
    else:
        name = "resnet10t" if library == "timm" else "deit_tiny_distilled_patch16_224"
        model, arch = timm.create_model(name, num_classes=0), f"timm:{name}"
    shaken(model)
    torch.save({"model_state_dict": model.state_dict()}, path)
    found = checkpoints.load(path, LoadSettings(arch=arch))
    assert (found.head, found.class_names, dict(found.stored)) == (None, None, {})
    assert any(note.startswith("no head") for note in found.notes)
    data, output = dataset(found.image_size), tmp_path / "f.h5"
    extraction.extract(found, data, ("test",), output, ExtractSettings())
    features = features_file.read(output)
    assert features.head is None
    mean, std = (torch.tensor(v)[:, None, None] for v in (found.mean, found.std))
    pixels = torch.from_numpy(data.split("test").images).permute(0, 3, 1, 2) / 255
    expected = model((pixels - mean) / std)
    np.testing.assert_allclose(
        features.split("test").features[:], expected, rtol=1e-3, atol=1e-4 * expected.abs().max()
    )


@torch.no_grad()
@pytest.mark.parametrize(
    ("arch", "library"),
    [("resnet10t", "timm"), ("mobilenetv3_small_050", "timm"),
     ("mobilenet_v3_small", "torchvision"), ("mnasnet0_5", "torchvision")],
)  # fmt: skip
def test_the_library_of_an_architecture_is_found(path, arch, library):
    import timm
    from torchvision import models

    build = timm.create_model if library == "timm" else models.get_model
    model = shaken(build(arch, num_classes=C))
    torch.save(model.state_dict(), path)
    found, images = checkpoints.load(path, LoadSettings(arch=arch)), torch.randn(2, 3, 64, 64)
    assert found.arch == found.wanted.arch == f"{library}:{arch}"
    torch.testing.assert_close(found.network(images), model(images), rtol=1e-4, atol=1e-5)
