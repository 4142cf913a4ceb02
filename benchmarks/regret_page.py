"""The table of `benchmarks/regret.py` for docs/results.md."""

import json
from pathlib import Path
from typing import Any

HEAD = """\
## How good recommendations are

Made by `python benchmarks/regret.py`: validation and test images are pooled, {per_class} images a
class are drawn as the validation split, `ltkit recommend` chooses on them, and all other images
are the test. Regret is what the best method and setting in hindsight gains more; of an objective
with a limit, the best that keeps it on test; in brackets, the best that keeps it with as much to
spare as the rule must leave for the noise of its validation images, since a limit is to hold with
a confidence of 80 %. *covered*: draws in which the printed interval holds
the gain on test; in brackets, with the noise of test itself taken into account. *kept*: draws
that keep the baseline. *limit held*: draws in which the limit holds on test, to the point. Points
of accuracy; means.
"""

NAMES = {
    "cifar100_lt": "bundled CIFAR-100-LT, ResNet-32",
    "cifar100_lt, corrected": "the same, its recommended head as baseline",
    "cifar100_lt, balanced": "the same, trained on 40 images of every class",
    "cifar100_lt_if50": "CIFAR-100-LT, imbalance 50, ResNet-20",
    "tiny_imagenet_lt": "Tiny ImageNet-LT, ResNet-32",
    "tiny_frozen": "Tiny ImageNet-LT, frozen ResNet-32 and a new head",
    "frozen_lite0": "CIFAR-100-LT, frozen EfficientNet-Lite0 and a new head",
}


def regret_table(path: Path) -> list[str]:
    """Return the section's lines; none without a measurement."""
    if not path.exists():
        return []
    document = json.loads(path.read_text(encoding="utf-8"))
    lines = [
        HEAD.format(per_class=document["per_class"]),
        "| features | objective | draws | gain | best in hindsight | regret | estimate | covered | "
        "kept | limit held | chosen |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, rows in document["rows"].items():
        for wish, row in rows.items():
            lines.append(_row(NAMES.get(name, name), wish, row))
    return [*lines, "", f"Measured on {document['machine']}.", ""]


def _row(name: str, wish: str, row: dict[str, Any]) -> str:
    def points(key: str) -> str:
        return f"{round(100 * row[key], 1) + 0.0:+.1f}"  # no -0.0

    def share(key: str) -> str:
        return f"{100 * row[key]:.0f} %"

    chosen = ", ".join(f"{name} {count}" for name, count in row["methods"].items())
    limit = share("held") if "-" in wish else ""
    cells = [
        name, wish, str(row["draws"]), points("gain"), points("best"),
        f"{100 * row['regret']:.2f}" + (f" ({100 * row['regret_as_sure']:.2f})" if limit else ""),
        points("estimate"),
        f"{share('covered')} ({share('covered_with_noise_of_test')})", share("keep"), limit, chosen,
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"
