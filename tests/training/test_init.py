"""What a head on cached features starts from."""

from pathlib import Path

import made
import numpy as np
import pytest

from ltkit.files import classifiers, features
from ltkit.records import Head
from ltkit.settings import HeadSettings, ImportSettings, TrainPlan
from ltkit.sources.arrays import import_arrays
from ltkit.training import runs

pytestmark = pytest.mark.usefixtures("one_thread")

STILL = HeadSettings(epochs=1, learning_rate=1e-12, weight_decay=0.0)
"""A rate at which the start is what comes out."""


@pytest.fixture
def given(tmp_path):
    """Features with the head of class embeddings, and the same without a head."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), [40, 20, 10, 5])
    x = (2 * rng.normal(size=(4, 6))[labels] + rng.normal(size=(75, 6))).astype(np.float32)
    np.savez(tmp_path / "a.npz", train_features=x, train_labels=labels)
    np.save(tmp_path / "t.npy", rng.normal(size=(4, 6)).astype(np.float32))
    import_arrays(
        tmp_path / "a.npz", tmp_path / "text.h5", text_features=tmp_path / "t.npy",
        settings=ImportSettings(),
    )  # fmt: skip
    import_arrays(tmp_path / "a.npz", tmp_path / "bare.h5")
    return tmp_path


def started(folder, name="text", settings=STILL, base=None, **plan):
    runs.train_heads(
        folder / f"{name}.h5", TrainPlan("ce", **plan), settings, folder / "o.h5", overwrite=True,
        base=base,
    )  # fmt: skip
    return classifiers.read(folder / "o.h5")[0]


@pytest.mark.parametrize("init", ["text", "head"])
def test_the_embeddings_of_classes(given, init):
    found = started(given, init=init, cosine=True, scale=25.0)
    rows = np.load(given / "t.npy").astype(np.float64)
    expected = 25 * rows / np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(found.weight[0], expected, rtol=1e-4)
    assert found.normalize_features


def test_class_means(given):
    split = features.read(given / "bare.h5").split("train")
    means = np.stack([split.features[:][split.labels == c].mean(axis=0) for c in range(4)])
    found = started(given, "bare", init="ncm")
    np.testing.assert_allclose(found.weight[0], 2 * means, rtol=1e-4)
    np.testing.assert_allclose(found.bias[0], -(means**2).sum(axis=1), rtol=1e-4)
    found = started(given, "bare", init="ncm", cosine=True, scale=10.0)
    units = means / np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(found.weight[0], 10 * units, rtol=1e-3, atol=1e-5)


def test_zeros(given):
    found = started(given, "bare", init="zeros")
    np.testing.assert_allclose(found.weight[0], 0, atol=1e-9)
    made.refused(
        lambda: started(given, "bare", init="zeros", cosine=True), "init: zeros: rows of zeros"
    )


def test_a_base_in_the_place_of_a_head(given):
    started(given, "bare", HeadSettings(epochs=3))
    (given / "o.h5").rename(given / "base.h5")
    before, _ = classifiers.read(given / "base.h5")
    found = started(given, "bare", init="head", base=given / "base.h5")
    np.testing.assert_allclose(found.weight[0], before.weight[0], rtol=1e-5, atol=1e-8)
    _, inputs = classifiers.read(given / "o.h5")
    assert inputs.keys() == {"features", "base"}
    made.refused(lambda: started(given, "bare", init="head"), "head: absent")


def test_what_cannot_be_a_start(given):
    made.refused(
        lambda: started(given, "bare", init="text", cosine=True), "init: text: ", "--text-"
    )
    made.refused(lambda: started(given, init="text"), "that head normalises features", "--cosine")
    np.savez(given / "b.npz", **dict(np.load(given / "a.npz")), train_counts=np.ones(5, int))
    import_arrays(given / "b.npz", given / "gap.h5")
    made.refused(lambda: started(given, "gap", init="ncm"), "init: ncm: class 4 has no training")


def test_the_start_is_part_of_the_run(given):
    started(given, init="text", cosine=True)
    from ltkit.files import hdf5

    assert hdf5.read(given / "o.h5", hdf5.CLASSIFIER).settings["init"] == "text"


def test_experts(given):
    x = np.random.default_rng(0).normal(size=(20, 6)).astype(np.float32)
    head = Head(x[:8].reshape(2, 4, 6)[:, :, :3], np.zeros((2, 4), np.float32))
    from dataclasses import replace

    from ltkit.training.heads import _start
    from ltkit.training.recipe import recipe

    whole = replace(features.read(given / "bare.h5"), head=head)
    start = _start(whole, recipe(TrainPlan("ce", init="head", cosine=True, scale=8.0), STILL))
    lengths = np.linalg.norm(start.weight.reshape(4, 2, 3), axis=2)
    np.testing.assert_allclose(lengths, 4, rtol=1e-5)  # the scale over experts


def test_on_the_command_line(given, ltkit, monkeypatch):
    monkeypatch.chdir(given)
    words = ("train", "logit-adjusted", "text.h5", "--cosine", "--scale", 25, "--init", "text")
    code, _, said = ltkit(*words, "--epochs", 1, "--device", "cpu", "-o", "l.h5", "-q")
    assert code == 0, said
    assert classifiers.read(Path("l.h5"))[0].normalize_features
    code, _, said = ltkit("train", "ce", "--data", "digits_lt", "--base", "l.h5")
    assert code == 2
    assert "--base: found --data, expected a features file" in said
    code, _, said = ltkit("train", "ce", "text.h5", "--init", "net.pt")
    assert code == 2
    assert "--init: found 'net.pt', expected head, text, ncm, zeros for a head on FEATS" in said
