"""Why rare classes fail: the prior, their rows, frequent neighbours, or the features."""

from collections.abc import Mapping, Sequence
from typing import Any

from ltkit.diagnosis import MEANING, conclusion, diagnose
from ltkit.errors import InputError
from ltkit.reporting.exhibits import Exhibit, Row, View, label
from ltkit.reporting.look import SERIES, axis
from ltkit.reporting.numbers import hundred, number, percent, span
from ltkit.reporting.source import Source

KEY = "causes"
TITLE = "Why rare classes fail"

MOST = 2_000_000
"""Logits of the validation split above which a page would wait for minutes."""

BARS = 60
"""Most classes drawn."""


def gather(source: Source) -> dict[str, Any]:
    """Return the diagnosis of the model's own head on the validation split."""
    features = source.subject.features
    val = features.splits.get("val")
    if val is not None and len(val) * len(features.classes) > MOST:
        raise InputError("too many images for a page; ltkit diagnose prints it")
    found = diagnose(
        features, "val", k=source.k, bins=source.subject.bins,
        replicates=source.scores["bootstrap"]["replicates"], seed=source.seed,
    )  # fmt: skip
    kept = ("error", "interval", "parts", "intervals", "cause", "sure", "offset")
    return {
        **{key: found.document[key] for key in (*kept, "notes", "k", "n")},
        "classes": [
            {"id": row["id"], "samples": row["samples"], **{key: row[key] for key in kept}}
            for row in found.document["classes"]
        ],
    }


def draw(found: dict[str, Any], source: Source) -> list[Exhibit]:
    """Draw the table of all classes together, and the parts of each class's error as a stack."""
    return [_table(found), _stacks(found, source)]


def _stacks(found: Mapping[str, Any], source: Source) -> Exhibit:
    every: Sequence[Mapping[str, Any]] = found["classes"]
    shown = every[:BARS]
    traces = [
        {
            "type": "bar", "name": cause, "x": list(range(1, 1 + len(shown))),
            "y": hundred(row["parts"][cause] for row in shown),
            "marker": {"color": SERIES[place]},
            "hovertext": [label(source.names[row["id"]]) for row in shown],
            "hovertemplate": "%{hovertext}: %{y:.1f} %<extra>%{fullData.name}</extra>",
        }
        for place, cause in enumerate(MEANING)
    ]  # fmt: skip
    rows: list[Row] = [
        [row["id"], source.names[row["id"]], row["samples"], cause, number(row["parts"][cause]),
         *(row["intervals"][cause] or (None, None))]
        for row in every for cause in MEANING
    ]  # fmt: skip
    ticks: dict[str, Any] = {"showticklabels": False}
    if len(shown) <= BARS // 2:
        names = [label(source.names[row["id"]], 16) for row in shown]
        ticks = {"tickvals": list(range(1, 1 + len(shown))), "ticktext": names}
    left_out = f" The {len(every) - BARS} best are in the CSV only." * (len(every) > BARS)
    return Exhibit(
        "causes", "The error of each rare class, by its cause",
        "The parts of a bar add up to the error of the model's own head on val, the greatest "
        "first. prior: vanishes under the right offsets, without taking as much from frequent "
        "classes; rows: vanishes for a head fitted to balanced features that the network was not "
        f"trained on; confusion: is with the {found['k']} nearest frequent classes, beyond what "
        f"is with any; separation: the rest.{left_out}",
        ("class", "name", "samples", "cause", "part", "low", "high"), rows,
        [View("", traces, {"barmode": "stack", "yaxis": axis("error in %"),
                           "xaxis": axis("rare class", **ticks)})],
    )  # fmt: skip


def _table(found: Mapping[str, Any]) -> Exhibit:
    rows = [
        [cause, number(found["parts"][cause]), *(found["intervals"][cause] or (None, None))]
        for cause in MEANING
    ]
    notes = "".join(f" Note: {note}." for note in found["notes"])
    offset = found["offset"]
    return Exhibit(
        "causes-all", "The error of all rare classes together",
        f"{conclusion(found).capitalize()}. Offsets give these classes {percent(offset['gained'])} "
        f"points and take {percent(offset['taken'])} from frequent ones; the second is overlap, "
        f"not prior. From {found['n']} val images; what explains an image was not fitted to it."
        f"{notes}",
        ("cause", "part", "low", "high"), rows,
        cells=[
            ["cause", "% of images, mean over classes", "95 % interval", "means"],
            ["all", percent(found["error"]), span(found["interval"]), "error of the model's head"],
            *([cause, percent(found["parts"][cause]), span(found["intervals"][cause]), meaning]
              for cause, meaning in MEANING.items()),
        ],
    )  # fmt: skip
