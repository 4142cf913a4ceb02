"""Several features files on the command line: compare, evaluate, analyze."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from two_networks import first, second
from typer.testing import CliRunner

from ltkit.cli import app


def run(*words, code=0):
    result = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def write(path, features, **more):
    """Import a network as a features file."""
    arrays = {
        "weight": features.head.weight, "bias": features.head.bias,
        "train_counts": features.classes.train_count, **more,
    }  # fmt: skip
    for name, split in {**features.splits, "train": features.splits["val"]}.items():
        arrays |= {f"{name}_features": split.features[:], f"{name}_labels": split.labels}
        if split.ids is not None:
            arrays[f"{name}_ids"] = split.ids
    np.savez("made.npz", **arrays)
    run("import", "made.npz", "-o", path, "-q", "--overwrite")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LTKIT_FEATURES", raising=False)
    order = np.random.default_rng(0).permutation(240)
    write("ce.h5", first())
    write("swrm.h5", second(order=order))
    run("posthoc", "logit-adjust", "swrm.h5", "--sweep", "-o", "adjusted.h5", "-q")
    return tmp_path


def document(command, *words):
    return json.loads(run(command, *words, "--replicates", 100, "--json", "-q").stdout)


def test_two_files_are_compared_under_their_names(folder):
    found = document("compare", "ce.h5", "swrm.h5")
    assert found["networks"] == ["ce.h5", "swrm.h5"]
    assert [(m["name"], m["file"]) for m in found["methods"]] == [
        ("ce", "ce.h5"), ("swrm", "swrm.h5"),
    ]  # fmt: skip
    assert [(p["first"], p["second"]) for p in found["pairs"]] == [("swrm", "ce")]
    text = run("compare", "ce.h5", "swrm.h5", "--replicates", 100).stdout
    assert text.startswith("ce.h5, swrm.h5, test split, 240 samples")


def test_corrections_are_of_the_file_that_they_were_made_from(folder):
    found = document("compare", "ce.h5", "adjusted.h5", "swrm.h5", "--against", "ce")
    assert [m["name"] for m in found["methods"]] == ["ce", "swrm", "swrm logit-adjust"]
    assert found["against"] == "ce"
    other = document("compare", "swrm.h5", "adjusted.h5")
    for one, same in zip(found["methods"][2]["points"], other["methods"][1]["points"], strict=True):
        assert one["accuracy"] == pytest.approx(same["accuracy"])
        assert (one["val"], one["in_pairs"]) == (same["val"], same["in_pairs"])


def test_evaluate_names_what_the_differences_are_to(folder):
    text = run("evaluate", "ce.h5", "swrm.h5", "--replicates", 100).stdout
    assert "over ce" in text
    rows = document("evaluate", "ce.h5", "swrm.h5")["rows"]
    assert [row["label"] for row in rows] == ["ce", "swrm"]
    run("evaluate", "ce.h5", "swrm.h5", "--per-class", "c.csv", "--replicates", 100, "-q")
    with Path("c.csv").open(encoding="utf-8") as file:
        assert {"ce", "swrm"} <= next(csv.DictReader(file)).keys()


def test_a_base_is_of_the_file_that_it_was_made_from(folder):
    run("train", "ce", "swrm.h5", "--epochs", 1, "-o", "other.h5", "-q")
    found = document("compare", "ce.h5", "swrm.h5", "--base", "other.h5")
    assert [m["name"] for m in found["methods"]] == ["ce", "swrm ce"]


def test_notes_say_what_was_taken_for_granted(folder, ltkit):
    write("few.h5", first(ids=False), train_counts=first().classes.train_count[::-1])
    code, _, said = ltkit("evaluate", "ce.h5", "few.h5", "--replicates", 100)
    assert code == 0
    assert said.count("note: ") == 2
    assert "matched with those of ce.h5 by their order, since not both files have ids" in said
    assert "whose shot groups are taken" in said
    assert ltkit("evaluate", "ce.h5", "few.h5", "--replicates", 100, "-q")[2] == ""


def test_what_cannot_be_compared_is_refused_in_one_line(folder, ltkit):
    fewer = first()
    fewer.splits["test"] = fewer.splits["test"].at(np.arange(200))
    write("fewer.h5", fewer)
    run("posthoc", "tau-norm", "fewer.h5", "--set", "tau=1", "-o", "of-fewer.h5", "-q")
    for words, message in (
        (("ce.h5", "./ce.h5"), "named twice, expected each network once"),
        (("ce.h5", "fewer.h5"), "fewer.h5: test: found other samples than in ce.h5"),
        (("ce.h5", "swrm.h5", "of-fewer.h5"), "of-fewer.h5: fitted on features"),
        (("ce.h5", "swrm.h5", "--base", "of-fewer.h5"), "of-fewer.h5: fitted on features"),
    ):
        code, out, said = ltkit("compare", *words)
        assert (code, out, said.count("\n")) == (2, "", 1)
        assert message in said


def test_flows_and_distance_take_two_networks_and_fits_of_rho_do_not(folder, ltkit):
    found = json.loads(run("analyze", "flows", "ce.h5", "swrm.h5", "--k", 1, "--json", "-q").stdout)
    assert {row["label"] for row in found["rows"]} == {"swrm"}
    assert found["base"]["name"] == "ce"
    text = run("analyze", "distance", "ce.h5", "swrm.h5", "--k", 1, "-q").stdout
    assert "swrm" in text
    code, _, said = ltkit("analyze", "deltas", "ce.h5", "swrm.h5")
    assert code == 2
    assert "found a correction without rho" in said
