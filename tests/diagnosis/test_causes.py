"""What an error is made of: against a loop, by hand, by theory, and by simulation."""

from itertools import product

import numpy as np
import pytest
from scipy.stats import norm

from ltkit.diagnosis import causes
from ltkit.diagnosis.causes import Outcomes, find, split_up, wilson

RARE, FREQUENT = np.array([4, 5]), np.array([0, 1, 2, 3])
NEAR = np.array([[0], [3]])
ERRS = {"random": (0.3, 0.5, 0.6), "ever better": (0.1, 0.5, 0.9), "ever worse": (0.7, 0.5, 0.2)}


def gives(before, after, labels, rare, others):
    """The share of other classes' samples that a step gives to a rare class, net."""
    moved = 0.0
    for j in others:
        there = [(b, a) for b, a, y in zip(before, after, labels, strict=True) if y == j]
        moved += (there.count((j, rare)) - there.count((rare, j))) / len(there)
    return moved


def by_loop(labels, predicted, rare, near, frequent):
    """The parts of one rare class's error."""
    own, among = predicted[0], labels == rare
    others = [j for j in frequent if j not in near]
    error, last = (np.mean(head[among] != rare) for head in (own, predicted[2]))
    n = np.mean([p in near for p in predicted[2][among]])
    f = np.mean([p in others for p in predicted[2][among]])
    found = []
    for before, after in ((own, predicted[1]), (predicted[1], predicted[2])):
        gain = np.mean(after[among] == rare) - np.mean(before[among] == rare)
        costs = [gives(before, after, labels, rare, of) for of in (near, others)]
        cost = min(max(sum(costs), 0), max(gain, 0))
        plus = [max(c, 0) for c in costs]
        n += cost * plus[0] / sum(plus) if cost else 0
        f += cost * plus[1] / sum(plus) if cost else 0
        found.append(max(gain - cost, 0))
    found[1] = min(found[1], max(error - last - found[0], 0))
    rest = error - sum(found)
    confusion = min(max(n - f * len(near) / len(others), 0), rest)
    return [*found, confusion, rest - confusion]


def drawn(rng, right, each=40):
    """Labels of six classes, and predictions of three heads that are right with some chances."""
    labels = np.repeat(np.arange(6), each)
    rows = [
        np.where(rng.random(len(labels)) < r, labels, rng.integers(0, 6, len(labels)))
        for r in right
    ]
    return Outcomes(labels, np.int32(rows), RARE, NEAR, FREQUENT)


@pytest.mark.parametrize(("right", "seed"), list(product(ERRS, range(8))))
def test_against_a_loop(right, seed):
    given = drawn(np.random.default_rng(seed), ERRS[right])
    found = find(given, replicates=100, seed=0)
    for place, (rare, near) in enumerate(zip(RARE, NEAR, strict=True)):
        expected = by_loop(given.labels, given.predicted, rare, near, FREQUENT)
        assert np.allclose(found.parts[place], expected, atol=1e-9)
    errors = [np.mean(given.predicted[0][given.labels == c] != c) for c in RARE]
    assert np.allclose(found.parts.sum(axis=1), [*errors, np.mean(errors)])
    assert (found.parts >= 0).all()
    assert (found.low <= found.parts).all() and (found.parts <= found.high).all()  # noqa: PT018


@pytest.mark.parametrize("distance", [0.5, 2.0, 4.0])
def test_two_gaussians_under_a_prior(distance):
    """The rare class at distance d of a frequent one: in closed form."""
    rng, n, log_odds = np.random.default_rng(1), 40_000, 3.0
    labels = np.repeat([0, 1, 2], [n, 1, n])  # a second frequent class, far away
    x = rng.normal(size=2 * n + 1) + np.where(labels == 2, distance, 0.0)
    heads = [np.where(x * distance - distance**2 / 2 > odds, 2, 0) for odds in (log_odds, 0, 0)]
    predicted = np.where(labels == 1, 1, heads)
    given = Outcomes(labels, np.int32(predicted), np.array([2]), np.array([[0]]), np.array([0, 1]))
    found = find(given, replicates=100, seed=0)
    own = norm.cdf(-distance / 2 + log_odds / distance)
    gained = own - norm.cdf(-distance / 2)
    taken = norm.cdf(-distance / 2) - norm.cdf(-distance / 2 - log_odds / distance)
    assert np.allclose(found.gained[0], [gained, 0], atol=0.01)
    assert np.allclose(found.taken[0], [taken, 0], atol=0.01)
    assert np.allclose(found.parts[0], [gained - taken, 0, own - gained + taken, 0], atol=0.015)


def test_even_confusion_is_none():
    """A class that is anywhere is near its neighbours, too."""
    labels = np.repeat(np.arange(6), 4)
    predicted = labels.copy()
    predicted[labels == 5] = [0, 1, 2, 3]
    given = Outcomes(labels, np.int32([predicted] * 3), RARE, NEAR, FREQUENT)
    parts = find(given, replicates=100, seed=0).parts
    assert parts.tolist() == [[0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0.5]]


def test_with_one_frequent_class_all_that_remains_is_confusion():
    given = Outcomes(
        np.array([0, 1, 1]), np.int32([[0, 0, 0]] * 3), np.array([1]), np.array([[0]]),
        np.array([0]),
    )  # fmt: skip
    assert given.even == 0
    assert find(given, replicates=100, seed=0).parts[0].tolist() == [0, 0, 1, 0]


def test_one_sample_has_no_interval():
    labels = np.array([0, 1, 2, 3, 4, 5, 5])
    given = Outcomes(labels, np.int32([labels * 0] * 3), RARE, NEAR, FREQUENT)
    found = find(given, replicates=100, seed=0)
    for values in (found.low, found.high, found.wins):
        assert np.isnan(values).all(axis=1).tolist() == [True, False, True]
    assert found.parts[0].tolist() == [0, 0, 1, 0]


def test_samples_that_agree_have_an_interval():
    low, high = wilson(np.array([0.0, 1.0]), np.array([10, 10]))
    assert np.allclose([low, high], [[0, 0.7225], [0.2775, 1]], atol=1e-4)


@pytest.mark.slow
def test_intervals_cover():
    """The parts of all rare classes together, for new samples and heads as they are."""
    right = (0.2, 0.5, 0.7)
    truth = find(drawn(np.random.default_rng(0), right, 100_000), replicates=100, seed=0).parts[-1]
    found = [
        find(drawn(np.random.default_rng(seed), right, 25), replicates=400, seed=seed)
        for seed in range(1, 401)
    ]
    inside = np.mean([(f.low[-1] <= truth) & (truth <= f.high[-1]) for f in found], axis=0)
    assert (inside >= 0.93).all(), inside


def test_a_step_that_harms_is_no_cause():
    worse = np.array([0.2, -0.3, 0.4, 0, 0, 0, 0, 0.1, 0])  # errors 0.2, 0.5, 0.1
    assert np.allclose(split_up(worse, 0.5), [0, 0.1, 0.1, 0])


def test_intervals_are_the_same_however_many_classes_come_at_once(monkeypatch):
    rng = np.random.default_rng(0)
    rates, drawn = rng.random((7, causes.COLUMNS)), rng.random((50, 7, len(causes.CAUSES)))
    n = np.array([1, 2, 3, 4, 5, 6])
    together = causes._found(rates, drawn, n, 0.5)
    monkeypatch.setattr(causes, "DRAWN_AT_ONCE", 2 * drawn[:, 0].size)
    alone = causes._found(rates, drawn, n, 0.5)
    for name in ("parts", "low", "high", "wins"):
        np.testing.assert_array_equal(getattr(alone, name), getattr(together, name))
