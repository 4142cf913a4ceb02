"""What is tried on val, what is recommended, and what the notes say of it."""

from dataclasses import replace

import naive_sets
import numpy as np
import pytest

import ltkit
from ltkit.errors import InputError
from ltkit.posthoc import bias, logit_adjust, ncm
from ltkit.prediction_sets import Wanted, choosing, conformal
from ltkit.records import ClassTable, Correction, FeatureSplit, stratified_folds
from ltkit.settings import ConformalSettings

COUNTS = naive_sets.COUNTS


class Unopened(FeatureSplit):
    """A split that nobody may read."""

    def __getattribute__(self, name):
        if name in ("features", "labels", "ids"):
            raise AssertionError(f"{name} was read")
        return super().__getattribute__(name)

    def __init__(self):
        """Hold nothing."""


def plain_sets(features, split, thresholds, name):
    p = naive_sets.probabilities(features.split(split), features.classifier())
    return [
        [c for c in range(8) if naive_sets.score(name, row, c, COUNTS) <= t[c]]
        for row, t in zip(p, thresholds, strict=True)
    ]


@pytest.mark.parametrize(("name", "how"), [("aps", "marginal"), ("pas", "class-wise")])
def test_cross_fitting_is_that_of_the_plain_form(name, how):
    features = naive_sets.features()
    val, coverage = features.split("val"), 0.8
    p, labels = naive_sets.probabilities(val, features.classifier()), val.labels
    scores = np.array([
        naive_sets.score(name, row, y, COUNTS) for row, y in zip(p, labels, strict=True)
    ])  # fmt: skip
    fold = stratified_folds(labels, 4)
    by_fold = [
        naive_sets.class_wise(scores[fold != f], labels[fold != f], 8, coverage)
        if how == "class-wise" else [naive_sets.quantile(scores[fold != f], coverage)] * 8
        for f in range(4)
    ]  # fmt: skip
    sets = plain_sets(features, "val", [by_fold[f] for f in fold], name)
    (row,) = conformal(features, wanted=Wanted(coverage, name, how, folds=4)).document["rows"]
    covered = np.array([y in one for y, one in zip(labels, sets, strict=True)])
    sizes = np.array([len(one) for one in sets])
    few = np.isin(labels, [5, 6, 7])
    assert row["coverage"]["all"] == pytest.approx(covered.mean())
    assert row["coverage"]["few"] == pytest.approx(covered[few].mean())
    assert row["size"]["all"] == pytest.approx(sizes.mean())
    assert row["size"]["few"] == pytest.approx(sizes[few].mean())
    assert row["single"] == pytest.approx((sizes == 1).mean())
    assert row["empty"] == pytest.approx((sizes == 0).mean())
    by_class = [covered[labels == c].mean() for c in range(8)]
    assert row["worst_class"]["coverage"] == pytest.approx(min(by_class))
    low, high = row["size_interval"]["all"]
    error = np.sqrt(np.mean([sizes[labels == c].var(ddof=1) for c in range(8)]) / len(sizes))
    assert low == pytest.approx(sizes.mean() - 2 * error, abs=0.15)
    assert high == pytest.approx(sizes.mean() + 2 * error, abs=0.15)


def test_test_figures_are_of_sets_that_val_calibrates():
    features = naive_sets.features()
    found = ltkit.conformal(features, coverage=0.8, score="softmax", threshold="class-wise",
                            split="test")  # fmt: skip
    sets = ltkit.predict_sets(features, found)
    labels = features.split("test").labels
    covered = np.array([y in one for y, one in zip(labels, sets, strict=True)])
    (row,) = found.document["rows"]
    assert row["coverage"]["all"] == pytest.approx(covered.mean())
    assert row["size"]["all"] == pytest.approx(np.mean([len(one) for one in sets]))
    assert found.document["split"] == "test"
    assert found.document["calibrated_on"] == "val"
    again = ltkit.conformal(features, coverage=0.8, score="softmax", threshold="class-wise")
    assert again.rule == found.rule


def test_test_is_not_read():
    features = naive_sets.features()
    closed = replace(features, splits={**features.splits, "test": Unopened()})
    assert conformal(closed).document == conformal(features).document


def test_all_are_tried_and_one_is_recommended():
    features = naive_sets.features(val=60)
    documents = {goal: ltkit.conformal(features, goal=goal).document
                 for goal in ("images", "groups", "classes")}  # fmt: skip
    chosen = {}
    for goal, document in documents.items():
        rows = document["rows"]
        assert len(rows) == 19  # a factor changes nothing class by class
        (chosen[goal],) = [row for row in rows if row["recommended"]]
        assert document["notes"][0].startswith("chosen among 19 on the images that calibrate them")
    assert chosen["classes"]["threshold"] == "class-wise"
    sizes = [chosen[goal]["size"]["all"] for goal in documents]
    assert sizes == sorted(sizes)  # what is harder takes larger sets
    few = {goal: row["coverage"]["few"] for goal, row in chosen.items()}
    assert few["groups"] > 0.85
    marginal = documents["groups"]["rows"][0]
    assert (marginal["score"], marginal["threshold"]) == ("softmax", "marginal")
    assert marginal["coverage"]["few"] < 0.85 < 0.88 < marginal["coverage"]["all"]


def test_where_no_sets_serve():
    row = {"coverage": {"few": 0.5, "medium": None, "many": 0.9},
           "coverage_interval": {"few": [0.4, 0.6], "medium": None, "many": None},
           "size": {"all": 2.0}}  # fmt: skip
    better = row | {"coverage": row["coverage"] | {"few": 0.6}, "size": {"all": 9.0}}
    place, note = choosing.best([row, better], [("aps", "marginal")] * 2, "groups", 0.9)
    assert place == 1
    assert "lack least" in note
    place, note = choosing.best([row, better], [("aps", "marginal")] * 2, "classes", 0.9)
    assert place == 0
    assert "classes" in note


def test_one_score_alone():
    rows = ltkit.conformal(naive_sets.features(), score="pas", goal="classes").document["rows"]
    assert [row["threshold"] for row in rows if row["recommended"]] == ["class-wise"]
    found = ltkit.conformal(naive_sets.features(), threshold="marginal", goal="classes")
    assert not found.document["served"]
    assert "none here serve the goal" in str(found)


def test_the_answer():
    found = ltkit.conformal(naive_sets.features(), score="pas", threshold="interpolated")
    lines = str(found).splitlines()
    assert lines[0].startswith("sets with the true class in 90 %: score pas, thresholds interpo")
    assert lines[1].startswith("guaranteed, for images drawn as val: 80 % of all images together")
    assert lines[2].startswith("on val, by cross-fitting: coverage ")
    assert lines[3].startswith("by shot group: few ")
    assert lines[4].startswith("worst class: ")
    assert len(lines) == 5


def test_too_few_images_of_a_class():
    features = naive_sets.features(val=np.array([20, 20, 20, 20, 20, 20, 8, 0]))
    found = ltkit.conformal(features, score="softmax", threshold="class-wise")
    assert found.document["notes"] == [
        "2 of 8 classes have fewer than the 9 val images that a guarantee of 0.9 for a class "
        "needs: class-wise, they are in every set"
    ]
    assert found.rule.content["thresholds"][6:] == [None, None]
    assert found.document["rows"][0]["always"] == 2
    assert str(found).splitlines()[-1] == "in every set, as too few val images say more: 2 classes"
    assert all({6, 7} <= set(one.tolist()) for one in ltkit.predict_sets(features, found))


def test_folds_that_leave_a_class_too_few():
    features = naive_sets.features(val=10)
    found = ltkit.conformal(features, score="softmax", threshold="class-wise", folds=5)
    assert found.document["notes"][0].startswith("5 folds leave some classes fewer than 9 images")
    assert found.document["rows"][0]["size"]["all"] == 8  # all classes, in each fold
    assert None not in found.rule.content["thresholds"]


def test_classes_without_training_images_count_as_one():
    counts = COUNTS.copy()
    counts[-1] = 0
    features = replace(naive_sets.features(), classes=ClassTable(counts))
    found = ltkit.conformal(features, score="pas", threshold="marginal")
    assert found.document["notes"] == [
        "classes without training images count as having one, in pas"
    ]
    assert found.rule.content["prior"][-1] == pytest.approx(1 / (counts.sum() + 1))


def test_one_image():
    features = naive_sets.features()
    part = features.split("val").at(np.array([0, 1]))
    pair = replace(features, splits={"val": FeatureSplit(part.features, np.array([0, 1]))})
    found = ltkit.conformal(pair, score="softmax", threshold="marginal")
    assert found.rule.content["thresholds"] == [None] * 8
    assert found.document["rows"][0]["coverage"]["all"] == 1.0
    assert "[no interval]" in str(found)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"coverage": 1.0}, "coverage: found 1, expected a number from 0.01"),
        ({"coverage": 0.0}, "coverage: found 0"), ({"folds": 1}, "folds: found 1"),
        ({"score": "lac"}, "score: found lac; there are"),
        ({"threshold": "classwise"}, "threshold: found classwise; did you mean class-wise"),
        ({"goal": "group"}, "goal: found group; did you mean groups"),
        ({"split": "train"}, "split: found train, expected val, by cross-fitting, or test"),
        ({"settings": ConformalSettings(share=2)}, "share: found 2"),
        ({"settings": ConformalSettings(bandwidth=0)}, "bandwidth: found 0"),
        ({"settings": ConformalSettings(rank_penalty=-1)}, "rank_penalty: found -1"),
    ],
)  # fmt: skip
def test_what_is_refused(change, words):
    with pytest.raises(InputError, match=words):
        ltkit.conformal(naive_sets.features(), **change)


def test_no_val_and_one_class():
    features = naive_sets.features()
    without = replace(features, splits={"test": features.split("test")})
    with pytest.raises(InputError, match=r"val: absent or empty; there are: test; .* extract val"):
        ltkit.conformal(without)
    with pytest.raises(InputError, match="test: absent or empty"):
        ltkit.conformal(replace(features, splits={"val": features.split("val")}), split="test")
    val = features.split("val")
    one = val.at(np.flatnonzero(val.labels == 3))
    with pytest.raises(InputError, match="found images of class 3 alone, expected two"):
        ltkit.conformal(replace(features, splits={"val": one}))


def test_a_head_that_learned_from_val_is_fitted_anew():
    features = naive_sets.features(val=10)
    one = bias(features, penalty=0.1)
    pair = {"score": "softmax", "threshold": "marginal", "folds": 5}
    found = ltkit.conformal(features, one, **pair)
    (note,) = found.document["notes"]
    assert note.startswith("bias learned from val: each fold is scored by a head fitted without it")
    assert not found.document["proven"]
    assert "aimed at, without proof" in str(found)
    fold, val = stratified_folds(features.split("val").labels, 5), features.split("val")
    scores = np.empty(len(val))
    for f in range(5):  # the plain form: the method, fitted to the rest
        rest = replace(
            features, splits={**features.splits, "val": val.at(np.flatnonzero(fold != f))}
        )
        head = features.corrected(bias(rest, penalty=0.1))
        p = naive_sets.probabilities(val, head)
        own = 1 - p[np.arange(len(val)), val.labels]
        scores[fold == f] = own[fold == f]
    assert found.rule.content["thresholds"][0] == pytest.approx(
        naive_sets.quantile(scores, 0.9), abs=1e-6
    )
    seen = ltkit.conformal(features, one, **pair, recalibrate_on=features)
    assert seen.document["notes"] == []  # the user says that these images are others
    assert seen.rule.content["thresholds"][0] < found.rule.content["thresholds"][0]


def test_notes_on_what_was_chosen():
    features = naive_sets.features()
    pair = {"score": "softmax", "threshold": "marginal"}
    assert ltkit.conformal(features, ncm(features), **pair).document["notes"] == []
    (note,) = ltkit.conformal(features, logit_adjust(features), **pair).document["notes"]
    assert note.startswith("tau of logit-adjust may be chosen on val, which calibrates: coverage")
    other = replace(logit_adjust(features), method="alphanet")
    (note,) = ltkit.conformal(features, other, **pair).document["notes"]
    assert note.startswith("alphanet may have been learned or chosen on val")
    learned = bias(features, penalty=1.0)
    named = replace(learned, method="recommended (bias)")
    (note,) = ltkit.conformal(features, named, **pair, folds=2).document["notes"]
    assert note.startswith("bias learned from val: each fold is scored by a head fitted without")
    headless = replace(features, head=None)
    (note,) = ltkit.conformal(headless, learned, **pair).document["notes"]
    assert note.startswith("bias may have been learned or chosen on val")
    kept = Correction.baseline(features.classifier())
    assert ltkit.conformal(features, kept, **pair).document["notes"] == []
    for settings, said in (({"tried": [1, 2], "select": "few"}, "among 2 on val"), ({"a": 1}, "")):
        found = conformal(features, logit_adjust(features), Wanted(0.9, "aps", "marginal"),
                          made_with=settings)  # fmt: skip
        assert said in "".join(found.document["notes"])
        assert found.document["proven"] == (said == "")


def test_a_base_that_learned_from_val():
    features = naive_sets.features()
    pair = {"score": "softmax", "threshold": "marginal"}
    (note,) = ltkit.conformal(features, base=bias(features), **pair).document["notes"]
    assert note.startswith("bias may have been learned or chosen on val")
    assert ltkit.conformal(features, base=ncm(features), **pair).document["notes"] == []


def test_another_base():
    features = naive_sets.features()
    without = replace(features, head=None)
    with pytest.raises(InputError, match="head: absent"):
        ltkit.conformal(without)
    found = ltkit.conformal(without, base=features.head, score="aps", threshold="marginal")
    assert (
        found.rule.content
        == ltkit.conformal(features, score="aps", threshold="marginal").rule.content
    )
