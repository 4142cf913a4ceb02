"""Similarity by mixup: which images are mixed, and what is measured."""

import numpy as np
import pytest
from made import refused
from studies.short import toy_points

import ltkit
from ltkit import datasets
from ltkit.studies import Given, mixup_similarity


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits_lt:ir=10,val=none")


@pytest.mark.parametrize(("rho", "lam"), [(0.5, 0.2), (1.0, 0.0), (0.25, 1.0)])
def test_images_are_mixed_as_said(digits, rho, lam):
    train = digits.split("train")
    made = mixup_similarity.mixed(digits, rho, lam, 3).split("train")
    assert (made.labels == train.labels).all()
    before, after = (part.images[:].astype(float) for part in (train, made))
    changed = np.flatnonzero((before != after).any(axis=(1, 2, 3)))
    assert set(train.labels[changed]) <= {0}
    last = before[train.labels == 9]
    wanted = round(rho * (train.labels == 0).sum())
    assert len(changed) == (wanted if lam < 1 else 0)
    for row in changed:  # each is the mean of its own image and one of the rarest class
        apart = abs(lam * before[row] + (1 - lam) * last - after[row]).max(axis=(1, 2, 3))
        assert apart.min() <= 0.5


def test_the_draw_is_the_seeds_and_the_original_stays(digits):
    held = digits.split("train").images[:].copy()
    first, again, other = (
        mixup_similarity.mixed(digits, 0.5, 0.2, seed).split("train").images for seed in (1, 1, 2)
    )
    assert (first == again).all()
    assert (first != other).any()
    assert (digits.split("train").images[:] == held).all()


def test_the_study(digits, tmp_path, monkeypatch):
    toy_points(monkeypatch)
    frame = ltkit.study("mixup-similarity", images=digits, output=tmp_path / "o")
    assert len(frame) == 2 * 3 * len(mixup_similarity.OF)
    assert set(frame[frame["varied"] == "rho"]["lambda"]) == {0.2}
    assert set(frame[frame["varied"] == "lambda"]["rho"]) == {0.2}
    said = dict(frame.attrs["document"]["sentences"])
    assert "Theorem 1: it falls" in said["rarest class over rho"]


def test_the_paper_form(digits, tmp_path):
    points = mixup_similarity.points(Given("paper", 0, tmp_path, images=digits))
    assert len(points) == 2 * 11 * 50
    assert {point["epochs"] for point in points} == {200}


def test_a_balanced_set_is_refused(tmp_path):
    images = datasets.load("digits_lt:ir=1,val=none")
    refused(
        lambda: ltkit.study("mixup-similarity", images=images, output=tmp_path / "o"),
        "expected the most and the fewest", "cifar10_lt:ir=100",
    )  # fmt: skip
