"""Few-shot against overall accuracy."""

from collections.abc import Mapping, Sequence
from typing import Any

from ltkit.errors import InputError
from ltkit.reporting.exhibits import Exhibit, Row, View, label
from ltkit.reporting.look import axis, series_color
from ltkit.reporting.numbers import hundred
from ltkit.reporting.source import Source

KEY = "frontier"
TITLE = "Few-shot against overall accuracy"


def gather(source: Source) -> dict[str, Any]:
    """Return every setting of every method, as `compare` does."""
    if source.compared is None:
        raise InputError("no correction to draw; make one with ltkit posthoc or ltkit alphanet fit")
    if source.compared["frontier"] is None:
        raise InputError("no few-shot class in this split")
    return {
        "methods": source.compared["methods"],
        "chosen_on": source.compared["frontier"]["chosen_on"],
    }


def draw(found: dict[str, Any], source: Source) -> list[Exhibit]:
    """Draw a mark for each setting, a larger one for that chosen, and lines along the curves."""
    traces: list[dict[str, Any]] = []
    rows: list[Row] = []
    for place, method in enumerate(found["methods"]):
        points = method["points"]
        shown = _place(points, source.settings)
        color = series_color(shown)
        lead = shown == 1 and source.advice is not None
        symbol = "diamond" if place == 0 else "star" if lead else "circle"
        sizes = [(16 if lead else 12) if p["in_pairs"] and _chosen(points) else 6 for p in points]
        traces.append({
            "type": "scatter", "mode": "markers", "name": label(method["name"]),
            "legendgroup": str(place), "x": hundred(p["accuracy"]["all"] for p in points),
            "y": hundred(p["accuracy"]["few"] for p in points),
            "text": [label(p["label"]) for p in points],
            "marker": {"color": color, "symbol": symbol, "size": sizes},
            "hovertemplate": "%{text}<br>overall %{x:.2f} %, few %{y:.2f} %<extra></extra>",
        })  # fmt: skip
        walk = _walk(points, method["knob"])
        if len(walk) > 1:
            traces.append({
                "type": "scatter", "mode": "lines", "showlegend": False, "hoverinfo": "skip",
                "legendgroup": str(place), "line": {"color": color, "width": 1.5},
                "x": hundred(x for x, _ in walk), "y": hundred(y for _, y in walk),
            })  # fmt: skip
        rows += [
            [p["label"], p["runs"], p["accuracy"]["all"], p["accuracy"]["few"],
             int(p["on_curve"]), int(p["in_pairs"]), p["dominated_by"]]
            for p in points
        ]  # fmt: skip
    traces = [*traces[1:], traces[0]]  # the baseline above the settings that equal it
    return [
        Exhibit(
            "frontier", "Every setting of every correction",
            "Up and to the right is better. A line follows the one knob of a method through all "
            "its settings; of a method with several knobs it joins those on the upper hull of the "
            f"{found['chosen_on']} split. Mixing two neighbours reaches every point between. The "
            "large mark of a method is its setting chosen on val, or its only one; a star is "
            "what is recommended. A method is ahead where its line is above the others' at the "
            "same overall accuracy.",
            ("setting", "runs", "all", "few", "on_curve", "chosen", "dominated_by"), rows,
            [View("", traces, {"xaxis": axis("overall accuracy in %"), "hovermode": "closest",
                               "yaxis": axis("few-shot accuracy in %")})],
            height=480,
        )
    ]  # fmt: skip


def _walk(points: Sequence[Mapping[str, Any]], knob: str | None) -> list[tuple[float, float]]:
    """Return (overall, few) along a curve: in the knob's order, or along the hull."""
    there = [p for p in points if p["on_curve"]]
    if knob is not None:
        there = sorted(there, key=lambda p: p["settings"][knob])
    walk = [(p["accuracy"]["all"], p["accuracy"]["few"]) for p in there]
    return walk if knob is not None else sorted(walk)


def _chosen(points: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether one of a method's settings was chosen, or is the only one."""
    return len([p for p in points if p["in_pairs"]]) == 1


def _place(points: Sequence[Mapping[str, Any]], settings: Sequence[str]) -> int:
    """Return the place of a method among the settings in detail, after them if it is not there."""
    there = [settings.index(p["label"]) for p in points if p["label"] in settings]
    return there[0] if there else len(settings)
