"""The report's data, figures and page; tests/test_report_browser.py opens it."""

import base64
import csv
import functools
import hashlib
import html
import io
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import plotly.io
import pytest
from ltkit.reporting.figures import Exhibit, View, sections
from made import refused
from PIL import Image
from sklearn.calibration import calibration_curve
from sklearn.metrics import confusion_matrix
from typer.testing import CliRunner

import ltkit
from ltkit.cli import app
from ltkit.evaluation import Entry
from ltkit.files import classifiers
from ltkit.files import features as features_file
from ltkit.records import ClassTable, Correction, FeatureSet, FeatureSplit, Head
from ltkit.reporting import data, drawing, page, pictures

DEMO = Path(ltkit.__file__).parent / "data" / "demo" / "feats.h5"
FITS = ("feats.alphanet.h5", "feats.random.h5")
EVERY = (*FITS, "feats.logit-adjust-sweep.h5", "feats.tau-norm.h5")
HOSTILE = (
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(2)>",
    "x" * 300,
    "حيوان أليف",
    "a\x1b[31m\u202eb\x00\nc",
    "=cmd|' /C calc'!A0",
    '"quoted", & <b>bold</b>',
    "${plotly} &lt;i&gt;",
)


def run(*words, code=0):
    result = CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def printed(*words):
    return json.loads(run(*words, "--json", "-q").stdout)


def embedded(text):
    """The page's data."""
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    return json.loads(found)


def columns(exhibit):
    """An exhibit's columns by name."""
    unpacked = [
        v if isinstance(v, list) else [v["of"][i] for i in v["at"]] for v in exhibit["values"]
    ]
    return dict(zip(exhibit["columns"], unpacked, strict=True))


def records(exhibit):
    found = columns(exhibit)
    return [dict(zip(found, row, strict=True)) for row in zip(*found.values(), strict=True)]


class Page(HTMLParser):
    """Elements of a page, and the texts of its tables."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.tables, self.cell, self.body = [], {}, None, []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag == "table":
            self.rows = self.tables[dict(attributes).get("id")] = []
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.cell = []
        elif tag == "br" and self.cell is not None:
            self.cell.append("\n")

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.rows[-1].append("".join(self.cell))
            self.cell = None

    def handle_data(self, text):
        if self.cell is not None:
            self.cell.append(text)

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the bundled features and corrections of them."""
    folder = tmp_path_factory.mktemp("report")
    feats = shutil.copy(DEMO, folder / "feats.h5")
    fit = ("alphanet", "fit", feats, "--rho", "0.5,1", "--seeds", "2", "--epochs", "6", "-q")
    run(*fit)
    run(*fit, "--metric", "random", "-o", folder / "feats.random.h5")
    run("posthoc", "logit-adjust", feats, "--sweep", "-q")
    run("posthoc", "tau-norm", feats, "-q")
    return folder


@pytest.fixture(scope="module")
def text(folder):
    """The page of all corrections."""
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        run("report", "feats.h5", "--replicates", "200", "-q")
    return (folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)
    monkeypatch.delenv("LTKIT_FEATURES", raising=False)
    return folder


@pytest.fixture(scope="module")
def found(text):
    return embedded(text)


def small(names=None, counts=(200, 50, 40, 5, 3), splits=("train", "val", "test"), **more):
    """Features of five classes, of which the last two are rare."""
    rng = np.random.default_rng(0)
    centre = rng.normal(size=(len(counts), 6))
    labels = np.arange(20 * len(counts)) % len(counts)

    def split():
        noise = rng.normal(size=(len(labels), 6))
        return FeatureSplit((centre[labels] + noise).astype(np.float32), labels)

    head = Head(centre.astype(np.float32), np.log(np.maximum(counts, 1)).astype(np.float32))
    classes = ClassTable(np.array(counts), names, **more)
    return FeatureSet({name: split() for name in splits}, classes, head)


def correction(features, name="fixed", runs=({"tau": 1.0},), **more):
    """A correction that takes the logits' bias away, more with each run."""
    base, count = features.classifier(), len(features.classes)
    weight = np.repeat(base.weight[None], len(runs), axis=0)
    bias = base.bias * np.linspace(0.5, 0, len(runs))[:, None].astype(np.float32)
    made = Correction(name, np.arange(count), weight, bias, tuple(runs), **more)
    return Entry(name, f"{name}.h5", made)


def gathered(features, *entries, **more):
    more = {"replicates": 100, **more}
    return data.gather(features, "test", entries, **more)


def rendered(features, *entries, **more):
    gather = gathered(features, *entries)
    return page.render(gather, sections(gather), **more)


@functools.cache
def large(settings=2):
    """The page of 1000 classes and 50,000 test samples."""
    rng = np.random.default_rng(0)
    count, size = 1000, 8
    counts = np.round(1280 * (5 / 1280) ** (np.arange(count) / (count - 1))).astype(int)
    centre = 3 * rng.normal(size=(count, size))

    def split(each):
        labels = np.repeat(np.arange(count), each)
        values = centre[labels] + rng.normal(size=(len(labels), size))
        return FeatureSplit(values.astype(np.float32), labels)

    parts = {"train": split(3), "test": split(50)}
    head = Head(2 * centre.astype(np.float32), -(centre**2).sum(axis=1).astype(np.float32))
    names = tuple(f"class number {c}" for c in range(count))
    features = FeatureSet(parts, ClassTable(counts, names), head)
    return rendered(features, *(correction(features, f"method {n}") for n in range(settings)))


# The numbers are those of the other commands


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
                low, high = (f"{100 * v:+.1f}" for v in row["difference_interval"][group])
                gain = f"Δ {100 * row['difference'][group]:+.1f}"
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
        assert (row["on_curve"], row["dominated_by"]) == (point["on_curve"], point["dominated_by"])
    chosen = [point["label"] for point in points if point["in_pairs"]]
    assert found["labels"] == chosen
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
        assert near[row["class"]] == pytest.approx(row["distance"], abs=1e-6)
        place = found["neighbors"]["class"].index(row["class"])
        assert found["neighbors"]["neighbor"][place] == row["neighbors"]
    wanted = {row["label"]: (row["r"], row.get("change_r")) for row in said["rows"]}
    for row in found["neighbors"]["spearman"]:
        r, change = wanted[row["label"]]
        assert row["r"] == pytest.approx(r, abs=1e-6)
        assert row["change"] == (change and pytest.approx(change, abs=1e-6))
    assert len(found["neighbors"]["spearman"]) == len(found["labels"])


# What is the report's own


def test_reliability_is_that_of_scikit_learn():
    features = small()
    entry = correction(features, runs=({"seed": 0}, {"seed": 1}))
    gather = gathered(features, entry)
    found = gather["reliability"]["rows"]
    assert len(found) == 2
    test, base = features.split("test"), features.classifier()
    logits = base.logits(test.features).astype(np.float64)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    sure, right = shares.max(axis=1), shares.argmax(axis=1) == test.labels
    for group, ids in (("few", (3, 4)), ("many", (0,)), ("all", range(5))):
        inside = np.isin(test.labels, ids)
        wanted = calibration_curve(right[inside], sure[inside], n_bins=15)
        for column, values in zip(("accuracy", "confidence"), wanted, strict=True):
            shown = [v for v in found[0][group][column] if v is not None]
            assert shown == pytest.approx(values, abs=1e-5)
        for row, document in zip(found, gather["evaluate"]["rows"], strict=True):
            bins = row[group]
            assert sum(bins["samples"]) == inside.sum()
            if document["runs"] == 1:
                gaps = [n * abs(c - a) for n, c, a in
                        zip(*(bins[k] for k in ("samples", "confidence", "accuracy")), strict=True)
                        if n]  # fmt: skip
                error = document["calibration"][group]
                assert sum(gaps) / inside.sum() == pytest.approx(error, abs=1e-5)
    after = [base.logits(test.features) - base.bias + entry.correction.bias[s] for s in range(2)]
    hits = [(z.argmax(axis=1) == test.labels).mean() for z in after]
    bins = found[1]["all"]
    mean = sum(n * (a or 0) for n, a in zip(bins["samples"], bins["accuracy"], strict=True)) / 100
    assert mean == pytest.approx(np.mean(hits), abs=1e-5)
    (shown,) = (e for p in sections(gather) for e in p.exhibits if e.key == "reliability")
    first = shown.views[0].traces[1]
    assert first["name"] == "few"
    assert first["x"] == pytest.approx(
        [100 * c for c in found[0]["few"]["confidence"] if c is not None], abs=1e-3
    )
    assert first["y"] == pytest.approx(
        [100 * a for a in found[0]["few"]["accuracy"] if a is not None], abs=1e-3
    )
    most = int(np.argmax(first["marker"]["size"]))
    assert most == int(np.argmax([n for n in found[0]["few"]["samples"] if n]))


def test_classes_named_by_wordnet_ids_are_read():
    features = small(("n01440764", "n02084071", "cat", "n99999999", "e"))
    gather = gathered(features)
    names = ["tench (n01440764)", "dog (n02084071)", "cat", "n99999999", "e"]
    assert gather["classes"]["name"] == names


def test_a_matrix_of_many_classes_counts_classes_on_its_axes():
    counts = tuple(range(250, 0, -1))
    parts = {p.key: p for p in sections(gathered(small(counts=counts)))}
    (matrix,) = (e for e in parts["confusion"].exhibits if e.key == "confusion")
    trace = matrix.views[0].traces[0]
    assert len(trace["z"]) == 84  # of three classes each
    assert (trace["x0"], trace["dx"], trace["y0"], trace["dy"]) == (2, 3, 2, 3)


def test_confusions_are_those_of_scikit_learn():
    features = small()
    gather = gathered(features, correction(features, runs=({"seed": 0}, {"seed": 1})))
    test, base = features.split("test"), features.classifier()
    own = base.logits(test.features).argmax(axis=1)
    order = [0, 1, 2, 3, 4]  # by training count
    table = confusion_matrix(test.labels, own, labels=order)
    found = gather["confusion"]
    assert found["count"][0] == table.tolist()
    assert [found["cells"][i][0] for i in range(5)] == order
    fold = np.array([[0, 0, 0, 1, 1], [0, 1, 1, 0, 0], [1, 0, 0, 0, 0]])  # few, medium, many
    assert found["groups"] == ["few", "medium", "many"]
    assert found["by_group"][0] == (fold @ table @ fold.T).tolist()
    after = [
        confusion_matrix(test.labels, (base.weight @ test.features.T).T.__add__(b).argmax(axis=1))
        for b in (0.5 * base.bias, 0 * base.bias)
    ]
    np.testing.assert_allclose(found["count"][1], np.mean(after, axis=0))
    worst = found["pairs"][0]
    off = table - np.diag(np.diag(table))
    assert worst["count"][0] == off.max() == off[worst["true"], worst["predicted"]]
    assert worst["count"][1] == np.mean(after, axis=0)[worst["true"], worst["predicted"]]
    diagonal = np.diag(table) / table.sum(axis=1)
    assert gather["classes"]["accuracy"][0] == pytest.approx(diagonal)
    (other, count), *_ = gather["classes"]["mistaken"][0][worst["true"]]
    assert (other, count) == (worst["predicted"], worst["count"][0])
    for c, row in enumerate(gather["classes"]["mistaken"][0]):
        wrong = sorted(((-n, p) for p, n in enumerate(off[c]) if n))
        assert row == [[p, -n] for n, p in wrong]
    shown = next(e for part in sections(gather) for e in part.exhibits if e.key == "confusion")
    shares = [
        [round(100 * n / row.sum(), 2) for n in row] for row in table
    ]  # fmt: skip
    assert shown.views[0].traces[0]["z"] == shares


def test_many_classes_share_cells_by_training_count():
    count = 250
    rng = np.random.default_rng(0)
    counts = rng.permutation(np.arange(1, count + 1))
    labels = np.arange(count)
    split = FeatureSplit(np.eye(count, dtype=np.float32), labels)
    wrong = np.roll(np.eye(count, dtype=np.float32), 1, axis=0)  # class c + 1 gets the row of c
    features = FeatureSet(
        {"train": split, "test": split}, ClassTable(counts), Head(wrong, np.zeros(count))
    )
    found = gathered(features)["confusion"]
    assert found["per_cell"] == 3
    assert [len(c) for c in found["cells"]] == [3] * 83 + [1]
    assert [c for row in found["cells"] for c in row] == np.argsort(-counts).tolist()
    table = np.array(found["count"][0])
    cell = {c: i for i, row in enumerate(found["cells"]) for c in row}
    for c in range(count):
        table[cell[c], cell[(c + 1) % count]] -= 1
    assert not table.any()


def test_coefficients_are_means_over_seeds(here, found):
    fit, _ = classifiers.read(Path("feats.alphanet.h5"))
    (row,) = (row for row in found["alpha"] if row["same"])
    rho = float(row["label"].split("rho ")[1])
    runs = [n for n, run in enumerate(fit.runs) if run["rho"] == rho]
    assert len(runs) == 2
    assert row["class"] == fit.class_id.tolist()
    np.testing.assert_allclose(row["alpha"], fit.extra["alpha"][runs].mean(axis=0), atol=1e-6)
    assert row["neighbor"] == fit.extra["neighbor"][runs[0]].tolist()
    view = found["exhibits"]["alpha"]["views"]
    assert len(view) == 1  # the random control has none
    trace = view[0]["data"][0]
    counts = [found["classes"]["train_count"][line[0][0]] for line in trace["customdata"]]
    assert counts == sorted(counts, reverse=True)
    place = row["class"].index(trace["customdata"][3][0][0])
    assert trace["z"][3] == row["alpha"][place]
    assert [pair[1] for pair in trace["customdata"][3]] == row["neighbor"][place]
    table = records(found["exhibits"]["alpha"])
    random = [r for r in table if r["setting"].startswith("feats.random")]
    assert len({r["rank"] for r in random}) > 5


def test_norms_weights_and_map(here, found):
    features = features_file.read(Path("feats.h5"))
    counts = features.classes.train_count
    norms = records(found["exhibits"]["norms"])
    assert [row["train_count"] for row in norms] == sorted(counts.tolist(), reverse=True)
    own = np.linalg.norm(features.classifier().weight, axis=1)
    assert [row["baseline"] for row in norms] == pytest.approx(own[[r["class"] for r in norms]])
    tau, _ = classifiers.read(Path("feats.tau-norm.h5"))
    (label,) = (name for name in found["labels"] if "tau-norm" in name)
    after = np.linalg.norm(tau.weight[0], axis=1)
    assert [row[label] for row in norms] == pytest.approx(
        after[[r["class"] for r in norms]], rel=1e-4
    )
    weights = records(found["exhibits"]["weights"])
    at = np.array([row["class"] for row in weights])
    inverse = (1 / counts) / (1 / counts).mean()
    assert [row["weighted, inverse"] for row in weights] == pytest.approx(inverse[at], rel=1e-4)
    effective = (1 - 0.999) / (1 - 0.999**counts)
    balanced = effective / effective.mean()
    assert [row["class-balanced, beta 0.999"] for row in weights] == pytest.approx(
        balanced[at], rel=1e-4
    )
    for name in found["exhibits"]["weights"]["columns"][4:]:
        assert np.mean([row[name] for row in weights]) == pytest.approx(1, rel=1e-4)
    plane = records(found["exhibits"]["map"])
    train = features.split("train")
    values = np.asarray(train.features[0 : len(train)], dtype=np.float64)
    means = np.stack([values[train.labels == row["class"]].mean(axis=0) for row in plane])
    left, size, _ = np.linalg.svd(means - means.mean(axis=0), full_matrices=False)
    for axis in (1, 2):
        mine = np.array([row[f"PCA {axis}"] for row in plane])
        theirs = left[:, axis - 1] * size[axis - 1]
        assert min(abs(mine - theirs).max(), abs(mine + theirs).max()) < 1e-3
    lines = found["exhibits"]["map"]["views"][0]["data"][0]
    assert len(lines["x"]) == 3 * 30 * 5
    first = next(row for row in plane if row["class"] == found["neighbors"]["class"][-1])
    assert lines["x"][-3] == first["t-SNE 1"]


def test_calibration_is_that_of_the_rows(found):
    shown = records(found["exhibits"]["calibration"])
    detailed = [found["evaluate"]["rows"][0]]
    chosen = found["labels"][-1]
    detailed += [row for row in found["evaluate"]["rows"] if row["name"] == chosen.split(" ")[0]]
    for label, row in zip(("baseline", chosen), detailed, strict=True):
        errors = {r["group"]: r["calibration_error"] for r in shown if r["setting"] == label}
        assert errors == row["calibration"]


def test_the_tree_of_superclasses_has_their_mean_accuracy():
    features = small(("cat", "dog", "spade", "fox", "saw"), coarse=("p", "p", "t", "p", "t"))
    gather = gathered(features)
    tree, accuracy = gather["tree"], gather["classes"]["accuracy"][0]
    nodes = {name: place for place, name in enumerate(tree["name"])}
    assert set(nodes) == {"all classes", "p", "t", "cat", "dog", "spade", "fox", "saw"}
    assert tree["classes"][nodes["p"]] == 3
    assert tree["accuracy"][0][nodes["p"]] == pytest.approx(
        np.mean([accuracy[c] for c in (0, 1, 3)])
    )
    assert tree["accuracy"][0][nodes["all classes"]] == pytest.approx(np.mean(accuracy))
    assert tree["parent"][nodes["saw"]] == tree["node"][nodes["t"]]
    assert tree["parent"][nodes["t"]] == ""


def test_the_tree_of_wordnet_holds_every_class_once(found):
    tree = records(found["exhibits"]["tree"])
    parents = {row["node"]: row["parent"] for row in tree}
    below = dict.fromkeys(parents, 0)
    for node in parents:
        if node.startswith("class "):
            while node:
                below[node] += 1
                node = parents[node]
    assert len([n for n in parents if n.startswith("class ")]) == 100
    assert below == {row["node"]: row["classes"] for row in tree}
    for row in tree:
        if row["parent"] and not row["node"].startswith("class "):
            assert 2 <= row["classes"] <= 0.8 * below[row["parent"]]
    balanced = found["evaluate"]["rows"][0]["accuracy"]["balanced"]
    assert tree[0]["baseline"] == pytest.approx(balanced, abs=1e-6)


# The page


def test_the_page_asks_nothing_of_the_network(text):
    read = Page(text)
    assert not [a for _, a in read.elements if "src" in a]
    assert all(a["href"].startswith(("#", "data:")) for _, a in read.elements if "href" in a)
    (policy,) = (a["content"] for a in read.all("meta") if "http-equiv" in a)
    assert "default-src 'none'" in policy
    scripts = re.findall(r"<script>(.*?)</script>", text, re.S)
    assert len(scripts) == 2
    for script in scripts:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert text.count(drawing.script()[:2000]) == 1
    assert "${" not in text.split("<script", 1)[0]


def test_every_exhibit_is_named_captioned_and_has_its_data(text, found):
    read = Page(text)
    plots = {a["data-key"]: a for a in read.all("div") if "data-key" in a}
    buttons = {a["data-csv"]: a for a in read.all("button") if "data-csv" in a}
    assert set(buttons) == set(found["exhibits"])
    assert set(plots) == {key for key, e in found["exhibits"].items() if e["views"]}
    assert len(plots) == 15
    for key, plot in plots.items():
        assert plot["role"] == "img"
        assert plot["aria-label"].startswith(found["exhibits"][key]["title"])
        assert buttons[key]["aria-label"] == f"{found['exhibits'][key]['title']} as CSV"
    assert text.count("<figcaption>") == len(found["exhibits"])
    for exhibit in found["exhibits"].values():
        lengths = {len(values) for values in columns(exhibit).values()}
        assert len(lengths) == 1
        assert lengths != {0}


def test_every_figure_is_one_of_plotly(found):
    for key, exhibit in found["exhibits"].items():
        for view in exhibit["views"]:
            first = exhibit["views"][0]["data"]
            for trace in view["data"]:
                like = first[trace["like"]] if "like" in trace else {}
                whole = {k: v for k, v in {**like, **trace}.items() if k != "like"}
                go.Figure({"data": [whole], "layout": view["layout"]})
                if whole["type"] == "scatter":
                    assert len(whole["x"]) == len(whole["y"]) > 0, key


def test_a_view_that_differs_little_is_kept_short(found):
    views = found["exhibits"]["by-count"]["views"]
    assert len(views) == 4
    assert views[1]["data"][0] == {"like": 0}  # the baseline
    assert set(views[1]["data"][1]) == {"like", "y"}
    y = views[1]["data"][1]["y"]
    few = [c for c, group in enumerate(found["classes"]["group"]) if group == "few"]
    setting = views[1]["setting"]
    assert y == [round(100 * found["classes"]["accuracy"][setting][c], 4) for c in few]


def test_provenance_replays_the_run(here, text):
    made = data.provenance([Path(name) for name in ("feats.h5", *EVERY)])
    assert all(file["digest"] in text for file in made)
    assert made[1]["inputs"] == {"features": made[0]["digest"]}
    commands = text.split("Commands that make it again")[1].split("</pre>")[0]
    wanted = [html.escape(file["command"]) for file in made]
    assert wanted[0].startswith("ltkit extract resnet32.safetensors")
    assert commands.split("<pre>")[1].split("<br>")[:-1] == wanted
    assert "euclidean" in text.split('id="provenance"')[1]


def test_the_page_is_the_same_again(here, tmp_path, text, monkeypatch):
    run("report", "feats.h5", "--replicates", "200", "-q", "--overwrite")
    assert (here / "report.html").read_text(encoding="utf-8") == text


# Names


def test_hostile_names_are_shown_as_text():
    features = small(HOSTILE[:5])
    for names in (HOSTILE[:5], HOSTILE[3:]):
        features = small(names)
        entry = correction(features, "</script><svg onload=alert(3)>")
        text = rendered(features, entry, command="ltkit report '</pre><script>'")
        read = Page(text)
        assert len(read.all("script")) == 3
        assert not read.all("img")
        assert not read.all("svg")
        assert not [a for _, a in read.elements if "onerror" in a or "onload" in a]
        assert embedded(text)["classes"]["name"] == list(names)
        assert "\x1b" not in text
        assert "\u202e" not in text
        pairs = read.tables["table-pairs"]
        shown = {cell for row in pairs[1:] for cell in (row[0], row[2])}
        assert shown <= {name_shown(name) for name in names}
        assert len(shown) > 2
        found = embedded(text)["exhibits"]
        for exhibit in found.values():
            for view in exhibit["views"]:
                for trace in view["data"]:
                    texts = [trace.get("name", ""), *trace.get("text", ())]
                    texts += [*trace.get("labels", ()), *view["layout"].get("yaxis", {})]
                    assert not [t for t in texts if "<" in t.replace("<br>", "")]


def name_shown(name):
    escaped = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
    return escaped if len(escaped) <= 60 else f"{escaped[:60]}…"


def test_a_very_long_name_is_cut():
    features = small(("n" * 1_000_000, "b", "c", "d", "e"))
    text = rendered(features)
    assert embedded(text)["classes"]["name"][0] == "n" * 300 + "…"
    assert len(text) < len(rendered(small(tuple("abcde")))) + 10_000


# What is left out


@pytest.mark.parametrize(
    ("features", "with_correction", "absent"),
    [
        (
            small(),
            False,
            {
                "deltas": "no fit with several rho",
                "frontier": "no correction to draw",
                "flows": "no correction",
                "alpha": "no AlphaNet fit",
                "tree": "neither WordNet ids nor superclasses",
            },
        ),
        (
            small(splits=("test",)),
            True,
            {"flows": "no classes with", "map": "no split train", "weights": "no split train"},
        ),
        (small(counts=(200, 150, 130, 120, 110)), True, {"frontier": "no few-shot class"}),
        (small(counts=(200, 150, 130, 120, 0)), True, {"weights": "at least 1"}),
        (small(counts=(200, 5)), True, {"map": "too few for a map", "weights": None}),
        (small(counts=(200,)), True, {"weights": "a single class"}),
        (small(counts=(3, 2, 2, 1, 1)), True, {"map": None, "weights": None}),
    ],
    ids=["bare", "test-only", "no-few", "zero-count", "two", "one", "all-few"],
)
def test_a_section_without_data_says_why(features, with_correction, absent):
    entries = [correction(features)] if with_correction else []
    gather = gathered(features, *entries)
    parts = {part.key: part for part in sections(gather)}
    for key, why in absent.items():
        if why is None:
            assert parts[key].exhibits, key
        else:
            assert not parts[key].exhibits, key
            assert why in parts[key].absent
            assert "\n" not in parts[key].absent
    text = page.render(gather, list(parts.values()))
    assert text.count('<p class="absent">Left out: ') == sum(bool(p.absent) for p in parts.values())
    assert {"headline", "classes", "confusion", "calibration"} <= {
        key for key, part in parts.items() if part.exhibits
    }
    embedded(text)


def test_without_training_features_nothing_is_said_of_distance():
    gather = gathered(small(splits=("test",)))
    keys = [e.key for part in sections(gather) for e in part.exhibits]
    assert "by-count" in keys
    assert "by-distance" not in keys


def test_only_random_fits_have_no_heat_map():
    features = small()
    extra = {
        "alpha": np.array([[[0.5, 0.5]], [[1.0, 0.0]]]),
        "neighbor": np.array([[[0, 1]], [[1, 2]]]),
    }
    base = features.classifier()
    fit = Correction(
        "alphanet", np.array([4]), np.repeat(base.weight[None, 4:], 2, axis=0),
        np.zeros((2, 1), np.float32), ({"seed": 0}, {"seed": 1}), extra=extra,
    )  # fmt: skip
    gather = gathered(features, Entry("alphanet", "a.h5", fit))
    (row,) = gather["alpha"]["rows"]
    assert row["neighbor"] == [[0, 1, 2]]
    assert row["alpha"] == [[0.5, 0.75, 0.0]]  # class 1 is a neighbour in both runs
    (part,) = (p for p in sections(gather) if p.key == "alpha")
    assert "random neighbours" in part.absent


def test_more_settings_than_a_page_holds():
    features = small()
    entries = [correction(features, f"m{n}") for n in range(data.DETAILED + 3)]
    gather = gathered(features, *entries)
    assert data.details(gather) == ["baseline", *(f"m{n} tau 1" for n in range(data.DETAILED))]
    text = page.render(gather, sections(gather))
    assert "3 more settings are in the tables only" in text
    tables = Page(text).tables
    assert len(tables["table-headline"]) == 2 + data.DETAILED
    assert len(tables["table-settings"]) == 1 + 3


def test_without_validation_every_setting_is_shown():
    features = small(splits=("train", "test"))
    entry = correction(features, runs=({"tau": 0.5}, {"tau": 1.0}))
    assert data.details(gathered(features, entry)) == ["baseline", "fixed tau 0.5", "fixed tau 1"]


def test_untested_classes_are_said_and_left_out():
    features = small()
    keep = features.split("test").labels != 2
    split = features.split("test")
    kept = FeatureSplit(split.features[keep], split.labels[keep])
    features = replace(features, splits={**features.splits, "test": kept})
    text = rendered(features)
    assert "1 classes have no sample" in text
    found = embedded(text)
    assert found["classes"]["accuracy"][0][2] is None
    assert 2 not in columns(found["exhibits"]["by-count"])["class"]


def test_a_thousand_classes_fit():
    text = large()
    assert len(text.encode()) < 8_000_000
    found = embedded(text)
    assert found["evaluate"]["n"] == 50_000
    assert len(found["exhibits"]["confusion"]["views"][0]["data"][0]["z"]) == 100


@pytest.mark.slow
def test_a_thousand_classes_with_many_settings_fit():
    assert len(large(data.DETAILED).encode()) < 8_000_000


# The command


@pytest.mark.parametrize(
    ("group", "by"), [("none", None), ("auto", "wordnet"), ("coarse", "coarse")]
)
def test_grouping(here, tmp_path, group, by):
    output = tmp_path / "r.html"
    run("report", "feats.h5", "--classifier", EVERY[-1], "--group", group, "--replicates", 100,
        "-o", output, "-q")  # fmt: skip
    grouped = embedded(output.read_text(encoding="utf-8"))["evaluate"]["rows"][0].get("grouped")
    assert (grouped and grouped["by"]) == by


def test_the_command_refuses_and_says_what_it_wrote(here, tmp_path, ltkit):
    words = ("report", "feats.h5", "--classifier", EVERY[-1], "--replicates", 100)
    code, out, err = ltkit(*words, "-o", tmp_path / "r.html")
    assert (code, out.strip()) == (0, str(tmp_path / "r.html"))
    assert "wrote" in err
    code, _, err = ltkit(*words, "-o", tmp_path / "r.html")
    assert code == 2
    assert "--overwrite" in err
    code, _, err = ltkit(*words, "-o", "feats.h5", "--overwrite")
    assert code == 2
    assert "is an input too" in err
    code, _, err = ltkit(*words, "-o", tmp_path / "s.html", "--figures", tmp_path / "r.html")
    assert code == 2
    assert "is a file, expected a folder" in err


def drawn(monkeypatch, write):
    monkeypatch.setattr(plotly.io, "write_images", write)
    trace = {"type": "bar", "x": ["a"], "y": [1], "meta": "class"}
    views = [View("<one>", [trace], {}), View("two", [trace], {})]
    return [
        Exhibit("bars", "Bars", "", (), (), views),
        Exhibit("table", "Table", "", (), (), cells=[["a"]]),
    ]


def test_figures_are_written_in_three_forms(tmp_path, monkeypatch):
    def write(figures, paths, *, width, height):
        assert (width, height) == (900, [440] * 3)
        for figure, path in zip(figures, paths, strict=True):
            path.write_text(f"{path.suffix} {figure.layout.title.text}")

    exhibits = drawn(monkeypatch, write)
    written = drawing.write_figures(exhibits, tmp_path / "figures")
    assert [p.name for p in written] == ["bars.svg", "bars.pdf", "bars.png"]
    assert written[1].read_text() == ".pdf Bars: &lt;one&gt;"


@pytest.mark.parametrize("said", ["\nImage export needs kaleido,\n  more\n", ""])
def test_without_a_browser_figures_are_refused(tmp_path, monkeypatch, said):
    def write(figures, paths, **size):
        raise ValueError(said)

    exhibits = drawn(monkeypatch, write)
    message = refused(
        lambda: drawing.write_figures(exhibits, tmp_path / "figures"), "kaleido", "Chrom"
    )
    assert ("Image export needs kaleido)" if said else "ValueError") in message
    assert not (tmp_path / "figures").exists()


# Pictures of the classes


def pictured(tmp_path, ids, labels=None):
    features = small(tuple("abcde"))
    count = len(ids)
    labels = np.zeros(count, int) if labels is None else np.array(labels)
    train = FeatureSplit(np.zeros((count, 6), np.float32), labels, np.array(ids, str))
    return replace(features, splits={**features.splits, "train": train})


def picture(path, color):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (90, 70), color).save(path)


def test_pictures_come_from_the_folder_only(tmp_path):
    root = tmp_path / "images"
    for number in range(6):
        picture(root / f"a/{number}.png", (200, 10 * number, 0))
    picture(tmp_path / "secret.png", (0, 0, 255))
    ids = ["../secret.png", "gone.png", "x\0y", "a" * 5000, str(tmp_path / "secret.png")]
    ids += [f"a/{number}.png" for number in range(6)]
    features = pictured(tmp_path, [*ids, "a/5.png"], [0] * len(ids) + [3])
    found = pictures.thumbnails(features, root)
    assert {c: len(urls) for c, urls in found.items()} == {0: 4, 3: 1}
    for number, url in enumerate(found[0]):
        content = base64.b64decode(url.removeprefix("data:image/jpeg;base64,"))
        with Image.open(io.BytesIO(content)) as image:
            assert image.size == (64, 64)
            red, green, blue = image.getpixel((30, 30))
        assert abs(red - 200) < 8
        assert abs(green - 10 * number) < 8
        assert blue < 8
    text = rendered(features, thumbnails=found)
    assert embedded(text)["thumbnails"]["3"] == found[3]


def test_pictures_that_are_not_there(tmp_path):
    features = pictured(tmp_path, ["a.png"])
    refused(lambda: pictures.thumbnails(features, tmp_path), "--images", "'a.png'")
    refused(lambda: pictures.thumbnails(features, tmp_path / "no"), "no such folder")
    refused(lambda: pictures.thumbnails(small(), tmp_path), "does not name its images")
    (tmp_path / "a.png").write_text("no picture")
    refused(lambda: pictures.thumbnails(features, tmp_path), "none of the images")
    picture(tmp_path / "b.png", (0, 0, 0))
    features = pictured(tmp_path, ["a.png", "b.png"])
    assert len(pictures.thumbnails(features, tmp_path)[0]) == 1
