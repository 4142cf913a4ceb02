"""The page's part on production says what the commands print, or why there is nothing."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from reports import Page, collected, correction, embedded, printed, small

import ltkit
from ltkit.evaluation import Entry

SHIFTS = ("forward:50", "uniform", "backward:50")


def test_sets_are_those_of_conformal(here, found, text):
    shown = Page(text).tables["table-sets"]
    rows = {row[0]: row for row in shown[1:]}
    setting = found["exhibits"]["sets"]
    assert set(rows) == {"marginal", "fuzzy", "class-wise"}
    best = re.search(r"on test, of ([^;]*);", text).group(1)
    assert best in found["labels"]
    said = printed("conformal", "feats.h5", "--score", "softmax", "--threshold", "fuzzy",
                   "--split", "test", "-o", here / "sets.json", *named(found, best))  # fmt: skip
    (row,) = said["rows"]
    for cell, group in zip(rows["fuzzy"][1:5], ("few", "medium", "many", "all"), strict=True):
        assert cell.split("\n")[0] == f"{100 * row['coverage'][group]:.1f}"
    assert rows["fuzzy"][5] == f"{row['size']['all']:.1f}"
    assert setting["columns"][0] == "thresholds"
    curves = printed("analyze", "risk-coverage", "feats.h5", "--split", "test", *named(found, best))
    drawn = found["exhibits"]["abstention"]["views"][0]["data"]
    for trace in drawn:
        of, method = trace["name"].split(", ")
        own = next(row for row in curves["methods"] if row["method"] == method)
        wanted = [100 * point["risk"][of] for point in own["points"]]
        assert trace["y"] == pytest.approx(wanted, abs=0.01)


def named(found, label):
    """Return the options that name a setting's file; the baseline has none."""
    (row,) = (row for row in found["evaluate"]["rows"] if row["label"] == label)
    if row is found["evaluate"]["rows"][0]:
        return []
    knobs = {name: value for name, value in row["settings"].items() if not isinstance(value, str)}
    options = [f"--run={name}={value}" for name, value in knobs.items()]
    return ["--classifier", row["file"], *options]


def test_priors_are_those_of_evaluate(here, found):
    said = printed("evaluate", "feats.h5", "--priors", "--replicates", 100)
    by_label = {row["label"]: row["priors"] for row in said["rows"]}
    for trace in found["exhibits"]["priors"]["views"][0]["data"]:
        own = by_label[trace["name"]]
        assert trace["x"] == list(own)
        assert trace["y"] == pytest.approx([100 * value for value in own.values()], abs=0.01)
        assert set(SHIFTS) <= set(own)


def test_without_val_there_are_priors_alone(here, tmp_path, monkeypatch):
    features = ltkit.read(here / "feats.h5")
    monkeypatch.chdir(tmp_path)
    ltkit.report(replace(features, splits={"test": features.split("test")}), replicates=100)
    shown = embedded(Path("report.html").read_text(encoding="utf-8"))["exhibits"]
    assert "priors" in shown
    assert not {"sets", "abstention"} & shown.keys()


def test_what_follows_other_images_is_not_the_best_on_val():
    features = small()
    half = correction(features, "half")
    whole = correction(features, "adapt", runs=({"tau": 0.0}, {"tau": 1.0})).correction.only([1])
    prior = np.full((1, 5), 0.2)
    adapted = Entry("adapt", "adapt.h5", replace(whole, extra={"prior": prior}))
    found = collected(features, half, adapted)
    assert found.on_val[2] >= found.on_val[1]  # on val it is no worse
    assert [found.subject.cases[place].name for place in found.detailed] == ["half", "adapt"]
    plain = collected(features, half, Entry("adapt", "adapt.h5", whole))
    first = plain.subject.cases[plain.detailed[0]].name
    assert first == ("adapt" if plain.on_val[2] > plain.on_val[1] else "half")
