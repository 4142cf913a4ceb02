import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from ltkit.evaluation import intervals, metrics
from ltkit.records import shot_groups

COUNTS = np.array([200, 150, 60, 30, 10, 5])


def made(seed=0, size=400):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 6, size=size)
    predicted = np.where(rng.random(size) < 0.6, labels, rng.integers(0, 6, size=size))
    return labels, predicted


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.integers(1, 80))
def test_all_and_balanced_agree_with_scikit_learn(seed, size):
    labels, predicted = made(seed, size)
    weights = metrics.group_weights(labels, 6, shot_groups(COUNTS))
    by_class = metrics.class_accuracy(predicted == labels, labels, 6)
    summary = metrics.summarize(by_class, weights)
    assert summary["all"] == pytest.approx(accuracy_score(labels, predicted))
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # predicted classes that are not among the true ones
        assert summary["balanced"] == pytest.approx(balanced_accuracy_score(labels, predicted))


def test_group_accuracy_is_the_mean_of_class_accuracies_not_pooled():
    labels = np.array([0] * 8 + [1] * 2)
    right = np.array([1] * 8 + [0, 1])
    weights = metrics.group_weights(labels, 2, shot_groups(np.array([300, 200])))
    summary = metrics.summarize(metrics.class_accuracy(right, labels, 2), weights)
    assert summary["many"] == 0.75  # (1 + 1/2) / 2; pooled it would be 0.9
    assert summary["all"] == 0.9
    assert summary["few"] is None  # absent, never 0


def test_a_class_without_test_samples_is_left_out():
    labels = np.array([0, 0, 1])
    weights = metrics.group_weights(labels, 3, shot_groups(np.array([300, 200, 150])))
    assert weights["many"].tolist() == [0.5, 0.5, 0.0]


def test_bootstrap_means_and_spread_are_those_of_resampling():
    labels, predicted = made(1, 300)
    right = (predicted == labels).astype(float)
    drawn = intervals.bootstrap_classes(right, labels, 6, replicates=20_000, seed=0)
    rng = np.random.default_rng(5)
    for c in range(6):
        inside = right[labels == c]
        naive = rng.choice(inside, size=(20_000, len(inside))).mean(axis=1)
        assert drawn[:, c].mean() == pytest.approx(naive.mean(), abs=3e-3)
        assert drawn[:, c].std() == pytest.approx(naive.std(), abs=3e-3)


def test_bootstrap_of_fractions_is_that_of_resampling():
    rng = np.random.default_rng(2)
    labels = np.repeat([0, 1], 50)
    values = rng.integers(-3, 4, size=100) / 3
    drawn = intervals.bootstrap_classes(values, labels, 2, replicates=20_000, seed=0)
    for c in range(2):
        inside = values[labels == c]
        naive = rng.choice(inside, size=(20_000, 50)).mean(axis=1)
        assert drawn[:, c].mean() == pytest.approx(inside.mean(), abs=5e-3)
        assert drawn[:, c].std() == pytest.approx(naive.std(), rel=0.03)


def test_interval_covers_about_95_percent_of_new_test_sets():
    rng = np.random.default_rng(0)
    truth, labels = np.array([0.3, 0.8]), np.repeat([0, 1], 60)
    weights = np.array([0.5, 0.5])
    covered = 0
    for trial in range(300):
        right = (rng.random(120) < truth[labels]).astype(float)
        drawn = intervals.bootstrap_classes(right, labels, 2, replicates=400, seed=trial)
        low, high = intervals.interval(drawn @ weights)
        covered += low <= truth @ weights <= high
    assert 0.90 < covered / 300 < 0.99


def test_calibration_error_equals_a_loop_over_bins():
    rng = np.random.default_rng(0)
    confidence, right = rng.random(500), rng.random(500) < 0.5
    confidence[0] = 1.0
    expected = 0.0
    for b in range(15):
        inside = (confidence >= b / 15) & (confidence < (b + 1) / 15 + (b == 14))
        if inside.any():
            gap = right[inside].mean() - confidence[inside].mean()
            expected += inside.mean() * abs(gap)
    assert metrics.calibration_error(confidence, right) == pytest.approx(expected)
