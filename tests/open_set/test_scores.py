"""Scores and measures of novelty, against scikit-learn, plain forms and simulation."""

import numpy as np
import pytest
from scipy.special import logsumexp
from sklearn.covariance import OAS
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

from ltkit.errors import InputError
from ltkit.open_set import measures, scores
from ltkit.records import Classifier, FeatureSplit


def a_split(seed, size=300, width=6, classes=4):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, size)
    rows = 2 * np.eye(classes, width)[labels] + rng.normal(size=(size, width)) @ np.diag(
        np.arange(1, width + 1) / 3
    )
    return FeatureSplit(rows.astype(np.float32), labels)


def of_length_one(split):
    rows = split.features.astype(np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Blocks of a few rows, so that there are several."""
    monkeypatch.setattr("ltkit.records.features.STREAM_BLOCKS", 1)
    monkeypatch.setattr("ltkit.records.arrays.BLOCK_BYTES", 6 * 4 * 64)
    monkeypatch.setattr(scores, "QUERIES", 50)
    monkeypatch.setattr(scores, "COMPARED", 30)


def test_logits():
    split, rng = a_split(0), np.random.default_rng(1)
    head = Classifier(
        rng.normal(size=(4, 6)).astype(np.float32), rng.normal(size=4).astype(np.float32)
    )
    z = split.features.astype(np.float64) @ head.weight.T + head.bias
    found, predicted = scores.of_logits(split, head)
    assert np.allclose(found["max-logit"], -z.max(axis=1), atol=1e-4)
    assert np.allclose(found["energy"], -logsumexp(z, axis=1), atol=1e-4)
    p = np.exp(z - logsumexp(z, axis=1)[:, None])
    assert np.allclose(found["max-softmax"], 1 - p.max(axis=1), atol=1e-5)
    assert (predicted == z.argmax(axis=1)).mean() > 0.99


@pytest.mark.parametrize("k", [1, 7, 300])
def test_nearest(k):
    split, train = a_split(0, 120), a_split(1)
    model = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(of_length_one(train))
    wanted = model.kneighbors(of_length_one(split))[0][:, -1]
    assert np.allclose(scores.nearest_distances(split, train, k), wanted, atol=2e-3)


def test_mahalanobis():
    split, train = a_split(0, 120), a_split(1)
    rows = of_length_one(train)
    means = np.stack([rows[train.labels == c].mean(axis=0) for c in range(4)])
    model = OAS(assume_centered=True).fit(rows - means[train.labels])
    shape = scores.shape_of(train, 5)  # the last class has no training sample
    assert shape.shrinkage == pytest.approx(model.shrinkage_, rel=1e-3)
    apart = of_length_one(split)[:, None] - means
    wanted = np.einsum("ncd,de,nce->nc", apart, model.precision_, apart).min(axis=1)
    assert np.allclose(scores.distances_to_classes(split, shape), wanted, rtol=1e-2, atol=1e-3)


def test_classes_of_one_point_each():
    train = FeatureSplit(np.eye(3, dtype=np.float32), np.arange(3))
    with pytest.raises(InputError, match="no spread within the classes"):
        scores.shape_of(train, 3)


def test_the_area_is_scikit_learns():
    rng = np.random.default_rng(0)
    known, others = rng.normal(size=80).round(1), rng.normal(0.7, size=50).round(1)
    truth = np.repeat([0, 1], [80, 50])
    wanted = roc_auc_score(truth, np.append(known, others))
    assert measures.auroc(known, others)[0] == pytest.approx(wanted)


def test_the_variance_of_the_area_is_delongs():
    rng = np.random.default_rng(0)
    known, others = rng.normal(size=30), rng.normal(0.7, size=20)
    above = (others > known[:, None]) * 1.0
    variance = above.mean(axis=1).var(ddof=1) / 30 + above.mean(axis=0).var(ddof=1) / 20
    value, (low, high) = measures.auroc(known, others)
    n, z2 = value * (1 - value) / variance, measures.Z2
    centre = (value + z2 / 2 / n) / (1 + z2 / n)
    half = np.sqrt(z2 * (variance + z2 / 4 / n**2)) / (1 + z2 / n)
    assert (low, high) == pytest.approx((centre - half, centre + half))


def test_a_perfect_score_has_an_interval():
    value, (low, high) = measures.auroc(np.arange(10.0), np.arange(10.0, 20.0))
    assert value == high == 1
    assert 0.6 < low < 0.8


def test_the_threshold_keeps_the_share():
    rng = np.random.default_rng(0)
    for size in (1, 19, 20, 21, 1000):
        known = rng.normal(size=size)
        threshold = measures.threshold_keeping(known, 0.95)
        assert (known <= threshold).mean() >= 0.95
        assert (known < threshold).mean() < 0.95


def test_false_positives_are_resampled_as_by_drawing():
    """The places by the beta distribution, against a bootstrap that draws and sorts."""
    rng = np.random.default_rng(0)
    known, others = rng.normal(size=60), rng.normal(1.5, size=400)
    drawn = []
    for _ in range(4000):
        threshold = measures.threshold_keeping(rng.choice(known, 60), 0.9)
        drawn.append((rng.choice(others, 400) <= threshold).mean())
    value, ends = measures.false_positives(known, others, 0.9, replicates=4000, seed=1)
    assert value == (others <= measures.threshold_keeping(known, 0.9)).mean()
    assert ends == pytest.approx(np.quantile(drawn, (0.025, 0.975)), abs=0.02)


@pytest.mark.more
def test_intervals_hold_what_they_claim():
    rng, areas, shares = np.random.default_rng(0), 0, 0
    many = rng.normal(size=10**6), rng.normal(1.2, size=10**6)
    area = measures.auroc(*many)[0]
    share = (many[1] <= np.quantile(many[0], 0.95)).mean()
    for seed in range(1000):
        known, others = rng.normal(size=150), rng.normal(1.2, size=100)
        low, high = measures.auroc(known, others)[1]
        areas += low <= area <= high
        low, high = measures.false_positives(known, others, 0.95, replicates=400, seed=seed)[1]
        shares += low <= share <= high
    assert 930 <= areas <= 970
    assert 915 <= shares <= 980


def oltr(predicted, labels):
    """The F-measure, in a loop, as the paper's code counts."""
    hits = missed = accepted = 0
    for said, true in zip(predicted, labels, strict=True):
        hits += said == true and true != -1
        missed += said != true and true != -1
        accepted += said != true and true == -1
    precision, recall = hits / (hits + missed), hits / (hits + accepted)
    return 2 * precision * recall / (precision + recall + 1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_the_f_measure_is_that_of_oltr(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(-1, 4, 200)
    predicted = np.where(rng.random(200) < 0.6, labels, rng.integers(-1, 4, 200))
    assert measures.open_set_f(predicted, labels) == pytest.approx(oltr(predicted, labels))


def test_no_f_measure_where_nothing_is_right():
    assert measures.open_set_f(np.array([1, -1]), np.array([0, -1])) is None
