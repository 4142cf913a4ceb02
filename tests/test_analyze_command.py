"""``ltkit analyze`` and ``ltkit alphanet show`` on the bundled features, beside plain loops."""

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

import ltkit
from ltkit.alphanet.explanation import class_of
from ltkit.cli import app
from ltkit.errors import InputError
from ltkit.evaluation import predict
from ltkit.files import classifiers
from ltkit.files import features as features_file
from ltkit.neighbors import wordnet
from ltkit.records import Correction

pytestmark = pytest.mark.usefixtures("one_thread")
DEMO = Path(ltkit.__file__).parent / "data" / "demo" / "feats.h5"
FEW, BASE = range(70, 100), range(70)
RHOS, SEEDS = (0.5, 1.0), 2


def run(*words, code=0):
    result = CliRunner().invoke(app, list(map(str, words)))
    if code == 0:
        assert result.exception is None, result.exception
    return result


def refused(*words):
    result = run(*words, code=2)
    assert isinstance(result.exception, InputError), result.exception
    message = str(result.exception)
    assert "\n" not in message
    return message


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The bundled features, fits of nearest and of random neighbours, and an adjusted head."""
    folder = tmp_path_factory.mktemp("made")
    shutil.copy(DEMO, folder / "feats.h5")
    for metric in ("euclidean", "random"):
        run(
            "alphanet", "fit", folder / "feats.h5", "--rho", "0.5,1", "--seeds", SEEDS,
            "--epochs", "2", "--k", "4", "--metric", metric, "-o", folder / f"{metric}.h5", "-q",
        )  # fmt: skip
    run("posthoc", "logit-adjust", folder / "feats.h5", "--set", "tau=1", "-q")
    return folder


@pytest.fixture
def folder(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LTKIT_FEATURES", raising=False)
    for file in made.glob("*.h5"):
        shutil.copy(file, tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def known(made):
    """What the own head and the runs of the nearest-neighbour fit predict of test, by `predict`."""
    features = features_file.read(made / "feats.h5")
    correction, _ = classifiers.read(made / "euclidean.h5")
    data = features.split("test")
    base = features.classifier()
    own, found = predict(data, base, [Correction.baseline(base), correction])
    rho = np.array([r["rho"] for r in correction.runs])
    train = features.split("train")
    means = np.stack(
        [train.features[:][train.labels == c].mean(axis=0, dtype=np.float64) for c in range(100)]
    )
    return {
        "features": features, "correction": correction, "labels": data.labels, "means": means,
        "before": own.predicted[0], "after": {r: found.predicted[rho == r] for r in RHOS},
    }  # fmt: skip


def nearest(means, class_id, among, k):
    gaps = [(float(np.linalg.norm(means[class_id] - means[b])), b) for b in among if b != class_id]
    return sorted(gaps)[:k]


def accuracy(known, predicted, class_id):
    return float((predicted[known["labels"] == class_id] == class_id).mean())


def test_distance_against_a_loop(folder, known):
    result = run("analyze", "distance", "feats.h5", "euclidean.h5", "--k", 3, "--json",
                 "--csv", "d.csv", "-q")  # fmt: skip
    document = json.loads(result.stdout)
    assert document["schema"] == "ltkit.analyze-distance/1"
    assert [c["class"] for c in document["classes"]] == list(FEW)
    assert document["n"] == 30
    near = [nearest(known["means"], c, BASE, 3) for c in FEW]
    distance = [np.mean([d for d, _ in row]) for row in near]
    assert [c["distance"] for c in document["classes"]] == pytest.approx(distance, rel=1e-5)
    assert [c["neighbors"] for c in document["classes"]] == [[b for _, b in row] for row in near]
    assert [c["name"] for c in document["classes"]][:2] == ["rose", "sea"]
    baseline, *rows = document["rows"]
    before = [accuracy(known, known["before"], c) for c in FEW]
    assert baseline["accuracy"] == pytest.approx(before)
    assert baseline["r"] == pytest.approx(stats.spearmanr(before, distance).statistic)
    assert [r["settings"]["rho"] for r in rows] == list(RHOS)
    for row, rho in zip(rows, RHOS, strict=True):
        after = np.array([[accuracy(known, p, c) for c in FEW] for p in known["after"][rho]])
        assert row["runs"] == SEEDS
        assert row["accuracy"] == pytest.approx(after.mean(axis=0))
        assert row["std"] == pytest.approx(after.std(axis=0, ddof=1))
        assert row["change"] == pytest.approx(after.mean(axis=0) - before)
        mean = np.round(after.mean(axis=0), 9)  # ties are ties
        assert row["r"] == pytest.approx(stats.spearmanr(mean, distance).statistic)
        change = np.round(after - before, 9)
        assert row["change_r"] == pytest.approx(
            stats.spearmanr(np.round(change.mean(axis=0), 9), distance).statistic
        )
        each = [stats.spearmanr(c, distance).statistic for c in change]
        assert row["change_r_std"] == pytest.approx(np.std(each, ddof=1))
    with Path("d.csv").open(encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert len(table) == 3 * 30
    line = table[31]
    assert (line["setting"], line["name"]) == ("alphanet k 4 rho 0.5", "sea")
    assert float(line["change"]) == pytest.approx(rows[0]["change"][1], abs=1e-6)
    assert table[0]["std"] == table[0]["change"] == ""


def test_distance_on_screen(folder):
    text = run("analyze", "distance", "feats.h5", "euclidean.h5", "-q").stdout
    document = json.loads(
        run("analyze", "distance", "feats.h5", "euclidean.h5", "-q", "--json").stdout
    )
    assert "30 few classes by mean euclidean distance to their 5 neighbours among base" in text
    order = sorted(range(30), key=lambda p: document["classes"][p]["distance"])
    shown = re.findall(r"^ (\w+) \(\d+\) ", text, flags=re.MULTILINE)
    assert shown == [document["classes"][p]["name"] for p in order]
    baseline = next(line for line in text.splitlines() if line.startswith(" baseline"))
    thirds = [order[start : start + 10] for start in (0, 10, 20)]
    means = [100 * np.mean([document["rows"][0]["accuracy"][p] for p in t]) for t in thirds]
    assert baseline.split() == [
        "baseline", *(f"{m:.1f}" for m in means), f"{document['rows'][0]['r']:+.2f}"
    ]  # fmt: skip
    assert "± std, 2 seeds" in text


def test_many_corrections_print_no_table_of_classes(folder):
    text = run("analyze", "distance", "-q").stdout
    assert "the classes one by one: --csv or --json" in text
    assert "wolf" not in text


def test_distance_of_the_model_alone(folder):
    document = json.loads(run("analyze", "distance", DEMO, "--json", "-q", "--of", "all",
                              "--among", "all", "--split", "val").stdout)  # fmt: skip
    assert [row["name"] for row in document["rows"]] == ["baseline"]
    assert document["n"] == 100
    assert all(c["class"] not in c["neighbors"] for c in document["classes"])
    assert all(c["samples"] == 20 for c in document["classes"])


def flow_by_hand(known, of, neighbors, predicted):
    count = np.zeros((3, 3), int)
    table = {c: set(neighbors(c)) for c in of}

    def status(true, guess):
        return 0 if true == guess else 1 if guess in table[true] else 2

    for true, was, now in zip(
        known["labels"].tolist(), known["before"].tolist(), predicted.tolist(), strict=True
    ):
        if true in table:
            count[status(true, was), status(true, now)] += 1
    return count


def test_flows_against_a_loop(folder, known):
    document = json.loads(
        run("analyze", "flows", "feats.h5", "euclidean.h5", "--k", 3, "--level", 4, "--json",
            "--csv", "f.csv", "-q").stdout
    )  # fmt: skip
    assert document["schema"] == "ltkit.analyze-flows/1"
    assert [(r["settings"]["rho"], r["by"], r["samples"]) for r in document["rows"]] == [
        (rho, by, samples) for rho in RHOS for by in ("features", "wordnet")
        for samples in ("few", "base", "all")
    ]  # fmt: skip
    wnids = known["features"].classes.wnids
    links = wordnet.path_lengths(wnids)
    groups = {"few": (FEW, BASE), "base": (BASE, FEW), "all": (range(100), range(100))}
    for row in document["rows"]:
        of, among = groups[row["samples"]]
        table = {
            c: [b for _, b in nearest(known["means"], c, among, 3)] if row["by"] == "features"
            else [b for b in range(100) if b != c and links[c, b] <= 4]
            for c in of
        }  # fmt: skip
        counts = np.stack(
            [flow_by_hand(known, of, table.__getitem__, p)
             for p in known["after"][row["settings"]["rho"]]]
        )  # fmt: skip
        assert row["n"] == 100 * len(of)
        assert row["classes"] == len(of)
        assert row["mean_neighbors"] == pytest.approx(np.mean([len(t) for t in table.values()]))
        np.testing.assert_allclose(row["count"], counts.mean(axis=0))
        np.testing.assert_allclose(row["std"], counts.std(axis=0, ddof=1), atol=1e-12)
        np.testing.assert_allclose(row["share"], counts.mean(axis=0) / row["n"])
        assert list(row["before"].values()) == counts[0].sum(axis=1).tolist()
        after = counts.sum(axis=1)
        assert list(row["after"].values()) == pytest.approx(after.mean(axis=0).tolist())
        assert list(row["after_std"].values()) == pytest.approx(after.std(axis=0, ddof=1).tolist())
        assert list(row["before"]) == ["correct", "neighbor", "other"]
    with Path("f.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 12 * 9
    moved = lines[3]
    assert (moved["before"], moved["after"]) == ("neighbor", "correct")
    assert float(moved["count"]) == document["rows"][0]["count"][1][0]


def test_flows_on_screen(folder):
    text = run("analyze", "flows", "feats.h5", "feats.logit-adjust.h5", "-q", "--by",
               "features").stdout  # fmt: skip
    document = json.loads(
        run("analyze", "flows", "feats.h5", "feats.logit-adjust.h5", "-q", "--by", "features",
            "--json").stdout
    )  # fmt: skip
    row = document["rows"][0]
    assert (row["std"], row["after_std"], row["runs"]) == (None, None, 1)
    assert "logit-adjust tau 1" in text
    lines = text.splitlines()
    start = next(n for n, line in enumerate(lines) if "few: 3000 samples of 30 classes" in line)

    def cell(value):
        return [f"{value:.0f}", f"({value / 30:.1f})"]

    for shift, name in enumerate(("correct", "neighbor", "other"), start=1):
        cells = [row["before"][name], *row["count"][shift - 1]]
        words = lines[start + shift].split()
        assert words[1:] == [w for value in cells for w in cell(value)]
    assert lines[start + 4].split()[0] == "after"
    assert lines[start + 4].split()[1:] == [w for v in row["after"].values() for w in cell(v)]


def test_flows_of_the_model_alone_are_where_it_stands(folder, known):
    document = json.loads(run("analyze", "flows", DEMO, "--json", "-q").stdout)
    assert {row["name"] for row in document["rows"]} == {"baseline"}
    for row in document["rows"]:
        assert row["before"] == row["after"]
        assert np.array(row["count"]).trace() == row["n"]
    few = document["rows"][0]
    of_few = known["labels"] >= 70
    right = (known["before"] == known["labels"])[of_few].sum()
    assert few["before"]["correct"] == right
    text = run("analyze", "flows", DEMO, "-q").stdout
    assert "then" not in text
    assert text.count("(11.7)") == 2  # few-shot samples that are right, of both kinds


@pytest.fixture
def small(folder):
    """Six classes without wnids: four base, one few, and one that was never trained."""
    rng = np.random.default_rng(0)
    counts = (130, 40, 30, 25, 6, 0)
    centres = 2 * rng.normal(size=(6, 5))
    names = ["[b]dog[/b]", "cat", "cow", "4", "=rare", "unseen"]
    arrays = {"weight": centres, "bias": np.zeros(6), "train_counts": np.array(counts),
              "class_names": np.array(names)}  # fmt: skip
    for split, numbers in (
        ("train", counts),
        ("val", (4, 4, 4, 4, 0, 4)),
        ("test", (9,) * 5 + (4,)),
    ):
        labels = np.repeat(np.arange(6), numbers)
        arrays[f"{split}_labels"] = labels
        arrays[f"{split}_features"] = centres[labels] + rng.normal(size=(len(labels), 5))
    np.savez("a.npz", **{n: np.float32(v) if v.dtype == float else v for n, v in arrays.items()})
    (folder / "small").mkdir()
    run("import", "a.npz", "-o", "small/feats.h5", "-q")
    return "small/feats.h5"


def test_flows_take_the_neighbours_that_there_are(small):
    result = run("analyze", "flows", small, "--json")
    document = json.loads(result.stdout)
    assert "1 classes have no training sample" in result.stderr
    assert "classes/wnid: absent, so no WordNet neighbours" in result.stderr
    assert [(r["samples"], r["by"], r["k"], r["n"]) for r in document["rows"]] == [
        ("few", "features", 4, 9), ("base", "features", 1, 36), ("all", "features", 4, 45)
    ]  # fmt: skip


def test_groups_without_a_sample_have_no_flow(small):
    result = run("analyze", "flows", small, "--json", "--split", "val", "-q")
    assert [r["samples"] for r in json.loads(result.stdout)["rows"]] == ["base", "all"]


def test_flows_without_few_classes(small):
    result = run("analyze", "flows", small, "--json", "--bins", "1,100")
    assert [r["samples"] for r in json.loads(result.stdout)["rows"]] == ["all"]
    assert "no few classes with neighbours among base" in result.stderr


def test_deltas_against_evaluate(folder):
    document = json.loads(
        run("analyze", "deltas", "--json", "--csv", "t.csv").stdout
    )  # the adjusted head beside them has no rho: left out
    scored = json.loads(run("evaluate", "--json", "--replicates", "100", "-q").stdout)
    baseline = scored["rows"][0]["accuracy"]
    assert document["baseline"] == pytest.approx(baseline)
    assert [(c["name"], c["files"]) for c in document["curves"]] == [
        ("euclidean, k 4", ["euclidean.h5"]), ("random, k 4", ["random.h5"])
    ]  # fmt: skip
    for curve in document["curves"]:
        assert [p["rho"] for p in curve["points"]] == list(RHOS)
        for point in curve["points"]:
            (row,) = [
                r for r in scored["rows"]
                if r["file"] == curve["files"][0] and r["settings"]["rho"] == point["rho"]
            ]  # fmt: skip
            assert point["runs"] == SEEDS
            for group in ("few", "medium", "many", "all", "balanced"):
                gain = row["accuracy"][group] - baseline[group]
                assert point["change"][group] == pytest.approx(gain, abs=1e-9)
                assert point["std"][group] == pytest.approx(row["std"][group], abs=1e-9)
    with Path("t.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 2 * 2 * 5
    assert float(lines[0]["change"]) == pytest.approx(
        document["curves"][0]["points"][0]["change"]["few"], abs=1e-6
    )
    text = run("analyze", "deltas", "feats.h5", "euclidean.h5", "random.h5", "-q").stdout
    shown = next(line for line in text.splitlines() if "random" in line).split()
    point = document["curves"][1]["points"][0]
    assert shown[:5] == ["random,", "k", "4", "0.5", "2"]
    few = f"{100 * point['change']['few']:+.1f} ± {100 * point['std']['few']:.1f}"
    assert " ".join(shown[5:8]) == few
    assert "balanced" not in text  # it is all, on a balanced split


def one_rho(path, out, rho=0.5, digest=None):
    """Write the runs of one rho of a fit to another file."""
    correction, inputs = classifiers.read(Path(path))
    rows = [n for n, r in enumerate(correction.runs) if r["rho"] == rho]
    part = replace(
        correction, weight=correction.weight[rows], bias=correction.bias[rows],
        runs=tuple(correction.runs[n] for n in rows),
        extra={name: values[rows] for name, values in correction.extra.items()},
    )  # fmt: skip
    inputs = inputs if digest is None else {"features": digest}
    classifiers.write(Path(out), part, settings={}, inputs=inputs, command="")


def test_a_curve_of_one_rho(folder):
    one_rho("random.h5", "half.h5")
    message = refused("analyze", "deltas", "feats.h5", "euclidean.h5", "half.h5", "-q")
    assert "half.h5: found one rho (0.5) of random, k 4, expected several" in message
    assert "fit with several rhos" in message
    Path("random.h5").unlink()
    result = run("analyze", "deltas", "--json")
    assert "note: half.h5: one rho of random, k 4: left out" in result.stderr
    assert [c["metric"] for c in json.loads(result.stdout)["curves"]] == ["euclidean"]
    Path("euclidean.h5").unlink()
    assert "found one rho" in refused("analyze", "deltas", "-q")
    Path("half.h5").unlink()
    assert "found no fit beside it" in refused("analyze", "deltas", "-q")


def test_files_of_one_rho_each_make_a_curve(folder):
    one_rho("euclidean.h5", "a.h5", 0.5)
    one_rho("euclidean.h5", "b.h5", 1.0)
    together = json.loads(run("analyze", "deltas", "feats.h5", "a.h5", "b.h5", "--json").stdout)
    alone = json.loads(run("analyze", "deltas", "feats.h5", "euclidean.h5", "--json").stdout)
    assert together["curves"][0]["points"] == alone["curves"][0]["points"]
    assert together["curves"][0]["files"] == ["a.h5", "b.h5"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("distance", "feats.h5", "--k", "71"), "--k: found 71, expected 1..70"),
        (("distance", "feats.h5", "--of", "rare"), "--of: found rare, expected few"),
        (("distance", "feats.h5", "--bins", "1,2"), "--of: found no few class in"),
        (("distance", "feats.h5", "--of", "all", "--bins", "900,900"),
         "--among: found no base class in feats.h5"),
        (("distance", "feats.h5", "--split", "dev"), "no split dev; there are: train, val, test"),
        (("flows", "feats.h5", "none.h5"), "none.h5"),
        (("deltas", "feats.h5", "feats.logit-adjust.h5"), "found a correction without rho"),
        (("flows", "feats.h5", "--csv", "feats.h5", "--overwrite"), "feats.h5"),
    ],
)  # fmt: skip
def test_bad_input(folder, words, expected):
    assert expected in refused("analyze", *words, "-q")


def test_a_split_without_samples(folder):
    arrays = {"weight": np.eye(2), "bias": np.zeros(2)}
    for split, count in (("train", 4), ("test", 0)):
        arrays[f"{split}_features"] = np.zeros((count, 2), np.float32)
        arrays[f"{split}_labels"] = np.arange(count) % 2
    np.savez("a.npz", **{n: np.float32(v) if v.dtype == float else v for n, v in arrays.items()})
    run("import", "a.npz", "-o", "empty.h5", "-q")
    assert "test: found no sample" in refused("analyze", "flows", "empty.h5", "-q")


def test_wordnet_flows_need_wnids(small):
    message = refused("analyze", "flows", small, "--by", "wordnet", "-q")
    assert "classes/wnid: absent" in message
    assert "by features" in message


@pytest.mark.parametrize("words", [("analyze", "flows"), ("alphanet", "show")])
def test_fits_of_other_features(folder, words):
    one_rho("euclidean.h5", "other.h5", digest="0" * 64)
    message = refused(*words, "feats.h5", "other.h5", "-q")
    assert "other.h5: fitted on features 000000000000" in message


def test_show_says_what_was_learned(folder, known):
    document = json.loads(
        run("alphanet", "show", "feats.h5", "euclidean.h5", "--class", "wolf", "--class", "98",
            "--rho", "0.5", "--json").stdout
    )  # fmt: skip
    assert document["schema"] == "ltkit.alphanet-show/1"
    assert document["runs"] == SEEDS
    assert document["settings"]["rho"] == 0.5
    assert "seed" not in document["settings"]
    wolf, woman = document["rows"]
    assert (wolf["class"], wolf["name"], wolf["train_count"]) == (97, "wolf", 5)
    assert (woman["class"], woman["samples"]) == (98, 100)
    correction, labels = known["correction"], known["labels"]
    runs = [n for n, r in enumerate(correction.runs) if r["rho"] == 0.5]
    base = known["features"].classifier()
    near = [b for _, b in nearest(known["means"], 97, BASE, 4)]
    assert [part["class"] for part in wolf["combination"]] == near
    # The combination gives the corrected row back.
    row = 97 - 70
    added = sum(p["alpha"] * base.weight[p["class"]].astype(float) for p in wolf["combination"])
    np.testing.assert_allclose(
        base.weight[97] + added, correction.weight[runs, row].mean(axis=0), atol=1e-5
    )
    alphas = correction.extra["alpha"][runs, row]
    assert [p["std"] for p in wolf["combination"]] == pytest.approx(
        alphas.std(axis=0, ddof=1).tolist(), rel=1e-4
    )
    assert {p["runs"] for p in wolf["combination"]} == {SEEDS}
    bias = correction.bias[runs, row]
    assert wolf["bias"]["before"] == pytest.approx(base.bias[97])
    assert wolf["bias"]["after"] == pytest.approx(bias.mean())
    after = [accuracy(known, p, 97) for p in known["after"][0.5]]
    assert wolf["accuracy"] == pytest.approx(
        {"before": accuracy(known, known["before"], 97), "after": np.mean(after),
         "std": np.std(after, ddof=1)}
    )  # fmt: skip
    for name, c in (("streetcar", 81), ("rose", 70)):
        (row,) = json.loads(
            run(
                "alphanet", "show", "euclidean.h5", "--class", name, "--rho", "0.5", "--json"
            ).stdout
        )["rows"]
        each = [accuracy(known, p, c) for p in known["after"][0.5]]
        others = [accuracy(known, p, c) for p in known["after"][1.0]]
        assert np.mean(each) != np.mean(others)
        assert row["accuracy"]["after"] == pytest.approx(np.mean(each))
    for when, guesses in (("before", [known["before"]]), ("after", known["after"][0.5])):
        wrong = sum(m[when] for m in wolf["mistakes"])
        assert wrong == pytest.approx(np.mean([(g[labels == 97] != 97).sum() for g in guesses]))
    top = wolf["mistakes"][0]
    assert top["before"] == (known["before"][labels == 97] == top["class"]).sum()


def test_show_in_words(folder):
    words = ("alphanet", "show", "feats.h5", "euclidean.h5", "--class", "wolf", "--run",
             "rho=0.5", "--run", "seed=1")  # fmt: skip
    (row,) = json.loads(run(*words, "--json").stdout)["rows"]
    assert row["accuracy"]["std"] is None
    first, named, combination, before, after = run(*words).stdout.splitlines()
    assert first == "euclidean.h5: metric euclidean, k 4, rho 0.5, seed 1; feats.h5, test split"
    accuracy = row["accuracy"]
    assert named == (
        f"wolf (5 training samples): accuracy {100 * accuracy['before']:.1f} -> "
        f"{100 * accuracy['after']:.1f} % of 100"
    )
    parts = sorted(row["combination"], key=lambda p: -abs(p["alpha"]))
    told = "".join(
        f" {'-' if p['alpha'] < 0 else '+'} {abs(p['alpha']):.2f} {p['name']}" for p in parts
    )
    bias = f"bias {row['bias']['before']:.2f} -> {row['bias']['after']:.2f}"
    assert combination == f"  wolf = own{told}; {bias}"
    for line, when in ((before, "before"), (after, "after")):
        counts = sorted((m[when] for m in row["mistakes"]), reverse=True)[:3]
        assert line.startswith(f"  mistaken {when} for ")
        assert [int(n) for n in re.findall(r" (\d+)(?:,|$)", line)] == counts


def test_show_gives_the_spread_over_seeds(folder):
    text = run(
        "alphanet", "show", "feats.h5", "euclidean.h5", "--class", "wolf", "--rho", "1"
    ).stdout
    assert "rho 1, mean ± std over 2 seeds" in text
    assert re.search(r"-> \d+\.\d ± \d+\.\d % of 100", text)
    assert re.search(r"own [+-] 0\.\d\d ± 0\.\d\d \w+", text)
    assert re.search(r"mistaken after for \w+ \d+\.\d ± \d+\.\d", text)


def test_show_picks_the_most_changed(folder, known):
    words = ("alphanet", "show", "feats.h5", "euclidean.h5", "--rho", "0.5", "--json")
    every = json.loads(run(*words, "--most", "0").stdout)["rows"]
    assert sorted(r["class"] for r in every) == list(FEW)

    def change(row):
        return abs(row["accuracy"]["after"] - row["accuracy"]["before"])

    assert [change(r) for r in every] == sorted(map(change, every), reverse=True)
    assert json.loads(run(*words, "--most", "3").stdout)["rows"] == every[:3]
    assert len(json.loads(run(*words).stdout)["rows"]) == 10
    correction, inputs = classifiers.read(Path("euclidean.h5"))
    row = known["features"].classes.names.index("skyscraper") - 70
    correction.bias[:, row] = -100  # it falls from 42 % to nothing
    classifiers.write(Path("worse.h5"), correction, settings={}, inputs=inputs, command="")
    (row,) = json.loads(
        run(
            "alphanet", "show", "feats.h5", "worse.h5", "--rho", "0.5", "--most", "1", "--json"
        ).stdout
    )["rows"]
    assert (row["name"], row["accuracy"]["after"]) == ("skyscraper", 0)


def test_show_of_random_neighbours(folder):
    (row,) = json.loads(
        run("alphanet", "show", "feats.h5", "random.h5", "--class", "wolf", "--rho", "1",
            "--json").stdout
    )["rows"]  # fmt: skip
    assert 4 < len(row["combination"]) <= 8
    assert sum(part["runs"] for part in row["combination"]) == 8
    text = run("alphanet", "show", "feats.h5", "random.h5", "--class", "wolf", "--rho", "1").stdout
    more = f" and {len(row['combination']) - 4} more; bias"
    assert more in text
    terms = text.split("wolf = own")[1].split(more)[0]
    assert len(re.findall(r" [+-] 0\.\d\d ± ", terms)) == 4


def test_show_finds_the_only_fit(folder):
    message = refused("alphanet", "show")
    assert "found 2 fits, expected one; name it: euclidean.h5, random.h5" in message
    Path("random.h5").unlink()
    assert run("alphanet", "show", "--rho", "1", "-q").stdout.startswith("euclidean.h5: ")
    assert run("alphanet", "show", "euclidean.h5", "--rho", "1", "-q").stdout.startswith("eucl")
    message = refused("alphanet", "show", "feats.h5", "feats.logit-adjust.h5")
    assert "found feats.logit-adjust.h5, expected what alphanet fit wrote" in message


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--class", "wolv"), "--class: found 'wolv'; did you mean wolf?"),
        (("--class", "zzz"), "expected a class name or an id from 0 to 99"),
        (("--class", "100"), "expected a class name or an id from 0 to 99"),
        (("--class", "apple"), "--class: 'apple' is not among the 30 classes that euclidean.h5"),
        (("--class", "0"), "--class: '0' is not among the 30 classes"),
        (("--rho", "7"), "euclidean.h5: found no rho 7; choose one rho of 1, 0.5"),
        ((), "euclidean.h5: found several rho; choose one rho of 1, 0.5"),
        (("--rho", "1", "--run", "seed=5"), "--run: found 0 of 4 runs"),
        (("--rho", "1", "--split", "dev"), "no split dev"),
    ],
)
def test_show_refuses(folder, words, expected):
    rho = () if {"--rho"} & set(words) or not words else ("--rho", "1")
    assert expected in refused("alphanet", "show", "feats.h5", "euclidean.h5", *words, *rho)


def test_classes_of_strange_names(small):
    """A name that is a number, one that is markup, and one that a spreadsheet would run."""
    run("alphanet", "fit", small, "--k", "2", "--epochs", "2", "-q", "--bins", "35,100", "-o",
        "small/fit.h5", "--leave-out", "5")  # fmt: skip
    words = ("alphanet", "show", small, "small/fit.h5", "-q")
    for text, class_id in (("4", 3), ("cow", 2), ("2", 2), ("=rare", 4)):
        (row,) = json.loads(run(*words, "--class", text, "--json").stdout)["rows"]
        assert row["class"] == class_id
    assert "[b]dog[/b]" in run(*words).stdout
    words = ("analyze", "distance", small, "-q", "--k", "1", "--csv", "d.csv", "--overwrite")
    assert "[b]dog[/b] (130)" in run(*words, "--of", "base").stdout
    run(*words)
    assert ",4,'=rare,6," in Path("d.csv").read_text(encoding="utf-8")


def test_a_name_that_two_classes_have(known):
    classes = replace(known["features"].classes, names=("a", "wolf") + 97 * ("b",) + ("wolf",))
    features = replace(known["features"], classes=classes)
    with pytest.raises(InputError, match="found 2 classes named 'wolf'; give one's id: 1, 99"):
        class_of("wolf", features.classes, known["correction"], "fit.h5")
    assert class_of("99", features.classes, known["correction"], "fit.h5") == 99


def test_names_are_not_needed(folder):
    arrays = {"weight": np.eye(4), "bias": np.zeros(4)}
    labels = np.repeat(np.arange(4), (40, 30, 25, 3))
    for split in ("train", "val", "test"):
        noise = np.random.default_rng(1).normal(size=(len(labels), 4))
        arrays[f"{split}_features"], arrays[f"{split}_labels"] = np.eye(4)[labels] + noise, labels
    np.savez("a.npz", **{n: np.float32(v) if v.dtype == float else v for n, v in arrays.items()})
    (folder / "plain").mkdir()
    run("import", "a.npz", "-o", "plain/feats.h5", "-q")
    run("alphanet", "fit", "plain/feats.h5", "--k", "2", "--epochs", "2", "-q")
    message = refused("alphanet", "show", "plain/feats.alphanet.h5", "--class", "dog")
    assert "--class: found 'dog'; ids are 0 to 3" in message
    assert "\n3 (3 training samples)" in run("alphanet", "show", "plain/feats.h5", "-q").stdout
