"""Novelty on real features: new images, and held-out classes, by five scores.

    python benchmarks/novelty.py NAME FEATURES.h5 [--head HEAD.h5] [OUTSIDERS.h5]

Without OUTSIDERS.h5 every tenth class is held out. Outsiders are extracted by the same checkpoint:

    ltkit extract m.pt --data cifar10_lt --no-head --splits test -o outsiders.h5

A line of benchmarks/results/novelty.json is a pair; others are kept.
"""

import json
import sys
from pathlib import Path
from typing import Any

import ltkit

RESULTS = Path(__file__).parent / "results" / "novelty.json"

NAMES = {
    "if50_tiny": "CIFAR-100-LT, imbalance 50, ResNet-20; Tiny ImageNet at 32 pixels",
    "if50_cifar10": "the same; CIFAR-10",
    "cifar100_lt": "bundled CIFAR-100-LT, ResNet-32; every tenth class held out",
    "tiny_imagenet_lt": "Tiny ImageNet-LT, ResNet-32; every tenth class held out",
    "frozen_lite0": "CIFAR-100-LT, frozen EfficientNet-Lite0; every tenth class held out",
}

HEAD = """\
## New classes

Made by `python benchmarks/novelty.py`: [`ltkit analyze novelty`](production.md) on test. AUROC, and
the share of outsiders taken for known at a threshold that keeps 95 % of the known images (FPR),
with 95 % intervals; at this threshold, the share of few- and many-shot images taken for novel, and
the open-set F-measure of OLTR. A frozen network was not trained on the held-out classes; the others
were, which makes these easier to tell than new ones.
"""


def measured(path: Path, head: Path | None, outsiders: Path | None) -> dict[str, Any]:
    """Return what is found on a pair."""
    features = ltkit.with_base(ltkit.read(path), head)
    every_tenth = None if outsiders else list(range(0, len(features.classes), 10))
    found = ltkit.novelty(features, outsiders=outsiders, hold_out=every_tenth).attrs["document"]
    keys = ("auroc", "auroc_interval", "fpr", "fpr_interval", "taken_for_novel", "f_measure")
    return {
        "outsiders": found["outsiders"]["n"], "known": found["known"], "k": found["k"],
        "scores": {row["score"]: {key: row[key] for key in keys} for row in found["scores"]},
    }  # fmt: skip


def table(path: Path = RESULTS) -> list[str]:
    """Return the section of docs/results.md; nothing without a measurement."""
    if not path.exists():
        return []
    lines = [
        HEAD,
        "| known; outsiders | score | AUROC | FPR | few taken for novel | many | F |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, pair in json.loads(path.read_text(encoding="utf-8")).items():
        for score, row in pair["scores"].items():
            taken = [f"{100 * row['taken_for_novel'][group]:.1f}" for group in ("few", "many")]
            cells = [_with_ends(row, "auroc"), _with_ends(row, "fpr"), *taken]
            lines.append(
                f"| {NAMES[name]} | {score} | {' | '.join(cells)} | {100 * row['f_measure']:.1f} |"
            )
    return [*lines, ""]


def _with_ends(row: dict[str, Any], name: str) -> str:
    low, high = row[f"{name}_interval"]
    return f"{100 * row[name]:.1f} [{100 * low:.1f}, {100 * high:.1f}]"


def main(*words: str) -> None:
    """Measure one pair, and add it to the results."""
    name, path, *others = words
    head = None
    if others[:1] == ["--head"]:
        head, others = Path(others[1]), others[2:]
    rows = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    rows[name] = measured(Path(path), head, Path(others[0]) if others else None)
    ordered = {known: rows[known] for known in NAMES if known in rows}
    RESULTS.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
