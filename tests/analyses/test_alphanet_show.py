"""``ltkit alphanet show`` on the bundled features."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from analysed import BASE, FEW, SEEDS, accuracy, nearest, refused, run

from ltkit.alphanet.explanation import class_of
from ltkit.errors import InputError
from ltkit.files import classifiers

pytestmark = pytest.mark.usefixtures("one_thread")


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
        (("--rho", "7"), "euclidean.h5: found no rho 7; choose one with --rho: 1, 0.5"),
        ((), "euclidean.h5: found several rho; choose one with --rho: 1, 0.5"),
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
