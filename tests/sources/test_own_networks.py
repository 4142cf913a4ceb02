"""Networks of the user's own code: filled, refused where they do not fit, corrected."""

from pathlib import Path

import numpy as np
import pytest
import torch
from own_networks import settings
from PIL import Image

import ltkit as library
from ltkit import checkpoints
from ltkit.errors import FormatError, InputError, SettingError
from ltkit.files import features as features_file
from ltkit.settings import LoadSettings


def test_a_network_of_ones_own_is_filled_and_its_head_found(own, tmp_path):
    model = checkpoints.load(tmp_path / "m.pt", settings())
    assert (model.family, model.arch) == ("own-network", "my_networks:Net")
    assert (model.head.num_classes, model.head.feature_size) == (3, 16)
    images = torch.randn(4, 3, 40, 40)
    features, logits = model.network.features_and_logits(images)
    with torch.no_grad():
        torch.testing.assert_close(logits, own(images))
    ours = model.head.fold().logits(features.detach().numpy())
    np.testing.assert_allclose(ours, logits.detach(), atol=1e-5)
    assert list(model.stored) == ["model.answer.weight", "model.answer.bias"]


@pytest.mark.parametrize("layout", ["wrapped", "nested", "beside a loss", "lightning", "whole key"])
def test_its_weights_are_found_wherever_they_lie(own, tmp_path, layout):
    state = own.state_dict()
    content = {
        "wrapped": {"state_dict": {f"module.{k}": v for k, v in state.items()}},
        "nested": {"state": {"model": state}, "epoch": 3},
        "beside a loss": {"net": state, "criterion": {"weight": torch.ones(3)}},
        "lightning": {
            "state_dict": {f"backbone.{k}": v for k, v in state.items()}
            | {"ce.weight": torch.ones(3)},
            "pytorch-lightning_version": "2.0",
        },
        "whole key": {"my_weights": state},
    }[layout]
    torch.save(content, tmp_path / "x.pt")
    model = checkpoints.load(tmp_path / "x.pt", settings())
    for name, value in own.state_dict().items():
        torch.testing.assert_close(model.network.model.state_dict()[name], value)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (settings("Nett"), SettingError, "model my_networks:Nett: there is no Nett in my_networks"),
        (LoadSettings(model="no_such_module:Net"), SettingError, "importing no_such_module fails"),
        (LoadSettings(model="my_networks"), SettingError, "expected PACKAGE.MODULE:NAME"),
        (
            settings("fails"),
            SettingError,
            r"\(RuntimeError: not today; my_networks\.py, line [0-9]+\)",
        ),
        (settings("number"), SettingError, "gives int, expected a torch.nn.Module"),
        (
            settings("Net", "classes"),
            SettingError,
            "model_arg: found 'classes', expected NAME=VALUE",
        ),
        (settings("Net", "width=4", "width=8"), SettingError, "found width twice"),
        (settings("Net", "colour=1"), SettingError, "calling it fails"),
        (settings("made", "width=8"), SettingError, "is made already, expected no arguments"),
        (settings("Net", "width=4"), FormatError, "found .* expected .* for my_networks:Net"),
        (settings("Text"), FormatError, "does not fit my_networks:Text, built by your code"),
        (settings("Late"), InputError, r"no linear layer gives the network's output \(the last"),
        (
            settings(head="stem"),
            SettingError,
            "head stem: is no linear layer of the network; the last ones are answer",
        ),
    ],
)
def test_code_that_does_not_fit(own, tmp_path, given, error, message):
    with pytest.raises(error, match=message) as caught:
        checkpoints.load(tmp_path / "m.pt", given)
    assert len(str(caught.value)) <= 300 + len(str(tmp_path))


def test_a_network_that_takes_no_images(own, tmp_path):
    import my_networks

    torch.save(my_networks.Text().state_dict(), tmp_path / "t.pt")
    with pytest.raises(InputError, match=r"take images .* in Python, ltkit\.extract takes"):
        checkpoints.load(tmp_path / "t.pt", settings("Text"))


def test_arguments_are_literals_or_text(own, tmp_path):
    import my_networks

    torch.save(my_networks.Net(classes=5, width=4).state_dict(), tmp_path / "w.pt")
    given = settings("Net", "classes=5", "width=4", "dropout=0.5")
    assert checkpoints.load(tmp_path / "w.pt", given).head.num_classes == 5
    named = settings("Late", head="answer")
    assert checkpoints.load(tmp_path / "m.pt", named).head.num_classes == 3


@pytest.mark.parametrize("said", [{}, {"mean": (0.2,), "std": (0.3,)}])
def test_a_network_of_ones_own_may_see_grey_pictures(own, tmp_path, said):
    import my_networks

    network = my_networks.grey().eval()
    torch.save(network.state_dict(), tmp_path / "g.pt")
    model = checkpoints.load(tmp_path / "g.pt", settings("grey", **said))
    assert (model.mean, model.std) == (said.get("mean", (0.5,)), said.get("std", (0.5,)))
    noted = "mean and std: 0.5 / 0.5; --mean and --std say others" in model.notes
    assert noted == (not said)
    images = torch.randn(2, 1, 20, 20)
    torch.testing.assert_close(model.network(images), network(images))
    with pytest.raises(InputError, match="found 3 and 3, expected 1 each"):
        checkpoints.load(tmp_path / "g.pt", settings("grey", mean=(0.5,) * 3, std=(1.0,) * 3))


def test_there_and_back(own, pictures, tmp_path, ltkit):
    model = ["--model", "my_networks:Net"]
    code, _, said = ltkit("extract", "m.pt", *model, "--data", pictures, "-o", "f.h5")
    assert code == 0
    assert "own-network checkpoint, my_networks:Net, head 3 x 16" in said
    assert "model" not in features_file.read(tmp_path / "f.h5").settings["load"]
    assert ltkit("posthoc", "logit-adjust", "f.h5")[0] == 0
    export = ["export", "f.logit-adjust.h5", "--into", "m.pt", "-o", "fixed.pt"]
    code, _, said = ltkit(*export)
    assert code == 2
    assert "--model" in said
    assert ltkit(*export, *model)[0] == 0
    fixed = torch.load("fixed.pt", weights_only=True)
    counts = np.array([6, 6, 6])
    shift = np.log(counts / counts.sum())
    bias = own.answer.bias.detach().numpy() - shift
    np.testing.assert_allclose(fixed["answer.bias"].numpy(), bias, atol=1e-6)
    code, out, _ = ltkit("inspect", "m.pt", *model)
    assert code == 0
    assert "own-network" in out


def test_a_packages_network_there_and_back_in_plain_torch(own, pictures, tmp_path, ltkit):
    import my_networks

    network = my_networks.Zoo.from_name("small", classes=3)
    state = {f"module.{name}": value for name, value in network.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 7, "best": 0.5}, tmp_path / "z.pth")
    model = [
        "--model",
        "my_networks:Zoo.from_name",
        "--model-arg",
        "name=small",
        "--model-arg",
        "classes=3",
    ]
    size = ["--image-size", "32"]
    assert ltkit("extract", "z.pth", *model, *size, "--data", "pics", "-o", "f.h5")[0] == 0
    assert ltkit("posthoc", "ncm", "f.h5", "-o", "c.h5")[0] == 0
    code, _, said = ltkit("export", "c.h5", "--into", "z.pth", *model, "-o", "fixed.pth")
    assert code == 0, said
    fixed = torch.load("fixed.pth", weights_only=True)
    assert (fixed["epoch"], fixed["best"]) == (7, 0.5)
    assert {n for n, v in fixed["state_dict"].items() if not torch.equal(v, state[n])} == {
        "module.answer.weight", "module.answer.bias",
    }  # fmt: skip
    mine = my_networks.Zoo.from_name("small", classes=3).eval()
    mine.load_state_dict({n.removeprefix("module."): v for n, v in fixed["state_dict"].items()})
    split = features_file.read(Path("f.h5")).split("test")
    images = np.stack([np.asarray(Image.open(pictures / str(name))) for name in split.ids])
    mean, std = (np.array(v) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    inputs = torch.tensor((images / 255 - mean) / std).permute(0, 3, 1, 2).float()
    with torch.no_grad():
        theirs = mine(inputs).numpy()
    base = library.read("f.h5").classifier()
    ours = library.read_correction("c.h5").classifier(base, 0)
    np.testing.assert_allclose(ours.logits(split.features[:]), theirs, rtol=1e-3, atol=1e-3)


def test_no_file_names_code_to_run(own, pictures, tmp_path, ltkit):
    (tmp_path / "evil.py").write_text(
        "import pathlib\npathlib.Path('ran').touch()\ndef Net(): pass"
    )
    said = {"model": "evil:Net", "trust_code": True, "model_args": ["x=1"], "head": "answer"}
    kept = LoadSettings.from_json(said)
    assert kept == LoadSettings(head="answer")
    assert not (tmp_path / "ran").exists()
