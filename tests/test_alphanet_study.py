"""Sweeps and what is made of them: the same numbers as single fits, resumed or not."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import ltkit
from ltkit import evaluation
from ltkit import neighbors as search
from ltkit.alphanet import study, sweep
from ltkit.alphanet.sweep import Point
from ltkit.cli import app
from ltkit.errors import InputError
from ltkit.files import classifiers, scratch
from ltkit.files import features as features_file
from ltkit.neighbors import wordnet
from ltkit.records import Correction, shot_groups
from ltkit.settings import AlphaNetSettings, NeighborSettings

pytestmark = pytest.mark.usefixtures("one_thread")
DEMO = Path(ltkit.__file__).parent / "data" / "demo" / "feats.h5"
QUICK = AlphaNetSettings(epochs=2, min_epochs=1)


@pytest.fixture(scope="module")
def features():
    return features_file.read(DEMO)


@pytest.fixture(scope="module")
def wanted(features):
    groups = shot_groups(features.classes.train_count)
    return study.study(features, groups.few, groups.base, np.arange(0))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(DEMO, "feats.h5")
    monkeypatch.delenv("LTKIT_FEATURES", raising=False)
    return tmp_path


def run(*words, code=0):
    result = CliRunner().invoke(app, ["alphanet", *map(str, words)])
    if code == 0:
        assert result.exception is None, result.exception
    return result


SWEEP = ("sweep", "--k", "2,3", "--rho", "0.5,1", "--metric", "euclidean,random", "--seeds", "2",
         "--epochs", "2", "-q")  # fmt: skip


def test_a_sweep_scores_what_single_fits_give(folder):
    result = run(*SWEEP, "--json", "--csv", "t.csv", "--select", "few")
    document = json.loads(result.stdout)
    rows = document["rows"]
    assert [(r["metric"], r["k"], r["rho"]) for r in rows[1:]] == [
        (m, k, rho) for m in ("euclidean", "random") for k in (2, 3) for rho in (0.5, 1.0)
    ]
    chosen = next(r for r in rows if r["chosen"])
    assert chosen["accuracy"]["few"] == max(r["accuracy"]["few"] for r in rows[1:])

    words = ["--k", chosen["k"], "--rho", chosen["rho"], "--metric", chosen["metric"]]
    run("fit", *words, "--seeds", "2", "--epochs", "2", "-q")
    single, _ = classifiers.read(Path("feats.alphanet.h5"))
    swept, _ = classifiers.read(Path("feats.alphanet-sweep.h5"))
    assert [r["seed"] for r in swept.runs] == [r["seed"] for r in single.runs] == [0, 1]
    # One joint fit of all rhos and one of a single rho: the same but for the order of summing.
    np.testing.assert_allclose(swept.extra["alpha"], single.extra["alpha"], atol=1e-4)
    found = features_file.read(Path("feats.h5"))
    accuracies = evaluation.run_accuracies(
        found.split("val"), found.classifier(), swept, shot_groups(found.classes.train_count)
    )
    for group in ("few", "all"):
        values = [a[group] for a in accuracies]
        assert chosen["accuracy"][group] == pytest.approx(np.mean(values))
        assert chosen["std"][group] == pytest.approx(np.std(values, ddof=1))
    with Path("t.csv").open(encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [float(r["few"]) for r in table] == [r["accuracy"]["few"] for r in rows]
    assert not Path("feats.alphanet-sweep.h5.parts").exists()


def test_a_resumed_sweep_gives_the_same_table(folder, monkeypatch):
    run(*SWEEP, "--csv", "whole.csv")
    before = classifiers.read(Path("feats.alphanet-sweep.h5"))[0]
    fits, fit = [], study.Study.fit

    def counted(self, runs, k, metric, device="cpu"):
        fits.append((metric, k))
        if len(fits) == 3:
            raise KeyboardInterrupt
        return fit(self, runs, k, metric, device)

    monkeypatch.setattr(study.Study, "fit", counted)
    result = run(*SWEEP, "--overwrite", code=130)
    assert result.exit_code == 130
    assert len(list(Path("feats.alphanet-sweep.h5.parts").iterdir())) == 3  # with the mark
    other = [word if word != "0.5,1" else "0.5,2" for word in SWEEP]
    result = run(*other, "--overwrite", "--resume", code=2)
    assert "other settings" in str(result.exception)
    run(*SWEEP, "--csv", "again.csv", "--overwrite", "--resume")
    assert fits[3:] == [("random", 2), ("random", 3)]
    assert Path("again.csv").read_bytes() == Path("whole.csv").read_bytes()
    after = classifiers.read(Path("feats.alphanet-sweep.h5"))[0]
    np.testing.assert_array_equal(after.weight, before.weight)
    np.testing.assert_array_equal(after.extra["alpha"], before.extra["alpha"])


def point(few, overall, rho=1.0, **others):
    accuracy = {"few": few, "medium": 0.4, "many": 0.6, "all": overall, "balanced": overall}
    return Point(5, "euclidean", rho, 3, accuracy | others, dict.fromkeys(accuracy))


def test_the_most_few_shot_accuracy_for_at_most_some_loss():
    baseline = point(0.1, 0.400)
    points = [point(0.4, 0.38), point(0.3, 0.396), point(0.2, 0.41)]
    assert sweep.choose(points, baseline, "few", None) is points[0]
    assert sweep.choose(points, baseline, "few", 0.005) is points[1]
    assert sweep.choose(points, baseline, "few", 0.004) is points[1]
    assert sweep.choose(points, baseline, "few", 0.0) is points[2]
    assert sweep.choose(points, baseline, "all", None) is points[2]
    harmonic = [3 / (1 / p.accuracy["few"] + 1 / 0.4 + 1 / 0.6) for p in points]
    assert sweep.choose(points, baseline, "harmonic", None) is points[int(np.argmax(harmonic))]
    with pytest.raises(InputError, match=r"found 1\.00 points as the least loss"):
        sweep.choose([point(0.3, 0.39)], baseline, "few", 0.005)
    with pytest.raises(InputError, match="select: few: no such class"):
        sweep.choose([point(None, 0.39)], baseline, "few", None)


def test_a_sweep_needs_a_validation_split(wanted, tmp_path):
    splits = {k: v for k, v in wanted.features.splits.items() if k != "val"}
    without = replace(wanted, features=replace(wanted.features, splits=splits))
    groups = shot_groups(wanted.features.classes.train_count)
    with pytest.raises(InputError, match="no validation split to score a sweep on"):
        sweep.sweep(
            without,
            [3],
            ["euclidean"],
            [QUICK],
            groups,
            parts=scratch.Parts(tmp_path / "parts", {}, resume=False),
        )


def test_the_random_control_draws_anew_for_each_seed(wanted):
    runs = [replace(QUICK, seed=seed) for seed in (0, 1)]
    fitted = wanted.fit(runs, 3, "random")
    near = fitted.extra["neighbor"]
    assert (near[0] != near[1]).any()
    for number in range(2):
        expected = wanted.neighbors(3, "random", fitted.runs[number]["seed"]).base_class
        np.testing.assert_array_equal(near[number], expected)


def test_the_released_control_is_drawn_once(wanted):
    near = wanted.fit([replace(QUICK, seed=seed) for seed in (3, 4)], 3, "random-once")
    drawn = wanted.neighbors(3, "random-once", 3).base_class
    for number in range(2):
        np.testing.assert_array_equal(near.extra["neighbor"][number], drawn)


def test_neighbours_in_wordnet_have_the_fewest_links(wanted, features):
    found = wanted.neighbors(4, "wordnet", 0)
    lengths = wordnet.path_lengths(features.classes.wnids)
    for class_id, near, links in zip(
        found.few_class, found.base_class, found.distance, strict=True
    ):
        to_base = lengths[class_id, wanted.among]
        np.testing.assert_array_equal(links, np.sort(to_base)[:4])
        np.testing.assert_array_equal(links, lengths[class_id, near])
        euclidean = np.linalg.norm(wanted.means[near] - wanted.means[class_id], axis=1)
        for a, b in zip(range(3), range(1, 4), strict=True):
            assert links[a] < links[b] or euclidean[a] <= euclidean[b]


def test_wordnet_needs_wnids(wanted):
    classes = replace(wanted.features.classes, wnids=None)
    without = replace(wanted, features=replace(wanted.features, classes=classes))
    with pytest.raises(InputError, match="classes/wnid: absent"):
        without.neighbors(3, "wordnet", 0)


def test_ties_in_wordnet_go_to_the_nearer_mean():
    means = np.array([[0.0], [5.0], [1.0], [2.0]])
    links = np.array([[0, 2, 2, 4], [2, 0, 1, 1], [2, 1, 0, 1], [4, 1, 1, 0]], np.int32)
    found = search.nearest(
        means, np.array([0]), np.array([1, 2, 3]), NeighborSettings(3, "wordnet"), links
    )
    assert found.base_class.tolist() == [[2, 1, 3]]
    assert found.distance.tolist() == [[2, 2, 4]]


# Classes that were not there


def test_a_third_of_the_rare_classes_is_left_out_and_corrected_afterwards(folder):
    """The held-out rare classes gain as well, although the networks never saw them."""
    found = features_file.read(Path("feats.h5"))
    few = shot_groups(found.classes.train_count).few
    held_out = few[::3]
    ids = ",".join(map(str, held_out))
    run("fit", "--leave-out", ids, "--rho", "0.5", "--seeds", "3", "-q")
    fitted, _ = classifiers.read(Path("feats.alphanet.h5"))
    assert fitted.class_id.tolist() == np.setdiff1d(few, held_out).tolist()
    run("apply", "feats.alphanet.h5", "feats.h5", "-q")
    applied, inputs = classifiers.read(Path("feats.alphanet-applied.h5"))
    assert applied.class_id.tolist() == held_out.tolist()
    assert set(inputs) == {"features", "fit"}

    split, base = found.split("test"), found.classifier()
    own, after = evaluation.predict(split, base, [Correction.baseline(base), applied])
    rows = np.isin(split.labels, held_out)
    before = (own.predicted[0] == split.labels)[rows].mean()
    gained = (after.predicted == split.labels)[:, rows].mean()
    assert gained > before + 0.05


def test_what_apply_refuses(folder):
    run("fit", "--epochs", "1", "--k", "3", "-q")
    result = run("apply", "feats.alphanet.h5", "feats.h5", code=2)
    assert "corrects all 30 rare classes" in str(result.exception)
    result = run("apply", "feats.alphanet.h5", "feats.h5", "--of", "100", code=2)
    assert "--of: found 100, expected a whole number from 0 to 99" in str(result.exception)
    result = CliRunner().invoke(app, ["posthoc", "logit-adjust", "--set", "tau=1", "-q"])
    result = run("apply", "feats.logit-adjust.h5", "feats.h5", "--of", "99", code=2)
    assert "was not written by alphanet fit" in str(result.exception)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--leave-out", "0"], "class 0 is not among the corrected classes (few)"),
        (["--leave-out", "-1"], "--leave-out: found -1"),
        (["--of", "few+tail"], "of: found tail"),
        (["--of", "many+medium+few"], "found no base class"),
        (["--hidden", "x"], "--hidden: found 'x'"),
    ],
)
def test_wrong_words(folder, words, said):
    assert said in str(run("fit", *words, "-q", code=2).exception)


def test_medium_classes_may_be_corrected_too(folder):
    run("fit", "--of", "medium+few", "--epochs", "1", "-q")
    fitted, _ = classifiers.read(Path("feats.alphanet.h5"))
    groups = shot_groups(features_file.read(Path("feats.h5")).classes.train_count)
    expected = np.sort(np.concatenate([groups.few, groups.medium]))
    np.testing.assert_array_equal(fitted.class_id, expected)
    assert np.isin(fitted.extra["neighbor"], groups.many).all()


@pytest.mark.parametrize("words", [["--metric", "x"], ["--k", "0"], ["--rho", "0"]])
def test_a_sweep_refuses_settings_out_of_range(folder, words):
    result = run("sweep", *words, "--epochs", "1", "--seeds", "1", "-q", code=2)
    assert words[0] in str(result.exception)
    assert not Path("feats.alphanet-sweep.h5").exists()


def test_one_table_for_people(folder):
    result = run(*SWEEP)
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["metric", "k", "rho", "few", "medium", "many", "all", "balanced"]
    assert lines[1].startswith("baseline")
    assert len(lines) == 10
    assert sum(line.endswith("chosen") for line in lines) == 1
