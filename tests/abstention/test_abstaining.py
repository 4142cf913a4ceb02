"""Curves and rejectors of a features file, what they are written as, and what is refused."""

import json
from dataclasses import replace

import numpy as np
import pytest
from known_posteriors import blobs

import ltkit as library
from ltkit.abstention import Asked, rejections, risk_coverage
from ltkit.abstention.measuring import BUDGETS
from ltkit.errors import FormatError, InputError, SettingError
from ltkit.evaluation import evaluate, predict_classes
from ltkit.evaluation.named import classifier_of
from ltkit.files import features as features_file
from ltkit.records import ClassTable, Correction, FeatureSet, FeatureSplit
from ltkit.settings import ImportSettings
from ltkit.sources.arrays import import_arrays


class Unopened(FeatureSplit):
    """A split that nobody may read."""

    def __getattribute__(self, name):
        if name in ("features", "labels", "ids"):
            raise AssertionError(f"{name} was read")
        return super().__getattribute__(name)

    def __init__(self):
        """Hold nothing."""


@pytest.fixture(scope="module")
def features():
    return blobs()


@pytest.fixture(scope="module")
def document(features):
    return risk_coverage(features, features.classifier(), Asked(budget=0.2), split="test").document


@pytest.fixture(scope="module")
def rule(features):
    asked = Asked(0.1, method="max-softmax", folds=2)
    return risk_coverage(features, features.classifier(), asked).rule


def method(document, name):
    return next(row for row in document["methods"] if row["method"] == name)


def test_where_all_is_answered_it_is_what_evaluate_says(features, document):
    scored, _ = evaluate(features, "test", [], topk=())
    accuracy = scored["rows"][0]["accuracy"]
    first = method(document, "max-softmax")["points"][0]
    assert first["rejected"] == 0
    assert {n: round(1 - v, 9) for n, v in first["risk"].items()} == pytest.approx(
        {n: accuracy[n] for n in first["risk"]}
    )


def test_chows_rule_is_that_of_the_largest_probability(features, document):
    split, head = features.split("test"), features.classifier()
    z = split.features.astype(np.float64) @ head.weight.T + head.bias
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    best, wrong = p.max(axis=1), p.argmax(axis=1) != split.labels
    for point in method(document, "max-softmax")["points"]:
        kept = np.argsort(best)[round(point["budget"] * len(split)) :]
        assert point["risk"]["all"] == pytest.approx(wrong[kept].mean(), abs=0.011)  # a tie, or two


def test_the_area_is_the_mean_of_the_curve(document):
    for row in document["methods"]:
        values = [point["risk"]["balanced"] for point in row["points"]]
        assert row["area"]["balanced"] == pytest.approx(np.trapezoid(values, BUDGETS) / BUDGETS[-1])
        low, high = row["area_interval"]["balanced"]
        assert low < row["area"]["balanced"] < high
    one, other = (method(document, name)["area"]["all"] for name in ("plug-in", "max-softmax"))
    assert document["difference"]["area"]["all"] == pytest.approx(one - other)


def test_costs_help_the_balanced_error_and_not_by_handing_over_the_rare(document):
    low, high = document["difference"]["area_interval"]["balanced"]
    assert low < document["difference"]["area"]["balanced"] < high < 0
    chow, costs = (method(document, n)["points"][2] for n in ("max-softmax", "plug-in"))
    assert costs["rejected_by_group"]["few"] < chow["rejected_by_group"]["few"]


def test_on_val_test_is_not_read(features):
    closed = replace(features, splits={**features.splits, "test": Unopened()})
    found = risk_coverage(closed, closed.classifier(), Asked(budget=0.1))
    assert found.document == risk_coverage(
        features, features.classifier(), Asked(budget=0.1)
    ).document  # fmt: skip
    assert found.document["split"] == "val"
    assert "test" not in found.document["rejector"]


def test_no_sample_of_val_is_judged_by_itself(features):
    """Labels of noise: in sample, costs would do better than chance."""
    val = features.split("val")
    rng, errors = np.random.default_rng(1), []
    for _ in range(4):
        noise = replace(val, labels=rng.permutation(val.labels))
        made = replace(features, splits={"val": noise})
        found = risk_coverage(made, features.classifier(), Asked(folds=2)).document
        errors += [point["risk"]["balanced"] for point in method(found, "plug-in")["points"][:6]]
    assert np.mean(errors) == pytest.approx(7 / 8, abs=0.035)


def test_classes_in_another_order(features):
    order = np.random.default_rng(0).permutation(8)
    place = np.argsort(order)
    head = replace(
        features.head, weight=features.head.weight[order], bias=features.head.bias[order]
    )
    splits = {n: replace(s, labels=place[s.labels]) for n, s in features.splits.items()}
    moved = FeatureSet(splits, ClassTable(features.classes.train_count[order]), head)
    one, other = (
        risk_coverage(f, f.classifier(), Asked(folds=2), split="test").document
        for f in (features, moved)
    )
    for a, b in zip(one["methods"], other["methods"], strict=True):
        assert a["area"] == pytest.approx(b["area"], abs=1e-3)


def test_the_threshold_keeps_to_its_budget(features, document):
    made = document["rejector"]
    low, high = made["threshold_interval"]
    assert low <= made["threshold"] <= high
    assert made["val"]["rejected"] == pytest.approx(0.2, abs=0.03)
    assert made["test"]["rejected"] == pytest.approx(0.2, abs=0.08)
    assert made["wanted"] is None


@pytest.mark.parametrize("of", ["balanced", "all"])
def test_a_wanted_error_is_reached_at_the_least_budget(features, of):
    first = risk_coverage(features, features.classifier(), Asked(folds=2)).document
    points = method(first, "max-softmax")["points"]
    wanted = (points[3]["risk"][of] + points[4]["risk"][of]) / 2
    asked = Asked(risk=wanted, of=of, method="max-softmax", folds=2)
    made = risk_coverage(features, features.classifier(), asked).document["rejector"]
    assert 0.3 < made["budget"] <= 0.4
    assert made["val"]["risk"][of] <= wanted
    low, high = made["wanted"]["budget_interval"]
    assert low <= made["budget"]
    assert high is None or made["budget"] <= high + 1e-9


def test_an_error_that_all_answers_keep_to_asks_for_no_budget(features):
    made = risk_coverage(features, features.classifier(), Asked(risk=0.98, folds=2)).document[
        "rejector"
    ]
    assert made["budget"] == 0
    assert made["wanted"]["budget_interval"] == [0.0, 0.0]


def test_an_error_that_is_out_of_reach(features):
    with pytest.raises(SettingError, match=r"risk: found 0.001, the balanced error is at least 0"):
        risk_coverage(features, features.classifier(), Asked(risk=0.001, folds=2))


def test_a_rejector_of_a_classifier(tmp_path, features):
    """What the call writes is what it applies, to a corrected head, too."""
    ((weight, bias),) = [(features.classifier().weight, features.classifier().bias + 0.5)]
    corrected = Correction.whole("moved", replace(features.classifier(), weight=weight, bias=bias))
    path = tmp_path / "r.json"
    found = library.risk_coverage(features, corrected, budget=0.3, output=path)
    done = library.rejects(features, path, corrected)
    again = library.rejects(features, found.rule, corrected)
    assert (done.rejected == again.rejected).all()
    assert done.rejected.mean() == pytest.approx(0.3, abs=0.1)
    assert (done.rejected == (done.scores > found.rule.content["threshold"])).all()
    assert set(done.answers) <= set(range(8))
    with pytest.raises(InputError, match="exists"):
        library.risk_coverage(features, corrected, budget=0.3, output=path)
    moved = replace(corrected, bias=corrected.bias + np.arange(8, dtype=np.float32))
    with pytest.raises(InputError, match="is for the classifier"):
        library.rejects(features, path, moved)


def test_logits_are_enough(features, rule):
    x = features.split("test").features
    logits = features.classifier().logits(x)
    done, again = library.rejects(logits, rule), library.rejects(features, rule)
    assert (done.rejected == again.rejected).all()
    assert (done.answers == again.answers).all()
    assert library.rejects(logits[:0], rule).rejected.shape == (0,)
    with pytest.raises(InputError, match="beside logits"):
        library.rejects(logits, rule, features.classifier())
    with pytest.raises(InputError, match="a column for each of the 8 classes"):
        library.rejects(logits[:, :7], rule)
    with pytest.raises(InputError, match="found NaN or infinity"):
        library.rejects(np.full((1, 8), np.nan), rule)


def test_curves_alone_hand_over_nothing(features):
    found = library.risk_coverage(features, method="max-softmax", folds=2)
    with pytest.raises(InputError, match="curves without a rejector"):
        library.rejects(features, found)


def test_max_softmax_answers_what_the_head_does(features, rule):
    done = rejections(features, rule, features.classifier())
    base = features.classifier()
    ((predicted,),) = predict_classes(features.split("test"), base, [Correction.baseline(base)])
    assert (done.answers == predicted).mean() > 0.999


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"group_of_class": [0] * 7}, "a group from 0 to 2"),
        ({"group_of_class": [0] * 7 + [3]}, "a group from 0 to 2"),
        ({"group_of_class": [0] * 8}, "a group from 0 to 2"),
        ({"group_of_class": None}, "a group from 0 to 2"),
        ({"groups": None}, "a group from 0 to 0"),
        ({"alpha": [1.0, 2.0]}, "3 positive numbers"),
        ({"alpha": [1.0, 2.0, 0.0]}, "3 positive numbers"),
        ({"mu": [1.0, 2.0, "x"]}, "3 positive numbers"),
        ({"threshold": None}, "3 positive numbers"),
        ({"threshold": True}, "3 positive numbers"),
    ],
)
def test_what_is_no_rejector(features, rule, change, said):
    odd = replace(rule, content={**rule.content, **change})
    with pytest.raises(FormatError, match=said):
        rejections(features, odd, features.classifier())


def test_a_rule_of_another_kind(features, rule):
    with pytest.raises(InputError, match="a rule of kind sets, expected rejector"):
        rejections(features, replace(rule, kind="sets"), features.classifier())


def test_what_cannot_be_asked(features):
    for wrong, said in (
        ({"budget": 1.0}, "budget"),
        ({"risk": 0.0}, "risk"),
        ({"folds": 1}, "folds"),
    ):
        with pytest.raises(InputError, match=said):
            Asked(**wrong)
    with pytest.raises(SettingError, match="say one of them"):
        Asked(budget=0.1, risk=0.1)
    head = features.classifier()
    only = replace(features, splits={"test": features.split("test")})
    with pytest.raises(InputError, match="val: absent or empty; there are: test"):
        risk_coverage(only, head)
    small = replace(features, splits={"val": features.split("val").at(np.arange(9))})
    with pytest.raises(InputError, match="val: found 9 samples, expected 10"):
        risk_coverage(small, head)
    one = library.features(val=([[1.0]] * 20, [0] * 20), weight=[[1.0]], train_counts=[5])
    with pytest.raises(InputError, match="found one class, expected two"):
        risk_coverage(one, one.classifier())


def test_notes(features):
    val = features.split("val")
    some = replace(val.at(np.flatnonzero(val.labels < 5)))
    made = replace(features, splits={"val": some, "train": features.split("train")})
    found = risk_coverage(made, features.classifier(), split="train").document
    assert found["notes"][0] == "no val sample of few classes: treated like the others"
    assert found["notes"][1].startswith("the network has learned the train images")


def test_in_one_group_costs_change_nothing(features):
    found = risk_coverage(features, features.classifier(), Asked(folds=2), bins=(1, 1)).document
    assert found["notes"] == [
        "all classes are in one shot group: the plug-in ranks as the max softmax does"
    ]  # fmt: skip
    assert found["figures"] == ["many", "all", "balanced"]
    assert found["difference"]["area"]["balanced"] == pytest.approx(0, abs=1e-9)


@pytest.fixture
def folder(tmp_path, monkeypatch, features):
    """A folder with feats.h5."""
    arrays = {"weight": features.head.weight, "bias": features.head.bias}
    for split in ("train", "val", "test"):
        arrays[f"{split}_features"] = features.split(split).features
        arrays[f"{split}_labels"] = features.split(split).labels
    np.savez(tmp_path / "a.npz", **arrays)
    import_arrays(
        tmp_path / "a.npz", tmp_path / "feats.h5", settings=ImportSettings(weight_rows="classes")
    )
    (tmp_path / "a.npz").unlink()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_command(ltkit, folder):
    words = ("analyze", "risk-coverage", "--risk", "0.4", "--split", "test", "-o", "r.json")
    code, out, said = ltkit(*words, "--csv", "c.csv")
    assert code == 0
    assert "0 %, max-softmax" in out
    last = out.splitlines()[-5:]
    assert last[0].startswith("plug-in less max-softmax, points of the mean error: balanced -")
    assert last[1].startswith("plug-in: hand over where the score is above ")
    assert last[3].startswith("out of fold on val: ")
    assert last[4].startswith("with this threshold on test: ")
    assert last[2].startswith("for a balanced error of 40 %, ")
    assert "wrote r.json" in said
    assert json.loads((folder / "r.json").read_text())["schema"] == "ltkit.rejector/1"
    assert len((folder / "c.csv").read_text().splitlines()) == 1 + 2 * 10 * 5
    read = features_file.read(folder / "feats.h5")
    assert library.rejects(read, "r.json").rejected.any()


def test_json_is_what_the_call_gives(ltkit, folder):
    code, out, said = ltkit("analyze", "risk-coverage", "feats.h5", "--json", "-q")
    assert (code, said) == (0, "")
    found = library.risk_coverage(features_file.read(folder / "feats.h5"))
    assert found.rule is None
    assert json.loads(out) == {**found.document, "features": "feats.h5"}


def test_a_head_chosen_on_val_is_said(ltkit, folder):
    ltkit("posthoc", "logit-adjust", "feats.h5", "-o", "la.h5", "-q")
    code, _, said = ltkit("analyze", "risk-coverage", "feats.h5", "--classifier", "la.h5")
    assert code == 0
    assert "note: la.h5 was chosen on val: errors there look lower than they are" in said
    features = features_file.read(folder / "feats.h5")
    found, notes = classifier_of(features, folder / "la.h5")
    assert len(notes) == 1
    assert not np.array_equal(found.bias, features.classifier().bias)
