"""The look of figures, shared by several sections."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.reporting.exhibits import label

COLORS = {"few": "#d1495b", "medium": "#b7791f", "many": "#2a7fb8", "all": "#6b7683"}
"""Of shot groups, and of nothing else; legible on white and on near-black."""

BEFORE = "#828d99"
SERIES = (
    "#2f8f5b", "#8a63c9", "#13929c", "#c2569b", "#7a7d2a", "#5b6fd6", "#8c5a3c", "#5a8f8a",
)  # fmt: skip
"""Of corrections: none of a shot group's."""

SIGNED = [[0, "#7b3f98"], [0.5, "#f2f2f2"], [1, "#1f7a45"]]
"""Colours below and above 0."""

LIGHT = [[0, "#f4f7fa"], [1, "#5fa8d8"]]
INK = "#16202a"
"""Background for dark letters, and these."""

CIVIDIS = ("#00204d", "#31446b", "#666970", "#958f78", "#cbba69", "#ffea46")
"""Colours from low to high, even for readers who cannot tell red from green."""

POINTS = 1000
"""Most points of a line over classes."""

TICKS = [step * 10.0**power for power in range(-4, 8) for step in (1, 2, 5)]


def series_color(place: int) -> str:
    """Return the colour of a setting in detail; 0 is the baseline."""
    return SERIES[(place - 1) % len(SERIES)] if place else BEFORE


def axis(title: str, **more: Any) -> dict[str, Any]:
    """Return a Plotly axis with a title."""
    return {"title": {"text": title}, **more}


def log_axis(title: str) -> dict[str, Any]:
    """Return a logarithmic axis with its ticks written out."""
    ticks = {"tickvals": TICKS, "ticktext": [f"{tick:g}" for tick in TICKS]}
    return axis(title, type="log", minor={"ticks": ""}, **ticks)


def bars(
    name: str, heights: Sequence[float | None], over: Sequence[str], place: int, **more: Any
) -> dict[str, Any]:
    """Return the bars of a setting in detail, one per group, in per cent."""
    return {
        "type": "bar",
        "name": label(name),
        "x": list(over),
        "y": heights,
        "marker": {"color": series_color(place)},
        **more,
        "hovertemplate": "%{x}: %{y:.1f} %<extra>%{fullData.name}</extra>",
    }


def together(count: int) -> int:
    """Return how many neighbours in the order of counts share a point of a line over classes."""
    return -(-count // POINTS)


def means(values: NDArray[np.float64], size: int) -> NDArray[np.float64]:
    """Return the means of so many values at a time.

    Example:
        >>> means(np.array([1.0, 3.0, 5.0]), 2).tolist()
        [2.0, 5.0]
    """
    starts = np.arange(0, len(values), size)
    return np.add.reduceat(values, starts) / np.diff(np.append(starts, len(values)))


def shared(size: int) -> str:
    """Return what a caption says of points that classes share."""
    return f" A point is the mean of {size} classes, named by the first." if size > 1 else ""


def class_lines(
    curves: Iterable[tuple[str, Sequence[float]]], ids: Sequence[int], size: int = 1
) -> list[dict[str, Any]]:
    """Return one line per curve over the classes, in the order of counts.

    Args:
        curves: names and values.
        ids: the class of each value.
        size: how many classes share a point, of which `ids` has the first.
    """
    return [
        {
            "type": "scatter", "mode": "lines", "name": label(name), "meta": "value",
            "x": list(range(1, 1 + size * len(ids), size)), "y": list(values),
            "customdata": list(ids),
            "line": {"color": series_color(place), "width": 1.5 if place else 3.5},
        }
        for place, (name, values) in enumerate(curves)
    ]  # fmt: skip
