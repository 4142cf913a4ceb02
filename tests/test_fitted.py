"""What commands say while they fit, and of what they have fitted."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import ltkit as package
from ltkit import alphanet, posthoc
from ltkit.cli import _output, app
from ltkit.files import features as features_file
from ltkit.records import Base, Classifier, ClassTable, FeatureSet, FeatureSplit
from ltkit.settings import AlphaNetSettings

DEMO = Path(package.__file__).parent / "data" / "demo" / "feats.h5"


def run(*words):
    result = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture
def feats(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LTKIT_FEATURES", raising=False)
    return shutil.copy(DEMO, "feats.h5")


def percent(row, *groups):
    return ", ".join(f"{group} {100 * row['accuracy'][group]:.1f}" for group in groups)


def test_fits_say_what_they_come_to_on_val(feats):
    said = {
        words: run(*words, "-o", f"{number}.h5").stderr
        for number, words in enumerate([
            ("posthoc", "ridge", "--set", "penalty=1"),
            ("posthoc", "crt", "--seeds", "2", "--set", "epochs=1"),
            ("posthoc", "logit-adjust", "--sweep"),
            ("train", "ce", "feats.h5", "--epochs", "1", "--seeds", "2"),
            ("alphanet", "fit", "--k", "2", "--rho", "0.5,1", "--epochs", "2", "--min-epochs", "1"),
        ])
    }  # fmt: skip
    words = ("evaluate", "--replicates", "100", "--split", "val", "--json", "-q")
    own, *rows = json.loads(run(*words).stdout)["rows"]
    beside = percent(own, "few", "all").replace("few ", "").replace("all ", "")
    for file, (command, text) in enumerate(said.items()):
        (row,) = [row for row in rows if row["file"] == f"{file}.h5" and row["chosen"]]
        line = f": {percent(row, 'few', 'all')} on val (baseline {beside})"
        assert line in text, command
    ridge, crt, sweep, trained, fit = said.values()
    assert "ridge: few" in ridge
    assert "crt, mean of 2 seeds: few" in crt
    assert ", best of 31 by balanced accuracy: few" in sweep
    assert "(best of 31)" in sweep
    assert "ce, mean of 2 seeds: few" in trained
    assert re.search(r"alphanet k 2 rho \S+, best of 2 by balanced accuracy: few", fit)
    assert "step" not in crt  # too quick for it
    assert run("posthoc", "ridge", "-o", "q.h5", "-q").stderr == ""


def test_steps_are_reported():
    rng = np.random.default_rng(0)
    train = FeatureSplit(rng.normal(size=(40, 3)).astype(np.float32), np.arange(40) % 4)
    features = FeatureSet({"train": train}, ClassTable(np.full(4, 10)), None)
    for method in ("crt", "lws", "marc", "weight-balancing"):
        told = []
        wanted = posthoc.plan(method, {"epochs": 3, "learning_rate": 0.1, "batch_size": 25})
        based = features.with_base(Base("b", Classifier(np.eye(4, 3, dtype=np.float32),
                                                        np.zeros(4, np.float32))))  # fmt: skip
        posthoc.fit_features(based, wanted, report=lambda *of, told=told: told.append(of))
        assert told == [("step", n, 6) for n in range(1, 7)], method


def test_passes_are_reported_where_their_number_is_not_known():
    features = features_file.read(DEMO)
    for method, what, settings in (
        ("bias", "pass over val", {"penalty": 3.0}),
        ("vector-scaling", "pass over val", {"penalty": 3.0}),
        ("blend", "pass over train", {"tau": 0.5}),
        ("logistic", "pass over train", {"inverse_penalty": 0.01}),
        ("alphanet-plus", "pass over train", {"tau": 0.5}),
    ):
        told = []
        wanted = posthoc.plan(method, settings)
        posthoc.fit_features(features, wanted, report=lambda *of, told=told: told.append(of))
        assert told == [(what, n, 0) for n in range(1, len(told) + 1)], method
        assert len(told) > 3


def test_a_share_of_0_takes_no_pass():
    features, told = features_file.read(DEMO), []
    wanted = posthoc.plan("blend", {"share": 0.0, "tau": 0.5})
    found = posthoc.fit_features(features, wanted, report=lambda *of: told.append(of))
    assert told == []
    (weight,) = found.correction.weight
    np.testing.assert_array_equal(weight, features.classifier().weight)


def test_alphanet_reports_epochs():
    told, settings = [], AlphaNetSettings(epochs=2, min_epochs=1)
    features = features_file.read(DEMO)
    alphanet.fit_features(features, settings, report=lambda *of: told.append(of))
    assert told == [("epoch", 1, 2), ("epoch", 2, 2)]


def test_what_is_quick_has_no_line_of_progress(monkeypatch, capsys):
    clock = iter([100.0, 100.5, 102.0, 112.0])
    monkeypatch.setattr("ltkit.cli._output.time.monotonic", lambda: next(clock))
    progress = _output.Progress("epochs", quiet=False, after=1.0)
    for done in (1, 2, 3, 5):
        progress("epoch", done, 5)
    assert capsys.readouterr().err.splitlines() == [
        "epoch 3/5, 1 epochs/s, 2 s left", "epoch 5/5, 0 s left",
    ]  # fmt: skip


def test_without_val_nothing_is_measured(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 3)).astype(np.float32), np.arange(20) % 4
    head = rng.normal(size=(4, 3)).astype(np.float32)
    np.savez("a.npz", train_features=x, train_labels=y, weight=head, bias=np.zeros(4, np.float32))
    run("import", "a.npz", "-o", "feats.h5", "-q")
    assert "on val" not in run("posthoc", "ncm").stderr
    np.savez("b.npz", train_features=x, train_labels=y, val_features=x, val_labels=y)
    run("import", "b.npz", "-o", "feats.h5", "-q", "--overwrite")
    said = run("posthoc", "ncm", "--overwrite").stderr  # of no head there is no baseline
    assert re.search(r"^ncm: few [\d.]+, all [\d.]+ on val$", said, re.MULTILINE)


def test_evaluate_scores_the_head_that_export_writes(feats):
    run("alphanet", "fit", "--rho", "0.5,1", "--seeds", "2", "--epochs", "2", "-q")
    run("posthoc", "ncm", "-q")
    for how, shown in (("best", "the best on val"), ("mean", "the mean of the heads")):
        words = ("evaluate", "--replicates", "100", "-q", "--run", how)
        document = json.loads(run(*words, "--json").stdout)
        assert document["run"] == how
        names = [row["name"] for row in document["rows"]]
        assert names == ["baseline", *[f"alphanet {how}"] * {"best": 1, "mean": 2}[how], "ncm"]
        assert all(row["runs"] == 1 for row in document["rows"])
        rho = next(r["settings"]["rho"] for r in document["rows"][1:] if r["chosen"])
        wanted = ("--run", f"rho={rho:g}") if how == "mean" else ()
        run("export", "feats.alphanet.h5", "--run", how, *wanted, "--to", "npz", "-o", f"{how}.npz")
        with np.load(f"{how}.npz") as head:
            weight, bias = head["weight"], head["bias"]
        test = features_file.read(Path("feats.h5")).split("test")
        logits = np.asarray(test.features[:], np.float32) @ weight.T + bias
        right = (logits.argmax(axis=1) == test.labels).mean()
        (row,) = [row for row in document["rows"][1:-1] if row["chosen"]]
        assert row["accuracy"]["all"] == pytest.approx(right, abs=2e-4)
        assert f"of several seeds {shown}" in run(*words).stdout
    said = run("evaluate", "feats.ncm.h5", "--replicates", "100", "--run", "best").stderr
    assert "note: no file has several seeds, so --run best changes nothing" in said
    assert "run" not in json.loads(run("evaluate", "--replicates", "100", "--json").stdout)
