"""What a recommendation says to a person, in at most ten lines."""

import shlex
from collections.abc import Mapping
from typing import Any

from ltkit.records import FeatureSet
from ltkit.settings import GROUPS


def ship(features: FeatureSet, file: str) -> str:
    """Return the command that ships a correction: into its checkpoint, or else its head alone.

    Args:
        features: that it corrects.
        file: that holds it.
    """
    into = "--into CKPT -o fixed.pt"
    if features.head is None or "arch" not in features.settings:
        into = "--to npz -o head.npz"
    return f"ltkit export {shlex.quote(file)} {into}"


def answer(document: Mapping[str, Any]) -> list[str]:
    """Return the lines that a person reads first, at most ten."""
    choice, gain = document["choice"], document["gain"]
    if gain is None:
        return [f"recommended: {choice['label']}; {choice['reason']}", *document["notes"],
                *_last(document)]  # fmt: skip
    objective = document["objective"]
    told = _change(document["objective_gain"], document["objective_interval"])
    if choice["keep"]:
        first = f"keep the baseline: {choice['reason']}"
    else:
        first = f"recommended: {choice['label']}; {objective} accuracy {told} points"
    return [
        first,
        *([] if choice["keep"] else _by_group(document)),
        *_sure(document),
        *_last(document),
    ]


def _change(value: float, ends: list[float] | None) -> str:
    """Return a change in points with its interval."""
    if ends is None:
        return f"{100 * value:+.1f} [no interval]"
    return f"{100 * value:+.1f} [{100 * ends[0]:+.1f}, {100 * ends[1]:+.1f}]"


def _by_group(document: Mapping[str, Any]) -> list[str]:
    """Return a line for each group: before, after, the change."""
    before, after = document["accuracy"]["baseline"], document["accuracy"]["expected"]
    gain, ends = document["gain"], document["interval"]
    names = [name for name in GROUPS if gain[name] is not None]
    if gain["all"] is not None and abs(gain["all"] - gain["balanced"]) < 1e-9:
        names.remove("balanced")
    limits = {limit["group"]: limit for limit in document["limits"]}
    lines = []
    for name in names:
        line = f"  {name:<9}{100 * before[name]:5.1f} -> {100 * after[name]:5.1f}  "
        line += f"{_change(gain[name], ends[name])}"
        if name in limits:
            limit = limits[name]
            line += (
                f", kept at {100 * limit['least']:+g} or more with "
                f"{100 * limit['confidence']:g} % confidence"
            )
        lines.append(line)
    return lines


def _sure(document: Mapping[str, Any]) -> list[str]:
    """Return how sure the choice is: what it was made on, how often it wins, what comes next."""
    folds, choice, other = document["folds"], document["choice"], document["runner_up"]
    count = folds["folds"] * folds["repeats"]
    lines = [
        f"chosen on {document['n']} val images, in {folds['folds']} parts, {folds['repeats']} "
        "times; every gain is of images that the choice was not made on"
    ]
    if not choice["keep"]:
        lines.append(
            f"{choice['method']} is chosen in {100 * choice['wins']:.0f} % of {count} folds"
        )
    if other is not None and not choice["keep"]:
        behind = _change(-other["behind"], [-end for end in other["interval"][::-1]])
        noise = "within noise" if other["within_noise"] else "beyond noise"
        lines[-1] += f"; next is {other['label']}, {behind}: {noise}"
    return lines


def _last(document: Mapping[str, Any]) -> list[str]:
    command = document.get("command")
    return [] if command is None else [f"ship it: {command}"]
