"""``ltkit analyze`` on the bundled features, beside plain loops."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from analysed import BASE, DEMO, FEW, RHOS, SEEDS, accuracy, nearest, one_rho, refused, run
from scipy import stats

from ltkit.evaluation import Entry, analysis
from ltkit.files import classifiers
from ltkit.files import features as features_file
from ltkit.neighbors import wordnet
from ltkit.settings import NeighborSettings

pytestmark = pytest.mark.usefixtures("one_thread")


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
                assert point["interval"][group] == row["difference_interval"][group]
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


def test_the_library_gives_what_the_commands_print(folder):
    features = features_file.read(Path("feats.h5"))
    correction, _ = classifiers.read(Path("euclidean.h5"))
    entry = Entry("alphanet", "euclidean.h5", correction)
    subject = analysis.observe(features, "test", [entry])
    near = NeighborSettings(3, "cosine")
    files = ("feats.h5", "euclidean.h5", "--json", "-q")
    words = (*files, "--k", 3, "--metric", "cosine")
    for name, document in (
        ("distance", analysis.analyze_distance(subject, near, of="all", among="all")),
        ("flows", analysis.analyze_flows(subject, near, by="features")),
        ("deltas", analysis.analyze_deltas(subject)),
    ):
        more = {"distance": (*words, "--of", "all", "--among", "all"),
                "flows": (*words, "--by", "features"), "deltas": files}  # fmt: skip
        assert document == json.loads(run("analyze", name, *more[name]).stdout)


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
