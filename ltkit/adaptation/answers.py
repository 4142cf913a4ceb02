"""What an adaptation says to a person."""

from collections.abc import Mapping
from typing import Any


def answer(document: Mapping[str, Any]) -> list[str]:
    """Return the lines that a person reads first."""
    n, how = document["samples"], document["settings"]["estimator"]
    slope, p = document["slope"], document["shift"]["p"]
    tail = ""
    if slope is not None:
        low, high = slope["interval"]
        tail = f": count to the power {slope['value']:.2f} [{low:.2f}, {high:.2f}]"
    lines = [f"share of classes among {n} samples of {document['target']} ({how}{tail})"]
    for row in document["groups"]:
        low, high = (f"{100 * end:.1f}" for end in row["interval"])
        told = f"{100 * row['share']:5.1f} [{low}, {high}]"
        lines.append(f"  {row['group']:<8}{told:<22} {100 * row['train']:5.1f} in training")
    said = "no sign of another shift" if p >= document["settings"]["significance"] else "not alone"
    lines.append(f"that shares alone differ: p {p:.2g}, {said}")
    if (gain := document["expected"]) is not None:
        lines.append(f"expected accuracy, on val weighted so: {_gain(gain)}")
    lines.append(
        f"predictions that change: {100 * document['changed']:.1f} %; logits are divided by "
        f"{document['temperature']:.2f}"
    )
    return lines


def _gain(gain: Mapping[str, Any]) -> str:
    """Return accuracies before and after in per cent, and their difference with its interval."""
    before, after = 100 * gain["before"], 100 * gain["after"]
    ends = "no interval"
    if gain["interval"] is not None:
        ends = ", ".join(f"{100 * end:+.1f}" for end in gain["interval"])
    return f"{before:.1f} -> {after:.1f} ({after - before:+.1f} [{ends}])"


def summary(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a classifier file keeps of a document, beside the shares of single classes."""
    kept = ("split", "samples", "temperature", "penalty", "kept", "changed", "expected", "notes")
    return {
        "method": "adapt", **document["settings"], **{name: document[name] for name in kept},
        "slope": None if document["slope"] is None else document["slope"]["value"],
        "shares": {row["group"]: row["share"] for row in document["groups"]},
        "shift_p": document["shift"]["p"],
    }  # fmt: skip
