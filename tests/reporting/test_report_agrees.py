"""The numbers of the report are those of the other commands."""

import csv
import io
import re

import pytest
from reports import Page, printed, records, run


def signed(value):
    return f"{100 * value:+.1f}".replace("-0.0", "+0.0")


def test_the_page_holds_what_evaluate_prints(here, found):
    said = printed("evaluate", "feats.h5", "--group", "wordnet", "--replicates", 200)
    assert found["evaluate"] == said
    assert len(said["rows"]) > 6


def test_the_tables_show_what_evaluate_prints(here, text):
    said = printed("evaluate", "feats.h5", "--group", "wordnet", "--replicates", 200)
    tables = Page(text).tables
    shown = tables["table-headline"][1:] + tables["table-settings"][1:]
    grouped = {row[0]: row[1:] for row in tables["table-grouped"][1:]}
    assert len(shown) == len(said["rows"])
    cells = {row[0].split("\n")[0]: row[1:] for row in shown}
    assert len(cells) == len(shown)
    for row in said["rows"]:
        knobs = " ".join(f"{k} {row['settings'][k]:g}" for k in ("k", "rho", "tau")
                         if k in row["settings"])  # fmt: skip
        name = f"{row['name']} {knobs}".strip()
        for group, cell in zip(("few", "medium", "many", "all"), cells[name], strict=False):
            lines = cell.split("\n")
            low, high = (f"{100 * v:.1f}" for v in row["interval"][group])
            spread = f" ± {100 * row['std'][group]:.1f}" if row["std"] else ""
            assert lines[:2] == [
                f"{100 * row['accuracy'][group]:.1f}{spread}", f"{low} to {high}"
            ]  # fmt: skip
            if "difference" in row:
                low, high = (signed(v) for v in row["difference_interval"][group])
                gain = f"Δ {signed(row['difference'][group])}"
                assert lines[2:] == [gain, f"{low} to {high}"]
        assert cells[name][4:] == [
            f"{100 * row['top5']['all']:.1f}", f"{100 * row['calibration']['all']:.1f}"
        ]  # fmt: skip
        if name in grouped:
            near = row["grouped"]["accuracy"]
            first = [cell.split("\n")[0].split(" ±")[0] for cell in grouped[name]]
            assert first == [f"{100 * near[g]:.1f}" for g in ("few", "medium", "many", "all")]
    assert len(grouped) == 5


def test_class_accuracies_are_those_of_evaluate(here, tmp_path, found):
    run("evaluate", "feats.h5", "--per-class", tmp_path / "c.csv", "--replicates", 100, "-q")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "c.csv").read_text(encoding="utf-8"))))
    classes = found["classes"]
    assert classes["train_count"] == [int(row["train_count"]) for row in rows]
    assert classes["group"] == [row["group"] for row in rows]
    for label, accuracy in zip(found["labels"], classes["accuracy"], strict=True):
        name = re.sub(r" (k|rho|tau) ", r" \1=", label)
        assert accuracy == [float(row[name]) for row in rows]


def test_the_frontier_is_that_of_compare(here, found):
    said = printed("compare", "feats.h5", "--against", "baseline", "--replicates", 200)
    points = [point for method in said["methods"] for point in method["points"]]
    shown = records(found["exhibits"]["frontier"])
    assert [p["setting"] for p in shown] == [p["label"] for p in points]
    for row, point in zip(shown, points, strict=True):
        accuracy = point["accuracy"]
        assert (row["all"], row["few"]) == (accuracy["all"], accuracy["few"])
        assert (row["on_curve"], row["chosen"]) == (point["on_curve"], point["in_pairs"])
        assert row["dominated_by"] == point["dominated_by"]
    chosen = [point["label"] for point in points if point["in_pairs"]]
    assert sorted(found["labels"]) == sorted(chosen)
    traces = found["exhibits"]["frontier"]["views"][0]["data"]
    marks = [t for t in traces if t["mode"] == "markers"]
    assert sorted(x for t in marks for x in t["x"]) == pytest.approx(
        sorted(100 * point["accuracy"]["all"] for point in points), abs=1e-4
    )
    assert marks[-1]["name"] == "baseline"
    assert marks[-1]["y"] == [pytest.approx(100 * points[0]["accuracy"]["few"], abs=1e-4)]


def test_changes_over_rho_are_those_of_analyze(here, found):
    said = printed("analyze", "deltas", "feats.h5")
    shown = records(found["exhibits"]["deltas"])
    wanted = {
        (curve["name"], point["rho"], group): (point["change"][group], point["std"][group])
        for curve in said["curves"]
        for point in curve["points"]
        for group in ("few", "medium", "many", "all")
    }
    assert len(shown) == len(wanted) == 16
    for row in shown:
        at = row["curve"], row["rho"], row["group"]
        assert (row["change"], row["std"]) == wanted[at]
    traces = found["exhibits"]["deltas"]["views"][0]["data"]
    assert [t["line"]["dash"] for t in traces] == ["solid"] * 4 + ["dot"] * 4
    assert all(("random" in t["name"]) == (t["line"]["dash"] == "dot") for t in traces)


def test_flows_are_those_of_analyze(here, found):
    said = printed("analyze", "flows", "feats.h5")
    words = {"correct": "correct", "neighbor": "a neighbour", "other": "other"}
    names = ("correct", "neighbor", "other")
    wanted = {}
    for row in said["rows"]:
        if row["label"] in found["labels"]:
            kind = "WordNet" if row["by"] == "wordnet" else "features"
            for b, before in enumerate(names):
                for a, after in enumerate(names):
                    at = row["label"], row["samples"], kind, words[before], words[after]
                    wanted[at] = row["count"][b][a]
    shown = records(found["exhibits"]["flows"])
    assert len(shown) == len(wanted) == 4 * 6 * 9
    for row in shown:
        kind = "WordNet" if "WordNet" in row["neighbors"] else "features"
        at = row["setting"], row["samples"], kind, row["before"], row["after"]
        assert row["count"] == pytest.approx(wanted[at], abs=1e-6)
    view = found["exhibits"]["flows"]["views"][0]["data"][0]
    first = [row for row in shown[:9] if row["count"]]
    assert view["link"]["value"] == [row["count"] for row in first]
    ends = view["link"]["source"][1], view["link"]["target"][1]
    for side, at in zip(("before", "after"), ends, strict=True):
        total = sum(row["count"] for row in first if row[side] == first[1][side])
        share = f"{100 * total / first[0]['n']:.1f} %"
        assert view["node"]["label"][at] == f"{first[1][side]} {share}"
    assert ends[0] < 3 <= ends[1]
    assert view["node"]["y"] == sorted(view["node"]["y"][:3]) + sorted(view["node"]["y"][3:])


def test_distances_and_correlations_are_those_of_analyze(here, found):
    said = printed("analyze", "distance", "feats.h5", "--k", 5)
    near = dict(zip(found["neighbors"]["class"], found["neighbors"]["mean"], strict=True))
    for row in said["classes"]:
        assert near[row["class"]] == pytest.approx(row["distance"], rel=1e-3)  # four digits
        place = found["neighbors"]["class"].index(row["class"])
        assert found["neighbors"]["neighbor"][place] == row["neighbors"]
    wanted = {row["label"]: (row["r"], row.get("change_r")) for row in said["rows"]}
    for row in found["neighbors"]["spearman"]:
        r, change = wanted[row["label"]]
        assert row["r"] == pytest.approx(r, abs=1e-6)
        assert row["change"] == (change and pytest.approx(change, abs=1e-6))
    assert len(found["neighbors"]["spearman"]) == len(found["labels"])
