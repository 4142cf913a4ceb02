"""Flows of predictions."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from ltkit.errors import InputError
from ltkit.evaluation.analysis import (
    SIDES,
    STATUSES,
    flow_rows,
    kind_by_features,
    kinds_by_wordnet,
)
from ltkit.reporting.exhibits import Exhibit, View
from ltkit.reporting.numbers import numbers
from ltkit.reporting.source import Source

KEY = "flows"
TITLE = "Where predictions went"

WORDS = {"correct": "correct", "neighbor": "a neighbour", "other": "other"}
SHADES = ("#2f8f5b", "#5b6673", "#a3adb8")
LIGHT = tuple(
    f"rgba({', '.join(str(part) for part in bytes.fromhex(shade[1:]))}, 0.4)" for shade in SHADES
)
"""Shades of the statuses: of their boxes, and of the bands between them."""


def gather(source: Source) -> dict[str, Any]:
    """Return flows of predictions, by group of samples and kind of neighbours."""
    if not source.detailed:
        raise InputError("no correction, so nothing moved")
    kinds = []
    for samples, among in SIDES:
        with suppress(InputError):  # no training features
            kinds.append(kind_by_features(source.subject, source.neighbor_settings, samples, among))
    every = [*filter(None, kinds), *kinds_by_wordnet(source.subject, source.rule, source.level)]
    rows = flow_rows(source.subject, source.cases, every)
    if not rows:
        raise InputError("no classes with neighbours, by training features or in WordNet")
    near = {"wordnet": f"WordNet, {source.rule} rule, level {source.level}"}
    nothing = np.full((len(STATUSES), len(STATUSES)), np.nan)
    return {
        "statuses": list(STATUSES),
        "rows": [
            {
                "label": row["label"], "samples": row["samples"],
                "by": near.get(row["by"], f"{row['k']} nearest by features"), "n": row["n"],
                "count": numbers(np.array(row["count"])),
                "std": numbers(nothing if row["std"] is None else np.array(row["std"])),
            }
            for row in rows
        ],
    }  # fmt: skip


def draw(found: dict[str, Any], source: Source) -> list[Exhibit]:
    """Draw a view for each setting, group of samples and kind of neighbours."""
    statuses = [WORDS[status] for status in found["statuses"]]
    views = [
        View(
            f"{row['samples']}, {row['by']}: {row['label']}",
            [_bands(row["count"], statuses)],
            {"margin": {"l": 8, "r": 8, "t": 12, "b": 24}},
        )
        for row in found["rows"]
    ]
    rows = [
        [row["label"], row["samples"], row["by"], row["n"], before, after, row["count"][b][a],
         row["std"][b][a]]
        for row in found["rows"]
        for b, before in enumerate(statuses)
        for a, after in enumerate(statuses)
    ]  # fmt: skip
    return [
        Exhibit(
            "flows", "Predictions before and after",
            f"Left: predictions of {source.first}, right: {_then(source)}; the width is the "
            "number of test samples, a mean over seeds, and % their share. A neighbour is a wrong "
            "class near the true one. Rare classes are saved where a band runs from a neighbour to "
            "correct. Green: it was right before; grey: it was wrong.",
            ("setting", "samples", "neighbors", "n", "before", "after", "count", "std"),
            rows, views,
        )
    ]  # fmt: skip


def _then(source: Source) -> str:
    return "of the other network or correction" if source.several else "after the correction"


def _bands(count: Sequence[Sequence[float]], statuses: Sequence[str]) -> dict[str, Any]:
    """Return a flow: boxes at the left for before, at the right for after, bands between."""
    size = len(statuses)
    links = [(b, a, n) for b, line in enumerate(count) for a, n in enumerate(line) if n]
    sides = [sum(line) for line in count], [sum(column) for column in zip(*count, strict=True)]
    shares = [[n / max(sum(side), 1e-9) for n in side] for side in sides]
    return {
        "type": "sankey", "valueformat": ",.0f", "arrangement": "fixed",
        "node": {
            "label": [f"{status} {100 * share:.1f} %" for side in shares
                      for status, share in zip(statuses, side, strict=True)],
            "color": [*SHADES, *SHADES], "pad": 18, "thickness": 16,
            "x": [0.001] * size + [0.999] * size,
            "y": [max(y, 0.001) for side in shares for y in _middles(side)],
        },
        "link": {
            "source": [b for b, _, _ in links], "target": [size + a for _, a, _ in links],
            "value": [n for _, _, n in links], "color": [LIGHT[b] for b, _, _ in links],
        },
    }  # fmt: skip


def _middles(shares: Sequence[float], gap: float = 0.05) -> list[float]:
    """Return the vertical centres of stacked boxes, from 0 to 1.

    Example:
        >>> _middles([0.5, 0.5], gap=0.2)
        [0.2, 0.8]
    """
    room, top, found = 1 - gap * (len(shares) - 1), 0.0, []
    for share in shares:
        found.append(round(top + room * share / 2, 4))
        top += room * share + gap
    return found
