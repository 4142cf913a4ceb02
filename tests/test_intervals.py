"""Intervals of accuracies and differences: by hand, and whether they hold what they claim."""

from collections import Counter

import numpy as np
import pytest
from compared import hits, told
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ltkit.evaluation import compare, evaluate
from ltkit.evaluation.intervals import (
    accuracy_estimate,
    difference_estimate,
    moments,
    of_one_run,
)


def mean_difference(values, labels, weights):
    return difference_estimate(moments(values, labels, len(weights)), weights)


def of_one_class(values, of=accuracy_estimate):
    values = np.atleast_2d(values)
    return of(moments(values, np.zeros(values.shape[1], int), 1), np.ones(1))


def test_a_single_class_has_wilsons_interval():
    right = np.arange(20_000) < 6_000
    found = of_one_class(right)
    expected = stats.binomtest(6_000, 20_000).proportion_ci(method="wilson")
    assert found.value == 0.3
    assert found.interval == pytest.approx(tuple(expected), abs=1e-5)  # t is nearly z
    assert found.seed_share is None


def test_a_difference_of_one_class_is_that_of_a_t_test():
    gains = np.random.default_rng(0).integers(-1, 2, size=50)
    expected = stats.ttest_1samp(gains, 0)
    found = of_one_class(gains, difference_estimate)
    assert found.interval == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert found.p == pytest.approx(expected.pvalue, rel=1e-6)


def test_equally_large_classes_have_a_pooled_t_interval():
    """Weights alike, variances added: by hand, of means 0.5 and 0.25."""
    values, labels = np.tile([1, 0, 1, 0, 1, 0, 0, 0.0], 4), np.tile([0, 0, 0, 0, 1, 1, 1, 1], 4)
    found = mean_difference(values[None], labels, np.array([0.5, 0.5]))
    variance = (1 / 4 + 3 / 16) * 16 / 15 / 16 / 4  # s² of both, over n, times w²
    half = stats.t.ppf(0.975, 30) * np.sqrt(variance)
    assert found.value == 0.375
    assert found.interval == pytest.approx((0.375 - half, 0.375 + half))


def test_seeds_alone_give_the_t_interval_of_their_figures():
    """Samples that are all alike have no part in it but the least one."""
    runs = np.array([0.5, 0.0, 0.25])[:, None] * np.ones((3, 100_000))
    found = of_one_class(runs, difference_estimate)
    expected = stats.t.interval(0.95, 2, loc=0.25, scale=0.25 / np.sqrt(3))
    assert found.interval == pytest.approx(expected, abs=1e-5)
    assert found.seed_share == pytest.approx(1, abs=1e-6)


def test_what_single_samples_do_in_seeds_counts_once():
    """Runs that are right on other samples, and as often: the seeds add next to nothing."""
    rng = np.random.default_rng(0)
    runs = rng.random((10, 5_000)) < 0.5
    found = of_one_class(runs)
    assert found.seed_share < 0.4
    low, high = found.interval
    assert (high - low) / 2 == pytest.approx(2 * np.sqrt(0.25 / 50_000), rel=0.3)


def test_classes_of_one_sample_are_pooled():
    labels, weights = np.arange(6), np.full(6, 1 / 6)
    values = np.array([1, 0, 1, 1, 0, 1.0])
    pooled = accuracy_estimate(moments(values[None], labels, 6), weights)
    single = of_one_class(values)  # as if they were samples of one class
    assert pooled.interval == pytest.approx(single.interval)
    # One class alone has the variance between all samples.
    labels = np.array([0, 0, 0, 0, 1])
    found = mean_difference(np.array([[1, 0, 0, 0, 1.0]]), labels, np.array([0.5, 0.5]))
    shares = np.array([1 / 16, 1 / 4])
    spread = np.array([1 / 4, np.var([1, 0, 0, 0, 1], ddof=1)])
    freedom = shares.sum() ** 2 / (shares**2 / np.array([3, 1])).sum()
    half = stats.t.ppf(0.975, freedom) * np.sqrt(max(shares @ spread, 3 * shares.sum() ** 2))
    assert found.interval == pytest.approx((max(-1, 0.625 - half), min(1, 0.625 + half)))


def test_a_single_sample_says_nothing():
    for of in (accuracy_estimate, difference_estimate):
        found = of_one_class([1], of)
        assert (found.value, found.interval, found.seed_share, found.p) == (1, None, None, None)


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 4), st.lists(st.integers(1, 4), min_size=1, max_size=6), st.integers(0, 10_000),
    st.sampled_from([0.0, 0.03, 0.5, 1.0]),
)  # fmt: skip
def test_intervals_hold_the_figure_stay_in_range_and_are_never_points(runs, sizes, seed, chance):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    weights = np.bincount(labels) / len(labels)
    first, second = (rng.random((2, runs, len(labels))) < chance).astype(float)
    accuracy = accuracy_estimate(moments(first, labels, len(sizes)), weights)
    difference = mean_difference(first - second, labels, weights)
    if len(labels) == 1:
        assert accuracy.interval is difference.interval is None
        return
    for found, least in ((accuracy, 0), (difference, -1)):
        low, high = found.interval
        assert least <= low <= found.value <= high <= 1
        assert low < high
        assert found.seed_share is None if runs == 1 else 0 <= found.seed_share <= 1
    low, high = difference.interval
    assert (difference.p < 0.05) == (low > 0 or high < 0)
    turned = mean_difference(second - first, labels, weights)
    assert turned.interval == (-high, -low)
    assert turned.p == difference.p


def test_evaluate_and_compare_say_the_same_of_the_same_difference():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(6), (1, 2, 3, 4, 5, 6))
    runs = [({"rho": 1.0, "seed": s}, hits(labels, rng.random(21) < 0.6)) for s in range(3)]
    features, entries = told({"test": labels}, hits(labels, rng.random(21) < 0.5), made=runs)
    row = evaluate(features, "test", entries)[0]["rows"][1]
    compared = compare(features, "test", entries, against="baseline", replicates=100)
    point, (pair,) = compared["methods"][1]["points"][0], compared["pairs"]
    assert row["interval"] == point["interval"]
    assert row["seed_share"] == point["seed_share"]
    assert row["difference_interval"] == pair["interval"]
    assert row["difference_seed_share"] == pair["seed_share"]
    assert pair["mcnemar"] is None  # of three seeds


def drawn(rng, per_class, seeds, of_seed):
    """Hits of two methods that are right equally often, and the truth of the first.

    Samples are easy or hard for both and for all seeds; a seed shifts a method everywhere.
    """
    classes = len(per_class)
    labels = np.repeat(np.arange(classes), per_class)
    chance = stats.norm.ppf(rng.uniform(0.1, 0.8, size=classes))
    scale = np.sqrt(1 + 4 + of_seed**2)
    hard = chance[labels] * scale + 2 * rng.normal(size=len(labels))
    right = [
        hard + of_seed * rng.normal(size=(seeds, 1)) + rng.normal(size=(seeds, len(labels))) > 0
        for _ in range(2)
    ]
    return right, labels, stats.norm.cdf(chance).mean()


@pytest.mark.parametrize(
    ("per_class", "seeds", "of_seed"),
    [
        ([100] * 10, 1, 0.0), ([2] * 30, 1, 0.0), ([3] * 20, 5, 0.1), ([20] * 20, 2, 0.2),
        ([1, 3] * 20, 1, 0.0), ([1] * 35 + [3] * 5, 3, 0.1),
    ],
)  # fmt: skip
def test_intervals_hold_for_new_samples_and_seeds(per_class, seeds, of_seed):
    """In 400 draws; benchmarks/interval_coverage.py has more of them, and more cells."""
    rng, held, draws = np.random.default_rng(0), Counter(), 400
    weights = np.full(len(per_class), 1 / len(per_class))
    for _ in range(draws):
        (first, second), labels, truth = drawn(rng, per_class, seeds, of_seed)
        found = [moments(r, labels, len(weights)) for r in (first, second)]
        low, high = accuracy_estimate(found[0], weights).interval
        held["accuracy"] += low <= truth <= high
        gains = (first.mean(axis=0) - second.mean(axis=0))[None]
        gain = moments(gains, labels, len(weights))
        estimate = difference_estimate(gain, weights, found if seeds > 1 else ())
        held["difference"] += estimate.p >= 0.05
    for what, count in held.items():
        assert 0.92 <= count / draws <= 1, what


def test_what_runs_do_to_classes_of_one_sample_counts_once():
    """Runs that are right on such classes by chance: seeds have next to no part of their own."""
    rng, labels, shares = np.random.default_rng(0), np.arange(200), []
    for _ in range(100):
        runs = rng.random((5, 200)) < 0.5
        found = accuracy_estimate(moments(runs, labels, 200), np.full(200, 1 / 200))
        shares.append(found.seed_share)
    assert np.median(shares) < 0.3  # of the variance between runs, where nothing is taken off: 0.5


def test_a_single_one_of_several_repeats_varies_as_the_mean_of_their_variances():
    rng = np.random.default_rng(1)
    values, labels = rng.integers(-1, 2, size=(4, 60)), np.repeat([0, 1, 2], 20)
    one = of_one_run(moments(values, labels, 3))
    expected = [values[:, labels == c].var(axis=1, ddof=1).mean() for c in range(3)]
    np.testing.assert_allclose(one.spread, expected)
    np.testing.assert_allclose(one.runs[0], [values[:, labels == c].mean() for c in range(3)])
