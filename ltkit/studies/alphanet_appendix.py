"""alphanet-appendix: AlphaNet over neighbours, rhos and distances, on one features file."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ltkit import evaluation
from ltkit.alphanet.study import fit_features, study_of_groups
from ltkit.errors import InputError
from ltkit.evaluation import metrics
from ltkit.evaluation.prediction import Predictions
from ltkit.evaluation.resampling import bootstrap, interval, mean_over_seeds
from ltkit.records import Correction, FeatureSet
from ltkit.reporting.exhibits import Exhibit, View, label
from ltkit.reporting.look import COLORS, axis, series_color
from ltkit.reporting.numbers import counted, percent
from ltkit.settings import NeighborSettings
from ltkit.studies import Given, Point, Row, Told

TITLE = "AlphaNet over neighbours, rho and distance: the paper's appendix on a features file"
NEEDS = "features"
COLUMNS = ("metric", "k", "rho", "top", "of", "change", "low", "high")

SPLIT = "test"
K, RHO, METRIC = NeighborSettings.k, 0.5, "euclidean"
"""Of the figures that show one setting."""

KS, RHOS, METRICS, TOPS = range(1, 11), (0.25, 0.5, 1.0, 2.0), ("euclidean", "cosine"), (1, 5)
SEEDS = {"small": 5, "paper": 10}
REPLICATES = {"small": 1_000, "paper": 10_000}


def points(given: Given) -> list[Point]:
    """Return every number of neighbours with every distance; all rhos and seeds are fitted at once.

    Raises:
        InputError: as `ltkit.alphanet.study.study_of_groups`, or without test samples of classes
            to correct.
    """
    features = _features(given)
    wanted, _ = study_of_groups(features)
    if not np.isin(features.split(SPLIT).labels, wanted.of).any():
        raise InputError(
            f"{features.source}: {SPLIT}: found no sample of a few-shot class, which the study is "
            "about; name another file"
        )
    return [
        {"metric": metric, "k": k, "rhos": list(RHOS), "seeds": SEEDS[given.form],
         "replicates": REPLICATES[given.form], "seed": given.seed}
        for metric in METRICS
        for k in KS
        if k <= len(wanted.among)
    ]  # fmt: skip


def _features(given: Given) -> FeatureSet:
    assert given.features is not None  # `NEEDS` says so
    return given.features


def measure(point: Point, given: Given) -> list[Row]:
    """Return the changes of a fit: of each group with its interval, and of each class at one k."""
    features = _features(given)
    fitted = fit_features(
        features, k=point["k"], metric=point["metric"], rhos=point["rhos"], seeds=point["seeds"],
        seed=point["seed"], device=given.device,
    )  # fmt: skip
    base = features.classifier()
    judged = [Correction.baseline(base), fitted]
    before, after = evaluation.predict(features.split(SPLIT), base, judged)
    return [
        [point["metric"], point["k"], *row]
        for top in TOPS
        if top <= base.num_classes
        for row in _Changes(features, fitted, before, after, top).rows(point)
    ]


@dataclass(frozen=True, eq=False)
class _Changes:
    """What changes in top-k accuracy between the model's own head and a fit's runs."""

    features: FeatureSet
    fitted: Correction
    before: Predictions
    after: Predictions
    top: int

    def rows(self, point: Point) -> Iterator[Row]:
        """Yield a row for each group and rho, then for each class."""
        labels, count = self.features.split(SPLIT).labels, len(self.features.classes)
        weights = metrics.group_weights(labels, count, self.features.groups(None))
        right = np.concatenate([self.before.rank, self.after.rank]) < self.top  # (1 + S, N)
        drawn = bootstrap(
            right, labels, weights, replicates=point["replicates"], seed=point["seed"]
        )
        by_class = metrics.class_accuracy(right, labels, count)
        by_class = by_class[1:] - by_class[:1]
        for settings, runs in evaluation.settings_of(self.fitted):
            rho, own = settings["rho"], drawn[:, :, [1 + run for run in runs]] - drawn[:, :, :1]
            resampled = mean_over_seeds(own, [point["seed"], 1])
            change = by_class[runs].mean(axis=0)
            for (group, weight), each in zip(weights.items(), resampled, strict=True):
                value = float(np.nan_to_num(change) @ weight)
                yield [rho, self.top, group, value, *interval(each)]
            if point["k"] == K:
                yield from self._of_classes(rho, change)

    def _of_classes(self, rho: float, change: NDArray[np.float64]) -> Iterator[Row]:
        for class_id in np.flatnonzero(~np.isnan(change)):
            yield [rho, self.top, f"class {class_id}", float(change[class_id]), None, None]


def tell(table: pd.DataFrame, given: Given) -> Told:
    """Say what k, rho and the distance do, and draw it."""
    grouped = table[~table["of"].str.startswith("class ")]
    classes = table[table["of"].str.startswith("class ") & (table["top"] == 1)]
    drawn = [_over_rho(grouped), _over_k(grouped)]
    if len(classes):
        drawn.append(_sorted_bars(classes, _features(given)))
    return Told([*_said(grouped), _how(given, grouped)], drawn)


def _said(table: pd.DataFrame) -> list[tuple[str, str]]:
    """Return what each knob does to top-1 accuracy of the rare classes, and of all."""
    top1 = table[table["top"] == 1]
    few, every = (top1[top1["of"] == group] for group in ("few", "all"))
    ends = "; ".join(_at(rho, few, every) for rho in (RHOS[0], RHOS[-1]))
    by_k = few.groupby("k")["change"].mean()
    most, least = (f"k {k}, {percent(by_k[k], '+')}" for k in (by_k.idxmax(), by_k.idxmin()))
    wide = few.pivot(index=["k", "rho"], columns="metric", values="change")
    apart = percent((wide[METRICS[0]] - wide[METRICS[1]]).mean(), "+")
    return [
        ("rho", f"Means over k and distance: {ends}."),
        ("k", f"Means over ρ and distance: few gains most at {most} points, least at {least}. At "
              "k 1 every alpha is 1 or -1, and only biases are learned."),
        ("distance", f"With Euclidean neighbours few gains {apart} points beside cosine ones, the "
                     f"mean over {counted(len(wide), 'setting')}."),
    ]  # fmt: skip


def _at(rho: float, *groups: pd.DataFrame) -> str:
    """Return what a rho gives the rare classes, and all."""
    few, every = (percent(own[own["rho"] == rho]["change"].mean(), "+") for own in groups)
    return f"at ρ {rho:g} few gains {few} points and all {every}"


def _how(given: Given, table: pd.DataFrame) -> tuple[str, str]:
    form = given.form
    return "how", (
        f"{counted(SEEDS[form], 'seed')} a setting, k 1 to {table['k'].max()}, on the {SPLIT} "
        f"split; intervals from {REPLICATES[form]:,} bootstrap replicates of images and seeds. "
        "Nothing is chosen here: alphanet sweep chooses, on validation data."
    )


def _over_rho(table: pd.DataFrame) -> Exhibit:
    """Draw top-1 and top-5 changes against rho; a view for each distance and k."""
    settings = sorted(
        table[["metric", "k"]].drop_duplicates().itertuples(index=False, name=None),
        key=lambda each: (each != (METRIC, K), -METRICS.index(each[0]), each[1]),
    )
    views = []
    for metric, k in settings:
        own = table[(table["metric"] == metric) & (table["k"] == k)]
        traces = [
            _line(own[(own["of"] == group) & (own["top"] == top)], group, int(top))
            for group in COLORS
            for top in own["top"].unique()
            if (own["of"] == group).any()
        ]
        layout = {"xaxis": axis("ρ", type="category"), "yaxis": axis("change in points")}
        views.append(View(f"{metric}, k {k}", traces, layout))
    return Exhibit(
        "rho", "Top-1 and top-5 accuracy against ρ",
        "Points gained over the model's own head, means over seeds, with 95 % intervals over "
        "images and seeds. Full lines top-1, dashed lines top-5.",
        COLUMNS, _cells(table), views,
    )  # fmt: skip


def _cells(table: pd.DataFrame) -> Sequence[Sequence[object]]:
    listed: list[list[object]] = table.astype(object).where(table.notna(), None).values.tolist()
    return listed


def _line(rows: pd.DataFrame, group: str, top: int) -> dict[str, object]:
    y = 100 * rows["change"]
    return {
        "type": "scatter", "mode": "lines+markers", "name": f"{group}, top-{top}",
        "x": [f"{rho:g}" for rho in rows["rho"]], "y": y.tolist(),
        "line": {"color": COLORS[group], "dash": "solid" if top == 1 else "dash"},
        "error_y": {
            "type": "data", "symmetric": False, "thickness": 1, "width": 3,
            "array": (100 * rows["high"] - y).tolist(),
            "arrayminus": (y - 100 * rows["low"]).tolist(),
        },
        "hovertemplate": "ρ %{x}: %{y:+.2f} points<extra>%{fullData.name}</extra>",
    }  # fmt: skip


def _over_k(table: pd.DataFrame) -> Exhibit:
    """Draw the change of few-shot accuracy against k, a line for each rho and distance."""
    few = table[(table["of"] == "few") & (table["top"] == 1)]
    traces = [
        {"type": "scatter", "mode": "lines+markers", "name": f"ρ {rho:g}, {metric}",
         "x": own["k"].tolist(), "y": (100 * own["change"]).tolist(),
         "line": {"color": series_color(1 + place), "dash": "solid" if metric == METRIC else "dot"}}
        for place, rho in enumerate(RHOS)
        for metric in METRICS
        for own in [few[(few["rho"] == rho) & (few["metric"] == metric)]]
    ]  # fmt: skip
    layout = {"xaxis": axis("k, neighbours", dtick=1), "yaxis": axis("change of few in points")}
    return Exhibit(
        "k", "Few-shot accuracy against the number of neighbours",
        "Top-1 points gained by the few-shot classes, means over seeds. Full lines Euclidean, "
        "dotted lines cosine distance.",
        COLUMNS, _cells(few), [View("", traces, layout)],
    )  # fmt: skip


def _sorted_bars(table: pd.DataFrame, features: FeatureSet) -> Exhibit:
    """Draw each class's change, sorted; a view for each distance and rho."""
    views = []
    order = sorted(
        ((metric, rho) for metric in METRICS for rho in RHOS),
        key=lambda each: each != (METRIC, RHO),
    )
    for metric, rho in order:
        own = table[(table["metric"] == metric) & (table["rho"] == rho)]
        own = own.sort_values("change", kind="stable", ignore_index=True)
        views.append(View(f"{metric}, ρ {rho:g}", _bars(own, features), BARS))
    return Exhibit(
        "classes", f"Change of each class at k {K}, sorted",
        "Points of top-1 accuracy that each class gains or loses, the mean over seeds.",
        COLUMNS, _cells(table), views,
    )  # fmt: skip


BARS = {"xaxis": axis("classes, sorted by their change"), "yaxis": axis("change in points"),
        "bargap": 0}  # fmt: skip


def _bars(rows: pd.DataFrame, features: FeatureSet) -> list[dict[str, object]]:
    """Return the bars of sorted classes, a trace for each shot group."""
    ids = rows["of"].str.removeprefix("class ").astype(int)
    traces: list[dict[str, object]] = []
    for group, members in features.groups(None).items():
        own = ids.isin(members)
        traces.append(
            {"type": "bar", "name": group, "marker": {"color": COLORS[group]},
             "x": rows.index[own].tolist(), "y": (100 * rows["change"][own]).tolist(),
             "hovertext": [label(features.classes.name(c)) for c in ids[own]]}
        )  # fmt: skip
    return traces
