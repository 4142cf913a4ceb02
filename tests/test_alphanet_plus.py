"""AlphaNet-plus: against its naive form, at its limits, and against random neighbours."""

import numpy as np
import pytest

from ltkit.posthoc import alphanet_plus, blend
from ltkit.records import Classifier, FeatureSplit, Neighbors

COUNTS = np.array([60, 40, 30, 12, 6, 3])


@pytest.fixture(scope="module")
def problem():
    """Three frequent classes, and a rare one beside each of them."""
    rng = np.random.default_rng(2)
    centres = rng.normal(size=(3, 8)) * 2
    centres = np.concatenate([centres, centres + rng.normal(size=(3, 8)) * 0.7])
    labels = np.repeat(np.arange(6), COUNTS)
    features = np.float32(centres[labels] + rng.normal(size=(len(labels), 8)))
    base = Classifier(np.float32(rng.normal(size=(6, 8))), np.float32(rng.normal(size=6)))
    return base, FeatureSplit(features, labels)


def naive(base, train, part, tau, k):
    """Return the rows and biases by loops in float64."""
    blended = blend.fit(base, train, COUNTS, tau=0.0)
    means = [train.features[train.labels == c].astype(np.float64).mean(axis=0) for c in range(6)]
    weight, bias = blended.weight.astype(np.float64), blended.bias.astype(np.float64)
    bias = bias - tau * np.log(COUNTS / COUNTS.sum())
    for c in (3, 4, 5):
        near = sorted((0, 1, 2), key=lambda b: np.linalg.norm(means[b] - means[c]))[:k]
        for b in near:
            weight[c] += part * tau * base.weight[b].astype(np.float64) / len(near)
    return weight, bias


@pytest.mark.parametrize("k", [1, 2, 3])
def test_the_naive_form(problem, k):
    found = alphanet_plus.fit(*problem, COUNTS, part=0.3, tau=0.7, k=k)
    weight, bias = naive(*problem, 0.3, 0.7, k)
    np.testing.assert_allclose(found.weight, weight, atol=1e-5)
    np.testing.assert_allclose(found.bias, bias, atol=1e-5)


def test_without_a_part_of_the_neighbours_it_is_the_blend_bit_for_bit(problem):
    for tau, part in ((0.625, 0.0), (-0.5, 0.25), (0.0, 0.25)):
        found = alphanet_plus.fit(*problem, COUNTS, part=part, tau=tau)
        expected = blend.fit(*problem, COUNTS, tau=tau)
        np.testing.assert_array_equal(found.weight, expected.weight)
        np.testing.assert_array_equal(found.bias, expected.bias)


def test_many_at_once_are_the_same_as_one_by_one(problem):
    tried = [
        {"part": part, "tau": tau, "k": k, "metric": m, "share": 0.75, "penalty": 0.02,
         "few_below": few, "many_above": 50}
        for part in (0.0, 0.2) for tau in (0.0, 1.0) for k in (1, 2)
        for m in ("euclidean", "cosine") for few in (5, 20)
    ]  # fmt: skip
    together = alphanet_plus.fit_many(*problem, COUNTS, tried)
    for settings, one in zip(tried, together, strict=True):
        alone = alphanet_plus.fit(*problem, COUNTS, **settings)
        np.testing.assert_array_equal(one.weight, alone.weight)
        np.testing.assert_array_equal(one.bias, alone.bias)


def test_settings_with_the_same_rows_share_them(problem):
    names = {"k": 5, "metric": "euclidean", "share": 0.75, "penalty": 0.02, "part": 0.25,
             "few_below": 20, "many_above": 100}  # fmt: skip
    found = alphanet_plus.fit_many(*problem, COUNTS, [names | {"tau": t} for t in (-1, 0, 1, 2)])
    assert len({id(c.weight) for c in found}) == 3  # the blend's, and two more
    assert len({c.bias.tobytes() for c in found}) == 4


def test_a_rare_row_moves_by_no_more_than_the_part_of_the_longest_row(problem):
    base, train = problem
    for part, tau in ((0.05, 1.0), (0.5, 1.0), (1.0, 2.0)):
        moved = alphanet_plus.fit(base, train, COUNTS, part=part, tau=tau)
        blended = blend.fit(base, train, COUNTS, tau=0.0)
        by = np.linalg.norm(moved.weight - blended.weight, axis=1)
        longest = np.linalg.norm(base.weight[:3], axis=1).max()
        assert (by[:3] == 0).all()
        assert (by[3:] <= part * tau * longest * (1 + 1e-5)).all()


def test_the_rows_added_are_of_the_head_and_not_of_the_blend(problem):
    base, _ = problem
    near = Neighbors(np.array([3]), np.array([[0, 1]]), np.ones((1, 2)))
    rows = alphanet_plus.moved(np.zeros((6, 8)), base, near, 1.0)
    np.testing.assert_allclose(rows[3], (base.weight[0] + base.weight[1]) / 2, rtol=1e-6)
    assert not rows[[0, 1, 2, 4, 5]].any()


def test_fewer_frequent_classes_than_neighbours_are_all_taken(problem):
    five, three = (alphanet_plus.fit(*problem, COUNTS, k=k) for k in (5, 3))
    np.testing.assert_array_equal(five.weight, three.weight)
