"""What the document of conformal sets says to a person."""

from collections.abc import Mapping
from typing import Any

from ltkit.settings import SHOT_GROUPS

GOALS: Mapping[str, str] = {
    "images": "the smallest that guarantee it of all images together",
    "groups": "the smallest that reach it in each shot group, up to a standard error",
    "classes": "the smallest that guarantee it of each class",
}


def answer(document: Mapping[str, Any]) -> list[str]:
    """Return what a document says, line by line."""
    rows = document["rows"]
    row = next(row for row in rows if row["recommended"])
    goal = GOALS[document["goal"]] if document["served"] else "none here serve the goal"
    why = f"{goal}; " if len(rows) > 1 else ""
    split = "val, by cross-fitting" if document["split"] == "val" else document["split"]
    worst, coverage = row["worst_class"], row["coverage"]["all"]
    kind = "guaranteed, for" if document["proven"] else "aimed at, without proof, for"
    classes = sum(document["groups"].values())
    by_group = ", ".join(
        f"{name} {100 * row['coverage'][name]:.1f} % in sets of {row['size'][name]:.1f}"
        for name in SHOT_GROUPS
        if row["coverage"][name] is not None
    )
    lines = [
        f"sets with the true class in {100 * document['coverage']:g} %: score {row['score']}, "
        f"thresholds {row['threshold']} ({why}calibrated on {document['calibration']} val images)",
        f"{kind} images drawn as val: {row['promise']}",
        f"on {split}: coverage {_percent(coverage, row['coverage_interval']['all'])}, "
        f"mean size {row['size']['all']:.1f} of {classes} classes, "
        f"single {100 * row['single']:.1f} %, empty {100 * row['empty']:.1f} %",
        f"by shot group: {by_group}",
        f"worst class: {worst['name']} ({worst['train_count']} training images), "
        f"{_percent(worst['coverage'], worst['interval'])} of {worst['samples']}",
    ]
    if row["always"]:
        lines.append(f"in every set, as too few val images say more: {row['always']} classes")
    return lines


def _percent(value: float, ends: list[float] | None) -> str:
    if ends is None:
        return f"{100 * value:.1f} % [no interval]"
    return f"{100 * value:.1f} % [{100 * ends[0]:.1f}, {100 * ends[1]:.1f}]"
