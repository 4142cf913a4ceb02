"""A rule applied: to features, to logits, from a file; and what is no sound rule."""

from dataclasses import replace

import naive_sets
import numpy as np
import pytest

import ltkit
from ltkit.errors import FormatError, InputError
from ltkit.files import rules
from ltkit.posthoc import logit_adjust
from ltkit.prediction_sets import measure
from ltkit.prediction_sets.scores import SCORES
from ltkit.records import Correction, Rule

CONTENT = {"score": "softmax", "thresholds": [0.5, None, 0.9]}
RULE = Rule("sets", CONTENT, "", 3)


@pytest.mark.parametrize("name", SCORES)
def test_sets_are_those_of_the_plain_form(name, tmp_path):
    features = naive_sets.features()
    found = ltkit.conformal(features, score=name, threshold="interpolated", coverage=0.8)
    rules.write(tmp_path / "s.json", found.rule, command="x")
    sets = ltkit.predict_sets(features, tmp_path / "s.json")
    p = naive_sets.probabilities(features.split("test"), features.classifier())
    limits = found.rule.content["thresholds"]
    for row, one in zip(p, sets, strict=True):
        plain = [
            c for c in range(8)
            if naive_sets.score(name, row, c, naive_sets.COUNTS) <= limits[c] + 1e-12
        ]  # fmt: skip
        assert sorted(one.tolist()) == plain
        assert (np.diff(row[one]) <= 0).all()  # the most likely first
    logits = features.classifier().logits(np.asarray(features.split("test").features))
    again = ltkit.predict_sets(logits, found)
    assert all(np.array_equal(a, b) for a, b in zip(sets, again, strict=True))


def test_a_rule_is_measured():
    features = naive_sets.features()
    found = ltkit.conformal(features, score="aps", threshold="class-wise", split="test")
    row = found.document["rows"][0]
    figures = measure(features, features.classifier(), found.rule)
    assert figures == {key: row[key] for key in figures}
    with pytest.raises(InputError, match="is for the classifier"):
        measure(features, features.corrected(logit_adjust(features, tau=1.0)), found.rule)


def test_the_rule_of_a_correction():
    features = naive_sets.features()
    one = logit_adjust(features, tau=1.0)
    found = ltkit.conformal(features, one, score="softmax", threshold="marginal")
    whole = features.corrected(one)
    sets = ltkit.predict_sets(features, found.rule, one)
    others = ltkit.predict_sets(features, found.rule, whole)
    assert all(np.array_equal(a, b) for a, b in zip(sets, others, strict=True))
    with pytest.raises(InputError, match="is for the classifier"):
        ltkit.predict_sets(features, found.rule)
    with pytest.raises(InputError, match="is for the classifier"):
        ltkit.predict_sets(features, found.rule, logit_adjust(features, tau=0.5))


def test_one_of_several_runs():
    features = naive_sets.features()
    two = logit_adjust(features, sweep=True).only([0, 10])
    found = ltkit.conformal(features, two, run={"tau": 1.0}, score="aps", threshold="marginal")
    assert len(ltkit.predict_sets(features, found, two, run={"tau": 1.0})) == 320
    with pytest.raises(InputError, match="found 2 of 2 runs"):
        ltkit.conformal(features, two)
    assert ltkit.conformal(features, two, run="best", score="aps", threshold="marginal")


def test_a_file_of_a_correction(tmp_path, monkeypatch):
    from ltkit.files import classifiers

    monkeypatch.chdir(tmp_path)
    features = replace(naive_sets.features(), digest="f" * 64)
    one = logit_adjust(features)
    settings = {"tried": [{"tau": 1.0}], "select": "balanced"}
    classifiers.write(tmp_path / "c.h5", one, settings=settings, inputs=features.inputs, command="")
    found = ltkit.conformal(features, tmp_path / "c.h5", score="aps", threshold="marginal")
    assert "among 1 on val" in found.document["notes"][0]
    sets = ltkit.predict_sets(features, found, tmp_path / "c.h5")
    again = ltkit.predict_sets(features, found, one)
    assert all(np.array_equal(a, b) for a, b in zip(sets, again, strict=True))


def test_other_classes():
    features = naive_sets.features()
    found = ltkit.conformal(features, score="aps", threshold="marginal")
    other = naive_sets.features(counts=naive_sets.COUNTS[:6])
    with pytest.raises(InputError, match="is for 8 classes, found 6"):
        ltkit.predict_sets(other, found)


@pytest.mark.parametrize(
    ("logits", "words"),
    [
        ([[1.0, 2.0]], r"logits: found \(1, 2\), expected a column for each of the 3"),
        ([1.0, 2.0, 3.0], r"found \(3,\)"),
        ([[1.0, np.nan, 0.0]], "found NaN"), ([[True, False, True]], "found NaN, infinity or no"),
    ],
)  # fmt: skip
def test_logits_that_are_refused(logits, words):
    with pytest.raises(InputError, match=words):
        ltkit.predict_sets(logits, RULE)


def test_logits_have_no_classifier():
    with pytest.raises(InputError, match="classifier: found one beside logits"):
        ltkit.predict_sets([[1.0, 0.0, 0.0]], RULE, naive_sets.features().classifier())


def test_no_image():
    assert ltkit.predict_sets(np.zeros((0, 3)), RULE) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"score": "lac"}, "content: score: found lac, expected one of softmax, aps"),
        ({"score": ["aps"]}, "content: score"),
        ({"thresholds": [0.5, 0.5]}, "thresholds: .* a number for each of 3 classes"),
        ({"thresholds": [0.5, 0.5, "1"]}, "thresholds"), ({"thresholds": None}, "thresholds"),
        ({"thresholds": [0.5, 0.5, True]}, "thresholds"),
        ({"score": "pas"}, "prior: found None"),
        ({"score": "pas", "prior": [0.5, 0.5, 0]}, "prior"),
        ({"penalty": -1}, "penalty: found -1"), ({"penalty": "much"}, "penalty: found much"),
        ({"free": -1}, "free: found -1"),
    ],
)  # fmt: skip
def test_content_that_is_not_sound(change, words):
    with pytest.raises(FormatError, match=words):
        ltkit.predict_sets([[1.0, 0.0, 0.0]], replace(RULE, content=CONTENT | change))


def test_a_rule_of_another_kind():
    with pytest.raises(InputError, match="is a rule of rejector, expected sets"):
        ltkit.predict_sets([[1.0, 0.0, 0.0]], replace(RULE, kind="rejector"))


def test_a_correction_of_all_classes_needs_no_head():
    features = naive_sets.features()
    whole = Correction.whole("own", features.classifier())
    headless = replace(features, head=None)
    found = ltkit.conformal(headless, whole, score="aps", threshold="marginal")
    assert len(ltkit.predict_sets(headless, found, whole)) == 320
