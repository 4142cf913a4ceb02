import csv
import json
from pathlib import Path

import numpy as np
import pytest
from shared_data import shared
from typer.testing import CliRunner

from ltkit import evaluation
from ltkit.cli import app
from ltkit.errors import InputError
from ltkit.evaluation import Entry, Grouping, entries_of, evaluate, metrics, predict
from ltkit.neighbors import wordnet
from ltkit.posthoc import logit_adjust
from ltkit.records import (
    Classifier,
    ClassTable,
    Correction,
    FeatureSet,
    FeatureSplit,
    Head,
)

COUNTS = np.array([300, 120, 60, 30, 10, 5])


def made(seed=0, per_class=40, **head):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(6, 8))
    labels = np.repeat(np.arange(6), per_class)
    features = (centres[labels] + rng.normal(size=(len(labels), 8))).astype(np.float32)
    weight = (centres + 0.3 * rng.normal(size=(6, 8))).astype(np.float32)
    split = FeatureSplit(features, labels)
    return FeatureSet(
        {"test": split}, ClassTable(COUNTS), Head(weight, np.log(COUNTS).astype(np.float32), **head)
    )


def some_rows(features, runs=3, seed=0):
    """A correction of classes 4 and 5, in a few runs."""
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(runs, 2, features.feature_size)).astype(np.float32)
    bias = rng.normal(size=(runs, 2)).astype(np.float32)
    settings = tuple({"rho": 1.0, "seed": s} for s in range(runs))
    return Correction("made", np.array([4, 5]), weight, bias, settings)


def test_predictions_equal_those_of_the_whole_corrected_classifier():
    features = made()
    base, data = features.classifier(), features.split("test")
    correction = some_rows(features)
    own, found = predict(data, base, [Correction.baseline(base), correction])
    for run in range(3):
        logits = correction.classifier(base, run).logits(data.features[:]).astype(np.float64)
        np.testing.assert_array_equal(found.predicted[run], logits.argmax(axis=1))
        order = np.argsort(-logits, axis=1, kind="stable")
        rank = (order == data.labels[:, None]).argmax(axis=1)
        np.testing.assert_array_equal(found.rank[run], rank)
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        np.testing.assert_allclose(found.confidence[run], 1 / shifted.sum(axis=1), rtol=1e-4)
    plain = base.logits(data.features[:]).argmax(axis=1)
    np.testing.assert_array_equal(own.predicted[0], plain)


def test_blocks_make_no_difference(monkeypatch):
    features = made()
    base = features.classifier()
    own = [Correction.baseline(base)]
    (whole,) = predict(features.split("test"), base, own)
    monkeypatch.setattr("ltkit.records.arrays.BLOCK_BYTES", 100)
    (cut,) = predict(features.split("test"), base, own)
    np.testing.assert_array_equal(whole.predicted, cut.predicted)


def test_equal_logits_go_to_the_lowest_class_id():
    base = Classifier(np.zeros((4, 2), np.float32), np.zeros(4, np.float32))
    data = FeatureSplit(np.zeros((4, 2), np.float32), np.arange(4))
    (own,) = predict(data, base, [Correction.baseline(base)])
    assert own.predicted.tolist() == [[0, 0, 0, 0]]
    assert own.rank.tolist() == [[0, 1, 2, 3]]


def test_a_correction_on_raw_features_beside_a_cosine_head():
    features = made(scale=20.0, normalize="cosine")
    data, base = features.split("test"), features.classifier()
    raw = some_rows(features)
    whole = Correction.whole("ncm", Classifier(raw.weight[0].repeat(3, 0), np.arange(6.0)))
    (found,) = predict(data, base, [whole])
    expected = (data.features[:] @ whole.weight[0].T + whole.bias[0]).argmax(axis=1)
    np.testing.assert_array_equal(found.predicted[0], expected)


def test_document_of_several_runs_is_mean_and_deviation_over_seeds():
    features = made()
    data, base = features.split("test"), features.classifier()
    correction = some_rows(features)
    document, by_class = evaluate(features, "test", [Entry("made", "x.h5", correction)])
    row = document["rows"][1]
    accuracies = []
    for run in range(3):
        right = correction.classifier(base, run).logits(data.features[:]).argmax(1) == data.labels
        accuracies.append([right[data.labels == c].mean() for c in range(6)])
    few = np.mean(np.array(accuracies)[:, 4:], axis=1)
    assert row["accuracy"]["few"] == pytest.approx(few.mean())
    assert row["std"]["few"] == pytest.approx(few.std(ddof=1))
    assert row["runs"] == 3
    baseline = document["rows"][0]
    assert baseline["std"] is None
    assert row["difference"]["few"] == pytest.approx(few.mean() - baseline["accuracy"]["few"])
    low, high = row["interval"]["few"]
    assert low < few.mean() < high
    assert list(by_class) == ["baseline", "made rho=1"]
    assert document["groups"] == {"few": 2, "medium": 2, "many": 2}


def test_settings_are_rows_in_ascending_order():
    features = made()
    correction = some_rows(features, runs=4)
    runs = tuple({"rho": rho, "seed": s} for rho in (1.5, 0.5) for s in (0, 1))
    correction = Correction("m", correction.class_id, correction.weight, correction.bias, runs)
    found = list(evaluation.settings_of(correction))
    assert [settings["rho"] for settings, _ in found] == [0.5, 1.5]
    assert [runs for _, runs in found] == [[2, 3], [0, 1]]


def test_grouped_accuracy_counts_related_classes():
    features = made()
    related = wordnet.group_members(["a", "a", "b", "b", "c", "c"])
    grouping = Grouping(related, {"by": "file"})
    document, _ = evaluate(features, "test", [], grouping=grouping)
    data, base = features.split("test"), features.classifier()
    predicted = base.logits(data.features[:]).argmax(axis=1)
    by_hand = np.mean(predicted // 2 == data.labels // 2)
    grouped = document["rows"][0]["grouped"]
    assert grouped["accuracy"]["all"] == pytest.approx(by_hand)
    assert grouped["mean_group_size"] == 2
    assert grouped["chance"] == pytest.approx(2 / 6)


def test_wrong_inputs():
    features = made()
    with pytest.raises(InputError, match="no split val; there are: test"):
        evaluate(features, "val", [])
    empty = FeatureSplit(np.empty((0, 8), np.float32), np.empty(0, np.int64))
    with pytest.raises(InputError, match="test: found no sample"):
        evaluate(FeatureSet({"test": empty}, features.classes, features.head), "test", [])
    with pytest.raises(InputError, match="head: absent"):
        evaluate(FeatureSet(features.splits, features.classes), "test", [])
    other = made(1)
    wide = Correction("w", np.array([9]), np.zeros((1, 1, 8)), np.zeros((1, 1)), ({},))
    with pytest.raises(InputError, match="class ids up to 9"):
        evaluate(other, "test", [Entry("w", "w.h5", wide)])
    broken = Classifier(np.full((6, 8), np.nan, np.float32), np.zeros(6, np.float32))
    with pytest.raises(InputError, match="logits: not finite"):
        predict(features.split("test"), broken, [Correction.baseline(broken)])


def reference_rows():
    path = shared("reference", "cifar100_lt100_reported.tsv")
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file, delimiter="\t"))


@pytest.mark.parametrize("split", ["balanced_test", "imbalanced_test"])
def test_reproduces_the_reported_figures_of_the_reference(split, tmp_path, monkeypatch):
    """Confusion matrices of six networks, through import and evaluate, to the digit."""
    monkeypatch.chdir(tmp_path)
    arrays = np.load(shared("reference", "cifar100_lt100_confusions.npz"))
    rows = [row for row in reference_rows() if row["split"] == split]
    assert len(rows) == 6
    for row in rows:
        confusion = arrays[f"{row['method']}__{split}"].astype(np.int64)
        true, predicted = np.nonzero(confusion)
        repeats = confusion[true, predicted]
        logits = np.eye(100, dtype=np.float32)[np.repeat(predicted, repeats)]
        np.savez(
            "made.npz",
            test_features=logits,
            test_labels=np.repeat(true, repeats),
            train_counts=arrays["train_counts"],
        )
        run = CliRunner()
        imported = run.invoke(app, ["import", "made.npz", "--overwrite"])
        assert imported.exit_code == 0, imported.output
        result = run.invoke(app, ["evaluate", "made.h5", "--json"])
        accuracy = json.loads(result.stdout)["rows"][0]["accuracy"]
        reported = {
            "all": row["top1"], "balanced": row["balanced_acc"], "many": row["many_acc"],
            "medium": row["medium_acc"], "few": row["few_acc"],
        }  # fmt: skip
        for name, value in reported.items():
            assert accuracy[name] == pytest.approx(float(value), abs=1e-12), (row["method"], name)


def test_logit_adjustment_raises_the_few_classes_of_a_biased_head():
    """The whole chain on made features: the effect has the sign it is known for."""
    features = made(per_class=200)
    fitted = logit_adjust.fit(features.classifier(), None, COUNTS)
    entry = Entry("la", "la.h5", Correction.whole("la", fitted, {"tau": 1.0}))
    document, _ = evaluate(features, "test", [entry])
    difference = document["rows"][1]["difference_interval"]
    assert difference["few"][0] > 0
    assert difference["many"][1] < 0


def test_calibration_is_of_what_is_predicted():
    """By the class that is predicted; a group that is never predicted has none."""
    features = made()
    data, base = features.split("test"), features.classifier()
    logits = base.logits(data.features[:]).astype(np.float64)
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    sure = (shares / shares.sum(axis=1, keepdims=True)).max(axis=1)
    predicted = logits.argmax(axis=1)
    (row,) = evaluate(features, "test", [])[0]["rows"]
    for group, ids in features.groups().items():
        inside = np.isin(predicted, ids)
        expected = metrics.calibration_error(sure[inside], (predicted == data.labels)[inside])
        assert row["calibration"][group] == pytest.approx(expected, abs=1e-6)
    never = Correction.whole("never", Classifier(base.weight, base.bias - 1e4 * (COUNTS < 20)))
    rows = evaluate(features, "test", [Entry("never", "x.h5", never)])[0]["rows"]
    assert rows[1]["calibration"]["few"] is None
    assert rows[1]["calibration"]["all"] > 0


def test_corrections_of_one_method_are_told_apart():
    def of(method, *runs):
        rows = np.zeros((len(runs), 1, 2), np.float32)
        return Correction(method, np.array([0]), rows, rows[:, :, 0], runs)

    def names(*read, taken=()):
        files = [(Path(file), correction) for file, correction in read]
        return [entry.name for entry in entries_of(files, taken, "feats")]

    one, other = of("m", {"tau": 1.0, "kind": "a"}), of("m", {"tau": 1.0, "kind": "b"})
    sweep = of("m", {"tau": 1.0}, {"tau": 2.0})
    seeds = of("m", {"tau": 2.0, "seed": 0}, {"tau": 2.0, "seed": 1})
    assert names(("any.h5", one), ("feats.x.h5", of("x", {}))) == ["m", "x"]
    assert names(("p.h5", one), ("q.h5", other)) == ["m kind a", "m kind b"]
    assert names(("feats.m.h5", of("m", {"tau": 1.0})), ("q.h5", seeds)) == ["m tau 1", "m tau 2"]
    assert names(("feats.m.h5", one), ("feats.m-sweep.h5", sweep)) == ["m", "m-sweep"]
    assert names(("feats.m.h5", one), ("feats.try.h5", sweep)) == ["m", "m try"]
    assert names(("feats.m.h5", one), ("feats.n.h5", one)) == ["m", "m n"]
    assert names(("p/m.h5", one), ("q/m.h5", one)) == ["p/m.h5", "q/m.h5"]
    assert names(("feats.m.h5", one), taken=["m"]) == ["feats.m"]


def test_several_seeds_as_the_head_that_is_shipped():
    features = made()
    rng = np.random.default_rng(1)
    base = features.classifier()
    heads = [base.weight + rng.normal(0, 0.6, base.weight.shape).astype(np.float32) for _ in "abc"]
    runs = tuple({"rho": 1.0, "seed": n} for n in range(3))
    bias = np.repeat(base.bias[None], 3, axis=0)
    seeds = Entry("m", "m.h5", Correction("m", np.arange(6), np.stack(heads), bias, runs))
    (mean,) = evaluation.of_seeds([seeds], "mean", features)
    assert mean.name == "m mean"
    document, _ = evaluate(features, "test", [mean], replicates=100)
    row = document["rows"][1]
    test = features.split("test")
    logits = test.features @ np.mean(heads, axis=0).T + base.bias
    assert row["accuracy"]["all"] == pytest.approx((logits.argmax(axis=1) == test.labels).mean())
    assert row["runs"] == 1
    assert row["label"] == "m mean rho 1"
    val = FeatureSet(features.splits | {"val": test}, features.classes, features.head)
    (best,) = evaluation.of_seeds([seeds], "best", val)
    each = [((test.features @ w.T + base.bias).argmax(axis=1) == test.labels).mean() for w in heads]
    assert best.name == "m best"
    assert [run["seed"] for run in best.correction.runs] == [int(np.argmax(each))]
    with pytest.raises(InputError, match="no validation split"):
        evaluation.of_seeds([seeds], "best", features)
    single = Entry("one", "one.h5", seeds.correction.only([0]))
    assert evaluation.of_seeds([single], "mean", features) == [single]
