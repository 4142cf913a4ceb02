"""What a comparison is made of: predictions, McNemar's test, the bootstrap."""

from math import comb

import numpy as np
import pytest
from compared import COUNTS, noisy, some_rows
from scipy import stats

from ltkit.errors import InputError
from ltkit.evaluation import predict, predict_classes, resampling
from ltkit.evaluation.mcnemar import mcnemar
from ltkit.evaluation.resampling import bootstrap, mean_over_seeds
from ltkit.records import (
    Classifier,
    Correction,
    FeatureSplit,
)

# Predictions


@pytest.mark.parametrize("head", [{}, {"scale": 20.0, "normalize": "cosine"}])
def test_predictions_are_those_of_evaluate(head, monkeypatch):
    features = noisy(**head)
    data, base = features.split("test"), features.classifier()
    whole = Classifier(base.weight[::-1].copy(), base.bias, bool(head))
    raw = Correction.whole("ncm", Classifier(base.weight + 1, base.bias))
    corrections = [some_rows(features), Correction.whole("all", whole), raw]
    if head:
        corrections[0] = Correction(
            "made", np.array([2, 4, 5]), corrections[0].weight, corrections[0].bias,
            corrections[0].runs, True,
        )  # fmt: skip
    nothing = Correction(
        "none", np.arange(0), base.weight[None, :0], base.bias[None, :0], ({},), bool(head)
    )
    own, *expected = predict(data, base, [Correction.baseline(base), *corrections])
    for block in (1 << 20, 100):
        monkeypatch.setattr("ltkit.records.arrays.BLOCK_BYTES", block)
        *found, plain = predict_classes(data, base, [*corrections, nothing])
        np.testing.assert_array_equal(plain, own.predicted)
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.dtype == np.int32
            np.testing.assert_array_equal(ours, theirs.predicted)


def test_runs_that_share_their_rows_and_not_their_bias():
    features = noisy()
    base = features.classifier()
    taus = np.arange(8) / 4
    weight = np.tile(base.weight, (8, 1, 1))
    weight[5:] += 0.5
    bias = (base.bias - taus[:, None] * np.log(COUNTS)).astype(np.float32)
    runs = tuple({"tau": t} for t in taus)
    (found,) = predict_classes(
        features.split("test"), base, [Correction("la", np.arange(6), weight, bias, runs)]
    )
    x = features.split("test").features.astype(np.float64)
    for run in range(8):
        expected = (x @ weight[run].T.astype(np.float64) + bias[run]).argmax(axis=1)
        np.testing.assert_array_equal(found[run], expected)
    assert len({row.tobytes() for row in found}) > 4


def test_equal_logits_go_to_the_lowest_class():
    base = Classifier(np.zeros((4, 2), np.float32), np.zeros(4, np.float32))
    data = FeatureSplit(np.zeros((2, 2), np.float32), np.array([0, 1]))
    for ids, lowest in (([0, 3], 0), ([1, 2], 0), ([2, 3], 0)):
        for bias, winner in ((0.0, lowest), (1.0, ids[0])):
            tied = Correction(
                "t", np.array(ids), np.zeros((1, 2, 2), np.float32),
                np.full((1, 2), bias, np.float32), ({},),
            )  # fmt: skip
            (found,) = predict_classes(data, base, [tied])
            assert found.tolist() == [[winner, winner]]


def test_predictions_refuse_what_does_not_fit():
    features = noisy()
    wide = Correction("w", np.array([9]), np.zeros((1, 1, 8)), np.zeros((1, 1)), ({},))
    with pytest.raises(InputError, match="class ids up to 9"):
        predict_classes(features.split("test"), features.classifier(), [wide])
    broken = Classifier(np.full((6, 8), np.nan, np.float32), np.zeros(6, np.float32))
    own = Correction("b", np.arange(0), np.zeros((1, 0, 8)), np.zeros((1, 0)), ({},))
    with pytest.raises(InputError, match="logits: not finite"):
        predict_classes(features.split("test"), broken, [own])


# McNemar's test


def pair_of(b, c, both=3, neither=2):
    first = np.repeat([True, False, True, False], [b, c, both, neither])
    return first, np.repeat([False, True, True, False], [b, c, both, neither])


@pytest.mark.parametrize(("b", "c"), [(0, 0), (5, 1), (1, 5), (12, 12), (24, 0), (10, 14)])
def test_mcnemar_exact_is_scipys_binomial_test(b, c):
    found = mcnemar(*pair_of(b, c))
    assert (found.only_first, found.only_second, found.statistic) == (b, c, None)
    expected = stats.binomtest(b, b + c).pvalue if b + c else 1.0
    assert found.p == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("b", "c"), [(25, 0), (13, 12), (12, 13), (20, 20), (400, 330), (900, 4)])
def test_mcnemar_of_many_is_scipys_chi_square(b, c):
    found = mcnemar(*pair_of(b, c))
    statistic = max(abs(b - c) - 1, 0) ** 2 / (b + c)
    assert found.statistic == pytest.approx(statistic)
    assert found.p == pytest.approx(stats.chi2.sf(statistic, df=1), rel=1e-9)
    if 0 < min(b, c) < 25:  # both forms say about the same where they meet
        exact = min(1.0, 2 * sum(comb(b + c, i) for i in range(min(b, c) + 1)) / 2 ** (b + c))
        assert found.p == pytest.approx(exact, abs=0.02)


# Bootstrap


def test_the_bootstrap_of_a_difference_has_the_spread_of_its_closed_form():
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.repeat(np.arange(3), (30, 50, 80)))
    first = rng.random(160) < 0.6
    second = np.where(rng.random(160) < 0.7, first, rng.random(160) < 0.3)
    weights = {"all": np.array([30, 50, 80]) / 160, "few": np.array([0, 0.5, 0.5])}
    drawn = bootstrap(np.stack([first, second]), labels, weights, replicates=20_000, seed=1)
    assert drawn.shape == (2, 20_000, 2)
    for g, weight in enumerate(weights.values()):
        gain = first.astype(float) - second
        mean = sum(w * gain[labels == c].mean() for c, w in enumerate(weight))
        parts = [
            w**2 * gain[labels == c].var(ddof=1) / (labels == c).sum() for c, w in enumerate(weight)
        ]
        found = drawn[g, :, 0] - drawn[g, :, 1]
        assert found.mean() == pytest.approx(mean, abs=4 * np.sqrt(sum(parts) / 20_000))
        assert found.std() == pytest.approx(np.sqrt(sum(parts)), rel=0.03)
        low, high = np.quantile(found, (0.025, 0.975))
        z = stats.norm.ppf(0.975) * np.sqrt(sum(parts))
        assert [low, high] == pytest.approx([mean - z, mean + z], abs=0.2 * z)


def test_every_run_is_drawn_alike():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, size=60)
    right = rng.random((1, 60)) < 0.5
    weights = {"balanced": np.full(4, 0.25)}
    drawn = bootstrap(
        np.concatenate([right, right, ~right]), labels, weights, replicates=50, seed=3
    )
    np.testing.assert_array_equal(drawn[..., 0], drawn[..., 1])
    np.testing.assert_allclose(drawn[..., 0] + drawn[..., 2], 1)
    assert drawn[..., 0].std() > 0
    again = bootstrap(right, labels, weights, replicates=50, seed=3)
    np.testing.assert_array_equal(again[..., 0], drawn[..., 0])
    other = bootstrap(right, labels, weights, replicates=50, seed=4)
    assert (again != other).any()


def test_what_is_drawn_at_once_makes_no_difference(monkeypatch):
    rng = np.random.default_rng(0)
    labels, right = rng.integers(0, 3, size=70), rng.random((4, 70)) < 0.5
    weights = {"all": np.full(3, 1 / 3)}
    whole = bootstrap(right, labels, weights, replicates=101, seed=0)
    monkeypatch.setattr(resampling, "DRAWN_AT_ONCE", 200)
    np.testing.assert_array_equal(whole, bootstrap(right, labels, weights, replicates=101, seed=0))


def test_seeds_add_their_variance_over_their_number():
    values = np.array([0.2, 0.3, 0.35, 0.55])
    drawn = np.broadcast_to(values, (1, 40_000, 4))
    found = mean_over_seeds(drawn, (0, 1))
    assert found.shape == (1, 40_000)
    assert found.mean() == pytest.approx(values.mean(), abs=2e-3)
    assert found.std() == pytest.approx(values.std(ddof=1) / 2, rel=0.02)


def test_settings_of_a_method_share_the_drawn_seeds():
    rng = np.random.default_rng(0)
    drawn = rng.random((2, 30, 3))
    shifted = mean_over_seeds(drawn + 0.1, (5, 2)) - mean_over_seeds(drawn, (5, 2))
    np.testing.assert_allclose(shifted, 0.1)
    assert (mean_over_seeds(drawn, (5, 2)) != mean_over_seeds(drawn, (5, 3))).any()
    np.testing.assert_array_equal(mean_over_seeds(drawn[..., :1], (5, 2)), drawn[..., 0])
