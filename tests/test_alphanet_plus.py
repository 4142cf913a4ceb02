"""AlphaNet-plus: against its naive form, and at its limits."""

import math

import numpy as np
import pytest

from ltkit.posthoc import alphanet_plus, blend
from ltkit.records import Classifier, FeatureSplit

COUNTS = np.array([60, 40, 30, 12, 6, 3])


@pytest.fixture(scope="module")
def problem():
    """Three frequent classes, a rare one beside each of them, and validation images."""
    rng = np.random.default_rng(2)
    centres = rng.normal(size=(3, 8)) * 2
    centres = np.concatenate([centres, centres + rng.normal(size=(3, 8)) * 0.7])
    labels = np.repeat(np.arange(6), COUNTS)
    features = np.float32(centres[labels] + rng.normal(size=(len(labels), 8)))
    base = Classifier(np.float32(rng.normal(size=(6, 8))), np.float32(rng.normal(size=6)))
    held = np.repeat(np.arange(6), 7)
    val = FeatureSplit(np.float32(centres[held] + rng.normal(size=(len(held), 8))), held)
    return base, FeatureSplit(features, labels), val


def nearest(train, k):
    """Return the shares of the frequent classes for each rare one, by distance."""
    means = [train.features[train.labels == c].astype(np.float64).mean(axis=0) for c in range(6)]
    found = {}
    for c in (3, 4, 5):
        near = sorted((0, 1, 2), key=lambda b: np.linalg.norm(means[b] - means[c]))[:k]
        found[c] = {b: 1 / len(near) for b in near}
    return found


def confused(base, val):
    """Return the shares of the frequent classes for each rare one, image by image."""
    found = {}
    for c in (3, 4, 5):
        total = {b: 0.0 for b in (0, 1, 2)}
        for x in val.features[val.labels == c].astype(np.float64):
            logits = [
                x @ row + b for row, b in zip(base.weight.astype(float), base.bias, strict=True)
            ]
            odds = [math.exp(z - max(logits)) for z in logits]
            for b in total:
                total[b] += odds[b] / sum(odds)
        found[c] = {b: value / sum(total.values()) for b, value in total.items()}
    return found


def naive(base, train, shares, part, tau):
    """Return the rows and biases by loops in float64."""
    blended = blend.fit(base, train, COUNTS, tau=0.0)
    weight, bias = blended.weight.astype(np.float64), blended.bias.astype(np.float64)
    bias = bias - tau * np.log(COUNTS / COUNTS.sum())
    for c, others in shares.items():
        for b, share in others.items():
            weight[c] += part * tau * share * base.weight[b].astype(np.float64)
    return weight, bias


@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_naive_form_by_distance(problem, k):
    base, train, _ = problem
    found = alphanet_plus.fit(base, train, COUNTS, part=0.3, tau=0.7, nearest=k, metric="euclidean")
    weight, bias = naive(base, train, nearest(train, k), 0.3, 0.7)
    np.testing.assert_allclose(found.weight, weight, atol=1e-5)
    np.testing.assert_allclose(found.bias, bias, atol=1e-5)


def test_the_naive_form_by_confusions(problem):
    base, train, val = problem
    found = alphanet_plus.fit(base, train, COUNTS, val, part=0.3, tau=0.7)
    weight, bias = naive(base, train, confused(base, val), 0.3, 0.7)
    np.testing.assert_allclose(found.weight, weight, atol=1e-5)
    np.testing.assert_allclose(found.bias, bias, atol=1e-5)


def test_a_class_without_validation_images_has_its_nearest_classes(problem):
    base, train, val = problem
    some = val.at(np.flatnonzero(val.labels != 4))
    found = alphanet_plus.fit(base, train, COUNTS, some, tau=0.7, nearest=2)
    mixed = confused(base, val) | {4: nearest(train, 2)[4]}
    np.testing.assert_allclose(found.weight, naive(base, train, mixed, 0.25, 0.7)[0], atol=1e-5)


def test_images_of_frequent_classes_and_blocks_do_not_matter(problem, monkeypatch):
    base, train, val = problem
    whole = alphanet_plus.fit(base, train, COUNTS, val, tau=1.0)
    rare = val.at(np.flatnonzero(val.labels > 2))
    np.testing.assert_array_equal(
        alphanet_plus.fit(base, train, COUNTS, rare).weight[:3],
        alphanet_plus.fit(base, train, COUNTS, val).weight[:3],
    )
    found = alphanet_plus.fit(base, train, COUNTS, rare, tau=1.0)
    np.testing.assert_allclose(found.weight, whole.weight, rtol=1e-6)
    monkeypatch.setattr("ltkit.records.arrays.BLOCK_BYTES", 8 * 4 * 3)
    found = alphanet_plus.fit(base, train, COUNTS, val, tau=1.0)
    np.testing.assert_allclose(found.weight, whole.weight, atol=1e-3)  # of a search for an optimum


def test_the_order_of_classes_does_not_matter(problem):
    base, train, val = problem
    order = np.array([5, 2, 0, 4, 1, 3])
    places = np.argsort(order)
    renamed = Classifier(base.weight[order], base.bias[order])
    splits = [FeatureSplit(s.features, places[s.labels]) for s in (train, val)]
    first = alphanet_plus.fit(base, train, COUNTS, val)
    second = alphanet_plus.fit(renamed, splits[0], COUNTS[order], splits[1])
    np.testing.assert_allclose(first.weight[order], second.weight, atol=1e-3)


def test_without_a_part_of_others_it_is_the_blend_bit_for_bit(problem):
    base, train, val = problem
    for tau, part in ((0.625, 0.0), (-0.5, 0.25), (0.0, 0.25)):
        found = alphanet_plus.fit(base, train, COUNTS, val, part=part, tau=tau)
        expected = blend.fit(base, train, COUNTS, tau=tau)
        np.testing.assert_array_equal(found.weight, expected.weight)
        np.testing.assert_array_equal(found.bias, expected.bias)


def test_many_at_once_are_the_same_as_one_by_one(problem):
    base, train, val = problem
    tried = [
        {"part": part, "tau": tau, "nearest": k, "metric": m, "share": 0.75, "penalty": 0.02,
         "few_below": few, "many_above": 50}
        for part in (0.0, 0.2) for tau in (0.0, 1.0) for k in (1, 2)
        for m in ("confusion", "euclidean", "cosine") for few in (5, 20)
    ]  # fmt: skip
    halves = [val.at(np.arange(n, len(val), 2)) for n in (0, 1)]
    for half, fits in zip(
        halves, alphanet_plus.fit_folds(base, train, COUNTS, tried, halves), strict=True
    ):
        for settings, one in zip(tried, fits, strict=True):
            alone = alphanet_plus.fit(base, train, COUNTS, half, **settings)
            np.testing.assert_array_equal(one.weight, alone.weight)
            np.testing.assert_array_equal(one.bias, alone.bias)


def test_settings_with_the_same_rows_share_them(problem):
    base, train, val = problem
    names = {"nearest": 5, "metric": "confusion", "share": 0.75, "penalty": 0.02, "part": 0.25,
             "few_below": 20, "many_above": 100}  # fmt: skip
    tried = [names | {"tau": tau} for tau in (-1, 0, 1, 2)]
    (found,) = alphanet_plus.fit_folds(base, train, COUNTS, tried, [val])
    assert len({id(c.weight) for c in found}) == 3  # the blend's, and two more
    assert len({c.bias.tobytes() for c in found}) == 4


@pytest.mark.parametrize("metric", alphanet_plus.METRICS)
def test_a_rare_row_moves_by_no_more_than_the_part_of_the_longest_row(problem, metric):
    base, train, val = problem
    for part, tau in ((0.05, 1.0), (0.5, 1.0), (1.0, 2.0)):
        moved = alphanet_plus.fit(base, train, COUNTS, val, part=part, tau=tau, metric=metric)
        blended = blend.fit(base, train, COUNTS, tau=0.0)
        by = np.linalg.norm(moved.weight - blended.weight, axis=1)
        longest = np.linalg.norm(base.weight[:3], axis=1).max()
        assert (by[:3] == 0).all()
        assert (by[3:] <= part * tau * longest * (1 + 1e-5)).all()


def test_fewer_frequent_classes_than_neighbours_are_all_taken(problem):
    base, train, _ = problem
    five, three = (
        alphanet_plus.fit(base, train, COUNTS, nearest=k, metric="euclidean") for k in (5, 3)
    )
    np.testing.assert_array_equal(five.weight, three.weight)
