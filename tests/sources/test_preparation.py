"""A checkpoint and images brought together: own networks, transforms, classes by name, verdicts."""

import shutil
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import ltkit as library
from ltkit import architectures, checkpoints, datasets
from ltkit.datasets.order import in_order, read_names
from ltkit.errors import FormatError, InputError, SettingError
from ltkit.evaluation.verdict import verdict
from ltkit.files import features as features_file
from ltkit.records import ClassTable, FeatureSet, FeatureSplit, Head
from ltkit.settings import LoadSettings
from ltkit.sources.preparation import prepare

CODE = '''
import torch
from torch import nn

class Net(nn.Module):
    """Two convolutions; named parts as nobody else has them."""
    def __init__(self, classes=3, width=8, dropout=0.0):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 2, 1), nn.BatchNorm2d(width), nn.ReLU())
        self.mix = nn.Conv2d(width, 2 * width, 3, 2, 1)
        self.answer = nn.Linear(2 * width, classes)
    def forward(self, x):
        return self.answer(torch.relu(self.mix(self.stem(x))).mean((2, 3)))

class Zoo(Net):
    """As packages have it: made by a class method, from a name; dropout before the head."""
    @classmethod
    def from_name(cls, name, **override):
        return cls(width={"small": 4, "large": 8}[name], **override)
    def forward(self, x):
        x = torch.relu(self.mix(self.stem(x))).mean((2, 3))
        return self.answer(nn.functional.dropout(x.view(len(x), -1), 0.5, self.training))

class Late(Net):
    def forward(self, x):
        return super().forward(x).softmax(1)

class Text(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.out = nn.EmbeddingBag(50, 6), nn.Linear(6, 3)
    def forward(self, tokens):
        return self.out(self.table(tokens))

def grey():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))

def halved(image):
    import numpy as np
    small = np.asarray(image.resize((16, 16))) / 127.5 - 1
    return torch.tensor(small).permute(2, 0, 1).float()

def broken(image):
    raise ValueError("no such picture")

def uneven(image):
    return torch.zeros(3, image.width, 4)

made = Net()
number = 3
def fails(): raise RuntimeError("not today")
'''

NAMES = ("ant", "bee", "cat")


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module of the user's, and a checkpoint of its network."""
    (tmp_path / "my_networks.py").write_text(textwrap.dedent(CODE))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    import sys

    sys.modules.pop("my_networks", None)
    import my_networks

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = my_networks.Net().eval()
    torch.save(network.state_dict(), tmp_path / "m.pt")
    yield network
    sys.modules.pop("my_networks", None)


@pytest.fixture
def pictures(tmp_path):
    """A folder of 3 classes, whose pictures have a colour each."""
    rng = np.random.default_rng(0)
    for split, each in (("train", 6), ("test", 8)):
        for c, name in enumerate(NAMES):
            (tmp_path / "pics" / split / name).mkdir(parents=True)
            for i in range(each):
                pixels = rng.integers(0, 60, (32, 32, 3))
                pixels[..., c] += 150
                file = tmp_path / "pics" / split / name / f"{i}.png"
                Image.fromarray(pixels.astype(np.uint8)).save(file)
    return tmp_path / "pics"


def settings(name="Net", *arguments, **more):
    return LoadSettings(model=f"my_networks:{name}", model_args=arguments, **more)


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


def test_a_transform_of_ones_own(own, pictures, tmp_path, ltkit):
    import my_networks

    words = ["extract", "m.pt", "--model", "my_networks:Net", "--data", pictures, "-o", "f.h5"]
    code, _, said = ltkit(*words, "--transform", "my_networks:halved")
    assert code == 0
    assert "view: as my_networks:halved gives it" in said
    found = features_file.read(tmp_path / "f.h5")
    assert found.settings["view"] == {"transform": "my_networks:halved"}
    files = sorted((pictures / "train").rglob("*.png"))
    batch = torch.stack([my_networks.halved(Image.open(file)) for file in files])
    with torch.no_grad():
        expected = torch.relu(own.mix(own.stem(batch))).mean((2, 3))
    np.testing.assert_allclose(found.split("train").features[:], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "more", "message"),
    [
        ("my_networks:broken", [], "my_networks:broken: fails on image 0 (ValueError: no such"),
        ("my_networks:number", [], "is no function of an image"),
        ("my_networks:absent", [], "there is no absent in my_networks"),
        ("my_networks:halved", ["--image-size", "8"], "found image_size, too"),
    ],
)
def test_transforms_that_do_not_fit(own, pictures, ltkit, name, more, message):
    words = ["extract", "m.pt", "--model", "my_networks:Net", "--data", pictures, "-o", "f.h5"]
    code, _, said = ltkit(*words, "--transform", name, *more)
    assert code == 2
    assert message in said


def test_shapes_that_differ_are_refused(own, pictures):
    import my_networks

    Image.new("RGB", (20, 20)).save(pictures / "train" / "ant" / "z.png")
    made = prepare(Path("m.pt"), str(pictures), wanted=settings(), transform=my_networks.uneven)
    images = made.seen.of(made.dataset.split("train")).images
    with pytest.raises(InputError, match=r"uneven: gives \(3, 20, 4\), \(3, 32, 4\), expected one"):
        images[0:9]
    assert images[0:0].shape == (0, 0, 0, 0)


def named(tmp_path, own, names):
    """Write the checkpoint with the names of its classes."""
    content = {"state_dict": own.state_dict(), "class_to_idx": {n: i for i, n in enumerate(names)}}
    torch.save(content, tmp_path / "named.pt")
    return tmp_path / "named.pt"


def test_classes_go_by_the_names_that_the_checkpoint_states(own, pictures, tmp_path):
    file = named(tmp_path, own, ("cat", "ant", "bee"))
    made = prepare(file, str(pictures), wanted=settings())
    assert made.dataset.classes.names == ("cat", "ant", "bee")
    assert made.dataset.split("train").labels.tolist() == [1] * 6 + [2] * 6 + [0] * 6
    assert any("classes are in the order of" in line for line in made.notes)
    same = prepare(named(tmp_path, own, NAMES), str(pictures), wanted=settings())
    assert not any("in the order of" in line for line in same.notes)


def test_names_that_disagree_are_refused_and_said_by_a_file(own, pictures, tmp_path):
    file = named(tmp_path, own, ("dog", "ant", "bee"))
    with pytest.raises(InputError, match=r"found no class cat among its 3 .* --classes FILE"):
        prepare(file, str(pictures), wanted=settings())
    order = tmp_path / "order.txt"
    order.write_text("cat\nbee\nant\n")
    made = prepare(file, str(pictures), wanted=settings(), classes=order)
    assert made.dataset.classes.names == ("cat", "bee", "ant")
    assert made.dataset.split("test").labels.tolist() == [2] * 8 + [1] * 8 + [0] * 8


def test_a_class_may_be_tested_that_is_never_trained(own, pictures, tmp_path, ltkit):
    shutil.rmtree(pictures / "train" / "cat")
    Path("order.txt").write_text("cat\nant\nbee\n")
    words = [
        "extract",
        "m.pt",
        "--model",
        "my_networks:Net",
        "--data",
        "pics",
        "--image-size",
        "32",
    ]
    code, _, said = ltkit(*words, "-o", "o.h5")
    assert code == 2
    assert "class cat is not in the train split; extract takes a class to test alone" in said
    code, _, said = ltkit(*words, "--classes", "order.txt", "-o", "o.h5")
    assert code == 0, said
    assert "note: 1 of 3 classes has no training image (cat) and is left out: it is tested" in said
    found = features_file.read(Path("o.h5"))
    assert found.classes.train_count.tolist() == [0, 6, 6]
    assert np.bincount(found.split("test").labels).tolist() == [8, 8, 8]
    code, _, said = ltkit("posthoc", "logit-adjust", "o.h5", "--set", "tau=1")
    assert code == 0, said
    assert "1 of 3 classes has no training image (cat) and is left out: their rows" in said or (
        "1 of 3 classes has no training image (cat) and is left out: its row" in said
    )


def test_classes_without_images_are_there_where_the_names_have_them():
    dataset = datasets.load("digits_lt:val=none")
    names = [f"{n}" for n in (*range(12),)]
    bare = replace(dataset, classes=ClassTable(dataset.classes.train_count))
    assert in_order(bare, names, "m.pt") == (bare, "")  # numbers are the head's
    named_ = replace(dataset, classes=ClassTable(dataset.classes.train_count, tuple("abcdefghij")))
    moved, said = in_order(named_, [*"zjihgfedcbay"], "m.pt")
    assert said.endswith("2 of them without images here")
    assert moved.classes.train_count[[0, 11]].tolist() == [0, 0]
    assert moved.classes.names == tuple("zjihgfedcbay")
    labels, before = moved.split("train").labels, named_.split("train").labels
    np.testing.assert_array_equal(labels, 10 - before)
    with pytest.raises(InputError, match="found 4 names, expected 10, one for each class"):
        in_order(bare, [*"abcd"], "m.pt")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "found no name"),
        ("\n\n", "found no name"),
        ("ant\n\nbee\n", "line 2: found no name"),
        ("ant\nbee\nant\n", "found ant twice, expected each class once"),
    ],
)
def test_files_of_names_that_cannot_be(tmp_path, text, message):
    (tmp_path / "names.txt").write_text(text)
    with pytest.raises(InputError, match=message):
        read_names(tmp_path / "names.txt")


def judged(predicted, labels, num_classes):
    """Return the verdict on a head that predicts these classes."""
    features = np.eye(num_classes, dtype=np.float32)[predicted]
    head = Head(np.eye(num_classes, dtype=np.float32), np.zeros(num_classes, np.float32))
    counts = np.bincount(labels, minlength=num_classes)
    split = FeatureSplit(features, labels)
    return verdict(FeatureSet({"test": split}, ClassTable(counts), head))


def test_verdicts():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 1000)
    (line,) = judged(labels, labels, 10)
    assert line == "accuracy of the model's own head: test 100.0 %"
    assert (
        len(judged(np.where(rng.random(1000) < 0.7, rng.integers(0, 10, 1000), labels), labels, 10))
        == 1
    )
    chance = judged(rng.integers(0, 10, 1000), labels, 10)
    assert "is near chance" in chance[1]
    one = judged(np.zeros(1000, int), labels, 10)
    assert "is near chance" in one[1]
    order = np.array([3, 0, 1, 2, 4, 5, 6, 7, 9, 8])
    moved = judged(
        order[np.where(rng.random(1000) < 0.1, rng.integers(0, 10, 1000), labels)], labels, 10
    )
    assert "if output 0 is 1, output 1 is 2, output 2 is 3 ..." in moved[1]


def test_no_verdict_is_found_by_luck():
    rng = np.random.default_rng(0)
    warned = 0
    for _ in range(200):
        labels = rng.integers(0, 20, 100)
        predicted = np.where(rng.random(100) < 0.3, labels, rng.integers(0, 20, 100))
        warned += len(judged(predicted, labels, 20)) > 1
    assert warned == 0
    assert (
        verdict(
            FeatureSet(
                {},
                ClassTable(np.ones(2, int)),
                Head(np.eye(2, dtype=np.float32), np.zeros(2, np.float32)),
            )
        )
        == []
    )


def nearest_means(network, pictures):
    """Return the head that gives the class whose mean feature is nearest, in its linear form."""
    means = []
    for name in NAMES:
        files = sorted((pictures / "train" / name).glob("*.png"))
        batch = torch.tensor(np.stack([np.asarray(Image.open(file)) for file in files])) / 127.5 - 1
        with torch.no_grad():
            means.append(network.backbone(batch.permute(0, 3, 1, 2)).mean(0))
    weight = torch.stack(means)
    return weight, -(weight**2).sum(1) / 2


def test_a_head_whose_rows_were_exchanged_is_warned_of(pictures, tmp_path, monkeypatch, ltkit):
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = architectures.build("resnet20", 3).eval()
    weight, bias = nearest_means(network, pictures)
    body = {k.removeprefix("backbone."): v for k, v in network.backbone.state_dict().items()}
    said = {}
    for name, order in (("good", [0, 1, 2]), ("bad", [1, 2, 0])):
        torch.save({**body, "fc.weight": weight[order], "fc.bias": bias[order]}, f"{name}.pt")
        words = ["extract", f"{name}.pt", "--data", pictures, "-o", f"{name}.h5"]
        code, _, said[name] = ltkit(*words, "--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5")
        assert code == 0
    assert "test 100.0 %" in said["good"]
    assert "warning" not in said["good"]
    assert "warning: test: 0.0 %, but 100.0 % if output 0 is bee" in said["bad"]
    assert "another order than the head's" in said["bad"]
