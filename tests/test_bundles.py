"""Bundles: what is shipped, what its card says, and when a check says that it fell."""

import json
from dataclasses import replace
from importlib import resources
from math import sqrt
from pathlib import Path

import numpy as np
import pytest
from made import refused
from typer.testing import CliRunner

import ltkit
from ltkit import bundles
from ltkit.bundles.checking import _compared
from ltkit.cli import app
from ltkit.errors import FormatError
from ltkit.records import Classifier, ClassTable, FeatureSet, FeatureSplit, Head, Rule


def made(right=0.8, each=(60, 60, 60, 60), seed=0, counts=(500, 300, 50, 10)):
    """Features whose largest number is the answer, right as often as said, of any sample size."""
    rng = np.random.default_rng(seed)
    y = np.repeat(np.arange(4), each)
    said = np.where(rng.random(len(y)) < right, y, (y + 1) % 4)
    x = np.eye(4, dtype=np.float32)[said]
    head = Head(np.eye(4, dtype=np.float32), np.zeros(4, np.float32))
    table = ClassTable(np.array(counts), ("ant", "bee", "cat", "dog"))
    split = FeatureSplit(x, y)
    return FeatureSet({"test": split, "val": split}, table, head)


@pytest.fixture(scope="module")
def held(tmp_path_factory):
    return ltkit.bundle(made(), None, tmp_path_factory.mktemp("b") / "shipped")


def run(*words):
    return CliRunner().invoke(app, list(map(str, words)))


@pytest.fixture
def demo(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LTKIT_FEATURES", raising=False)
    bundled = resources.files("ltkit") / "data" / "demo" / "feats.h5"
    (tmp_path / "feats.h5").write_bytes(bundled.read_bytes())
    assert run("posthoc", "logit-adjust", "feats.h5", "-q").exit_code == 0
    return tmp_path


def test_a_bundle_has_all_that_is_shipped(demo):
    found = run("export", "feats.logit-adjust.h5", "--bundle", "shipped")
    assert found.exit_code == 0, found.output
    names = {file.name for file in (demo / "shipped").iterdir()}
    assert names == {"bundle.json", "card.md", "classifier.h5", "head.safetensors"}
    features = ltkit.read("feats.h5")
    correction = ltkit.read_correction("feats.logit-adjust.h5")
    row = ltkit.evaluate(features, correction).iloc[1]
    held = bundles.read(Path("shipped"))
    few = held.manifest.content["figures"]["accuracy few"]
    assert few["value"] == pytest.approx(row["accuracy", "few"])
    classifier, expected = held.classifier(features), features.corrected(correction)
    np.testing.assert_array_equal(classifier.weight, expected.weight)
    np.testing.assert_array_equal(classifier.bias, expected.bias)
    card = (demo / "shipped" / "card.md").read_text(encoding="utf-8")
    assert f"| accuracy few | {100 * few['value']:.1f} |" in card
    assert "chosen on the validation split, by balanced accuracy" in card
    assert "| few | 30 | 305 | 3,000 |" in card
    assert "corrected by logit-adjust" in card


def test_check_passes_and_fails_in_a_shell(demo):
    assert run("export", "feats.logit-adjust.h5", "--bundle", "shipped", "-q").exit_code == 0
    passed = run("check", "shipped", "feats.h5", "--split", "val", "--json")
    assert passed.exit_code == 0, passed.output
    document = json.loads(passed.stdout)
    assert document["schema"] == "ltkit.check/1"
    assert document["fell"] == []
    assert len(document["rows"]) == 5
    # the same features, blurred: a camera out of focus
    features = ltkit.read("feats.h5")
    noise = np.random.default_rng(0).normal(size=features.split("test").features.shape)
    sharp = features.split("test").features[:].astype(np.float64)
    blurred = np.float32(sharp + sharp.std() * noise)
    split = FeatureSplit(blurred, features.split("test").labels)
    worse = replace(features, splits={"test": split})
    frame = ltkit.check("shipped", worse)
    assert frame["fell"].any()
    assert frame.loc["accuracy all", "high"] < 0


def test_a_failed_check_exits_with_1_and_says_what_fell(demo):
    assert run("export", "feats.logit-adjust.h5", "--bundle", "shipped", "-q").exit_code == 0
    held = bundles.read(Path("shipped"))
    figures = held.manifest.content["figures"]
    raised = {
        name: {"value": one["value"] + 0.2, "interval": [end + 0.2 for end in one["interval"]]}
        for name, one in figures.items()
    }
    manifest = replace(held.manifest, content={**held.manifest.content, "figures": raised})
    bundles.contents.rules.write(Path("shipped/bundle.json"), manifest, command="")
    found = run("check", "shipped", "feats.h5", "--figure", "accuracy few")
    assert found.exit_code == 1
    assert "accuracy few fell from 50.3 to 30.3 %, beyond noise" in found.stderr
    assert "accuracy many" not in found.output


def test_the_interval_of_a_difference_is_newcombes():
    """The example of Newcombe (1998), table II a: 56/70 and 48/80, method 10."""

    def wilson(k, n, z=1.959964):
        p, centre = k / n, (2 * k + z * z) / (2 * (n + z * z))
        half = z * sqrt(z * z + 4 * k * (1 - p)) / (2 * (n + z * z))
        return {"value": p, "interval": [centre - half, centre + half]}

    found = _compared(wilson(48, 80), wilson(56, 70), 1.0)
    assert found["difference"] == pytest.approx(0.2)
    assert found["interval"] == pytest.approx([0.0524, 0.3339], abs=1e-4)
    assert not found["fell"]
    assert _compared(wilson(56, 70), wilson(48, 80), 1.0)["fell"]


def checked(tmp_path, draws, right):
    """How often a check fails on fresh draws that are right as often as said."""
    failed = 0
    for draw in range(draws):
        folder = tmp_path / f"{draw}"
        held = ltkit.bundle(made(seed=2 * draw), None, folder)
        frame = ltkit.check(held, made(right, seed=2 * draw + 1))
        failed += bool(frame["fell"].any())
    return failed


@pytest.mark.more
def test_false_alarms_are_as_rare_as_said_and_a_fall_is_seen(tmp_path):
    assert checked(tmp_path, 200, 0.8) <= 0.05 * 200 + 2 * sqrt(200 * 0.05 * 0.95)
    assert checked(tmp_path / "..", 20, 0.6) >= 18


def test_features_of_another_model_are_refused(held, tmp_path):
    other = replace(made(), head=Head(np.eye(4, dtype=np.float32), np.ones(4, np.float32)))
    refused(lambda: ltkit.check(held, other), "head: found", "extract the features with that model")
    wide = FeatureSplit(np.zeros((4, 5), np.float32), np.arange(4))
    more = replace(made(), splits={"test": wide}, head=None)
    refused(lambda: ltkit.check(held, more), "found 4 classes of 5 features", "expected 4 of 4")
    named = replace(made(), classes=ClassTable(made().classes.train_count, tuple("abcd")))
    refused(lambda: ltkit.check(held, named), "is for 4 classes")
    five = ClassTable(np.ones(5, np.int64))
    refused(lambda: ltkit.check(held, replace(made(), classes=five, head=None)), "found 5 classes")


def test_embeddings_without_a_head_are_checked_with_the_bundles(tmp_path):
    features = replace(made(), head=None)
    whole = ltkit.records.Correction.whole(
        "mine", Classifier(np.eye(4, dtype=np.float32), np.zeros(4, np.float32))
    )
    held = ltkit.bundle(features, whole, tmp_path / "shipped")
    assert held.manifest.content["head"] == ""
    assert not ltkit.check(held, replace(made(seed=5), head=None))["fell"].any()


def test_coverage_goes_with_the_thresholds(demo):
    made = run("conformal", "feats.h5", "--score", "pas", "--threshold", "marginal", "-q")
    assert made.exit_code == 0, made.output
    words = ("export", "feats.h5", "--bundle", "shipped", "--rule", "feats.sets.json", "-q")
    found = run(*words)
    assert found.exit_code == 0, found.output
    frame = ltkit.check("shipped", ltkit.read("feats.h5"))
    assert 0.85 < frame.loc["coverage all", "now"] < 0.95
    assert "coverage few" in frame.index
    assert "thresholds for sets" in (demo / "shipped" / "card.md").read_text(encoding="utf-8")
    other = run("export", "feats.logit-adjust.h5", *words[2:3], "other", *words[4:])
    assert "is for the classifier" in str(other.exception)


def test_a_rejector_goes_with_the_bundle(demo):
    words = ("analyze", "risk-coverage", "feats.h5", "--budget", "0.2", "-o", "r.json", "-q")
    assert run(*words).exit_code == 0
    found = run("export", "feats.h5", "--bundle", "shipped", "--rule", "r.json", "-q")
    assert found.exit_code == 0, found.output
    features = ltkit.read("feats.h5")
    frame = ltkit.check("shipped", features)
    told = ltkit.rejects(features, "r.json")
    kept, labels = ~told.rejected, features.split("test").labels
    assert frame.loc["answered all", "now"] == pytest.approx(kept.mean())
    right = (told.answers == labels)[kept]
    assert frame.loc["right of the answers all", "now"] == pytest.approx(right.mean())
    by_class = [right[labels[kept] == c].mean() for c in range(100)]
    assert frame.loc["right of the answers balanced", "now"] == pytest.approx(np.mean(by_class))


def test_a_changed_bundle_is_refused(tmp_path):
    folder = ltkit.bundle(made(), None, tmp_path / "shipped").folder
    (folder / "card.md").write_text("all is well", encoding="utf-8")
    refused(lambda: bundles.read(folder), "card.md: digest", error=FormatError)
    (folder / "card.md").unlink()
    refused(lambda: bundles.read(folder), "not found", "export the bundle again")
    (folder / "bundle.json").unlink()
    refused(lambda: bundles.read(folder), "found no bundle.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"files": {}}, "files: found"),
        ({"files": {"classifier.h5": "0", "card.md": "0", "../x": "0"}}, "files: found"),
        ({"head": None}, "head: found None"),
        ({"bins": [20]}, "bins: found"),
        ({"prior": [0.5, 0.5]}, "prior: found"),
        ({"n": "many"}, "n: found many"),
        ({"figures": {}}, "figures: found"),
        ({"figures": {"accuracy all": {"value": 0.5, "interval": [0.5]}}}, "figures: found"),
    ],
)
def test_a_manifest_that_is_none_is_refused(held, tmp_path, change, message):
    manifest = replace(held.manifest, content={**held.manifest.content, **change})
    bundles.contents.rules.write(tmp_path / "bundle.json", manifest, command="")
    refused(lambda: bundles.read(tmp_path), message, error=FormatError)


def test_what_cannot_be_bundled(tmp_path):
    refused(lambda: ltkit.bundle(made(), None, tmp_path), "exists, and a bundle replaces nothing")
    refused(lambda: ltkit.bundle(made(), None, tmp_path / "no" / "b"), "no such folder")
    rule = Rule("sets", {}, "other", 4)
    refused(
        lambda: ltkit.bundle(made(), None, tmp_path / "b", rules=[rule]), "is for the classifier"
    )
    own = Rule("prior", {}, bundles.contents.head_digest(made()), 4)
    refused(lambda: ltkit.bundle(made(), None, tmp_path / "b", rules=[own]), "one each of sets")
    one = FeatureSplit(np.eye(4, dtype=np.float32)[:1], np.array([0]))
    lone = replace(made(), splits={"test": one})
    refused(lambda: ltkit.bundle(lone, None, tmp_path / "b"), "too few for an interval")
    assert not list(tmp_path.iterdir())


def test_figures_that_are_not_there(held):
    refused(lambda: ltkit.check(held, made(), figures=["accuracy x"]), "--figure: found accuracy x")
    most = FeatureSplit(np.eye(4, dtype=np.float32)[[0, 0, 1, 1]], np.array([0, 0, 1, 1]))
    many = replace(made(), splits={"test": most})
    refused(lambda: ltkit.check(held, many, figures=["accuracy few"]), "no sample for accuracy few")
    assert "accuracy few" in ltkit.check(held, many).attrs["document"]["unmeasured"]
    refused(lambda: ltkit.check(held, made(), false_alarm=0.9), "false_alarm")
    content = {**held.manifest.content, "figures": {"other": {"value": 0.5, "interval": [0, 1]}}}
    strange = replace(held, manifest=replace(held.manifest, content=content))
    refused(lambda: ltkit.check(strange, made()), "has no figure in common")


def test_rules_and_features_go_by_what_made_them_or_by_file(demo):
    features = ltkit.read("feats.h5")
    sets = ltkit.conformal(features, score="softmax", threshold="marginal")
    rejector = ltkit.risk_coverage(features, budget=0.2)
    held = ltkit.bundle(features, None, "shipped", rules=[sets, rejector])
    assert [rule.kind for rule in held.rules] == ["sets", "rejector"]
    frame = ltkit.check("shipped", "feats.h5")
    assert list(frame.index[:3]) == ["accuracy few", "accuracy medium", "accuracy many"]
    size = 100 * (1 - frame.loc["classes left out of sets", "now"])
    own = ltkit.conformal(features, score="softmax", threshold="marginal", split="test").document
    assert size == pytest.approx(own["rows"][0]["size"]["all"])
    assert frame.attrs["document"]["notes"] == [
        "these are the images that the bundle was measured on"
    ]
    curves = ltkit.risk_coverage(features)
    refused(
        lambda: ltkit.bundle(features, None, "other", rules=[curves]), "curves without a rejector"
    )


def test_groups_of_rules_are_those_of_accuracies(tmp_path):
    features = made()
    sets = ltkit.conformal(features, score="softmax", threshold="marginal")
    held = ltkit.bundle(features, None, tmp_path / "b", rules=[sets], bins=(40, 400))
    figures = held.manifest.content["figures"]
    groups = [
        {name.split()[1] for name in figures if name.startswith(kind)}
        for kind in ("accuracy", "coverage")
    ]
    assert groups[0] == groups[1]
    wanted = ltkit.conformal(
        features, score="softmax", threshold="marginal", split="test", bins=(40, 400)
    ).document["rows"][0]["coverage"]["medium"]
    assert figures["coverage medium"]["value"] == pytest.approx(wanted)


def test_what_makes_a_comparison_less_is_said(held):
    some = FeatureSplit(np.eye(4, dtype=np.float32)[[0, 1] * 20], np.array([0, 1] * 20))
    fewer = replace(made(), splits={"test": some}, head=None)
    notes = ltkit.check(held, fewer).attrs["document"]["notes"]
    assert notes[0].startswith("nothing says that features is of the bundle's network")
    assert notes[1].startswith("2 of the 4 classes with images then have any here")
