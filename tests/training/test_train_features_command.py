"""The command that trains heads on cached features."""

import io
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from cached_heads import COUNTS, SETTINGS, fit, made
from made import plan, write_features
from trained import recipe_of

from ltkit import losses, registry
from ltkit.files import classifiers, hdf5
from ltkit.files import features as features_file
from ltkit.files.features_writer import SplitPlan
from ltkit.losses import balanced_softmax, ib
from ltkit.records import ClassTable
from ltkit.settings import HeadSettings
from ltkit.training import checkpoint, heads

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def output(tmp_path):
    return tmp_path / "f.ce.h5"


# The command line


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_features(Path("f.h5"), plan_of())
    return tmp_path


def plan_of(**changes):
    """30 training and 10 other samples, 5 classes, each with samples."""
    ids = lambda n: np.array([f"i{i}" for i in range(n)], str)  # noqa: E731
    splits = {
        n: SplitPlan(np.arange(c) % 5, ids(c))
        for n, c in (("train", 30), ("val", 10), ("test", 10))
    }
    return plan(splits=splits, classes=ClassTable(np.full(5, 6)), **changes)


def test_the_file_is_that_of_a_classifier(ltkit, folder):
    code, out, error = ltkit("train", "balanced-softmax", "f.h5", "--epochs", "3", "--seed", "4")
    assert code == 0, error
    assert out == "f.balanced-softmax.h5\n"
    assert [line.partition(":")[0] for line in error.splitlines()] == [
        "epoch 1/3", "epoch 2/3", "epoch 3/3", "balanced-softmax", "wrote f.balanced-softmax.h5",
    ]  # fmt: skip
    assert "samples/s" in error
    correction, inputs = classifiers.read(Path("f.balanced-softmax.h5"))
    features_ = features_file.read(Path("f.h5"))
    assert inputs == {"features": features_.digest}
    assert (correction.method, correction.runs) == ("balanced-softmax", ({"seed": 4},))
    assert correction.class_id.tolist() == [0, 1, 2, 3, 4]
    recipe = recipe_of(balanced_softmax.loss, HeadSettings(epochs=3, seed=4), "balanced-softmax")
    head = heads.train(features_, recipe, folder / "x")
    assert np.array_equal(correction.weight[0], head.weight)
    assert np.array_equal(correction.bias[0], head.bias)
    settings = hdf5.read(Path("f.balanced-softmax.h5"), hdf5.CLASSIFIER).settings
    assert (settings["method"], settings["epochs"], settings["schedule"]) == (
        "balanced-softmax",
        3,
        "cosine",
    )
    assert settings["weight_decay"] == 5e-4
    for words in (["evaluate", "f.h5"], ["compare", "f.h5", "f.balanced-softmax.h5"]):
        code, _, error = ltkit(*words, "-q")
        assert code == 0, error
    assert sorted(p.name for p in folder.iterdir() if p.name.startswith("f.")) == [
        "f.balanced-softmax.h5", "f.balanced-softmax.h5.jsonl", "f.h5",
    ]  # fmt: skip


def test_seeds_are_runs_of_one_file(ltkit, folder):
    words = ("train", "gcl", "f.h5", "--epochs", "2", "-q")
    assert ltkit(*words, "--seeds", "3", "--seed", "5")[0] == 0
    together, _ = classifiers.read(Path("f.gcl.h5"))
    assert [r["seed"] for r in together.runs] == [5, 6, 7]
    assert together.normalize_features  # a loss with a scale has a cosine head
    for number in range(3):
        assert ltkit(*words, "--seed", 5 + number, "-o", f"{number}.h5")[0] == 0
        alone, _ = classifiers.read(Path(f"{number}.h5"))
        assert np.array_equal(alone.weight[0], together.weight[number])
        assert alone.runs[0] == together.runs[number]
    assert len({w.tobytes() for w in together.weight}) == 3
    names = {"f.gcl.h5", *(f"f.gcl.seed{n}.h5.jsonl" for n in (5, 6, 7))}
    assert {p.name for p in folder.glob("f.*")} == names | {"f.h5"}


def test_seeds_are_gone_on_with(ltkit, folder, monkeypatch):
    words = ("train", "ce", "f.h5", "--epochs", "3", "--seeds", "3", "-q")
    assert ltkit(*words, "-o", "whole.h5")[0] == 0
    saved, calls = checkpoint.save_partial, []

    def stop(*arguments):
        calls.append(arguments)
        saved(*arguments)
        if len(calls) == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_partial", stop)
        code, _, error = ltkit(*words)
    assert code == 130
    assert "continue with --resume" in error
    assert not Path("f.ce.h5").exists()
    monkeypatch.setattr(checkpoint, "save_partial", lambda *x: calls.append(x) or saved(*x))
    assert ltkit(*words, "--resume")[0] == 0
    assert len(calls) == 9  # none twice
    whole, resumed = (classifiers.read(Path(name))[0] for name in ("whole.h5", "f.ce.h5"))
    assert np.array_equal(whole.weight, resumed.weight)
    assert not list(folder.glob("*.partial"))
    code, _, error = ltkit(*words, "--resume", "-o", "other.h5")
    assert code == 2
    assert "other.seed0.h5.partial: not found, nothing to resume" in error


def test_stages_deferring_and_class_means(ltkit, folder):
    words = ("train", "ldam", "f.h5", "--epochs", "3", "-q")
    assert ltkit(*words, "--drw", "2", "-o", "drw.h5")[0] == 0
    assert ltkit(*words, "-o", "none.h5")[0] == 0
    assert (
        ltkit(*words, "--from-epoch", "2", "--then", "gcl", "--then-lr", "0.01", "-o", "t.h5")[0]
        == 0
    )
    deferred, plain, then = (classifiers.read(Path(f"{n}.h5"))[0] for n in ("drw", "none", "t"))
    assert deferred.runs[0] == {"drw": 2, "scale": 30.0, "seed": 0}
    settings = hdf5.read(Path("t.h5"), hdf5.CLASSIFIER).settings
    assert (settings["then"]["method"], settings["then"]["learning_rate"]) == ("gcl", 0.01)
    assert not np.array_equal(plain.weight, then.weight)
    swrm_ = ("train", "swrm", "f.h5", "--epochs", "3", "--set", "window=3", "-q")
    code, _, error = ltkit(*swrm_, "--class-means", "f.h5")
    assert code == 0, error
    assert set(classifiers.read(Path("f.swrm.h5"))[1]) == {"features", "class_means"}


def test_a_path_from_stdin(ltkit, folder, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"f.h5\n")))
    assert ltkit("train", "ce", "-", "--epochs", "1", "-q")[:2] == (0, "f.ce.h5\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["f.h5", "--data", "digits_lt"], "--data or FEATS: found both, expected a dataset"),
        ([], "--data or FEATS: found neither, expected a dataset to train a network on, or a f"),
        (["f.h5", "--arch", "resnet32"], "--arch: found a features file, expected --data with it"),
        (["f.h5", "--augment", "none"], "--augment: found a features file"),
        (["f.h5", "--mix", "mixup"], "--mix: found a features file"),
        (["f.h5", "--root", "."], "--root: found a features file"),
        (["f.h5", "--from-epoch", "1", "--freeze", "backbone"], "--freeze: found a features file"),
        (["g.h5"], "g.h5: not found"),
        (["f.h5", "--lr", "0"], "--lr: found 0, expected a number above 0"),
        (["f.h5", "--batch-size", "0"], "--batch-size: found 0, expected a whole number from 1"),
        (["f.h5", "--seeds", "0"], "seeds"),
        (["f.h5", "-o", "f.h5"], "f.h5: is an input too"),
        (["f.h5", "--class-means", "f.h5"], "--class-means: ce takes none; swrm does"),
    ],
)  # fmt: skip
def test_wrong_words_are_one_line(ltkit, folder, words, message):
    code, _, error = ltkit("train", "ce", *words)
    assert code == 2
    assert message in error
    assert sorted(p.name for p in folder.iterdir()) == ["f.h5"]


@pytest.mark.parametrize(
    ("method", "setting", "message"),
    [
        ("class-balanced", "beta=1.1", "beta: found 1.1, expected a finite number from 0 to 1"),
        ("focal", "gamma=-1", "gamma: found -1.0, expected a finite number at least 0"),
        ("ib", "gamma=-1", "gamma: found -1.0"),
        ("dyswrm", "window=6", "window: found 6, expected from 1 to the number of classes, 5"),
        ("swrm", "window=6", "window: found 6"),
        ("focal", "gama=1", "did you mean gamma"),
    ],
)
def test_parameters_out_of_range(ltkit, folder, method, setting, message):
    code, _, error = ltkit("train", method, "f.h5", "--epochs", "1", "--set", setting)
    assert code == 2
    assert message in error
    assert error.count("\n") == 1
    assert sorted(p.name for p in folder.iterdir()) == ["f.h5"]


@pytest.mark.parametrize("method", ["class-balanced", "ib"])
def test_beta_of_one_is_the_limit_of_weights_in_proportion_to_one_over_the_count(output, method):
    """1 / (1 - beta) is not what is computed."""
    module = registry.load(losses, method)
    make = lambda beta: (  # noqa: E731
        module.loss(torch.tensor(COUNTS), beta=beta, start=0.0)
        if module is ib
        else partial(module.loss, beta=beta)
    )
    # One epoch: training makes more of the last digits of a weight, and processors differ in those.
    few = replace(SETTINGS, epochs=1)
    limit, near = (fit(made(), output, few, loss=make(beta)) for beta in (1.0, 1 - 1e-9))
    np.testing.assert_allclose(limit.weight, near.weight, atol=1e-4)
