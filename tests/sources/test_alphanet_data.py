"""The published AlphaNet code's feature files: read without running code, joined in order."""

import os
import pickle
from pathlib import Path

import made
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from ltkit.cli import app
from ltkit.errors import FormatError, InputError
from ltkit.files import features as features_file
from ltkit.sources.published_alphanet import import_alphanet

pytestmark = pytest.mark.usefixtures("one_thread")
C, D = 4, 6
COUNTS = {"train": 9, "val": 4, "test": 5}


def arrays(split, size=D):
    rng = np.random.default_rng(len(split))
    count = COUNTS[split]
    return rng.normal(size=(count, size)).astype(np.float32), np.arange(count) % C


@pytest.fixture(params=["numpy", "torch", "lists", "protocol 5"])
def folder(tmp_path, request):
    """Features as pickles, the training set in two parts; a linear classifier."""
    for split in COUNTS:
        x, y = arrays(split)
        cut = 5 if split == "train" else len(x)
        for number, rows in enumerate((slice(0, cut), slice(cut, None))):
            if not len(x[rows]):
                continue
            feats = torch.tensor(x[rows]) if request.param == "torch" else x[rows]
            labels = y[rows].tolist() if request.param == "lists" else y[rows]
            content = {"feats": feats, "labels": labels, "idxs": list(range(len(x[rows])))}
            protocol = 5 if request.param == "protocol 5" else 4
            (tmp_path / f"{split}_{number}.pkl").write_bytes(pickle.dumps(content, protocol))
    weight = torch.arange(float(C * D)).reshape(C, D)
    torch.save({"weight": weight, "bias": torch.ones(C)}, tmp_path / "clf.pth")
    return tmp_path


def test_features_and_classifier(folder):
    import_alphanet(folder / "clf.pth", folder, folder / "f.h5")
    found = features_file.read(folder / "f.h5")
    for split in COUNTS:
        x, y = arrays(split)
        np.testing.assert_array_equal(found.split(split).features[:], x)
        np.testing.assert_array_equal(found.split(split).labels, y)
    assert found.classes.train_count.tolist() == [3, 2, 2, 2]
    logits = found.classifier().logits(arrays("test")[0])
    expected = arrays("test")[0] @ np.arange(float(C * D)).reshape(C, D).T + 1
    np.testing.assert_allclose(logits, expected, rtol=1e-5)


def test_the_command(folder, monkeypatch):
    monkeypatch.chdir(folder)
    words = ["extract", "clf.pth", "--from-alphanet", ".", "-o", "f.h5"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert features_file.read(Path("f.h5")).classes.train_count.sum() == 9
    result = CliRunner().invoke(app, ["extract", "clf.pth", "-o", "g.h5"])
    assert "expected --data, or --from-alphanet" in str(result.exception)
    both = ["--data", "digits_lt", "--from-alphanet", "."]
    result = CliRunner().invoke(app, ["extract", "clf.pth", *both, "-o", "g.h5"])
    assert "expected --data, or --from-alphanet" in str(result.exception)


@pytest.fixture
def simple(tmp_path):
    """One training part of 9 rows, and a classifier without a bias."""
    x, y = arrays("train")
    (tmp_path / "train.pkl").write_bytes(pickle.dumps({"feats": x, "labels": y}))
    torch.save({"weight": torch.ones(C, D), "bias": None}, tmp_path / "clf.pth")
    return tmp_path


def run(folder, classifier="clf.pth"):
    return lambda: import_alphanet(folder / classifier, folder, folder / "f.h5")


def test_no_bias_is_zero(simple):
    run(simple)()
    assert features_file.read(simple / "f.h5").head.bias.tolist() == [0.0] * C


def test_experts_are_averaged(simple):
    """Two experts on three features each."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(2, C, 3)).astype(np.float32)
    biases = rng.normal(size=(2, C)).astype(np.float32)
    for number in range(2):
        torch.save(
            {"weight": torch.tensor(weights[number]), "bias": torch.tensor(biases[number])},
            simple / f"expert{number}.pth",
        )
    entries = [
        {"classifier_loader": "LinearClassifierLoader", "classifier_file": f"expert{number}.pth"}
        for number in range(2)
    ]
    torch.save(entries, simple / "all.pth")
    run(simple, "all.pth")()
    found = features_file.read(simple / "f.h5")
    x = arrays("train")[0]
    parts = [x[:, :3] @ weights[0].T + biases[0], x[:, 3:] @ weights[1].T + biases[1]]
    np.testing.assert_allclose(found.classifier().logits(x), sum(parts) / 2, rtol=1e-4)
    assert found.head.experts == 2


class Evil:
    def __reduce__(self):
        return os.system, ("touch canary",)


def parts(**changes):
    x, y = arrays("train")
    return pickle.dumps({"feats": x, "labels": y} | changes)


@pytest.mark.parametrize(
    ("content", "said", "error"),
    [
        (parts(x=Evil()), "refused: it holds posix.system", FormatError),
        (pickle.dumps(np.zeros(3)), "found a Array, expected feats", FormatError),
        (parts(feats="x"), "feats, labels: expected two arrays", FormatError),
        (parts(feats=np.array([object()])), "feats, labels: expected two arrays", FormatError),
        (pickle.dumps({"feats": np.zeros((2, D))}), "feats, labels: expected", FormatError),
        (parts(feats=np.zeros((9, D + 1))), "feats: found (9, 7), expected (N, 6)", InputError),
        (parts(labels=np.zeros(3)), "labels: found (3,), expected (9,)", InputError),
        (parts(labels=np.full(9, 0.5)), "labels: row 0: found 0.5", InputError),
        (parts(labels=np.full(9, C)), "labels: row 0: found 4", InputError),
        (parts(labels=np.arange(9) - 8), "labels: row 0: found -8", InputError),
        (parts()[:100], "refused: its pickle is truncated", FormatError),
        (b"", "its pickle is truncated", FormatError),
    ],
)
def test_parts_that_do_not_fit(simple, content, said, error, monkeypatch):
    monkeypatch.chdir(simple)
    (simple / "train.pkl").write_bytes(content)
    made.refused(run(simple), "train.pkl", said, error=error)
    assert not Path("canary").exists()
    assert not (simple / "f.h5").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"bias": torch.zeros(C)}, "weight: absent"),
        ({"weight": torch.zeros(C), "bias": None}, "weight: absent"),
        ({"weight": torch.ones(C, D), "bias": torch.ones(3)}, "bias: does not fit"),
        ({"weight": torch.ones(C, D), "bias": "x"}, "bias: does not fit"),
        ({"weight": torch.full((C, D), torch.nan), "bias": None}, "hold NaN"),
        ([], "weight: absent"),
        ([{"x": 1}], "classifier_file: absent"),
        ([{"classifier_file": "../x.pth"}], "lies outside of"),
        ([{"classifier_file": "/etc/passwd"}], "lies outside of"),
        ([{"classifier_file": "none.pth"}], "none.pth: not found"),
        ([{"classifier_file": "clf.pth"}], "clf.pth: not found"),
        ([{"classifier_file": "a.pth"}, {"classifier_file": "b.pth"}], "expected one shape"),
    ],
)
def test_classifiers_that_do_not_fit(simple, content, said):
    for name, size in (("a", 3), ("b", 2)):
        torch.save({"weight": torch.ones(C, size), "bias": None}, simple / f"{name}.pth")
    torch.save(content, simple / "clf.pth")
    made.refused(run(simple), "clf.pth", said)


def test_the_training_features_must_be_there(simple):
    (simple / "train.pkl").rename(simple / "test.pkl")
    made.refused(run(simple), "found no train*.pkl", error=InputError)
