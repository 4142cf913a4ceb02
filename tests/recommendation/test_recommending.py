"""Recommendations of features whose best correction is known."""

import numpy as np
import pytest
from long_tailed import COUNTS, Unopened, head_of, problem, split_of
from made import refused

from ltkit import posthoc
from ltkit.errors import InputError, SettingError
from ltkit.recommendation import Wanted, recommend
from ltkit.recommendation.family import gather, methods_of
from ltkit.records import (
    ClassTable,
    Correction,
    FeatureSet,
    Head,
    class_prior,
    stratified_folds,
)

QUICK = ("logit-adjust", "tau-norm", "bias")


def accuracy(correction, features, split):
    found = features.corrected(correction)
    return float((found.logits(split.features).argmax(axis=1) == split.labels).mean())


def test_it_finds_the_correction_that_is_right():
    """The head is Bayes' rule for the training frequencies: tau 1 is Bayes' rule in use."""
    features = problem()
    found = recommend(features, Wanted(methods=QUICK))
    document = found.document
    assert not found.keep
    assert document["choice"]["reason"] == "its gain is beyond noise"
    test = split_of(np.full(6, 400), np.random.default_rng(9))
    before = accuracy(Correction.baseline(features.classifier()), features, test)
    best = accuracy(posthoc.logit_adjust(features, tau=1.0), features, test)
    after = accuracy(found.correction, features, test)
    assert after > before + 0.1
    assert after > best - 0.02
    low, high = document["objective_interval"]
    assert low < after - before < high
    assert document["accuracy"]["expected"]["balanced"] == pytest.approx(
        document["accuracy"]["baseline"]["balanced"] + document["gain"]["balanced"]
    )
    assert document["choice"]["wins"] > 0.5
    assert found.correction.method == f"recommended ({document['choice']['method']})"
    assert found.correction.runs[0]["of"] == document["choice"]["method"]


@pytest.mark.parametrize("how", ["balanced data", "corrected head"])
def test_it_keeps_what_is_right(how):
    if how == "balanced data":
        rng, even = np.random.default_rng(0), np.full(6, 60)
        splits = {"train": split_of(even, rng), "val": split_of(np.full(6, 40), rng)}
        features = FeatureSet(splits, ClassTable(even), head_of(even))
        methods = ("logit-adjust", "tau-norm", "ridge", "bias")
    else:
        features = problem()
        head = Head(features.head.weight, np.zeros(6, np.float32))
        features = FeatureSet(features.splits, features.classes, head)
        methods = QUICK
    found = recommend(features, Wanted(methods=methods))
    assert found.keep
    assert found.document["choice"]["keep"]
    assert (
        "noise" in found.document["choice"]["reason"]
        or "ahead" in found.document["choice"]["reason"]
    )
    assert found.correction.weight.shape[:2] == (1, 0)


def test_test_is_never_opened():
    features = problem()
    sealed = FeatureSet({**features.splits, "test": Unopened()}, features.classes, features.head)
    assert not recommend(sealed, Wanted(methods=QUICK)).keep
    with pytest.raises(AssertionError, match="was read"):
        sealed.split("test").labels  # noqa: B018


def test_limits_are_kept():
    features = problem(val=100)
    free = recommend(features, Wanted("few", keep={}, methods=("logit-adjust",)))
    bound = recommend(features, Wanted("few", keep={"many": -3}, methods=("logit-adjust",)))
    taus = [r.document["choice"]["settings"]["tau"] for r in (free, bound)]
    assert taus[0] > taus[1] > 0
    assert bound.document["gain"]["many"] > -0.05 > free.document["gain"]["many"]
    assert bound.document["limits"] == [{"group": "many", "least": -0.03, "confidence": 0.8}]
    usual = recommend(features, Wanted("few", methods=("logit-adjust",)))
    assert usual.document["limits"][0]["group"] == "all"


def test_limits_that_nothing_keeps():
    found = recommend(problem(), Wanted(keep={"all": 90}, methods=QUICK))
    assert found.keep
    assert not any(row["within_limits"] for row in found.document["rows"])


def test_methods_that_learn_from_val_are_judged_outside_their_folds():
    features = problem()
    val, dealt = features.split("val"), stratified_folds(features.split("val").labels, 5, 0)
    family = gather(features, ["bias"], dealt)
    for number, candidate in enumerate(family.candidates[1:], start=1):
        if candidate.parameters["penalty"] not in (0.1, 1000.0):
            continue
        for fold in (0, 4):
            others = {**features.splits, "val": val.at(np.flatnonzero(dealt != fold))}
            learned = posthoc.bias(
                FeatureSet(others, features.classes, features.head), **candidate.parameters
            )
            inside = val.at(np.flatnonzero(dealt == fold))
            rows = inside.features[0 : len(inside)]
            hits = features.corrected(learned).logits(rows).argmax(axis=1) == inside.labels
            np.testing.assert_array_equal(family.right[number, dealt == fold], hits)


def test_alphanet_is_a_member():
    features = problem(val=30)
    found = recommend(features, Wanted(methods=("logit-adjust",), with_alphanet=True, repeats=2))
    labels = [row["method"] for row in found.document["rows"]]
    assert labels == ["logit-adjust", "alphanet"]


def test_without_val_what_needs_no_choice_is_taken():
    features = problem(splits=("train",))
    found = recommend(features)
    assert found.document["choice"]["label"] == "logit-adjust tau 1"
    assert found.document["gain"] is None
    assert "no validation split" in found.document["choice"]["reason"]
    expected = posthoc.logit_adjust(features, tau=1.0)
    np.testing.assert_array_equal(found.correction.bias, expected.bias)


def test_other_features_can_stand_for_val():
    features, other = problem(splits=("train",)), problem(seed=1)
    found = recommend(features.recalibrated(other), Wanted(methods=QUICK))
    assert found.document["n"] == 240
    refused(lambda: features.recalibrated(problem(counts=COUNTS[:5])), "found 5 classes of 5",
            "the 6 classes of 6", error=InputError)  # fmt: skip
    refused(lambda: features.recalibrated(features), "no split val", error=InputError)


def test_a_method_that_cannot_be_fitted_is_left_out_and_said():
    features = problem(splits=("val",))
    found = recommend(features)
    assert any(note.startswith("crt is left out: ") for note in found.document["notes"])
    refused(lambda: recommend(features, Wanted(methods=("crt",))), "no train split")


def test_features_that_no_method_fits(monkeypatch):
    monkeypatch.setattr("ltkit.recommendation.family.RECOMMENDED", ("crt", "ridge"))
    refused(lambda: recommend(problem(splits=("val",))), "no method fits it", error=InputError)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"keep": {"rare": -1}}, ["keep: found rare", "few, medium, many"]),
        ({"keep": {"few": -101}}, ["keep few: found -101"]),
        ({"confidence": 1.0}, ["confidence: found 1"]),
        ({"folds": 1}, ["folds: found 1"]),
        ({"repeats": 0}, ["repeats: found 0"]),
    ],
)
def test_what_cannot_be_wanted(words, said):
    refused(lambda: Wanted(**words), *said)


def test_unknown_methods():
    refused(lambda: methods_of(["logit-adjst"], False), "methods: logit-adjst", "logit-adjust",
            error=SettingError)  # fmt: skip
    assert methods_of(["blend", "logit-adjust"], True) == ["logit-adjust", "blend", "alphanet"]


def test_under_the_prior_of_training_the_head_is_right():
    """It is Bayes' rule for that; for balanced use it is not."""
    features = problem(val=100)
    found = recommend(features, Wanted(prior="train", methods=QUICK))
    assert found.document["objective"] == "all"
    assert found.document["prior"] == "train"
    assert found.keep


def test_a_prior_in_use_is_taken_into_the_biases():
    """What is right for that use beats what is right for balanced use."""
    features = problem(val=200)
    rare = "1,30,1,30,1,30"  # which no tau gives
    found = recommend(features, Wanted(prior=rare, methods=QUICK))
    assert not found.keep
    assert found.document["choice"]["settings"]["offset"] == 1
    rng, shares = np.random.default_rng(5), class_prior(rare, COUNTS)
    test = split_of((4000 * shares).astype(int), rng)
    even = recommend(features, Wanted(methods=QUICK))
    gain = accuracy(found.correction, features, test) - accuracy(even.correction, features, test)
    assert gain > 0.02
    refused(lambda: recommend(features, Wanted(prior="test")), "prior: found test")
    none = recommend(problem(splits=("train",)), Wanted(prior="backward:50"))
    assert none.document["choice"]["settings"] == {"tau": 1.0, "offset": 1}
