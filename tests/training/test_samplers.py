"""Deferred re-weighting and samplers, by themselves and in runs."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from stateful import fit, moment
from torch.nn import functional
from trained import Stop, log, stop_after, weights

from ltkit import datasets
from ltkit.errors import InputError
from ltkit.losses import (
    ce,
    class_balanced,
    ldam,
)
from ltkit.training.batches import draws
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
