"""An ensemble: several networks as one features file, whose logits are the mean of theirs."""

import json
from dataclasses import replace

import numpy as np
import pytest
from test_networks_command import document, run, write
from two_networks import first, second

import ltkit
from ltkit.errors import InputError
from ltkit.evaluation.ensemble import ensemble, joined_head
from ltkit.files import features as features_file
from ltkit.records import Head


def logits(features, split="test"):
    """A network's logits in float64, from its head as stored."""
    head, data = features.head, features.split(split).features[:].astype(np.float64)
    weight = head.weight.reshape(head.experts, head.num_classes, -1).astype(np.float64)
    bias = head.bias.reshape(head.experts, -1).astype(np.float64)
    parts = data.reshape(len(data), head.experts, -1)
    every = []
    for e in range(head.experts):
        x, w = parts[:, e], weight[e]
        if head.normalize != "none":
            x = x / np.linalg.norm(x, axis=1, keepdims=True)
        if head.normalize == "cosine":
            w = w / np.linalg.norm(w, axis=1, keepdims=True)
        every.append(head.scale * x @ w.T + bias[e])
    return np.mean(every, axis=0)


def cosine(features):
    """The same network with a cosine head of two experts."""
    weight = np.stack([features.head.weight[:, :4], features.head.weight[:, 4:]])
    return replace(features, head=Head(weight, np.zeros((2, 6), np.float32), 16.0, "cosine"))


@pytest.mark.parametrize("make", [first, lambda: cosine(first())])
def test_logits_are_the_mean_of_the_networks(make):
    a, b = make(), second(order=np.random.default_rng(0).permutation(240))
    both = ensemble([a, b])
    mean = (logits(a) + logits(second())) / 2
    head, data = both.classifier(), both.split("test")
    np.testing.assert_allclose(head.logits(data.features[:]), mean, rtol=1e-4, atol=1e-4)
    assert data.ids.tolist() == a.split("test").ids.tolist()
    assert both.feature_size == 13


def test_equally_wide_networks_are_experts_and_count_the_same():
    a = first()
    b = cosine(a)  # two experts of its own, half as wide
    four = replace(a, head=Head(a.head.weight.reshape(6, 2, 4).transpose(1, 0, 2).copy(),
                                np.zeros((2, 6), np.float32)))  # fmt: skip
    both = ensemble([b, four])
    assert both.head.weight.shape == (4, 6, 4)
    mean = (logits(b) + logits(four)) / 2
    found = both.classifier().logits(both.split("test").features[:])
    np.testing.assert_allclose(found, mean, rtol=1e-4, atol=1e-4)
    one = ensemble([a, b, a])  # of unlike widths: rows side by side
    assert one.head.weight.shape == (6, 24)
    mean = (2 * logits(a) + logits(b)) / 3
    found = one.classifier().logits(one.split("test").features[:])
    np.testing.assert_allclose(found, mean, rtol=1e-4, atol=1e-4)


def test_twice_the_same_network_is_that_network():
    a = first()
    head = joined_head([a.classifier(), a.classifier()])
    np.testing.assert_array_equal(head.weight, np.stack([a.head.weight] * 2))
    np.testing.assert_array_equal(head.bias, np.stack([a.head.bias] * 2))


def test_splits_of_other_samples_are_left_out_and_without_any_there_is_none():
    a, b = first(), second()
    other = replace(b, splits={**b.splits, "val": b.split("val").at(np.arange(9))})
    assert list(ensemble([a, other]).splits) == ["test"]
    with pytest.raises(InputError, match="found no split with the samples of"):
        ensemble([replace(a, splits={"val": a.split("val")}), other])
    with pytest.raises(InputError, match="found one network, expected two or more"):
        ensemble([a])


def test_from_python_it_is_a_network_like_any_other():
    a, b = first(), second()
    both = ltkit.ensemble([a, b])
    frame = ltkit.evaluate(a, ("b", b), ("both", both), replicates=50)
    right = ((logits(a) + logits(b)).argmax(axis=1) == a.split("test").labels).mean()
    assert frame["accuracy"].loc["both", "all"] == pytest.approx(right)
    fitted = ltkit.posthoc.logit_adjust(both, tau=1.0)
    assert fitted.weight.shape[2] == 13


def test_the_command_writes_a_file_that_every_command_takes(tmp_path, monkeypatch, ltkit):
    monkeypatch.chdir(tmp_path)
    write("ce.h5", first())
    write("swrm.h5", second(order=np.random.default_rng(0).permutation(240)))
    run("ensemble", "ce.h5", "swrm.h5", "-o", "both.h5", "-q")
    read = features_file.read(tmp_path / "both.h5")
    assert list(read.splits) == ["train", "val", "test"]
    assert read.settings["ensemble"] == ["ce.h5", "swrm.h5"]
    mean = (logits(first()) + logits(second())) / 2
    found = read.classifier().logits(read.split("test").features[:])
    np.testing.assert_allclose(found, mean, rtol=1e-4, atol=1e-4)
    rows = document("evaluate", "ce.h5", "swrm.h5", "both.h5")["rows"]
    right = (mean.argmax(axis=1) == first().split("test").labels).mean()
    assert rows[2]["label"] == "both"
    assert rows[2]["accuracy"]["all"] == pytest.approx(right)
    run("alphanet", "fit", "both.h5", "--k", 2, "--epochs", 1, "-o", "fit.h5", "-q")
    run("posthoc", "logit-adjust", "both.h5", "--set", "tau=1", "-o", "la.h5", "-q")
    assert len(document("compare", "both.h5", "fit.h5", "la.h5")["methods"]) == 3
    assert json.loads(run("inspect", "both.h5", "--json").stdout)
    first_bytes = (tmp_path / "both.h5").read_bytes()
    run("ensemble", "ce.h5", "swrm.h5", "-o", "both.h5", "-q", "--overwrite")
    assert (tmp_path / "both.h5").read_bytes() == first_bytes
    for words, message in (
        (("ce.h5",), "found one network, expected two or more"),
        (("ce.h5", "ce.h5"), "named twice"),
        (("ce.h5", "fit.h5"), "fit.h5: format: found ltkit-classifier"),
        (("ce.h5", "swrm.h5", "-o", "ce.h5", "--overwrite"), "ce.h5"),
    ):
        code, _, said = ltkit("ensemble", *words, *(("-o", "x.h5") if "-o" not in words else ()))
        assert (code, said.count("\n")) == (2, 1)
        assert message in said
    assert not (tmp_path / "x.h5").exists()


def test_splits_that_differ_are_said(tmp_path, monkeypatch, ltkit):
    monkeypatch.chdir(tmp_path)
    write("ce.h5", first())
    other = second()
    other.splits["val"] = other.splits["val"].at(np.arange(200))
    write("swrm.h5", other)
    code, _, said = ltkit("ensemble", "ce.h5", "swrm.h5", "-o", "both.h5")
    assert code == 0
    assert "note: the networks have other samples in train, val: left out" in said
