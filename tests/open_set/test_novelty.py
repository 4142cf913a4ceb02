"""Novelty on features files: what is found, what is noted, what is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest

import ltkit as library
from ltkit.errors import InputError, SettingError
from ltkit.files import features as features_file
from ltkit.records import ClassTable, FeatureSet, FeatureSplit, Head
from ltkit.settings import ImportSettings
from ltkit.sources.arrays import import_arrays

COUNTS = np.array([300, 200, 120, 60, 40, 12, 8])
SIZE, WIDTH = len(COUNTS), 12


def made(seed=0, apart=3.0, classes=range(SIZE), counts=COUNTS, names=None, head=True):
    """Gaussian classes, each with an axis of its own, and the head that their means make."""
    rng = np.random.default_rng(seed)
    means = apart * np.eye(WIDTH)[list(classes)]

    def drawn(each):
        labels = np.repeat(np.arange(len(means)), each)
        rows = means[labels] + rng.normal(size=(len(labels), WIDTH))
        return FeatureSplit(np.float32(rows), labels)

    splits = {"train": drawn(counts), "test": drawn(40)}
    bias = np.log(counts / counts.sum())
    return FeatureSet(
        splits,
        ClassTable(counts, names),
        Head(np.float32(means), np.float32(bias)) if head else None,
    )


@pytest.fixture(scope="module")
def features():
    return made(names=tuple("abcdefg"))


def others(**more):
    """Three classes that the features have not."""
    return made(1, classes=(8, 9, 10), counts=np.array([50, 50, 50]), head=False, **more)


def test_new_classes_are_told_and_rare_ones_pay(features):
    frame = library.novelty(features, outsiders=others(names=("x", "y", "z")))
    assert list(frame.index) == ["max-softmax", "max-logit", "energy", "knn", "mahalanobis"]
    assert (frame["auroc"] > 0.75).all()
    assert frame["all"].to_numpy() == pytest.approx(0.05, abs=1e-9)
    assert (frame.loc[["max-softmax", "max-logit"], "few"] > 0.08).all()
    document = frame.attrs["document"]
    assert document["known"] == 280
    assert document["outsiders"] == {
        "features": "features", "split": "test", "n": 120, "classes": 3
    }  # fmt: skip
    assert document["notes"] == ["nothing says that features is of the network of features"]
    for row in document["scores"]:
        low, high = row["auroc_interval"]
        assert low < row["auroc"] < high
        low, high = row["taken_interval"]["few"]
        assert low <= row["taken_for_novel"]["few"] <= high


def test_noise_is_no_news(features):
    """Outsiders from the known classes: nothing tells them."""
    same = replace(made(7), classes=ClassTable(COUNTS, tuple("tuvwxyz")))
    frame = library.novelty(features, outsiders=replace(same, head=features.head), of="test")
    assert frame["auroc"].to_numpy() == pytest.approx(0.5, abs=0.08)
    assert frame["fpr"].to_numpy() == pytest.approx(0.95, abs=0.06)


def test_held_out_classes(features):
    document = library.novelty(features, hold_out=[0, 6]).attrs["document"]
    assert document["outsiders"] == {
        "held_out": ["a", "g"], "split": "test", "n": 80, "classes": 2
    }  # fmt: skip
    assert document["known"] == 200
    assert "easier to tell than new ones" in document["notes"][0]
    auroc = {row["score"]: row["auroc"] for row in document["scores"]}
    assert min(auroc.values()) > 0.75
    assert all(row["f_measure"] > 0.5 for row in document["scores"])


def test_held_out_is_a_head_of_the_others(features):
    """Of classes whose axes the head does not have, it is the same as another file of them."""
    held = library.novelty(features, hold_out=[5, 6])
    rows = np.arange(5)
    known = {
        name: split.at(np.flatnonzero(split.labels < 5)) for name, split in features.splits.items()
    }
    head = Head(features.head.weight[rows], features.head.bias[rows])
    less = FeatureSet(known, ClassTable(COUNTS[:5]), head)
    new = features.split("test")
    outside = FeatureSet(
        {"test": new.at(np.flatnonzero(new.labels >= 5))}, ClassTable(COUNTS, tuple("tuvwxyz"))
    )
    other = library.novelty(less, outsiders=outside)
    assert held[["auroc", "fpr", "f_measure"]].to_numpy() == pytest.approx(
        other[["auroc", "fpr", "f_measure"]].to_numpy(), abs=1e-6
    )


def test_outsiders_of_known_classes_are_left_out(features):
    some = others(names=("x", "b", "z"))
    document = library.novelty(features, outsiders=some).attrs["document"]
    assert document["outsiders"]["n"] == 80
    assert "40 outsiders of known classes left out: b" in document["notes"]
    with pytest.raises(InputError, match="samples of known classes alone"):
        library.novelty(features, outsiders=features)
    nameless = library.novelty(made(), outsiders=others()).attrs["document"]
    assert "classes without names: features may have known ones" in nameless["notes"]


def test_of_a_single_split_it_is_that(features):
    some = others(names=("x", "y", "z"))
    one = replace(some, splits={"train": some.split("train")})
    assert library.novelty(features, outsiders=one).attrs["document"]["outsiders"]["n"] == 150


def test_few_training_samples_cut_k(features):
    small = made(counts=np.array([9, 8, 7, 6, 5, 4, 3]))
    notes = library.novelty(small, outsiders=others(), k=50).attrs["document"]["notes"]
    assert "k 50 is cut to 42, all training samples" in notes


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({}, "expected features of new classes, or ids of some"),
        ({"hold_out": [0], "outsiders": others()}, "expected features of new classes, or"),
        ({"hold_out": []}, "hold_out: found none"),
        ({"hold_out": [7]}, "hold_out: found 7, expected ids from 0 to 6"),
        ({"hold_out": [0, 1, 2, 3, 4, 5]}, "of all but two classes at most"),
        ({"hold_out": [0], "split": "train"}, "split: found train"),
        ({"hold_out": [0], "split": "val"}, "no split val"),
        ({"hold_out": [0], "k": 0}, "k: found 0"),
        ({"hold_out": [0], "kept": 1.0}, "kept: found 1"),
        ({"hold_out": [0], "replicates": 9}, "replicates: found 9"),
    ],
)
def test_what_cannot_be_asked(features, said, message):
    with pytest.raises(InputError, match=message):
        library.novelty(features, **said)


def test_outsiders_that_do_not_fit(features):
    wide = FeatureSet({"test": FeatureSplit(np.ones((2, 3), np.float32), np.zeros(2, np.int64))},
                      ClassTable(np.array([1])))  # fmt: skip
    with pytest.raises(InputError, match="of width 3, expected 12"):
        library.novelty(features, outsiders=wide)
    another = made(3, classes=(8, 9, 10), counts=np.array([5, 5, 5]))
    with pytest.raises(InputError, match="is of the network"):
        library.novelty(features, outsiders=another)
    none = replace(others(), splits={"test": others().split("test").at(np.arange(0))})
    with pytest.raises(InputError, match="test: found no sample"):
        library.novelty(features, outsiders=none)
    with pytest.raises(InputError, match="there are: train, test"):
        library.novelty(features, outsiders=others(), of="val")


def test_sides_without_samples(features):
    test = features.split("test")
    some = replace(features, splits={**features.splits, "test": test.at(np.arange(40))})
    with pytest.raises(InputError, match="no sample of a held-out class"):
        library.novelty(some, hold_out=[6])
    with pytest.raises(InputError, match="no sample of a known class"):
        library.novelty(some, hold_out=[0])
    none = replace(features, splits={**features.splits, "test": test.at(np.arange(0))})
    with pytest.raises(InputError, match="test: is empty"):
        library.novelty(none, hold_out=[0])
    with pytest.raises(SettingError, match="split: found train"):
        library.novelty(none, hold_out=[0], split="train")


def put(path, features):
    """Write features to a file."""
    arrays = {
        f"{name}_{part}": getattr(split, part)
        for name, split in features.splits.items()
        for part in ("features", "labels")
    }
    if features.head is not None:
        arrays |= {"weight": features.head.weight, "bias": features.head.bias}
    arrays["class_names"] = np.array(features.classes.names)
    np.savez("made.npz", **arrays)
    import_arrays(path.parent / "made.npz", path,
                  settings=ImportSettings(weight_rows="classes"))  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch, features):
    """A folder with feats.h5 and others.h5."""
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "feats.h5", features)
    put(tmp_path / "others.h5", others(names=("x", "y", "z")))
    return tmp_path


def test_the_command(ltkit, folder):
    words = ("analyze", "novelty", "feats.h5", "--outsiders", "others.h5:test", "--csv", "c.csv")
    code, out, said = ltkit(*words)
    assert code == 0
    assert "against 120 samples of 3 classes of others.h5" in out
    assert out.count("mahalanobis") == 1
    assert "note: nothing says that others.h5 is of the network of feats.h5" in said
    assert len((folder / "c.csv").read_text().splitlines()) == 1 + 5 * 5


def test_json_is_what_the_call_gives(ltkit, folder):
    words = ("analyze", "novelty", "feats.h5", "--outsiders", "others.h5", "--json", "-q")
    code, out, said = ltkit(*words)
    assert (code, said) == (0, "")
    found = library.novelty(
        features_file.read(folder / "feats.h5"), outsiders=folder / "others.h5"
    ).attrs["document"]
    wanted = json.loads(out)
    assert wanted["scores"] == found["scores"]
    code, out, _ = ltkit("analyze", "novelty", "feats.h5", "--hold-out", "0,1", "--json", "-q")
    assert json.loads(out)["outsiders"]["held_out"] == ["a", "b"]
