"""Adapting a classifier on a problem whose posteriors are known."""

from dataclasses import replace

import numpy as np
import pytest
import shifted

import ltkit
from ltkit.adaptation import adapt
from ltkit.errors import InputError, SettingError
from ltkit.records import Classifier, ClassTable, FeatureSplit, Head
from ltkit.settings import AdaptSettings

BACKWARD = shifted.tail(-0.8)
FEATURES = shifted.problem(test=shifted.sample(BACKWARD, 1000, 5))


def adapted(features=FEATURES, **settings):
    settings = {"replicates": 100} | settings
    return adapt(features, features, settings=AdaptSettings(**settings))


@pytest.fixture(scope="module")
def found():
    return adapted()


def right(classifier, split):
    return float((classifier.logits(split.features[:]).argmax(axis=1) == split.labels).mean())


def bayes(split, prior):
    logits = split.features[:] @ shifted.MEANS.T - (shifted.MEANS**2).sum(axis=1) / 2
    return float(((logits + np.log(prior)).argmax(axis=1) == split.labels).mean())


def test_a_made_prior_is_found(found):
    slope = found.document["slope"]
    assert slope["value"] == pytest.approx(-0.8, abs=0.15)
    low, high = slope["interval"]
    assert low < -0.8 < high
    assert np.abs(found.correction.extra["prior"][0] - BACKWARD).sum() < 0.12
    assert found.document["shift"]["p"] > 0.01


def test_accuracy_is_nearly_that_of_bayes(found):
    test = FEATURES.split("test")
    before, after = (
        right(c, test) for c in (FEATURES.classifier(), FEATURES.corrected(found.correction))
    )
    assert before < bayes(test, BACKWARD) - 0.15
    assert after > bayes(test, BACKWARD) - 0.02


def test_logits_are_divided_shifted_and_given_the_prior(found):
    own, made = FEATURES.classifier(), FEATURES.corrected(found.correction)
    assert made.weight == pytest.approx(own.weight / found.document["temperature"], rel=1e-4)
    uniform = adapt(FEATURES, FEATURES, settings=AdaptSettings(estimator="bbse", replicates=100))
    added = made.bias - np.log(found.correction.extra["prior"][0])
    other = FEATURES.corrected(uniform.correction).bias
    shares = np.maximum(uniform.correction.extra["prior"][0], 1e-9)
    assert other - np.log(shares) == pytest.approx(added, abs=1e-3)


def test_labels_of_the_target_are_not_looked_at(found):
    test = FEATURES.split("test")
    blind = replace(FEATURES, splits={"test": FeatureSplit(test.features, 0 * test.labels)})
    again = adapt(FEATURES, blind, settings=AdaptSettings(replicates=100))
    assert again.document["classes"] == found.document["classes"]


def test_without_a_shift_predictions_stay():
    features = shifted.problem(test=shifted.sample(shifted.TRAINED, 400, 8))
    found = adapted(features)
    assert found.document["kept"]
    assert found.document["changed"] == 0
    assert "not sure that adapting gains" in found.document["notes"][0]
    assert found.document["expected"]["interval"][0] <= 0
    made = features.corrected(found.correction)
    assert made.bias == pytest.approx(
        features.classifier().bias / found.document["temperature"], rel=1e-4, abs=1e-5
    )


def test_the_expected_gain_is_nearly_the_true_one(found):
    test, gain = FEATURES.split("test"), found.document["expected"]
    before, after = (
        right(c, test) for c in (FEATURES.classifier(), FEATURES.corrected(found.correction))
    )
    low, high = gain["interval"]
    assert low < after - before < high
    assert gain["before"] == pytest.approx(before, abs=0.08)


def test_shares_of_single_classes_follow_what_no_tail_does():
    prior = np.roll(shifted.tail(1.2), 4)
    features = shifted.problem(test=shifted.sample(prior, 1500, 9))
    one, each = (adapted(features, estimator=how) for how in ("tail", "map-em"))
    far, near = (np.abs(f.correction.extra["prior"][0] - prior).sum() for f in (one, each))
    assert near < 0.15 < 0.5 < far
    assert any("compare estimator map-em" in note for note in one.document["notes"])
    assert each.document["slope"] is None


@pytest.mark.parametrize("how", ["em", "bbse"])
def test_the_other_estimators_find_it(how):
    found = adapted(estimator=how)
    assert np.abs(found.correction.extra["prior"][0] - BACKWARD).sum() < 0.25
    low, high = (found.correction.extra[f"prior_{end}"][0] for end in ("low", "high"))
    assert (low <= high).all()


def spoilt(change):
    test = FEATURES.split("test")
    rows = change(test.features[:], np.random.default_rng(0)).astype(np.float32)
    return replace(FEATURES, splits={**FEATURES.splits, "test": FeatureSplit(rows, test.labels)})


@pytest.mark.parametrize(
    "change",
    [
        lambda x, rng: 1.3 * x,
        lambda x, rng: x + 1,
        lambda x, rng: x + rng.normal(size=x.shape),
        lambda x, rng: np.where(np.arange(len(x))[:, None] % 3, x, 3 * rng.normal(size=x.shape)),
    ],
    ids=["scaled", "moved", "noisy", "strangers"],
)
def test_another_shift_is_refused(change):
    with pytest.raises(SettingError, match=r"differs in more than how often"):
        adapted(spoilt(change))


def test_one_can_insist():
    found = adapt(spoilt(lambda x, rng: 1.3 * x), spoilt(lambda x, rng: 1.3 * x), anyway=True)
    assert "adapted all the same" in found.document["notes"][0]
    assert "not alone" in str(found)


def test_classes_without_val_samples_or_never_predicted():
    val = FEATURES.split("val")
    bias = FEATURES.head.bias.copy()
    bias[1] = -1e30
    test = FEATURES.split("test").at(np.flatnonzero(FEATURES.split("test").labels != 1))
    some = replace(
        FEATURES, splits={"val": val.at(np.flatnonzero(val.labels != 7)), "test": test},
        head=Head(FEATURES.head.weight, bias),
    )  # fmt: skip
    found = adapt(some, some, settings=AdaptSettings(replicates=100), anyway=True)
    assert any("1 of 10 classes have no val sample" in n for n in found.document["notes"])
    shares = found.correction.extra["prior"][0]
    assert shares[1] == 0
    assert shares[7] > 0
    assert found.correction.bias[0, 1] == np.float32(-1e30)


def test_few_samples_are_said_to_be_few():
    features = shifted.problem(test=shifted.sample(BACKWARD, 40, 5))
    assert any("40 samples" in note for note in adapted(features).document["notes"])


def test_a_steep_tail_is_said():
    features = shifted.problem(test=shifted.drawn(np.zeros(300, int), np.random.default_rng(0)))
    found = adapt(features, features, anyway=True, settings=AdaptSettings(replicates=100))
    assert any("as steep as it can be" in note for note in found.document["notes"])


def test_counts_without_a_tail():
    flat = replace(FEATURES, classes=ClassTable(np.full(shifted.CLASSES, 50)))
    with pytest.raises(InputError, match=r"estimator: found tail, .* all of these are alike"):
        adapt(flat, flat)
    found = adapt(flat, flat, settings=AdaptSettings(estimator="map-em", replicates=100))
    assert np.abs(found.correction.extra["prior"][0] - BACKWARD).sum() < 0.3


def test_one_class_has_no_prior():
    val = FEATURES.split("val")
    lone = {**FEATURES.splits, "val": val.at(np.flatnonzero(val.labels == 3))}
    with pytest.raises(InputError, match="val: found samples of 1 class"):
        adapt(replace(FEATURES, splits=lone), FEATURES)


def test_one_val_sample_a_class_is_too_few_to_choose_on():
    val = FEATURES.split("val")
    first = np.unique(val.labels, return_index=True)[1]
    features = replace(FEATURES, splits={**FEATURES.splits, "val": val.at(first)})
    found = adapt(features, FEATURES, anyway=True, settings=AdaptSettings(replicates=100))
    assert found.document["penalty"] == 3.0
    assert found.document["expected"] is None


def test_logits_that_are_not_finite():
    damaged = spoilt(lambda x, rng: np.where(x == x.max(), np.inf, x))
    with pytest.raises(InputError, match="logits: not finite"):
        adapted(damaged)


def test_a_very_large_number_of_classes_is_taken_one_by_one(monkeypatch, found):
    monkeypatch.setattr("ltkit.adaptation.validation.MOST_JOINT", 3)
    ends = [np.diff(f.document["slope"]["interval"])[0] for f in (found, adapted())]
    assert 0.4 < ends[0] / ends[1] < 2.5


def test_arrays_paths_and_settings_of_the_call():
    rows = FEATURES.split("test").features[:]
    found = ltkit.adapt(FEATURES, rows, replicates=100)
    assert "not known" in found.document["notes"][0]
    assert str(found).startswith("share of classes among 1000 samples of memory (tail: count")
    with pytest.raises(InputError, match=r"to: found numbers of shape \(1000, 3\)"):
        ltkit.adapt(FEATURES, rows[:, :3])
    with pytest.raises(InputError, match="adapt has no parameter of that name"):
        ltkit.adapt(FEATURES, rows, estimater="em")
    base = Classifier(FEATURES.head.weight, FEATURES.head.bias)
    again = ltkit.adapt(FEATURES, FEATURES, base=base, replicates=100)
    assert again.document["slope"] == found.document["slope"]
