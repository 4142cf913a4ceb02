"""How confident predictions are, and how often right."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.evaluation import metrics, networks, predict
from ltkit.reporting.exhibits import Exhibit, Row, View
from ltkit.reporting.look import BEFORE, COLORS, axis, bars
from ltkit.reporting.numbers import hundred, numbers
from ltkit.reporting.source import Source

KEY = "calibration"
TITLE = "Calibration"


def gather(source: Source) -> dict[str, Any]:
    """Return how confident the settings in detail are and how often right, by confidence bin.

    Of the predictions of each shot group that has samples, for each of the bins: predictions, a
    mean over runs, and their mean confidence and accuracy, None where there are none.
    """
    subject, labels = source.subject, source.subject.labels
    entries = [networks.own_head(subject.features)]
    for case in source.cases:
        entries.append(replace(case.entry, correction=case.entry.correction.only(case.runs)))
    groups = metrics.group_weights(labels, len(source.names), subject.groups)
    inside = {name: ids for name, ids in subject.groups.items() if name in groups}
    inside["all"] = np.arange(len(source.names))
    return {
        "errors": [source.scores["rows"][place]["calibration"] for place in source.in_detail],
        "bins": metrics.ECE_BINS,
        "rows": [
            {name: _bins(one.confidence, one.predicted == labels, np.isin(one.predicted, ids))
             for name, ids in inside.items()}
            for one in networks.predict_entries(subject.features, subject.split, entries, predict)
        ],
    }  # fmt: skip


def _bins(
    confidence: NDArray[Any], right: NDArray[np.bool_], inside: NDArray[np.bool_]
) -> dict[str, list[Any]]:
    """Return the values of a reliability diagram for those inside of (S, N) predictions."""
    count, sure, correct = metrics.reliability(
        confidence[inside].astype(np.float64), right[inside]
    )  # fmt: skip
    some = np.where(count, count, np.nan)
    return {
        "samples": numbers(count / len(right), 4),
        "confidence": numbers(sure / some),
        "accuracy": numbers(correct / some),
    }


def draw(found: dict[str, Any], source: Source) -> list[Exhibit]:
    """Draw the calibration errors, and diagrams of confidence and accuracy."""
    return [_errors(found["errors"], source.settings), _reliability(found, source.settings)]


def _errors(every: Sequence[Mapping[str, float | None]], settings: Sequence[str]) -> Exhibit:
    named = list(zip(settings, every, strict=True))
    traces = [
        bars(name, hundred(errors.values()), list(errors), place)
        for place, (name, errors) in enumerate(named)
    ]
    return Exhibit(
        "calibration", "Expected calibration error by predicted shot group",
        "How far the largest softmax probability is from the accuracy, on average over 15 bins "
        "of it; 0 is perfect. By the class that is predicted: of the predictions of rare classes, "
        "how far they are from what they claim. A model may be calibrated overall and not there.",
        ("setting", "group", "calibration_error"),
        [[name, group, value] for name, errors in named for group, value in errors.items()],
        [View("", traces, {"barmode": "group", "yaxis": axis("ECE in %")})],
    )  # fmt: skip


def _reliability(found: Mapping[str, Any], settings: Sequence[str]) -> Exhibit:
    views: list[View] = []
    rows: list[Row] = []
    for place, (name, groups) in enumerate(zip(settings, found["rows"], strict=True)):
        traces: list[dict[str, Any]] = [{
            "type": "scatter", "mode": "lines", "name": "as sure as right", "hoverinfo": "skip",
            "x": [0, 100], "y": [0, 100], "line": {"color": BEFORE, "dash": "dot", "width": 1},
        }]  # fmt: skip
        for group, bins in groups.items():
            there = [b for b, samples in enumerate(bins["samples"]) if samples]
            traces.append(_marks(group, bins, there))
            rows += [
                [name, group, b / found["bins"], (b + 1) / found["bins"], bins["samples"][b],
                 bins["confidence"][b], bins["accuracy"][b]] for b in there
            ]  # fmt: skip
        axes = {"xaxis": axis("confidence in %", range=[-2, 102]),
                "yaxis": axis("accuracy in %", range=[-4, 104])}  # fmt: skip
        views.append(View(name, traces, {**axes, "hovermode": "closest"}, place))
    return Exhibit(
        "reliability", "Confidence and accuracy",
        "A mark is the predictions of classes of a shot group with like confidence (largest "
        "softmax probability), its area their number. On the dotted line a model is right as "
        "often as it says; below it, it is too sure, above it, too careful. Small marks are few "
        "predictions, and jump.",
        ("setting", "group", "from", "to", "samples", "confidence", "accuracy"), rows, views,
    )  # fmt: skip


def _marks(group: str, bins: Mapping[str, Any], there: Sequence[int]) -> dict[str, Any]:
    """Return a mark for each bin that has samples."""
    total = sum(bins["samples"])
    shares = [bins["samples"][b] / total for b in there]
    return {
        "type": "scatter", "mode": "lines+markers", "name": group,
        "x": hundred(bins["confidence"][b] for b in there),
        "y": hundred(bins["accuracy"][b] for b in there),
        "line": {"color": COLORS[group], "width": 1},
        "marker": {"color": COLORS[group],
                   "size": [round(4 + 26 * share**0.5, 1) for share in shares]},
        "text": [f"{bins['samples'][b]:.0f} samples" for b in there],
        "hovertemplate": "sure %{x:.1f} %, right %{y:.1f} %, %{text}"
                         "<extra>%{fullData.name}</extra>",
    }  # fmt: skip
