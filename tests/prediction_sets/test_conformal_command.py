"""``ltkit conformal`` as it is typed."""

import json

import naive_sets
import numpy as np
import pytest

import ltkit as library
from ltkit.files import features as features_file
from ltkit.files import rules
from ltkit.settings import ImportSettings
from ltkit.sources.arrays import import_arrays


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with feats.h5."""
    made = naive_sets.features()
    arrays = {"weight": made.head.weight, "bias": made.head.bias}
    for split in ("train", "val", "test"):
        arrays[f"{split}_features"] = made.split(split).features
        arrays[f"{split}_labels"] = made.split(split).labels
    np.savez(tmp_path / "a.npz", **arrays)
    settings = ImportSettings(weight_rows="classes", bins=(20, 100))
    import_arrays(tmp_path / "a.npz", tmp_path / "feats.h5", settings=settings)
    (tmp_path / "a.npz").unlink()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_all_are_tried_and_one_is_written(ltkit, folder):
    code, out, said = ltkit("conformal", "--coverage", "0.8")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].startswith("coverage in % and mean size of sets on val, by cross-fitting, 160 ")
    assert len([line for line in lines if line.startswith(" * ")]) == 1
    assert "guaranteed" in out
    assert lines[-1] == "feats.sets.json"  # for a pipe
    answers = [line for line in said.splitlines() if not line.startswith("scores ")]
    assert answers[:1] == ["using feats.h5"]
    assert answers[1].startswith("note: class-wise sets have the coverage on val by construction")
    assert answers[2].startswith("note: chosen among 19 on the images that calibrate them")
    assert answers[3].startswith("sets with the true class in 80 %: score ")
    rule = rules.read(folder / "feats.sets.json", "sets")
    features = features_file.read(folder / "feats.h5")
    assert len(library.predict_sets(features, folder / "feats.sets.json")) == 320
    assert rule.inputs == {"features": features.digest}
    assert rule.settings["tried"] == 19


def test_json_is_what_the_call_gives(ltkit, folder):
    words = ("--score", "aps", "--threshold", "fuzzy", "--split", "test", "--json", "-q")
    code, out, said = ltkit("conformal", "feats.h5", *words, "-o", "s.json")
    assert (code, said) == (0, "")
    found = library.conformal(
        features_file.read(folder / "feats.h5"), score="aps", threshold="fuzzy", split="test"
    )
    assert json.loads(out) == {**found.document, "features": "feats.h5", "output": "s.json"}
    assert json.loads(out)["schema"] == "ltkit.conformal/1"
    assert rules.read(folder / "s.json", "sets").content == found.rule.content


def test_a_correction(ltkit, folder):
    ltkit("posthoc", "logit-adjust", "feats.h5", "-q")
    pair = ("--score", "softmax", "--threshold", "marginal")
    code, _, said = ltkit("conformal", "feats.logit-adjust.h5", *pair)
    assert code == 0
    assert "note: tau of logit-adjust may be chosen among 31 on val, which calibrates" in said
    alone = rules.read(folder / "feats.sets.json", "sets")
    code, _, _ = ltkit("conformal", "feats.h5", "--classifier", "feats.logit-adjust.h5", *pair,
                       "-o", "b.json")  # fmt: skip
    assert rules.read(folder / "b.json", "sets").classifier == alone.classifier
    assert alone.inputs.keys() == {"features", "classifier"}
    code, _, said = ltkit("conformal", "feats.h5", *pair, "-q", "-o", "c.json")
    assert rules.read(folder / "c.json", "sets").classifier != alone.classifier
    code, _, said = ltkit("conformal", "feats.logit-adjust.h5", *pair, "--recalibrate-on",
                          "feats.h5:test", "-o", "d.json")  # fmt: skip
    assert "note: tau" not in said
    assert "calibrated on 320 val images" in said


def test_runs_of_a_file(ltkit, folder):
    ltkit("posthoc", "logit-adjust", "feats.h5", "--sweep", "-q", "-o", "s.h5")
    code, _, said = ltkit("conformal", "s.h5", "-q")
    assert code == 2
    assert "--run: found 31 of 31 runs" in said
    pair = ("--score", "softmax", "--threshold", "marginal", "-q")
    assert ltkit("conformal", "s.h5", "--run", "tau=1", *pair)[0] == 0


def test_a_narrow_table(folder):
    from ltkit.cli import _output
    from ltkit.cli.conformal import _table

    document = library.conformal(features_file.read(folder / "feats.h5"), score="aps").document
    columns = [
        [column.header for column in _table(document, _output.Look(narrow=narrow)).columns][1:]
        for narrow in (False, True)
    ]
    assert columns == [
        ["few", "medium", "many", "all", "worst class", "size few", "size all", "single, empty",
         "guaranteed"],
        ["few", "medium", "many", "all", "worst class", "size all"],
    ]  # fmt: skip
    document["rows"][0] |= {"always": 3, "size_interval": dict.fromkeys(("few", "all"))}
    (single,) = (
        column for column in _table(document, _output.PLAIN).columns if column.header == "always in"
    )
    assert "3" in list(single.cells)
