"""Class by class: accuracy against training images, and against the distance of neighbours."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import InputError
from ltkit.evaluation import metrics
from ltkit.evaluation.analysis import distance_rows
from ltkit.records import Ints, Neighbors
from ltkit.reporting.exhibits import Exhibit, View, label, visible
from ltkit.reporting.look import BEFORE, COLORS, axis, log_axis
from ltkit.reporting.numbers import hundred, lengths, number, numbers
from ltkit.reporting.source import Source
from ltkit.settings import SHOT_GROUPS

KEY = "classes"
TITLE = "Class by class"

MISTAKEN = 5
"""Most classes named among those that a class is mistaken for."""

Floats = NDArray[np.float64]


def gather(source: Source) -> dict[str, Any]:
    """Return the columns of the class table, and every class's nearest base classes.

    Accuracies and mistakes are those of the settings in detail.
    """
    count, labels = len(source.names), source.subject.labels
    columns = {
        "name": source.names,
        "train_count": source.train_count,
        "group": source.group,
        "samples": source.samples,
        "accuracy": [numbers(row) for row in source.accuracy],
        "mistaken": [_mistaken(*metrics.confusions(p, labels), count) for p in source.shown],
    }
    try:
        return {"columns": columns, "neighbors": _neighbors(source)}
    except InputError as error:
        return {"columns": columns, "neighbors": {"absent": str(error)}}


def _mistaken(true: Ints, predicted: Ints, count: Floats, num_classes: int) -> list[Any]:
    """Return, for each class, [class, samples] of those it is most often mistaken for."""
    found: list[Any] = [[] for _ in range(num_classes)]
    for place in np.lexsort((predicted, -count)):
        row = found[true[place]]
        if true[place] != predicted[place] and len(row) < MISTAKEN:
            row.append([int(predicted[place]), round(float(count[place]), 2)])
    return found


def _neighbors(source: Source) -> dict[str, Any]:
    """Return every class's nearest base classes, and how distance and accuracy correlate."""
    near, subject = source.near, source.subject
    few = np.flatnonzero(np.isin(near.few_class, subject.groups.few))
    rare = Neighbors(near.few_class[few], near.base_class[few], near.distance[few], near.metric)
    tested = np.isin(subject.labels, rare.few_class).any()
    rows = distance_rows(subject, source.cases, rare) if tested else []
    return {
        "k": near.k,
        "metric": near.metric,
        "class": near.few_class.tolist(),
        "neighbor": near.base_class.tolist(),
        "distance": lengths(near.distance, 4),
        "mean": lengths(near.distance.mean(axis=1, dtype=np.float64), 4),
        "spearman": [
            {"label": row["label"], "r": number(row["r"]), "change": number(row.get("change_r"))}
            for row in rows
        ],
    }


def draw(found: dict[str, Any], source: Source) -> list[Exhibit]:
    """Draw accuracies against training count, and against neighbour distance where known."""
    counts, accuracy = source.train_count, found["columns"]["accuracy"]
    zero = "; classes without training images stand at 0.5" if min(counts) == 0 else ""
    views = _views({c: max(n, 0.5) for c, n in enumerate(counts)}, accuracy,
                   log_axis("training images"), source)  # fmt: skip
    exhibits = [
        _scatter(
            "by-count", "Accuracy against training images",
            f"A mark is a class: {_rings(source)}. Rare classes are at the left{zero}.",
            "train_count", dict(enumerate(counts)), accuracy, views, source,
        )
    ]  # fmt: skip
    near = found["neighbors"]
    if "absent" in near:
        return exhibits
    distance = dict(zip(near["class"], near["mean"], strict=True))
    unit = axis(f"mean {near['metric']} distance to {near['k']} neighbours")
    exhibits.append(
        _scatter(
            "by-distance", "Accuracy against distance to the nearest base classes",
            "A class at the left has frequent classes close by, which it is easily taken for."
            + _correlations(near["spearman"]),
            "distance", distance, accuracy, _views(distance, accuracy, unit, source), source,
        )
    )  # fmt: skip
    return exhibits


def _rings(source: Source) -> str:
    """Return what a caption says of the marks."""
    if source.several:
        return f"grey rings of {source.first}, filled marks of the other network or correction"
    return "grey rings before, filled marks after the correction"


def _correlations(rows: Sequence[Mapping[str, Any]]) -> str:
    related = "; ".join(
        f"{visible(row['label'])} {row['r']:+.2f}"
        + ("" if row["change"] is None else f" (change {row['change']:+.2f})")
        for row in rows
        if row["r"] is not None
    )
    if not related:
        return ""
    return f" Spearman's r of distance and accuracy over few-shot classes: {related}."


def _views(
    position: Mapping[int, float],
    accuracy: Sequence[Sequence[float | None]],
    unit: Mapping[str, Any],
    source: Source,
) -> list[View]:
    """Return class accuracies at the classes' positions, one view per correction."""
    there = [c for c in position if accuracy[0][c] is not None]

    def trace(ids: Sequence[int], row: Sequence[float | None], **more: Any) -> dict[str, Any]:
        return {
            "type": "scatter", "mode": "markers", "meta": "class", "customdata": ids,
            "x": [position[c] for c in ids], "y": hundred(row[c] for c in ids), **more,
        }  # fmt: skip

    before = trace(
        there, accuracy[0], legendgroup="before",
        name=label(source.settings[0]) if source.several else "baseline",
        marker={"color": BEFORE, "symbol": "circle-open", "size": 7},
    )  # fmt: skip
    views = []
    for place in range(1, len(accuracy)) or [0]:
        traces = [before]
        for group in SHOT_GROUPS if place else ():
            ids = [c for c in there if source.group[c] == group]
            if ids:
                marker = {"color": COLORS[group], "size": 7, "opacity": 0.85}
                traces.append(trace(ids, accuracy[place], name=group, marker=marker))
        layout = {"xaxis": unit, "yaxis": axis("accuracy in %"), "hovermode": "closest"}
        views.append(View(source.settings[place], traces, layout, place))
    return views


def _scatter(
    key: str,
    title: str,
    caption: str,
    column: str,
    values: Mapping[int, float],
    accuracy: Sequence[Sequence[float | None]],
    views: Sequence[View],
    source: Source,
) -> Exhibit:
    """Return such views as an exhibit; `values` is the column of the classes' positions."""
    return Exhibit(
        key, title,
        f"{caption} Point at a mark for the class, choose it for its card below.",
        ("class", "name", "group", "samples", column, *source.settings),
        [[c, source.names[c], source.group[c], source.samples[c], value,
          *(row[c] for row in accuracy)]
         for c, value in values.items() if accuracy[0][c] is not None],
        views,
    )  # fmt: skip
