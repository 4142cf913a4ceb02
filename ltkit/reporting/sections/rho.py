"""Accuracy against rho."""

from collections.abc import Mapping, Sequence
from typing import Any

from ltkit.errors import InputError
from ltkit.evaluation.analysis import curve_row, rho_curves
from ltkit.reporting.exhibits import Exhibit, View, label
from ltkit.reporting.look import COLORS, axis
from ltkit.reporting.numbers import hundred
from ltkit.reporting.source import Source

KEY = "deltas"
TITLE = "Accuracy against ρ"

DASHES = ("solid", "dash", "longdash", "dot")
SYMBOLS = ("circle", "square", "diamond", "x")
"""Symbols of curves; the last is that of a random control."""

RANDOM = ("random", "random-once")
"""Controls, whose lines come last."""


def gather(source: Source) -> dict[str, Any]:
    """Return the change of accuracy against rho, for fits with several rhos."""
    subject = source.subject
    cases = [case for case in subject.cases if case.entry.network is None]
    fits = [c for c in cases if {"rho", "k", "metric"} <= c.settings.keys()]
    curves = rho_curves(fits, subject.before, subject.labels, len(source.names), subject.groups)
    found = [curve_row(curve) for curve in curves if len(curve.rho) > 1]
    if not found:
        raise InputError("no fit with several rho; make one with alphanet fit --rho 0.5,1,1.5")
    return {"curves": found}


def draw(found: dict[str, Any], source: Source) -> list[Exhibit]:
    """Draw one line per curve and group, with random neighbours last."""
    traces, rows = [], []
    curves = sorted(found["curves"], key=lambda c: c["metric"] in RANDOM)
    for place, curve in enumerate(curves):
        place = 3 if curve["metric"] in RANDOM else place % 3
        for group in COLORS:
            points = [point for point in curve["points"] if point["change"][group] is not None]
            if points:
                traces.append(_line(curve["name"], group, points, place))
            rows += [
                [curve["name"], p["rho"], p["runs"], group, p["change"][group], _std(p, group)]
                for p in points
            ]
    return [
        Exhibit(
            "deltas", "Change of accuracy against ρ",
            "Points of accuracy gained over the baseline, mean over seeds with its standard "
            "deviation. A smaller ρ hears the frequent classes less: few rises, many falls. "
            "Dotted lines, where given, are fits with random neighbours, the control: a gain "
            "beyond theirs comes of the neighbours being near.",
            ("curve", "rho", "runs", "group", "change", "std"), rows,
            [View("", traces, {"xaxis": axis("ρ"), "yaxis": axis("change in points")})],
        )
    ]  # fmt: skip


def _line(name: str, group: str, points: Sequence[Mapping[str, Any]], place: int) -> dict[str, Any]:
    stds = [_std(point, group) for point in points]
    return {
        "type": "scatter", "mode": "lines+markers", "x": [p["rho"] for p in points],
        "y": hundred(p["change"][group] for p in points), "name": f"{group}, {label(name)}",
        "line": {"color": COLORS[group], "dash": DASHES[place]},
        "marker": {"color": COLORS[group], "symbol": SYMBOLS[place]},
        "error_y": {"type": "data", "visible": any(std is not None for std in stds),
                    "thickness": 1, "width": 3, "array": [100 * (std or 0) for std in stds]},
        "hovertemplate": "ρ %{x}: %{y:+.2f} points<extra>%{fullData.name}</extra>",
    }  # fmt: skip


def _std(point: Mapping[str, Any], group: str) -> float | None:
    std: float | None = point["std"] and point["std"][group]
    return std
