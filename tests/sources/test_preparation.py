"""A checkpoint and images brought together: transforms, classes by name, verdicts."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from own_networks import NAMES, settings
from PIL import Image

from ltkit import architectures, datasets
from ltkit.datasets.order import in_order, read_names
from ltkit.errors import InputError
from ltkit.evaluation.verdict import verdict
from ltkit.files import features as features_file
from ltkit.records import ClassTable, FeatureSet, FeatureSplit, Head
from ltkit.sources.preparation import prepare


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
