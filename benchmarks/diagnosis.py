"""What `ltkit diagnose` says of real features, beside what `ltkit recommend` finds for them.

    python benchmarks/diagnosis.py NAME FEATURES.h5 [HEAD.h5]

Both look at the validation split alone. A line of benchmarks/results/diagnosis.json is a file;
others are kept. HEAD.h5 is the classifier in the place of the head of features without one.
"""

import json
import sys
from pathlib import Path
from typing import Any

import ltkit

RESULTS = Path(__file__).parent / "results" / "diagnosis.json"

OFFSETS = ("logit-adjust", "group-bias", "bias")
"""Methods that change nothing but biases, up to one scale."""

NAMES = {
    "cifar100_lt": "bundled CIFAR-100-LT, ResNet-32",
    "cifar100_lt_if50": "CIFAR-100-LT, imbalance 50, ResNet-20",
    "tiny_imagenet_lt": "Tiny ImageNet-LT, ResNet-32",
    "tiny_frozen": "Tiny ImageNet-LT, frozen ResNet-32 and a new head",
    "frozen_lite0": "CIFAR-100-LT, frozen EfficientNet-Lite0 and a new head",
}

HEAD = """\
## Why rare classes fail, and what is recommended

Made by `python benchmarks/diagnosis.py`, on the validation split. The parts are those of
[`ltkit diagnose`](diagnose.md), in % of the rare classes' images, with 95 % intervals. Beside them
is what [`ltkit recommend`](recommend.md) gains in points of balanced accuracy: with methods that
change biases alone, and with all. *At most*: what the last of the three heads of the diagnosis
gains, which learns from the validation images themselves.
"""


def measured(path: Path, base: Path | None) -> dict[str, Any]:
    """Return both answers on a features file."""
    features = ltkit.read(path)
    found = ltkit.diagnose(features, base=base).document
    heads = [head["accuracy"]["balanced"] for head in found["heads"]]
    keys = ("error", "interval", "parts", "intervals", "cause", "sure", "offset")
    row = {key: found[key] for key in keys} | {"anew": heads[2] - heads[0]}
    for name, methods in (("offsets", OFFSETS), ("all", None)):
        advice = ltkit.recommend(features, methods=methods, base=base).document
        row[name] = {
            "label": advice["choice"]["label"], "keep": advice["choice"]["keep"],
            "gain": advice["objective_gain"], "interval": advice["objective_interval"],
        }  # fmt: skip
    return row


def table(path: Path = RESULTS) -> list[str]:
    """Return the section of docs/results.md; nothing without a measurement."""
    if not path.exists():
        return []
    lines = [
        HEAD,
        "| features | error | prior | rows | confusion | separation | biases alone | all methods "
        "| at most |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in json.loads(path.read_text(encoding="utf-8")).items():
        parts = [_percent(v, row["intervals"][cause]) for cause, v in row["parts"].items()]
        advice = [
            f"{_percent(row[of]['gain'], row[of]['interval'], '+')} {row[of]['label']}"
            for of in ("offsets", "all")
        ]
        cells = [NAMES[name], _percent(row["error"], row["interval"]), *parts, *advice]
        lines.append(f"| {' | '.join(cells)} | {100 * row['anew']:+.1f} |")
    return [*lines, ""]


def _percent(value: float, ends: list[float], sign: str = "") -> str:
    low, high = (f"{100 * end:{sign}.1f}" for end in ends)
    return f"{100 * value:{sign}.1f} [{low}, {high}]"


def main(name: str, path: str, head: str | None = None) -> None:
    """Measure one file, and add it to the results."""
    rows = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    rows[name] = measured(Path(path), None if head is None else Path(head))
    ordered = {known: rows[known] for known in NAMES if known in rows}
    RESULTS.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
