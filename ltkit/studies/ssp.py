"""ssp: what features learned from rotations alone, before training, do under each correction."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ltkit import evaluation
from ltkit.datasets import longtail
from ltkit.errors import InputError
from ltkit.evaluation import metrics
from ltkit.evaluation.analysis import row_norms
from ltkit.records import Correction, Dataset, FeatureSet
from ltkit.reporting.exhibits import Exhibit, View
from ltkit.reporting.look import INK, LIGHT, SERIES, axis, series_color
from ltkit.reporting.numbers import percent
from ltkit.settings import TrainPlan
from ltkit.studies import Given, Point, Row, Told
from ltkit.studies import _networks as networks

TITLE = "Self-supervised pre-training under four ways to train: errors, confusions, norms"
NEEDS = "images"
COLUMNS = ("imbalance", "way", "ssp", "seed", "of", "value")

WAYS = ("CE", "RS", "RW", "DRW")
IMBALANCES = {"small": (100, 10), "paper": (100, 50, 20, 10)}
SEEDS = {"small": 2, "paper": 3}
DEFERRED = 0.8
"""Of the epochs, after which DRW weights classes."""

EPOCHS = 5
"""Fewest epochs, of which DRW leaves one for weights."""

ALL, DEVIATION = "all classes", "deviation of norms"
MATRIX = 20
"""Most classes of which every pair is kept."""

MAPPED = 500
"""Test samples of the map."""


def points(given: Given) -> list[Point]:
    """Return trainings over imbalance, way and seed, with and without the first stage.

    Raises:
        InputError: as `networks.pixels`, or when a class has too few images for the imbalance.
    """
    networks.pixels(given)
    images, most = networks.dataset(given), networks.most(given)
    if most < max(IMBALANCES[given.form]):
        raise InputError(
            f"{images.record['spec']}: found a class of {most} training images, expected at least "
            f"{max(IMBALANCES[given.form])} in each; take the balanced set, as cifar10_lt:ir=1"
        )
    return [
        {"imbalance": imbalance, "way": way, "ssp": ssp, "seed": seed,
         **_schedule(given, imbalance)}
        for imbalance in IMBALANCES[given.form]
        for seed in range(given.seed, given.seed + SEEDS[given.form])
        for ssp in ("without", "with")
        for way in WAYS
    ]  # fmt: skip


def _counts(given: Given, imbalance: float) -> NDArray[np.int64]:
    count = len(networks.dataset(given).classes)
    return longtail.exponential_counts(count, networks.most(given), imbalance)


def _schedule(given: Given, imbalance: float) -> dict[str, int | str]:
    """Return the settings of a training, with epochs before and after weights are deferred to."""
    found = networks.schedule(given.form, int(_counts(given, imbalance).sum()))
    return found | {"epochs": max(found["epochs"], EPOCHS)}


def _plan(point: Point) -> TrainPlan:
    """Return how a way trains."""
    if point["way"] in ("CE", "RS"):
        return TrainPlan("ce", sampler="class-balanced" if point["way"] == "RS" else "instance")
    deferred = round(DEFERRED * point["epochs"]) if point["way"] == "DRW" else None
    return TrainPlan("weighted", drw=deferred)


def measure(point: Point, given: Given) -> list[Row]:
    """Return accuracy, norms, confusions and, of the first training, a map, after one training."""
    images = networks.drawn(given, _counts(given, point["imbalance"]), point["seed"])
    init = _pretrained(images, point, given) if point["ssp"] == "with" else None
    told = [point[name] for name in ("imbalance", "way", "ssp", "seed")]
    with networks.trained(images, point, given, plan=_plan(point), init=init) as features:
        found = list(_figures(features))
        if _is_mapped(point, given):
            found += _map(features, given.seed)
    if init is not None and point["way"] == WAYS[-1]:
        init.unlink()
    return [[*told, of, value] for of, value in found]


def _pretrained(images: Dataset, point: Point, given: Given) -> Path:
    """Return a network that has learned rotations of the images, which all ways start from."""
    file = given.folder / f"ssp.{point['imbalance']}.{point['seed']}.pt"
    if not file.exists():
        networks.train(images, point, given, file, plan=TrainPlan("ssp"))
        for beside in given.folder.glob(f"{file.name}.*"):
            beside.unlink()
    return file


def _figures(features: FeatureSet) -> Iterator[tuple[str, float]]:
    """Yield what is measured of a network, by its name in the table."""
    split, head = features.split(networks.SPLIT), features.classifier()
    (predicted,) = evaluation.predict_classes(split, head, [Correction.baseline(head)])
    count = head.num_classes
    by_class = metrics.class_accuracy(predicted == split.labels, split.labels, count)[0]
    yield ALL, float(np.nanmean(by_class))
    yield DEVIATION, float(row_norms(head)[0].std())
    for class_id, value in enumerate(by_class):
        yield f"class {class_id}", float(value)
    if count <= MATRIX:
        sizes = np.bincount(split.labels, minlength=count)
        for true, said, number in zip(*metrics.confusions(predicted, split.labels), strict=True):
            yield f"class {true} as {said}", float(number / sizes[true])


def _is_mapped(point: Point, given: Given) -> bool:
    """Return whether a point's test samples are drawn in the plane."""
    at = (IMBALANCES[given.form][0], given.seed, WAYS[0])
    return (point["imbalance"], point["seed"], point["way"]) == at


def _map(features: FeatureSet, seed: int) -> list[tuple[str, float]]:
    """Return some test samples in the plane, by t-SNE of their features."""
    from sklearn.manifold import TSNE

    split = features.split(networks.SPLIT)
    rows = np.sort(np.random.default_rng(seed).permutation(len(split))[:MAPPED])
    held = np.asarray(split.at(rows).features[:], np.float32)
    perplexity = min(30.0, (len(rows) - 1) / 3)
    plane = TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(held)
    return [
        (f"sample {row} of {label}, {side}", round(float(value), 3))
        for row, label, place in zip(rows.tolist(), split.labels[rows].tolist(), plane, strict=True)
        for side, value in zip("xy", place, strict=True)
    ]


def tell(table: pd.DataFrame, given: Given) -> Told:
    """Say what the first stage gives each way, and draw errors, confusions, norms and samples."""
    greatest = table[table["imbalance"] == IMBALANCES[given.form][0]]
    drawn = [_errors(table), _by_class(greatest)]
    if greatest["of"].str.contains(" as ").any():
        drawn.append(_matrices(greatest))
    drawn += [_norms(table), _plane(greatest)]
    said = [(f"imbalance {n:g}", _gained(own)) for n, own in table.groupby("imbalance", sort=False)]
    return Told([*said, ("norms", _order(greatest)), ("what carries over", CARRIES)], drawn)


CARRIES = (
    "The small form trains a ResNet-8, where it fits the pictures, for a few epochs. Features are "
    "first learned from rotations for as many again, so that rows with that stage had twice the "
    "training. Which way accuracy goes may carry over; its height does not."
)


def _gained(table: pd.DataFrame) -> str:
    """Return the points of accuracy that the first stage gives each way."""
    wide = table[table["of"] == ALL].pivot(index=["way", "seed"], columns="ssp", values="value")
    gain = (wide["with"] - wide["without"]).groupby("way", sort=False)
    parts = (
        f"{way} {percent(each.mean(), '+')} ± {percent(each.std(ddof=1) if len(each) > 1 else 0.0)}"
        for way, each in gain
    )
    return f"points gained: {', '.join(parts)}, over {table['seed'].nunique()} seeds."


def _order(table: pd.DataFrame) -> str:
    """Return the ways by how far their rows differ in length, beside the order that is printed."""
    plain = table[(table["of"] == DEVIATION) & (table["ssp"] == "without")]
    means = 100 * plain.groupby("way")["value"].mean().sort_values(ascending=False)
    told = ", ".join(f"{way} {value:.1f}" for way, value in means.items())
    return (
        f"100 times the deviation of the rows' norms, without the first stage: {told}; printed for "
        "CIFAR-100-LT: RW 50.5, CE 47.7, DRW 45.1, RS 25.8."
    )


def _bars(
    key: str, title: str, caption: str, table: pd.DataFrame, over: str, named: str
) -> Exhibit:  # fmt: skip
    """Return a figure with a view for each imbalance: means over seeds, with and without."""
    views = []
    for imbalance, own in table.groupby("imbalance", sort=False):
        traces = []
        for place, (ssp, each) in enumerate(own.groupby("ssp", sort=False)):
            by = each.groupby(over, sort=False)["value"]
            traces.append(
                {
                    "type": "bar", "name": f"{ssp} SSP", "x": [str(x) for x in by.groups],
                    "y": (100 * by.mean()).tolist(), "marker": {"color": series_color(place)},
                    "error_y": {
                        "type": "data", "array": (100 * by.std().fillna(0.0)).tolist(),
                        "thickness": 1,
                    },
                }
            )  # fmt: skip
        layout = {"xaxis": axis("", type="category"), "yaxis": axis(named), "barmode": "group"}
        views.append(View(f"imbalance {imbalance:g}", traces, layout))
    return Exhibit(key, title, caption, list(table.columns), table.to_numpy().tolist(), views)


def _errors(table: pd.DataFrame) -> Exhibit:
    own = table[table["of"] == ALL].assign(value=lambda rows: 1 - rows["value"])
    return _bars(
        "errors", "Test error with and without self-supervised pre-training",
        "Means over seeds with their deviations.", own, "way", "test error in %",
    )  # fmt: skip


def _norms(table: pd.DataFrame) -> Exhibit:
    return _bars(
        "norms", "How far the rows of the head differ in length",
        "100 times the standard deviation of the rows' norms; means over seeds with their "
        "deviations.",
        table[table["of"] == DEVIATION], "way", "100 × deviation of norms",
    )  # fmt: skip


def _by_class(table: pd.DataFrame) -> Exhibit:
    own = table[(table["way"] == WAYS[0]) & table["of"].str.fullmatch(r"class \d+")]
    own = own.assign(value=1 - own["value"])
    return _bars(
        "classes", "Test error of each class, trained with cross-entropy",
        "Classes from most to fewest training images; means over seeds with their deviations.",
        own, "of", "test error in %",
    )  # fmt: skip


def _matrices(table: pd.DataFrame) -> Exhibit:
    """Draw which class is taken for which, without and with the first stage."""
    own = table[(table["way"] == WAYS[0]) & table["of"].str.contains(" as ")]
    pairs = own["of"].str.extract(r"class (\d+) as (\d+)").astype(int)
    own = own.assign(true=pairs[0], said=pairs[1])
    views = []
    for ssp in ("without", "with"):
        # a pair that a seed has not is none of that seed's samples
        sums = own[own["ssp"] == ssp].pivot_table("value", "true", "said", "sum", fill_value=0.0)
        every = range(own["true"].max() + 1)
        shares = 100 * sums.reindex(every, columns=every, fill_value=0.0) / own["seed"].nunique()
        trace = {
            "type": "heatmap", "z": shares.to_numpy().tolist(), "x": shares.columns.tolist(),
            "y": shares.index.tolist(), "zmin": 0, "zmax": 100,
            "texttemplate": "%{z:.0f}", "textfont": {"color": INK}, "colorscale": LIGHT,
            "showscale": False,
        }  # fmt: skip
        layout = {
            "xaxis": axis("predicted class", dtick=1),
            "yaxis": axis("true class", dtick=1, autorange="reversed"),
        }
        views.append(View(f"{ssp} SSP", [trace], layout))
    return Exhibit(
        "matrices", "Which class is taken for which, trained with cross-entropy",
        "Per cent of a class's test samples, means over seeds; classes from most to fewest "
        "training images.",
        list(COLUMNS), own[list(COLUMNS)].to_numpy().tolist(), views, height=520,
    )  # fmt: skip


def _plane(table: pd.DataFrame) -> Exhibit:
    """Draw test samples in the plane, without and with the first stage."""
    own = table[table["of"].str.startswith("sample ")]
    parts = own["of"].str.extract(r"sample (\d+) of (\d+), (.)")
    own = own.assign(row=parts[0].astype(int), label=parts[1].astype(int), side=parts[2])
    views = []
    for ssp in ("without", "with"):
        each = own[own["ssp"] == ssp]
        wide = each.pivot(index=["label", "row"], columns="side", values="value")
        traces = [
            {"type": "scatter", "mode": "markers", "name": f"class {label}", "x": xy["x"].tolist(),
             "y": xy["y"].tolist(), "marker": {
                "size": 5, "color": series_color(1 + place),
                "symbol": ("circle", "x")[place // len(SERIES) % 2]}}
            for place, (label, xy) in enumerate(wide.groupby(level="label"))
        ]  # fmt: skip
        views.append(View(f"{ssp} SSP", traces, {"xaxis": axis(""), "yaxis": axis("")}))
    return Exhibit(
        "samples", "Test samples in the plane, trained with cross-entropy",
        "t-SNE of features: neighbourhoods mean something, distances and axes do not.",
        list(COLUMNS), own[list(COLUMNS)].to_numpy().tolist(), views, height=560,
    )  # fmt: skip
