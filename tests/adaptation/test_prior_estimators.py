"""The estimators of a prior, against naive float64 forms."""

import numpy as np
import pytest
import shifted
from scipy.optimize import minimize_scalar

from ltkit.adaptation import estimators, likelihoods
from ltkit.adaptation.estimators import Columns, Drawn, LeftOut, Tail
from ltkit.records import FeatureSplit

TAIL = Tail.of(shifted.COUNTS, np.ones(shifted.CLASSES, bool))
ONE = Columns.of(shifted.CLASSES)


@pytest.fixture(scope="module")
def calibrated():
    features = shifted.problem()
    return likelihoods.calibrate(
        features.classifier(), features.split("val"), shifted.COUNTS, (20, 100)
    )


@pytest.fixture(scope="module")
def samples(calibrated):
    return likelihoods.Likelihoods(shifted.sample(shifted.tail(-0.5), 500, 3), calibrated)


@pytest.fixture(scope="module")
def p(samples):
    """(N, C) probabilities in float64."""
    return np.concatenate([p for _, p, _ in samples.blocks()]).astype(float)


def naive_em(p, weights, start, pseudo, rounds=3000):
    q = start
    for _ in range(rounds):
        posterior = p * q
        posterior /= posterior.sum(axis=1, keepdims=True)
        counts = weights @ posterior + pseudo
        q = counts / counts.sum()
    return q


def test_calibration_finds_temperature_and_prior(calibrated, p):
    """The head is twice the log posterior under the training prior."""
    assert 1.8 < calibrated.temperature < 2.3
    rows = shifted.sample(shifted.tail(-0.5), 500, 3).features
    logits = rows @ shifted.MEANS.T - (shifted.MEANS**2).sum(axis=1) / 2
    true = np.exp(logits - logits.max(axis=1, keepdims=True))
    true /= true.sum(axis=1, keepdims=True)
    assert np.abs(p - true).mean() < 0.02


def test_the_slope_is_where_the_likelihood_is_greatest(samples, p):
    def cost(slope):
        return -np.log(p @ shifted.tail(slope)).sum()

    best = minimize_scalar(cost, bounds=(-3, 3), method="bounded").x
    assert TAIL.slope(samples) == pytest.approx(best, abs=1e-3)


def test_derivatives_of_the_likelihood(samples, p):
    def value(slope):
        return np.log(p @ shifted.tail(slope)).sum()

    score, information = TAIL._derivatives(samples, ONE, np.array([0.4]))
    step = 1e-3
    assert score[0] == pytest.approx((value(0.4 + step) - value(0.4 - step)) / 2 / step, rel=1e-3)
    second = (value(0.4 + step) - 2 * value(0.4) + value(0.4 - step)) / step**2
    assert information[0] == pytest.approx(-second, rel=1e-2)


@pytest.mark.parametrize("strength", [0.0, 3.0])
def test_em_is_the_naive_one(samples, p, strength):
    start = TAIL.shares(0.3)
    found = estimators.em(samples, ONE, start, strength)[:, 0]
    pseudo = strength * shifted.CLASSES * start[:, 0]
    expected = naive_em(p, np.ones(len(p)), start[:, 0], pseudo)
    assert np.abs(found - expected).sum() < 0.01


def test_a_class_that_is_never_predicted_has_no_share(samples):
    told = np.arange(shifted.CLASSES) != 4
    start = Tail.of(shifted.COUNTS, told).shares(0.3)
    assert start[4] == 0
    assert start.sum() == pytest.approx(1)
    assert estimators.em(samples, ONE, start, 2.0)[4] == 0


def test_leaving_out_a_fold_is_learning_from_the_others(samples, p):
    fold = np.arange(len(p)) % 3
    start = np.repeat(TAIL.shares(0.0), 3, axis=1)
    left = LeftOut(np.ones((shifted.CLASSES, 3)), fold)
    found = estimators.em(samples, left, start, 1.0)
    expected = naive_em(p[fold != 1], np.ones((fold != 1).sum()), start[:, 1], 1.0)
    assert np.abs(found[:, 1] - expected).sum() < 0.01


def test_draws_are_the_same_in_each_pass():
    drawn = Drawn(np.ones((3, 200)), 5)
    weights = drawn.weights(4096, 50)
    assert np.array_equal(weights, drawn.weights(4096, 50))
    assert not np.array_equal(weights, drawn.weights(0, 50))
    assert weights.mean() == pytest.approx(1, abs=0.05)
    assert weights.var() == pytest.approx(1, abs=0.1)


def test_factors_of_a_class_are_those_of_its_probabilities(samples, p):
    """Each sample's normaliser makes no difference."""
    odds = np.ones((shifted.CLASSES, 1))
    odds[2] = 2.0
    start = TAIL.shares(0.0)
    found = estimators.em(samples, Columns(odds), start, 1.0)[:, 0]
    scaled = p * odds[:, 0]
    scaled /= scaled.sum(axis=1, keepdims=True)
    expected = naive_em(scaled, np.ones(len(p)), start[:, 0], np.ones(shifted.CLASSES))
    assert np.abs(found - expected).sum() < 0.01


def test_bbse_solves_the_equations(p):
    confusion = np.random.default_rng(0).dirichlet(np.ones(4) * 0.3, 4).T + np.eye(4)
    confusion /= confusion.sum(axis=0)
    shares = np.array([[0.4], [0.3], [0.2], [0.1]])
    there = np.ones(4, bool)
    assert estimators.bbse(confusion @ shares, confusion, there) == pytest.approx(shares)
    there[3] = False
    assert estimators.bbse(confusion @ shares, confusion, there)[3] == 0


def test_what_does_not_fit_the_budget_is_read_again(calibrated, samples, monkeypatch):
    monkeypatch.setattr("ltkit.memory.budget", lambda: 100)
    monkeypatch.setattr(likelihoods, "ROWS", 64)
    again = likelihoods.Likelihoods(shifted.sample(shifted.tail(-0.5), 500, 3), calibrated)
    assert [start for start, _, _ in again.blocks()] == list(range(0, 500, 64))
    assert TAIL.slope(again) == pytest.approx(TAIL.slope(samples), abs=1e-3)


def test_statistics_by_hand():
    """Two classes with rows (1, 0) and (0, 2): features (3, 4) have logits 3 and 8."""
    head = shifted.Head(np.float32([[1, 0], [0, 2]]), np.zeros(2, np.float32)).fold()
    zero = np.zeros(2, np.int64)
    same = likelihoods.Calibrated(head, head, 1.0, zero, np.arange(2))
    split = FeatureSplit(np.float32([[3, 4]]), np.array([0]))
    ((_, p, s),) = likelihoods.Likelihoods(split, same).blocks()
    assert p[0] == pytest.approx([1 / (1 + np.exp(5)), 1 / (1 + np.exp(-5))], abs=1e-6)
    expected = [-np.log(1 + np.exp(-5)), np.log(5), 4 / 5, 5]
    assert s[0] == pytest.approx(expected, abs=1e-5)
