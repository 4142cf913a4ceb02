"""Which classes and shot groups are mistaken for which."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.evaluation import group_confusions, metrics, most_confused
from ltkit.records import Ints
from ltkit.reporting.exhibits import Exhibit, Row, View, brief, visible
from ltkit.reporting.look import CIVIDIS, INK, LIGHT, axis
from ltkit.reporting.source import Source

KEY = "confusion"
TITLE = "Confusions"

CELLS = 100
"""Most rows of a confusion matrix; with more classes, neighbours in the order share a row."""

PAIRS = 25
"""Number of most confused pairs."""

ROOT = [[(t / 5) ** 2, color] for t, color in enumerate(CIVIDIS)]
"""Colours by the square root, so that small shares are visible."""

Floats = NDArray[np.float64]


def gather(source: Source) -> dict[str, Any]:
    """Return confusion matrices of the settings in detail, by group, and the worst pairs.

    Classes are ordered by training count. Rows are shares of a true class's samples, or of those
    of neighbouring classes together where there are more than `CELLS`.
    """
    count = len(source.names)
    per_cell = -(-count // CELLS)
    cell = np.empty(count, dtype=np.int64)
    cell[source.order] = np.arange(count) // per_cell
    labels, groups = source.subject.labels, source.subject.groups
    tables = [group_confusions(predicted, labels, groups) for predicted in source.shown]
    found = [metrics.confusions(predicted, labels) for predicted in source.shown]
    cells = [source.order[i : i + per_cell].tolist() for i in range(0, count, per_cell)]
    return {
        "per_cell": per_cell,
        "cells": cells,
        "count": [_table(cell[t], cell[p], n, len(cells)) for t, p, n in found],
        "groups": tables[0][0],
        "by_group": [table.round(4).tolist() for _, table in tables],
        "pairs": _worst(source),
    }


def _table(rows: Ints, columns: Ints, count: Floats, size: int) -> list[list[Any]]:
    table = np.bincount(rows * size + columns, count, minlength=size * size).reshape(size, size)
    found: list[list[Any]] = table.round(4).tolist()
    return found


def _worst(source: Source) -> list[dict[str, Any]]:
    """Return the first setting's most confused pairs, with the samples of every setting."""
    pairs = most_confused(source.shown, source.subject.labels, most=PAIRS)
    return [
        {"true": true, "predicted": said, "count": [round(n, 6) for n in count]}
        for true, said, count in pairs
    ]


def draw(found: dict[str, Any], source: Source) -> list[Exhibit]:
    """Draw the matrices of shot groups and of classes, and the table of pairs."""
    return [_by_group(found, source.settings), _by_class(found, source.settings),
            _pairs(found["pairs"], source)]  # fmt: skip


def _shares(table: Sequence[Sequence[float]]) -> list[list[float | None]]:
    """Return each row's shares in %; None for a row without samples."""
    return [
        [round(100 * n / sum(row), 2) if sum(row) else None for n in row] for row in table
    ]  # fmt: skip


def _by_group(found: Mapping[str, Any], settings: Sequence[str]) -> Exhibit:
    groups = found["groups"]
    views: list[View] = []
    rows: list[Row] = []
    for name, table in zip(settings, found["by_group"], strict=True):
        shares = _shares(table)
        views.append(View(
            name,
            [{
                "type": "heatmap", "z": shares, "x": groups, "y": groups, "zmin": 0, "zmax": 100,
                "colorscale": LIGHT, "showscale": False,
                "texttemplate": "%{z:.1f} %", "textfont": {"color": INK},
                "hovertemplate": "true %{y}, predicted %{x}: %{z:.2f} %<extra></extra>",
            }],
            {"xaxis": axis("predicted"), "yaxis": axis("true class", autorange="reversed")},
        ))  # fmt: skip
        rows += [
            [name, groups[t], groups[p], n, shares[t][p]]
            for t, row in enumerate(table) for p, n in enumerate(row)
        ]  # fmt: skip
    return Exhibit(
        "confusion-groups", "Confusion of shot groups",
        "A row holds the samples of a group's classes, and the shares of them predicted as a "
        "class of each group. Much weight in the last column of the first row: rare classes "
        "are taken for frequent ones.",
        ("setting", "true", "predicted", "count", "percent"), rows, views, height=340,
    )  # fmt: skip


def _by_class(found: Mapping[str, Any], settings: Sequence[str]) -> Exhibit:
    per_cell = found["per_cell"]
    together = f" A row is {per_cell} classes together." if per_cell > 1 else ""
    first = [classes[0] for classes in found["cells"]]
    views: list[View] = []
    rows: list[Row] = []
    for name, table in zip(settings, found["count"], strict=True):
        views.append(View(
            name,
            [{
                "type": "heatmap", "z": _shares(table), "meta": "cell", "colorscale": ROOT,
                "zmin": 0, "zmax": 100, "colorbar": {"title": {"text": "%"}, "thickness": 12},
                "x0": (1 + per_cell) / 2, "dx": per_cell, "y0": (1 + per_cell) / 2, "dy": per_cell,
            }],
            {
                "xaxis": axis("predicted class, by training images", showgrid=False),
                "yaxis": axis("true class", autorange="reversed", showgrid=False),
            },
        ))  # fmt: skip
        rows += [
            [name, first[t], first[p], n]
            for t, row in enumerate(table) for p, n in enumerate(row) if n
        ]  # fmt: skip
    return Exhibit(
        "confusion", "Confusion of classes",
        "Rows: true classes, columns: predicted ones, both from most to fewest training images;"
        f" brightness: share of the row's samples, by its square root.{together} Bright "
        "columns at the left swallow rare classes. Drag to zoom in, double-click to go back.",
        ("setting", "true", "predicted", "count"), rows, views, height=560,
    )  # fmt: skip


def _pairs(pairs: Sequence[Mapping[str, Any]], source: Source) -> Exhibit:
    heads = ["true class", "training images", "predicted as", "training images"]
    cells = [[*heads, *map(visible, source.settings)]]
    rows = []
    for pair in pairs:
        t, p, samples = pair["true"], pair["predicted"], source.samples[pair["true"]]
        cells.append([
            brief(source.names[t]), str(source.train_count[t]),
            brief(source.names[p]), str(source.train_count[p]),
            *(f"{round(n, 1):g} of {samples}" for n in pair["count"]),
        ])  # fmt: skip
        rows.append([t, source.names[t], p, source.names[p], samples, *pair["count"]])
    return Exhibit(
        "pairs", "Most confused pairs",
        f"Pairs that {source.first} confuses most: test samples of the true class predicted as the "
        f"other, and how many {_left(source)}",
        ("true", "true_name", "predicted", "predicted_name", "samples", *source.settings), rows,
        cells=cells,
    )  # fmt: skip


def _left(source: Source) -> str:
    """Return what a caption says of the samples that others confuse."""
    if not source.several:
        return "each correction leaves (means over seeds)."
    return (
        "the others confuse (means over seeds). They are the worst of one network: another has "
        "fewer by chance alone."
    )
