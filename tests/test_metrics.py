import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from ltkit.evaluation import metrics
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


def test_a_bin_of_confidence_has_its_upper_end():
    """(0, 1/15], (1/15, 2/15] and so on, as in Guo et al.; 0 itself is in the first."""
    ends = np.arange(1, 16) / 15
    for confidence, bins in ((ends, range(15)), (np.nextafter(ends[:-1], 1), range(1, 15))):
        count, _, _ = metrics.reliability(confidence, np.ones(len(confidence), bool))
        assert np.flatnonzero(count).tolist() == list(bins)
    assert metrics.reliability(np.zeros(1), np.ones(1, bool))[0][0] == 1


def test_calibration_error_equals_a_loop_over_bins():
    rng = np.random.default_rng(0)
    confidence, right = rng.random(500), rng.random(500) < 0.5
    confidence[:15] = np.arange(1, 16) / 15
    expected = 0.0
    for b in range(15):
        inside = (confidence > b / 15) & (confidence <= (b + 1) / 15)
        if inside.any():
            gap = right[inside].mean() - confidence[inside].mean()
            expected += inside.mean() * abs(gap)
    assert metrics.calibration_error(confidence, right) == pytest.approx(expected)
