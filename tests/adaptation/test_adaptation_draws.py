"""What resampling says: the offsets' spread, and size and power of the test of a shift."""

from dataclasses import replace

import numpy as np
import pytest
import shifted

from ltkit.adaptation import estimators, likelihoods, shift, validation
from ltkit.adaptation.estimating import estimate
from ltkit.posthoc import _on_val
from ltkit.settings import AdaptSettings


def calibrated(features):
    return likelihoods.calibrate(
        features.classifier(), features.split("val"), shifted.COUNTS, (20, 100)
    )


def test_offsets_of_draws_are_nearly_those_of_fits_to_them():
    features = shifted.problem()
    val, known = features.split("val"), calibrated(features)
    draws = validation.draw(val, known, replicates=100, seed=0)
    settings = {"penalty": known.penalty, "weighting": "classes", "few_below": 20,
                "many_above": 100}  # fmt: skip
    rng, offsets = np.random.default_rng(1), []
    for _ in range(40):
        rows = np.concatenate([
            rng.choice(np.flatnonzero(val.labels == c), 39) for c in range(shifted.CLASSES)
        ])  # fmt: skip
        fit = _on_val.learned(
            features.classifier(), val.at(rows), shifted.COUNTS, [settings], one_scale=True
        )[0]
        scale = np.sqrt((fit.weight**2).sum() / (features.classifier().weight ** 2).sum())
        offset = fit.bias - features.classifier().bias * scale
        offsets.append(offset - offset.mean())
    expected, found = np.std(offsets, axis=0), np.log(draws.odds).std(axis=1)
    assert 0.6 < found.mean() / expected.mean() < 1.4
    assert np.allclose(draws.drawn.mean(axis=0), draws.means, atol=0.3)


def rounded(classifier):
    """Return a classifier whose products with rounded features have no rounding of their own."""
    return replace(
        classifier, weight=np.round(64 * classifier.weight) / 64,
        bias=np.round(64 * classifier.bias) / 64,
    )  # fmt: skip


def test_draws_are_the_same_however_many_classes_come_at_once(monkeypatch):
    features = shifted.problem()
    known, val = calibrated(features), features.split("val")
    val = replace(val, features=np.round(64 * val.features[:]) / 64)
    known = replace(
        known, own=rounded(known.own), classifier=rounded(known.classifier),
        folds=tuple((rows, rounded(one)) for rows, one in known.folds),
    )  # fmt: skip
    wanted = {"replicates": 20, "seed": 0, "confused": True}
    together = validation.draw(val, known, **wanted)
    monkeypatch.setattr(validation, "WIDE_BYTES", 8)  # a class at a time
    alone = validation.draw(val, known, **wanted)
    for name in ("odds", "means", "drawn", "confusion"):
        np.testing.assert_allclose(getattr(alone, name), getattr(together, name), rtol=1e-9)
    p = np.concatenate([p for _, p, _ in likelihoods.Likelihoods(val, known).blocks()])
    by_hand = [p[val.labels == c].mean(axis=0, dtype=float) for c in range(shifted.CLASSES)]
    np.testing.assert_allclose(together.confusion.T, by_hand, rtol=1e-6)
    assert not validation.draw(val, known, replicates=20, seed=0).confusion.size


def p_value(seed, prior=None, change=lambda x, rng: x):
    """The test's p for a target under a prior, with a validation split of its own."""
    rng = np.random.default_rng([seed, 1])
    features = shifted.problem(seed=seed, val=25)
    target = shifted.sample(shifted.tail(-0.5) if prior is None else prior, 400, [seed, 2])
    target = shifted.FeatureSplit(change(target.features, rng).astype(np.float32), target.labels)
    known = calibrated(features)
    samples = likelihoods.Likelihoods(target, known)
    val = validation.draw(features.split("val"), known, replicates=100, seed=seed)
    columns = estimators.Drawn(val.odds, seed)
    tail = estimators.Tail.of(shifted.COUNTS, features.classifier().told)
    found = estimate(samples, tail, val, AdaptSettings(), columns)
    tested = shift.test(samples, columns, val, found.shares, found.drawn)
    low, high = found.slope[1:]
    return tested.p, low <= -0.5 <= high


@pytest.mark.more
def test_size_and_power_of_the_test_and_coverage_of_the_slope():
    found = np.array([p_value(seed) for seed in range(60)])
    assert (found[:, 0] < 0.01).mean() < 0.06
    assert (found[:, 0] < 0.2).mean() < 0.36
    assert found[:, 1].mean() > 0.85
    noisy = [p_value(seed, change=lambda x, rng: x + 0.5 * rng.normal(size=x.shape))[0]
             for seed in range(12)]  # fmt: skip
    assert np.mean(np.array(noisy) < 0.01) > 0.7


def test_hotelling_is_that_of_the_textbook():
    """Draws of known covariance: T² (R - d) / d (R - 1) is F."""
    from scipy.stats import f

    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(4, 4))
    draws, apart = rng.normal(size=(300, 4)) @ mixing, np.array([0.5, -1.0, 2.0, 0.3])
    square = apart @ np.linalg.solve(np.cov(draws.T), apart)
    expected = f.sf(square * 296 / (4 * 299), 4, 296)
    assert shift.hotelling(apart, draws).p == pytest.approx(expected, rel=1e-3)


def test_a_statistic_that_never_varies_counts_where_it_differs():
    draws = np.random.default_rng(0).normal(size=(300, 4))
    draws[:, 1] = 2.0
    assert shift.hotelling(np.array([0.0, 1e-7, 0, 0]), draws).p > 0.9
    found = shift.hotelling(np.array([0.0, 0.1, 0, 0]), draws)
    assert found.p < 1e-6
    assert found.most == "length"
