"""``analyze norms``: row norms by shot group, of heads with any number of experts."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_networks_command import run, write
from two_networks import first, second

from ltkit.errors import InputError
from ltkit.evaluation import Entry, networks
from ltkit.evaluation.analysis import analyze_norms, row_norms
from ltkit.records import ClassTable, Correction, FeatureSet, Head

GROUPS = {"many": [0, 1], "medium": [2, 3], "few": [4, 5], "all": range(6)}


def with_head(head):
    return replace(first(), head=head)


def by_hand(rows):
    norms = [sum(float(x) ** 2 for x in row) ** 0.5 for row in rows]
    found = {}
    for name, ids in GROUPS.items():
        mean = sum(norms[c] for c in ids) / len(ids)
        found[name] = mean, (sum((norms[c] - mean) ** 2 for c in ids) / len(ids)) ** 0.5
    return found


def same(row, expected):
    for name, (mean, deviation) in expected.items():
        assert row["mean"][name] == pytest.approx(mean, rel=1e-5)
        assert row["deviation"][name] == pytest.approx(deviation, rel=1e-4, abs=1e-6)


def test_a_linear_head_by_hand():
    features = first()
    (row,) = analyze_norms(features, [])["rows"]
    same(row, by_hand(features.head.weight))
    assert (row["label"], row["expert"]) == ("baseline", None)


def test_experts_have_their_own_rows_and_the_whole_is_their_mean():
    rows = np.random.default_rng(0).normal(size=(2, 6, 4)).astype(np.float32)
    features = with_head(Head(rows, np.zeros((2, 6), np.float32), scale=3.0))
    whole, one, other = analyze_norms(features, [])["rows"]
    assert [row["expert"] for row in (whole, one, other)] == [None, 1, 2]
    same(one, by_hand(3 * rows[0]))
    same(other, by_hand(3 * rows[1]))
    same(whole, by_hand(1.5 * np.concatenate([rows[0], rows[1]], axis=1)))


def test_rows_of_a_cosine_head_are_as_long_as_its_scale():
    rows = np.random.default_rng(0).normal(size=(3, 6, 4)).astype(np.float32)
    features = FeatureSet(
        {"test": replace(first().split("test"), features=np.ones((240, 12), np.float32))},
        first().classes, Head(rows, np.zeros((3, 6), np.float32), 16.0, "cosine"),
    )  # fmt: skip
    for row in analyze_norms(features, [])["rows"][1:]:
        same(row, dict.fromkeys(GROUPS, (16.0, 0.0)))
        assert row["r"] is None


def test_a_group_without_classes_has_no_norms():
    classes = ClassTable(np.array([300, 200, 150, 150, 101, 101]))
    (row,) = analyze_norms(replace(first(), classes=classes), [])["rows"]
    assert row["mean"]["few"] is row["deviation"]["few"] is None
    assert row["mean"]["many"] == row["mean"]["all"]


def test_corrections_and_networks_are_rows_and_seeds_are_averaged():
    a, b = first(), second()
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(2, 1, 5)).astype(np.float32)
    fit = Correction("fit", np.array([5]), rows, np.zeros((2, 1)), ({"seed": 0}, {"seed": 1}))
    found = analyze_norms(a, [networks.own_head(a, b), Entry("b fit", "f.h5", fit, b)])
    assert [row["label"] for row in found["rows"]] == ["baseline", "baseline", "b fit"]
    assert [row["runs"] for row in found["rows"]] == [1, 1, 2]
    same(found["rows"][1], by_hand(b.head.weight))
    lengths = np.linalg.norm(rows.astype(np.float64), axis=2).mean()
    assert found["rows"][2]["norm"][5] == pytest.approx(lengths)
    own = row_norms(b.classifier())[0]
    spread = [np.append(own[:5], np.linalg.norm(run[0])).std() for run in rows]
    assert found["rows"][2]["deviation"]["all"] == pytest.approx(np.mean(spread), rel=1e-6)


def test_other_classes_are_refused_other_images_are_not():
    a, b = first(), second()
    other = replace(b, splits={"test": b.split("test").at(np.arange(9))})
    assert len(analyze_norms(a, [networks.own_head(a, other)])["rows"]) == 2
    five = replace(
        b, classes=ClassTable(a.classes.train_count[:5]), head=Head(b.head.weight[:5], np.zeros(5))
    )
    with pytest.raises(InputError, match="found 5 classes, expected the 6 of features"):
        analyze_norms(a, [networks.own_head(a, five)])


def test_the_command(tmp_path, monkeypatch, ltkit):
    monkeypatch.chdir(tmp_path)
    write("ce.h5", first())
    write("swrm.h5", second())
    found = json.loads(run("analyze", "norms", "ce.h5", "swrm.h5", "--json", "-q").stdout)
    assert found["schema"] == "ltkit.analyze-norms/1"
    same(found["rows"][1], by_hand(second().head.weight))
    text = run("analyze", "norms", "ce.h5", "swrm.h5", "--csv", "n.csv").stdout
    line = next(line for line in text.splitlines() if line.strip().startswith("swrm"))
    assert f"{100 * by_hand(second().head.weight)['all'][1]:.1f}" in line.split()
    with Path("n.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["setting"], row["group"]) for row in rows[3:5]] == [("ce", "all"), ("swrm", "few")]
    code, _, said = ltkit("analyze", "norms", "ce.h5", "--csv", "ce.h5", "--overwrite")
    assert code == 2
    assert said.count("\n") == 1
