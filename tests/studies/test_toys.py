"""The toy cases: what is trained on, and what is measured."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from made import refused
from studies.short import toy_points

import ltkit
from ltkit import checkpoints, datasets
from ltkit.records import ClassTable, Dataset, ImageSplit
from ltkit.studies import Given, _networks, toy_majority, toy_minority

BALANCED = "digits_lt:ir=1,val=none"


@pytest.fixture(autouse=True)
def short(monkeypatch):
    toy_points(monkeypatch)


@pytest.fixture(scope="module")
def digits():
    return datasets.load(BALANCED)


def like_cifar10():
    """Ten classes of 5,000 training images without content."""
    labels = np.repeat(np.arange(10), 5_000)
    held = np.zeros((50_000, 1, 1, 3), np.uint8)
    split = ImageSplit(held, labels, labels.astype(str))
    classes = ClassTable(np.full(10, 5_000))
    return Dataset({"train": split, "test": split}, classes, (0.5,) * 3, (0.5,) * 3, 0, False,
                   {"spec": "cifar10_lt:ir=1"})  # fmt: skip


def test_the_paper_form_has_the_papers_steps(tmp_path):
    given = Given("paper", 0, tmp_path, images=like_cifar10())
    first, second = toy_majority.points(given), toy_minority.points(given)
    assert len(first) == len(second) == 50 * 50
    assert [p["nine"] for p in first[::50]] == list(range(100, 5_001, 100))
    assert {p["tenth"] for p in first} == {100}
    assert [p["tenth"] for p in second[::50]] == list(range(5_000, 99, -100))
    assert {p["nine"] for p in second} == {5_000}
    assert {p["epochs"] for p in first} == {200}
    assert sorted(p["seed"] for p in first[:50]) == list(range(50))


def test_the_small_form_sees_as_many_images_each_time(tmp_path, monkeypatch):
    monkeypatch.setattr(_networks, "SEEN", 40_000)
    given = Given("small", 0, tmp_path, images=like_cifar10())
    for point in toy_majority.points(given):
        seen = point["epochs"] * (9 * point["nine"] + point["tenth"])
        assert seen == pytest.approx(40_000, rel=0.13)


def test_images_are_drawn_class_by_class(digits, tmp_path):
    counts = np.array([7] * 9 + [3])
    given = Given("small", 0, tmp_path, images=digits)
    found, again, other = (_networks.drawn(given, counts, seed) for seed in (1, 1, 2))
    train = found.split("train")
    assert np.bincount(train.labels).tolist() == counts.tolist()
    assert train.ids.tolist() == again.split("train").ids.tolist()
    assert train.ids.tolist() != other.split("train").ids.tolist()
    whole = digits.split("train")
    at = {name: row for row, name in enumerate(whole.ids.tolist())}
    rows = [at[name] for name in train.ids.tolist()]
    assert (whole.labels[rows] == train.labels).all()
    assert (whole.images[rows] == train.images).all()
    assert found.split("test").ids.tolist() == digits.split("test").ids.tolist()


def test_accuracies_are_those_of_the_network(digits, tmp_path, monkeypatch):
    """Against a forward pass by hand."""
    kept, load = [], checkpoints.load
    monkeypatch.setattr(checkpoints, "load", lambda path: kept.append(load(path)) or kept[-1])
    given = Given("small", 0, tmp_path, images=digits)
    point = {"epochs": 3, "schedule": "cosine", "warmup": 0, "seed": 0}
    counts = np.full(10, 40)
    found = _networks.accuracies(_networks.drawn(given, counts, 0), point, given)
    test = digits.split("test")
    images = torch.from_numpy(test.images[:]).permute(0, 3, 1, 2) / 255
    images = (images - digits.mean[0]) / digits.std[0]
    with torch.no_grad():
        predicted = kept[0].network.eval()(images.float()).argmax(dim=1).numpy()
    by_hand = [np.mean(predicted[test.labels == c] == c) for c in range(10)]
    assert found.tolist() == pytest.approx(by_hand, abs=0.03)  # a near tie may fall either way
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "varied"), [("toy-majority", "nine"), ("toy-minority", "tenth")])
def test_a_toy_case(digits, tmp_path, name, varied):
    frame = ltkit.study(name, images=digits, output=tmp_path / "o")
    assert frame["of"].tolist() == ["tenth class", "other classes"] * 2
    assert sorted(set(frame[varied])) == [11, 57]
    assert frame["accuracy"].between(0, 1).all()
    document = json.loads((tmp_path / "o" / "study.json").read_text(encoding="utf-8"))
    assert document["inputs"]["images"]["spec"] == BALANCED.replace("ir=1", "ir=1,seed=0") + (
        ",profile=exponential"
    )
    low, high = sorted(set(frame[varied]))
    (of, said), *_ = document["sentences"]
    assert of == "tenth class"
    assert f"at {low}" in said
    assert f"at {high}" in said


def test_what_an_interrupted_training_leaves_is_replaced(digits, tmp_path, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_networks.extraction, "extract", stopped)
        with pytest.raises(KeyboardInterrupt):
            ltkit.study("toy-majority", images=digits, output=tmp_path / "o")
    assert (tmp_path / "o" / "network.pt").is_file()
    frame = ltkit.study("toy-majority", images=digits, output=tmp_path / "o", resume=True)
    assert len(frame) == 4
    assert not list((tmp_path / "o").glob("network*"))


def test_images_that_will_not_do(digits, tmp_path):
    def studied(images):
        ltkit.study("toy-majority", images=images, output=tmp_path / "o")

    few = datasets.load("digits_lt:ir=100,val=none")
    refused(lambda: studied(few), "found a class of 1 training images", "at least 50")
    untested = replace(digits, splits={"train": digits.split("train")})
    refused(lambda: studied(untested), "no split test")

    class Files:
        def __len__(self):
            return len(digits.split("train"))

    train = replace(digits.split("train"), images=Files())
    in_files = replace(digits, splits={**digits.splits, "train": train})
    refused(lambda: studied(in_files), "found images in files", "--data")
    refused(lambda: ltkit.study("toy-majority"), "needs images, found none", "--data")
    refused(lambda: ltkit.study("theorems", images=digits), "found images, expected none")
    assert list(tmp_path.iterdir()) == []
