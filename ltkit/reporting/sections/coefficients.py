"""What each rare class takes from its neighbours in AlphaNet fits."""

from collections.abc import Sequence
from typing import Any

from ltkit.errors import InputError
from ltkit.evaluation.analysis import class_changes
from ltkit.reporting.exhibits import Exhibit, View, label
from ltkit.reporting.look import SIGNED, axis
from ltkit.reporting.numbers import numbers
from ltkit.reporting.source import Source

KEY = "alpha"
TITLE = "Learned coefficients"

LABELLED = 60
"""Most classes named on an axis, and whose neighbours are named in the cells."""


def gather(source: Source) -> dict[str, Any]:
    """Return the learned coefficients of fits, means over runs."""
    subject, rows = source.subject, []
    for setting, case in enumerate(source.cases, start=1):
        fit = case.entry.correction
        if "alpha" not in fit.learned:
            continue
        changes = class_changes(
            fit, case.runs, source.network(case).classifier(), subject.before, case.predicted,
            subject.labels, fit.learned_class.tolist(),
        )  # fmt: skip
        rows.append({
            "setting": setting,
            "label": case.label,
            "same": all(int(c.used.min()) == len(case.runs) for c in changes),
            "class": [c.class_id for c in changes],
            "neighbor": [c.neighbor.tolist() for c in changes],
            "alpha": [numbers(c.alpha.sum(axis=0) / c.used) for c in changes],
        })  # fmt: skip
    if not rows:
        raise InputError("no AlphaNet fit among those in detail; make one with alphanet fit")
    return {"rows": rows}


def draw(found: dict[str, Any], source: Source) -> list[Exhibit]:
    """Draw a heat map for each fit; a random control, whose runs differ, is in the CSV only."""
    views, rows, tallest = [], [], 0
    for fit in found["rows"]:
        pairs = zip(fit["class"], fit["neighbor"], fit["alpha"], strict=True)
        lines = sorted(pairs, key=lambda line: -source.train_count[line[0]])
        rows += [
            [fit["label"], c, source.names[c], rank, other, source.names[other], value]
            for c, near, alphas in lines
            for rank, (other, value) in enumerate(zip(near, alphas, strict=True), start=1)
        ]
        if fit["same"]:
            views.append(_view(fit["label"], lines, source.names))
            tallest = max(tallest, len(lines))
    if not views:
        raise InputError("the fits in detail have random neighbours, different ones in each run")
    return [
        Exhibit(
            "alpha", "What each rare class takes from its neighbours",
            "A row is a few-shot class, most training images first, a column its nearest base "
            "classes. Green: the neighbour's classifier is added to its own, violet: taken off; "
            "absolute values of a row sum to 1, in a composition to its scale. Means over seeds.",
            ("setting", "class", "name", "rank", "neighbor", "neighbor_name", "alpha"),
            rows, views, height=min(900, 160 + 16 * tallest),
        )
    ]  # fmt: skip


def _view(name: str, lines: Sequence[tuple[int, Any, Any]], names: Sequence[str]) -> View:
    """Return a fit's heat map, from rows of class, neighbours and coefficients."""
    ticks: dict[str, Any] = {"autorange": "reversed", "showticklabels": False}
    cells: dict[str, Any] = {}
    if len(lines) <= LABELLED:
        ticks = {"autorange": "reversed", "tickvals": list(range(len(lines))),
                 "ticktext": [label(names[c], 16) for c, _, _ in lines]}  # fmt: skip
        cells = {"text": [[label(names[other], 14) for other in near] for _, near, _ in lines],
                 "texttemplate": "%{text}"}  # fmt: skip
    most = max(abs(v) for _, _, alphas in lines for v in alphas)
    return View(
        name,
        [{
            "type": "heatmap", "z": [alphas for _, _, alphas in lines], "meta": "alpha",
            "x": list(range(1, 1 + len(lines[0][1]))), "y": list(range(len(lines))),
            "customdata": [[[c, other] for other in near] for c, near, _ in lines],
            "colorscale": SIGNED, "zmid": 0, "zmin": -most, "zmax": most,
            "colorbar": {"title": {"text": "α̃"}, "thickness": 12}, **cells,
        }],
        {"yaxis": axis("few-shot class", **ticks),
         "xaxis": axis("neighbour, nearest first", dtick=1)},
    )  # fmt: skip
