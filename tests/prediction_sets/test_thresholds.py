"""Scores and thresholds against their plainest forms, and by hand."""

import naive_sets
import numpy as np
import pytest

from ltkit.prediction_sets.scores import SCORES, Score, training_shares
from ltkit.prediction_sets.thresholds import (
    THRESHOLDS,
    Calibration,
    clustered,
    needed,
    promise,
    quantile,
)
from ltkit.settings import ConformalSettings

COUNTS = naive_sets.COUNTS


def drawn(n=60, seed=0):
    """Probabilities of 8 classes, some of them equal, and labels of a long tail."""
    rng = np.random.default_rng(seed)
    p = np.round(rng.dirichlet(np.ones(8), n), 2) + 0.01
    return p / p.sum(axis=1, keepdims=True), rng.choice(8, n, p=COUNTS / COUNTS.sum())


def given(scores, labels, coverage=0.8, most=1.0, **settings):
    return Calibration(scores, labels, COUNTS, coverage, most, ConformalSettings(**settings))


@pytest.mark.parametrize("name", SCORES)
def test_scores_are_those_of_the_plain_form(name):
    p, labels = drawn()
    score = Score(name, training_shares(COUNTS))
    found = score.of(p)
    plain = [[naive_sets.score(name, row, y, COUNTS) for y in range(8)] for row in p]
    assert np.allclose(found, plain, atol=1e-12)
    assert np.array_equal(score.of_labels(p, labels), found[np.arange(len(p)), labels])
    assert found.max() <= score.most


@pytest.mark.parametrize("name", SCORES)
def test_classes_in_another_order_have_the_same_scores(name):
    p, _ = drawn()
    order = np.random.default_rng(1).permutation(8)
    prior = training_shares(COUNTS)
    assert np.allclose(
        Score(name, prior[order]).of(p[:, order]), Score(name, prior).of(p)[:, order]
    )


def test_quantiles_by_hand():
    scores = np.array([0.4, 0.1, 0.3, 0.2])  # (4 + 1) 0.6 = 3: the third
    assert quantile(scores, 0.6) == 0.3
    assert quantile(scores, 0.8) == 0.4  # the fourth of four
    assert quantile(scores, 0.81) == np.inf
    assert quantile(np.array([]), 0.5) == np.inf
    for coverage in (0.5, 0.8, 0.9, 0.95, 0.99):
        least = needed(coverage)
        assert np.isfinite(quantile(np.zeros(least), coverage))
        assert np.isinf(quantile(np.zeros(least - 1), coverage))


@pytest.mark.parametrize("coverage", [0.6, 0.8, 0.9])
def test_thresholds_are_those_of_the_plain_form(coverage):
    p, labels = drawn()
    scores = Score("aps", training_shares(COUNTS)).of_labels(p, labels)
    data = given(scores, labels, coverage)
    one = naive_sets.quantile(scores, coverage)
    each = naive_sets.class_wise(scores, labels, 8, coverage)
    assert THRESHOLDS["marginal"](data).tolist() == [one] * 8
    assert THRESHOLDS["class-wise"](data).tolist() == each
    assert np.allclose(
        THRESHOLDS["interpolated"](data), [0.5 * min(q, 1) + 0.5 * min(one, 1) for q in each]
    )
    plain = naive_sets.fuzzy(scores, labels, COUNTS, data.part(0.5), coverage, 0.5)
    assert np.allclose(THRESHOLDS["fuzzy"](data), plain)


def test_the_share_goes_from_marginal_to_class_wise():
    p, labels = drawn(400)
    scores = Score("softmax", training_shares(COUNTS)).of_labels(p, labels)
    ends = [THRESHOLDS[name](given(scores, labels)) for name in ("marginal", "class-wise")]
    for share, end in zip((0, 1), ends, strict=True):
        found = THRESHOLDS["interpolated"](given(scores, labels, share=share))
        assert np.allclose(found, np.minimum(end, 1.0))


def test_too_few_images_let_all_classes_in():
    data = given(np.array([0.3]), np.array([0]), 0.9)
    for threshold in THRESHOLDS.values():
        assert np.isinf(threshold(data)).all()


def test_clusters_are_found():
    """Sixty classes of two kinds: each has the threshold of its kind, and not of all."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(60), 60)
    scores = rng.random(3600) + 10 * (labels % 2)
    data = Calibration(scores, labels, np.full(60, 9), 0.9, 99.0)
    found = clustered(data)
    assert (found[::2] < 1).all()
    assert (found[1::2] > 10).all()
    assert len(np.unique(found)) > 2


def test_classes_too_rare_to_be_clustered_are_a_cluster():
    rng = np.random.default_rng(0)
    labels = np.concatenate([np.repeat(np.arange(60), 60), np.repeat(np.arange(60, 70), 5)])
    scores = rng.random(len(labels)) + 5.0 * (labels >= 60)
    found = clustered(Calibration(scores, labels, np.full(70, 9), 0.9, 99.0))
    assert (found[:60] < 1).all()
    assert len(np.unique(found[60:])) == 1
    assert found[60] > 5  # by the marginal threshold, they would be in no set


def test_scores_that_are_all_alike_are_one_cluster():
    labels = np.repeat(np.arange(60), 60)
    data = Calibration(np.zeros(3600), labels, np.full(60, 9), 0.9, 99.0)
    assert clustered(data).tolist() == [0.0] * 60


def test_promises():
    assert promise("marginal", 0.9).startswith("90 % of all images together")
    assert promise("class-wise", 0.95).startswith("95 % of the images of each class")
    assert promise("interpolated", 0.4, short=True) == "0 % of all"
