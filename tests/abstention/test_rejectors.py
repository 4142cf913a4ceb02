"""Scores, answers and costs of rejectors, against plain forms and the best that can be done."""

import numpy as np
import pytest
from known_posteriors import COUNTS, GROUPS, blobs, drawn, least_error

from ltkit.abstention.fitting import fit, mean_counts
from ltkit.abstention.posteriors import Groups, posterior_blocks, posteriors
from ltkit.abstention.rejectors import Costs, threshold_for
from ltkit.abstention.risks import Sample
from ltkit.records import Classifier, FeatureSplit


def error_at(costs, found, sample, budget):
    """The balanced error where a share is handed over by costs."""
    scores = costs.scores(found)
    kept = scores <= threshold_for(scores, budget)
    return sample.balanced(kept, costs.answers(found) != sample.labels)


def test_scores_and_answers_are_those_of_all_classes():
    features = blobs()
    groups = Groups.among(features.groups(), 8)
    assert groups.names == ("few", "medium", "many")
    split, head = features.split("test"), features.classifier()
    costs = Costs(np.array([0.1, 0.7, 3.0]), np.array([2.0, 0.4, 0.0]))
    z = split.features.astype(np.float64) @ head.weight.T + head.bias
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    alpha, mu = costs.alpha[groups.of_class], costs.mu[groups.of_class]
    found = posteriors(split, head, groups)
    wanted = (p * (1 / alpha - mu)).sum(axis=1) - (p / alpha).max(axis=1)
    assert np.allclose(costs.scores(found), wanted, atol=1e-5)
    assert (costs.answers(found) == (p / alpha).argmax(axis=1)).mean() > 0.999
    assert np.allclose(Costs.none(3).scores(found), 1 - p.max(axis=1), atol=1e-6)


def test_blocks_are_the_whole(monkeypatch):
    features = blobs()
    groups = Groups.among(features.groups(), 8)
    whole = posteriors(features.split("test"), features.classifier(), groups)
    monkeypatch.setattr("ltkit.evaluation.probabilities.AT_ONCE", 8 * 8 * 7)
    parts = list(posterior_blocks(features.split("test"), features.classifier(), groups))
    assert len(parts) > 50
    assert np.allclose(np.concatenate([found.mass for _, found in parts]), whole.mass, atol=1e-6)


def test_no_sample_has_no_posterior():
    none = FeatureSplit(np.empty((0, 1), np.float32), np.empty(0, np.int64))
    head = Classifier(np.zeros((2, 1), np.float32), np.zeros(2, np.float32))
    assert posteriors(none, head, GROUPS).mass.shape == (0, 2)


@pytest.mark.parametrize("budget", [0.0, 0.1, 0.29, 0.5, 0.9])
def test_at_most_the_budget_is_handed_over(budget):
    scores = np.random.default_rng(0).normal(size=200)
    assert (scores > threshold_for(scores, budget)).sum() == round(200 * budget)
    tied = np.round(scores)
    assert (tied > threshold_for(tied, budget)).mean() <= budget


def test_classes_of_a_group_count_alike_in_its_mean_count():
    groups = Groups(("few", "many"), np.array([1, 1, 0]))
    assert mean_counts(np.array([300, 100, 0]), groups).tolist() == [1.0, 200.0]


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("budget", [0.0, 0.1, 0.3, 0.5])
def test_close_to_the_best_of_all_rules(budget, balanced):
    """Posteriors are known, so the plug-in form holds the best rule; it is found on val."""
    gaps, others = [], []
    for seed in range(3):
        costs = fit(*drawn(2000, seed, balanced=balanced), COUNTS, budget)
        found, sample = drawn(20_000, 100 + seed, balanced=balanced)
        best = least_error(found, sample, int(budget * 20_000))
        gaps.append(error_at(costs, found, sample, budget) - best)
        others.append(error_at(Costs.none(2), found, sample, budget) - best)
    assert np.mean(gaps) < 0.025
    assert np.mean(others) > 0.1


@pytest.mark.more
@pytest.mark.parametrize("size", [500, 2000, 8000])
def test_close_to_the_best_in_many_draws(size):
    gaps = []
    for seed in range(20):
        for budget in (0.1, 0.3, 0.6, 0.8):
            costs = fit(*drawn(size, seed, balanced=seed % 2 == 0), COUNTS, budget)
            found, sample = drawn(20_000, 500 + seed, balanced=seed % 2 == 0)
            best = least_error(found, sample, int(budget * 20_000))
            gaps.append(error_at(costs, found, sample, budget) - best)
    assert np.mean(gaps) < {500: 0.02, 2000: 0.01, 8000: 0.005}[size]
    assert np.quantile(gaps, 0.95) < {500: 0.06, 2000: 0.03, 8000: 0.015}[size]


def test_where_a_group_is_right_its_error_moves_nothing():
    """Of posteriors that are certain, nothing is gained: the max softmax wins the tie."""
    found, sample = drawn(400, 0)
    sure = np.eye(2)[1 - sample.labels]
    certain = type(found)(sure, sure, found.leader)
    costs = fit(certain, sample, COUNTS, 0.0)
    assert costs.alpha.tolist() == [1, 1]
    assert costs.mu.tolist() == [0, 0]


def test_a_group_without_samples_is_treated_like_the_others():
    found, sample = drawn(400, 0)
    three = Groups(("few", "medium", "many"), np.array([2, 0, 1]))
    wide = type(found)(
        np.insert(found.mass, 1, 0.0, axis=1), np.insert(found.top, 1, 0.0, axis=1),
        np.insert(found.leader, 1, 2, axis=1),
    )  # fmt: skip
    costs = fit(wide, Sample.of(sample.labels, three), np.array([15.0, 60.0, 285.0]), 0.2)
    assert np.isfinite(costs.alpha).all()
    assert (costs.alpha > 0).all()
    assert np.isfinite(costs.mu).all()
