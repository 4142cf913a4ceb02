"""Deferred re-weighting and samplers, by themselves and in runs."""

import math
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from made import refused
from stateful import SMALL, fit, moment
from torch.nn import functional
from trained import Stop, dataset_of, log, same, stop_after, weights

from ltkit import datasets
from ltkit.errors import InputError
from ltkit.losses import (
    ce,
    class_balanced,
    ldam,
)
from ltkit.settings import TrainPlan
from ltkit.training import batches, distributed, runs
from ltkit.training.batches import draws, undersampled
from ltkit.training.deferred import Deferred
from ltkit.training.schedules import class_probabilities

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits_lt")


# Deferred re-weighting and samplers


def test_deferred_weights_start_at_their_epoch(digits, tmp_path):
    counts = torch.from_numpy(digits.classes.train_count)
    weighted = partial(class_balanced.loss, beta=0.99)
    loss = Deferred(counts, partial(class_balanced.loss, beta=0.0), weighted, 2)
    fit(digits, tmp_path / "drw.pt", loss)
    fit(digits, tmp_path / "ce.pt", ce.loss)
    plain, found = log(tmp_path / "ce.pt"), log(tmp_path / "drw.pt")
    near = [
        a["loss"] == pytest.approx(b["loss"], rel=1e-5) for a, b in zip(plain, found, strict=True)
    ]
    assert near == [True, True, False, False]
    z, y, f = torch.randn(4, 10), torch.arange(4), torch.zeros(4, 1)
    assert loss(z, y, f) == weighted(z, y, counts)
    loss.before_epoch(moment(epoch=1))
    torch.testing.assert_close(loss(z, y, f), functional.cross_entropy(z, y))


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_deferred_run_is_resumed(digits, tmp_path, stop):
    counts = torch.from_numpy(digits.classes.train_count)
    made = partial(
        Deferred, counts, partial(ldam.loss, beta=0.0), partial(ldam.loss, beta=0.9999), 2
    )
    cosine = {"cosine": True, "scale": 30.0}
    fit(digits, tmp_path / "whole.pt", made(), **cosine)
    with pytest.raises(Stop):
        fit(digits, tmp_path / "m.pt", made(), report=stop_after(stop), **cosine)
    fit(digits, tmp_path / "m.pt", made(), resume=True, **cosine)
    found, expected = weights(tmp_path / "m.pt"), weights(tmp_path / "whole.pt")
    assert all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize(
    ("sampler", "expected"),
    [
        ("instance", [0.64, 0.32, 0.04, 0.0]),
        ("class-balanced", [1 / 3, 1 / 3, 1 / 3, 0.0]),
        ("square-root", [0.8, math.sqrt(0.32), 0.2, 0.0]),
        ("reversed", [1 / 64, 1 / 32, 1 / 4, 0.0]),
        ("undersample", [1 / 3, 1 / 3, 1 / 3, 0.0]),
        ("progressive", [0.64 * 0.7 + 0.1, 0.32 * 0.7 + 0.1, 0.04 * 0.7 + 0.1, 0.0]),
    ],
)
def test_class_probabilities(sampler, expected):
    found = class_probabilities(sampler, torch.tensor([64, 32, 4, 0]), 3, 10)
    np.testing.assert_allclose(found, np.array(expected) / np.sum(expected), rtol=1e-12)


def test_progressive_goes_from_instances_to_classes():
    counts = torch.tensor([90, 10])
    at = partial(class_probabilities, "progressive", counts, epochs=8)
    assert at(epoch=0).tolist() == pytest.approx([0.9, 0.1])
    assert at(epoch=8).tolist() == pytest.approx([0.5, 0.5])


def test_draws_have_the_class_chances_and_are_even_within_a_class():
    labels = torch.tensor([2, 0, 2, 0, 0, 2, 3] * 5000)
    chances = torch.tensor([0.2, 0.0, 0.3, 0.5], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    drawn = draws(labels, chances, generator)
    assert drawn.shape == labels.shape
    frequency = labels[drawn].bincount(minlength=4) / len(labels)
    torch.testing.assert_close(frequency.double(), chances, atol=0.01, rtol=0)
    seven = (drawn % 7).bincount(minlength=7) / len(labels)
    expected = torch.tensor([0.1, 0.2 / 3, 0.1, 0.2 / 3, 0.2 / 3, 0.1, 0.5])
    torch.testing.assert_close(seven, expected, atol=0.01, rtol=0)
    assert drawn.min() < 100
    assert drawn.max() > len(labels) - 100


@pytest.mark.parametrize("sampler", ["class-balanced", "reversed"])
def test_a_sampler_decides_what_the_loss_sees_and_is_resumed(digits, tmp_path, sampler):
    seen = []

    def loss(logits, labels, counts):
        seen.append(labels)
        return ce.loss(logits, labels, counts)

    whole, output = tmp_path / "whole.pt", tmp_path / "m.pt"
    fit(digits, whole, loss, sampler=sampler)
    size, train_count = len(digits.split("train")), digits.classes.train_count
    found = torch.cat(seen).bincount(minlength=10) / (4 * size)
    expected = train_count ** (0.0 if sampler == "class-balanced" else -1.0)
    np.testing.assert_allclose(found, expected / expected.sum(), atol=0.04)
    with pytest.raises(Stop):
        fit(digits, output, ce.loss, sampler=sampler, report=stop_after(2))
    with pytest.raises(InputError, match=f"sampler: found {sampler}, expected instance"):
        fit(digits, output, ce.loss, resume=True)
    fit(digits, output, ce.loss, sampler=sampler, resume=True)
    same, expected = weights(output), weights(whole)
    assert all(torch.equal(same[key], expected[key]) for key in expected)


# Random under-sampling


def test_every_sample_of_a_class_is_kept_as_often_as_another():
    labels = torch.tensor([2] * 3 + [0] * 8 + [4] * 5)
    generator = torch.Generator().manual_seed(0)
    drawn = [undersampled(labels, generator) for _ in range(4000)]
    for kept in drawn[:50]:
        assert labels[kept].bincount().tolist() == [3, 0, 3, 0, 3]
        assert len(kept.unique()) == 9  # without replacement
    often = torch.stack(drawn).flatten().bincount(minlength=16) / 4000
    expected = torch.tensor([1.0] * 3 + [3 / 8] * 8 + [3 / 5] * 5)
    torch.testing.assert_close(often, expected, atol=0.04, rtol=0)
    first = labels[torch.stack(drawn)[:, 0]].bincount(minlength=5) / 4000  # in random order
    torch.testing.assert_close(first[[0, 2, 4]], torch.full((3,), 1 / 3), atol=0.04, rtol=0)


def test_a_balanced_dataset_is_seen_whole():
    labels = torch.arange(4).repeat(5)
    found = undersampled(labels, torch.Generator())
    assert sorted(found.tolist()) == [*range(20)]


def test_a_run_on_as_many_of_each_class_is_resumed(digits, tmp_path):
    seen, whole, output = [], tmp_path / "whole.pt", tmp_path / "m.pt"

    def loss(logits, labels, counts):
        seen.append(labels)
        return ce.loss(logits, labels, counts)

    fit(digits, whole, loss, sampler="undersample")
    least = int(digits.classes.train_count.min())
    assert torch.cat(seen).bincount().tolist() == [4 * least] * 10  # of four epochs
    with pytest.raises(Stop):
        fit(digits, output, ce.loss, sampler="undersample", report=stop_after(2))
    fit(digits, output, ce.loss, sampler="undersample", resume=True)
    assert same(weights(output), weights(whole))


def test_a_run_says_how_many_are_left_out(tmp_path):
    said, plan = [], TrainPlan("ce", sampler="undersample")
    runs.train_networks(dataset_of([30, 5]), plan, SMALL, tmp_path / "a.pt", note=said.append)
    expected = "note: undersample: an epoch has 10 of 35 training samples, others each time"
    assert expected in said


def test_an_epoch_of_too_few_for_the_processes(monkeypatch, tmp_path):
    monkeypatch.setattr(distributed, "processes", lambda: 4)
    message = "training images an epoch (undersample): found 2, expected at least 8 for 4 proc"
    data = dataset_of([30, 1])
    refused(lambda: fit(data, tmp_path / "a.pt", ce.loss, sampler="undersample"), message)


def test_batches_of_several_images_of_a_class_have_those_that_are_kept(digits):
    labels = torch.from_numpy(digits.split("train").labels)
    kept = undersampled(labels, torch.Generator().manual_seed(3))
    recipe = SimpleNamespace(settings=SMALL)
    made = SimpleNamespace(
        recipe=recipe, labels=labels, epoch=0, generator=torch.Generator().manual_seed(3)
    )
    order = batches._order(made, "undersample", labels.bincount(), 4)
    assert {*order.tolist()} <= {*kept.tolist()}
    assert (labels[order].reshape(-1, 4).diff(dim=1) == 0).all()


def test_on_the_command_line(ltkit, tmp_path, monkeypatch):
    """A network, and a head on cached features in a second stage."""
    monkeypatch.chdir(tmp_path)
    words = ["--epochs", "2", "--batch-size", "32", "--device", "cpu"]
    data = ["--data", "digits_lt", "--sampler", "undersample"]
    code, _, said = ltkit("train", "ce", *data, *words, "-o", "net.pt")
    assert code == 0, said
    assert "note: undersample: an epoch has " in said
    code, _, said = ltkit("extract", "net.pt", "--data", "digits_lt", "-o", "f.h5")
    assert code == 0, said
    then = ["--from-epoch", "1", "--then-sampler", "undersample"]
    code, _, said = ltkit("train", "ce", "f.h5", *then, *words)
    assert code == 0, said
    assert "note: undersample: an epoch has " in said
