"""Confused pairs and shot groups of one network beside another's."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from compared import hits, told
from sklearn.metrics import confusion_matrix
from test_networks_command import document, run, write
from two_networks import first, predictions, second

from ltkit.errors import SettingError
from ltkit.evaluation import Entry, compare, group_confusions, most_confused, networks
from ltkit.evaluation.analysis import analyze_confusion, observe


def both():
    a, b = first(), second()
    subject = observe(a, "test", [Entry("b", "b.h5", networks.own_head(a, b).correction, b)])
    tables = [
        confusion_matrix(a.split("test").labels, predictions(of), labels=range(6)) for of in (a, b)
    ]
    return subject, tables


def test_pairs_are_those_of_scikit_learn_with_their_change():
    subject, (one, other) = both()
    found = analyze_confusion(subject, count=4)
    off = [(-one[t, p], t, p) for t in range(6) for p in range(6) if t != p and one[t, p]]
    assert [(p["true"]["id"], p["predicted"]["id"]) for p in found["pairs"]] == [
        (t, p) for _, t, p in sorted(off)[:4]
    ]
    for pair in found["pairs"]:
        t, p = pair["true"]["id"], pair["predicted"]["id"]
        assert pair["samples"] == 40
        assert pair["count"] == [one[t, p], other[t, p]]
        assert pair["share"] == pytest.approx([one[t, p] / 40, other[t, p] / 40])
        assert pair["change"] == pytest.approx([0, (other[t, p] - one[t, p]) / 40])
        wrong = [table[t].sum() - table[t, t] for table in (one, other)]
        assert pair["of_errors"] == [
            pytest.approx(table[t, p] / n) if n else None
            for table, n in zip((one, other), wrong, strict=True)
        ]


def test_groups_are_folded_tables_and_pairs_are_of_the_setting_asked_for():
    subject, (one, other) = both()
    found = analyze_confusion(subject, of="b", count=1)
    fold = np.array([[0, 0, 0, 0, 1, 1], [0, 0, 1, 1, 0, 0], [1, 1, 0, 0, 0, 0]])
    assert found["groups"] == ["few", "medium", "many"]
    for table, group in zip((one, other), found["by_group"], strict=True):
        assert group == (fold @ table @ fold.T).tolist()
    (pair,) = found["pairs"]
    worst = np.where(np.eye(6, dtype=bool), -1, other)
    assert pair["count"][1] == worst.max()
    assert pair["change"][1] == 0
    assert analyze_confusion(subject, of="baseline", count=1) == analyze_confusion(subject, count=1)
    with pytest.raises(SettingError, match="found 'c', expected one of the settings; there are"):
        analyze_confusion(subject, of="c")


def test_a_class_without_errors_has_no_share_of_them_and_seeds_are_averaged():
    labels = np.repeat(np.arange(6), 4)
    right = np.ones(24, bool)
    wrong = right.copy()
    wrong[0] = False
    features, entries = told(
        {"test": labels}, hits(labels, wrong),
        fit=[({"seed": 0}, hits(labels, right)), ({"seed": 1}, hits(labels, wrong))],
        other=[({}, hits(labels, right))],
    )  # fmt: skip
    (pair,) = analyze_confusion(observe(features, "test", entries))["pairs"]
    assert (pair["true"]["id"], pair["predicted"]["id"]) == (0, 1)
    assert pair["count"] == [1, 0.5, 0]
    assert pair["of_errors"] == [1, 1, None]


def test_groups_without_classes_are_left_out():
    from ltkit.records import shot_groups

    labels = np.array([0, 1, 2])
    names, table = group_confusions(
        np.array([[0, 2, 2]]), labels, shot_groups(np.array([9, 9, 300]))
    )
    assert names == ["few", "many"]
    assert table.tolist() == [[1, 1], [0, 1]]
    assert most_confused([labels[None]], labels) == []


def test_compare_has_the_pairs_of_several_networks_only():
    a, b = first(), second()
    entry = networks.own_head(a, b)
    found = compare(a, "test", [entry, Entry("b too", "", entry.correction, b)], replicates=50)
    pairs = analyze_confusion(observe(a, "test", [entry]), count=10)["pairs"]
    assert found["confusions"]["settings"] == ["baseline", "baseline", "b too"]
    assert found["confusions"]["of"] == "baseline"
    for one, other in zip(found["confusions"]["pairs"], pairs, strict=True):
        assert one["count"] == [*other["count"], other["count"][1]]
    alone = compare(a, "test", [Entry("same", "", networks.own_head(a).correction)], replicates=50)
    assert alone["confusions"] is None


def test_the_commands(tmp_path, monkeypatch, ltkit):
    monkeypatch.chdir(tmp_path)
    write("ce.h5", first())
    write("swrm.h5", second())
    words = ("analyze", "confusion", "ce.h5", "swrm.h5", "--count", 3)
    found = json.loads(run(*words, "--json", "--csv", "c.csv", "-q").stdout)
    assert found["schema"] == "ltkit.analyze-confusion/1"
    assert (found["of"], found["settings"]) == ("ce", ["ce", "swrm"])
    with Path("c.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["change"]) for row in rows] == [
        c for p in found["pairs"] for c in p["change"]
    ]
    text = run(*words, "-q").stdout
    pair = found["pairs"][0]
    assert f"{100 * pair['share'][1]:.1f} ({100 * pair['change'][1]:+.1f})" in text
    assert "few as many" in text
    compared = run("compare", "ce.h5", "swrm.h5", "--replicates", 100, "-q").stdout
    assert "pairs that ce confuses most" in compared
    assert document("compare", "ce.h5", "swrm.h5")["confusions"]["pairs"][:3] == found["pairs"]
    code, _, said = ltkit(*words, "--of", "swm")
    assert (code, said.count("\n")) == (2, 1)
    assert said.startswith("ltkit: --of: found 'swm', expected one of the settings; did you mean")


def test_settings_beyond_the_table_are_said(tmp_path, monkeypatch, ltkit):
    monkeypatch.chdir(tmp_path)
    write("ce.h5", first())
    run("posthoc", "logit-adjust", "ce.h5", "--sweep", "-q")
    code, out, said = ltkit("analyze", "confusion", "ce.h5")
    assert code == 0
    assert " more settings: --csv or --json" in said
    assert len(out) > 0
