"""What is the report's own: a section's numbers, worked out another way."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from reports import collected, correction, records, sectioned, small
from sklearn.calibration import calibration_curve
from sklearn.metrics import confusion_matrix

from ltkit.evaluation import analysis
from ltkit.files import classifiers
from ltkit.files import features as features_file
from ltkit.records import ClassTable, FeatureSet, FeatureSplit, Head
from ltkit.reporting import look
from ltkit.reporting.sections import class_map, loss_weights, norms
from ltkit.settings import NeighborSettings


def test_reliability_is_that_of_scikit_learn():
    features = small()
    entry = correction(features, runs=({"seed": 0}, {"seed": 1}))
    scores = collected(features, entry).scores
    part = sectioned(features, entry)["calibration"]
    found = part.found["rows"]
    assert len(found) == 2
    test, base = features.split("test"), features.classifier()
    logits = base.logits(test.features).astype(np.float64)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    sure, predicted = shares.max(axis=1), shares.argmax(axis=1)
    right = predicted == test.labels
    for group, ids in (("few", (3, 4)), ("many", (0,)), ("all", range(5))):
        inside = np.isin(predicted, ids)
        wanted = calibration_curve(right[inside], sure[inside], n_bins=15)
        for column, values in zip(("accuracy", "confidence"), wanted, strict=True):
            shown = [v for v in found[0][group][column] if v is not None]
            assert shown == pytest.approx(values, abs=1e-5)
        for row, document in zip(found, scores["rows"], strict=True):
            bins = row[group]
            if document["runs"] == 1:
                assert sum(bins["samples"]) == inside.sum()
                gaps = [n * abs(c - a) for n, c, a in
                        zip(*(bins[k] for k in ("samples", "confidence", "accuracy")), strict=True)
                        if n]  # fmt: skip
                error = document["calibration"][group]
                assert sum(gaps) / inside.sum() == pytest.approx(error, abs=1e-5)
    after = [base.logits(test.features) - base.bias + entry.correction.bias[s] for s in range(2)]
    hits = [(z.argmax(axis=1) == test.labels).mean() for z in after]
    bins = found[1]["all"]
    mean = sum(n * (a or 0) for n, a in zip(bins["samples"], bins["accuracy"], strict=True)) / 100
    assert mean == pytest.approx(np.mean(hits), abs=1e-5)
    (shown,) = (e for e in part.exhibits if e.key == "reliability")
    first = shown.views[0].traces[1]
    assert first["name"] == "few"
    assert first["x"] == pytest.approx(
        [100 * c for c in found[0]["few"]["confidence"] if c is not None], abs=1e-3
    )
    assert first["y"] == pytest.approx(
        [100 * a for a in found[0]["few"]["accuracy"] if a is not None], abs=1e-3
    )
    most = int(np.argmax(first["marker"]["size"]))
    assert most == int(np.argmax([n for n in found[0]["few"]["samples"] if n]))


def test_classes_named_by_wordnet_ids_are_read():
    features = small(("n01440764", "n02084071", "cat", "n99999999", "e"))
    names = ["tench (n01440764)", "dog (n02084071)", "cat", "n99999999", "e"]
    assert sectioned(features)["classes"].found["columns"]["name"] == names


def test_a_matrix_of_many_classes_counts_classes_on_its_axes():
    counts = tuple(range(250, 0, -1))
    parts = sectioned(small(counts=counts))
    (matrix,) = (e for e in parts["confusion"].exhibits if e.key == "confusion")
    trace = matrix.views[0].traces[0]
    assert len(trace["z"]) == 84  # of three classes each
    assert (trace["x0"], trace["dx"], trace["y0"], trace["dy"]) == (2, 3, 2, 3)


def test_confusions_are_those_of_scikit_learn():
    features = small()
    parts = sectioned(features, correction(features, runs=({"seed": 0}, {"seed": 1})))
    test, base = features.split("test"), features.classifier()
    own = base.logits(test.features).argmax(axis=1)
    order = [0, 1, 2, 3, 4]  # by training count
    table = confusion_matrix(test.labels, own, labels=order)
    found, classes = parts["confusion"].found, parts["classes"].found["columns"]
    assert found["count"][0] == table.tolist()
    assert [found["cells"][i][0] for i in range(5)] == order
    fold = np.array([[0, 0, 0, 1, 1], [0, 1, 1, 0, 0], [1, 0, 0, 0, 0]])  # few, medium, many
    assert found["groups"] == ["few", "medium", "many"]
    assert found["by_group"][0] == (fold @ table @ fold.T).tolist()
    after = [
        confusion_matrix(test.labels, (base.weight @ test.features.T).T.__add__(b).argmax(axis=1))
        for b in (0.5 * base.bias, 0 * base.bias)
    ]
    np.testing.assert_allclose(found["count"][1], np.mean(after, axis=0))
    worst = found["pairs"][0]
    off = table - np.diag(np.diag(table))
    assert worst["count"][0] == off.max() == off[worst["true"], worst["predicted"]]
    assert worst["count"][1] == np.mean(after, axis=0)[worst["true"], worst["predicted"]]
    diagonal = np.diag(table) / table.sum(axis=1)
    assert classes["accuracy"][0] == pytest.approx(diagonal)
    (other, count), *_ = classes["mistaken"][0][worst["true"]]
    assert (other, count) == (worst["predicted"], worst["count"][0])
    for c, row in enumerate(classes["mistaken"][0]):
        wrong = sorted(((-n, p) for p, n in enumerate(off[c]) if n))
        assert row == [[p, -n] for n, p in wrong]
    shown = next(e for e in parts["confusion"].exhibits if e.key == "confusion")
    shares = [
        [round(100 * n / row.sum(), 2) for n in row] for row in table
    ]  # fmt: skip
    assert shown.views[0].traces[0]["z"] == shares


def test_many_classes_share_cells_by_training_count():
    count = 250
    rng = np.random.default_rng(0)
    counts = rng.permutation(np.arange(1, count + 1))
    labels = np.arange(count)
    split = FeatureSplit(np.eye(count, dtype=np.float32), labels)
    wrong = np.roll(np.eye(count, dtype=np.float32), 1, axis=0)  # class c + 1 gets the row of c
    features = FeatureSet(
        {"train": split, "test": split}, ClassTable(counts), Head(wrong, np.zeros(count))
    )
    found = sectioned(features)["confusion"].found
    assert found["per_cell"] == 3
    assert [len(c) for c in found["cells"]] == [3] * 83 + [1]
    assert [c for row in found["cells"] for c in row] == np.argsort(-counts).tolist()
    table = np.array(found["count"][0])
    cell = {c: i for i, row in enumerate(found["cells"]) for c in row}
    for c in range(count):
        table[cell[c], cell[(c + 1) % count]] -= 1
    assert not table.any()


def test_coefficients_are_means_over_seeds(here, found):
    fit, _ = classifiers.read(Path("feats.alphanet.h5"))
    (row,) = (row for row in found["alpha"] if row["same"])
    rho = float(row["label"].split("rho ")[1])
    runs = [n for n, run in enumerate(fit.runs) if run["rho"] == rho]
    assert len(runs) == 2
    assert row["class"] == fit.class_id.tolist()
    np.testing.assert_allclose(row["alpha"], fit.extra["alpha"][runs].mean(axis=0), atol=1e-6)
    assert row["neighbor"] == fit.extra["neighbor"][runs[0]].tolist()
    view = found["exhibits"]["alpha"]["views"]
    assert len(view) == 1  # the random control has none
    trace = view[0]["data"][0]
    counts = [found["classes"]["train_count"][line[0][0]] for line in trace["customdata"]]
    assert counts == sorted(counts, reverse=True)
    place = row["class"].index(trace["customdata"][3][0][0])
    assert trace["z"][3] == row["alpha"][place]
    assert [pair[1] for pair in trace["customdata"][3]] == row["neighbor"][place]
    table = records(found["exhibits"]["alpha"])
    random = [r for r in table if r["setting"].startswith("alphanet random")]
    assert len({r["rank"] for r in random}) > 5


def test_flows_are_of_the_samples_that_analyze_counts():
    """A class that was never trained has no neighbours by features, so its samples do not count."""
    features = small()
    train = features.split("train")
    keep = train.labels != 4
    kept = FeatureSplit(train.features[keep], train.labels[keep])
    features = replace(features, splits={**features.splits, "train": kept})
    entry, notes = correction(features), []
    subject = analysis.observe(features, "test", [entry])
    said = analysis.analyze_flows(subject, NeighborSettings(), note=notes.append)["rows"]
    shown = sectioned(features, entry)["flows"].found["rows"]
    assert [row["n"] for row in shown] == [row["n"] for row in said] == [20, 60, 80]
    assert [row["count"] for row in shown] == [row["count"] for row in said]
    assert notes[-1] == "1 classes have no training sample: left out"


def test_map_and_loss_weights_of_many_classes(monkeypatch):
    collection = collected(small())
    alone = [curve["weight"] for curve in loss_weights.gather(collection)["curves"]]
    assert class_map.gather(collection)["lines"]
    monkeypatch.setattr(look, "POINTS", 2)
    monkeypatch.setattr(class_map, "LINED", 4)
    found = loss_weights.gather(collection)
    assert found["class"] == [0, 3]
    for curve, every in zip(found["curves"], alone, strict=True):
        assert curve["weight"] == pytest.approx([np.mean(every[:3]), np.mean(every[3:])], abs=1e-5)
    plane = class_map.gather(collection)
    assert plane["lines"] == []
    (exhibit,) = class_map.draw(plane, collection)
    assert "without the lines to neighbours" in exhibit.caption
    assert [t["mode"] for t in exhibit.views[0].traces] == ["markers+text"] * 3


def test_norms_weights_and_map(here, found):
    features = features_file.read(Path("feats.h5"))
    counts = features.classes.train_count
    norms = records(found["exhibits"]["norms"])
    assert [row["train_count"] for row in norms] == sorted(counts.tolist(), reverse=True)
    own = np.linalg.norm(features.classifier().weight, axis=1)
    assert [row["baseline"] for row in norms] == pytest.approx(own[[r["class"] for r in norms]])
    tau, _ = classifiers.read(Path("feats.tau-norm.h5"))
    (label,) = (name for name in found["labels"] if "tau-norm" in name)
    after = np.linalg.norm(tau.weight[0], axis=1)
    assert [row[label] for row in norms] == pytest.approx(
        after[[r["class"] for r in norms]], rel=1e-4
    )
    weights = records(found["exhibits"]["weights"])
    at = np.array([row["class"] for row in weights])
    inverse = (1 / counts) / (1 / counts).mean()
    assert [row["weighted, inverse"] for row in weights] == pytest.approx(inverse[at], rel=1e-4)
    effective = (1 - 0.999) / (1 - 0.999**counts)
    balanced = effective / effective.mean()
    assert [row["class-balanced, beta 0.999"] for row in weights] == pytest.approx(
        balanced[at], rel=1e-4
    )
    for name in found["exhibits"]["weights"]["columns"][4:]:
        assert np.mean([row[name] for row in weights]) == pytest.approx(1, rel=1e-4)
    plane = records(found["exhibits"]["map"])
    train = features.split("train")
    values = np.asarray(train.features[0 : len(train)], dtype=np.float64)
    means = np.stack([values[train.labels == row["class"]].mean(axis=0) for row in plane])
    left, size, _ = np.linalg.svd(means - means.mean(axis=0), full_matrices=False)
    for axis in (1, 2):
        mine = np.array([row[f"PCA {axis}"] for row in plane])
        theirs = left[:, axis - 1] * size[axis - 1]
        assert min(abs(mine - theirs).max(), abs(mine + theirs).max()) < 1e-3
    lines = found["exhibits"]["map"]["views"][0]["data"][0]
    assert len(lines["x"]) == 3 * 30 * 5
    first = next(row for row in plane if row["class"] == found["neighbors"]["class"][-1])
    assert lines["x"][-3] == first["t-SNE 1"]


def test_many_classes_share_the_points_of_a_line(monkeypatch):
    features = small(counts=tuple(range(21, 0, -1)))
    monkeypatch.setattr(look, "POINTS", 7)
    found = norms.gather(collected(features))
    own = np.linalg.norm(features.classifier().weight, axis=1)
    assert (found["classes_each"], len(found["class"])) == (3, 7)
    assert found["class"][:3] == [0, 3, 6]
    assert found["norm"][0] == pytest.approx(own.reshape(7, 3).mean(axis=1), abs=1e-5)
    exhibit, _ = norms.draw(found, collected(features))
    assert "A point is the mean of 3 classes" in exhibit.caption
    assert exhibit.rows[1][:2] == [4, 3]
    assert exhibit.views[0].traces[0]["x"][:3] == [1, 4, 7]


def test_calibration_is_that_of_the_rows(found):
    shown = records(found["exhibits"]["calibration"])
    detailed = [found["evaluate"]["rows"][0]]
    chosen = found["labels"][-1]
    detailed += [row for row in found["evaluate"]["rows"] if row["name"] == chosen.split(" ")[0]]
    for label, row in zip(("baseline", chosen), detailed, strict=True):
        errors = {r["group"]: r["calibration_error"] for r in shown if r["setting"] == label}
        assert errors == row["calibration"]


def test_the_tree_of_superclasses_has_their_mean_accuracy():
    features = small(("cat", "dog", "spade", "fox", "saw"), coarse=("p", "p", "t", "p", "t"))
    parts = sectioned(features)
    tree, accuracy = parts["tree"].found, parts["classes"].found["columns"]["accuracy"][0]
    nodes = {name: place for place, name in enumerate(tree["name"])}
    assert set(nodes) == {"all classes", "p", "t", "cat", "dog", "spade", "fox", "saw"}
    assert tree["classes"][nodes["p"]] == 3
    assert tree["accuracy"][0][nodes["p"]] == pytest.approx(
        np.mean([accuracy[c] for c in (0, 1, 3)])
    )
    assert tree["accuracy"][0][nodes["all classes"]] == pytest.approx(np.mean(accuracy))
    assert tree["parent"][nodes["saw"]] == tree["node"][nodes["t"]]
    assert tree["parent"][nodes["t"]] == ""


def test_the_tree_of_wordnet_holds_every_class_once(found):
    tree = records(found["exhibits"]["tree"])
    parents = {row["node"]: row["parent"] for row in tree}
    below = dict.fromkeys(parents, 0)
    for node in parents:
        if node.startswith("class "):
            while node:
                below[node] += 1
                node = parents[node]
    assert len([n for n in parents if n.startswith("class ")]) == 100
    assert below == {row["node"]: row["classes"] for row in tree}
    for row in tree:
        if row["parent"] and not row["node"].startswith("class "):
            assert 2 <= row["classes"] <= 0.8 * below[row["parent"]]
    balanced = found["evaluate"]["rows"][0]["accuracy"]["balanced"]
    assert tree[0]["baseline"] == pytest.approx(balanced, abs=1e-6)
