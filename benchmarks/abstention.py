"""Abstention on real features: costs of shot groups against the max softmax, of two heads.

    python benchmarks/abstention.py NAME FEATURES.h5 [HEAD.h5]

Costs are found on val, the errors are on test. A line of benchmarks/results/abstention.json is a
file; others are kept. HEAD.h5 is the classifier in the place of the head of features without one.
"""

import json
import sys
from pathlib import Path
from typing import Any

import ltkit

RESULTS = Path(__file__).parent / "results" / "abstention.json"

AT = (0.0, 0.1, 0.3, 0.5)
"""Shares handed over, in the table."""

NAMES = {
    "cifar100_lt": "bundled CIFAR-100-LT, ResNet-32",
    "cifar100_lt_if50": "CIFAR-100-LT, imbalance 50, ResNet-20",
    "tiny_imagenet_lt": "Tiny ImageNet-LT, ResNet-32",
    "tiny_frozen": "Tiny ImageNet-LT, frozen ResNet-32 and a new head",
    "frozen_lite0": "CIFAR-100-LT, frozen EfficientNet-Lite0 and a new head",
}

HEADS = ("own head", "logit-adjust")

HEAD = """\
## Handing over to a person

Made by `python benchmarks/abstention.py`: [`ltkit analyze risk-coverage`](production.md) on test,
with costs found on val. The balanced error among the answers (%), where the max softmax chooses
what is handed over, and where the plug-in does; its mean over 0 to 90 % handed over, and the
plug-in's difference with its 95 % interval. *Few*: the share of the few-shot images that is handed
over when it is 30 % of all. What the plug-in gains on a head trained on the long tail, correcting
the head gains, too: of a corrected head the max softmax is as good.
"""


def measured(path: Path, base: Path | None) -> dict[str, Any]:
    """Return the curves of both heads of a features file, at the shares of the table."""
    features = ltkit.with_base(ltkit.read(path), base)
    corrected = ltkit.posthoc.logit_adjust(features)
    rows = {}
    for head, classifier in zip(HEADS, (None, corrected), strict=True):
        found = ltkit.risk_coverage(features, classifier, split="test").document
        row: dict[str, Any] = {"difference": found["difference"]}
        for method in found["methods"]:
            points = [point for point in method["points"] if point["budget"] in AT]
            row[method["method"]] = {
                "area": method["area"],
                "balanced": [point["risk"]["balanced"] for point in points],
                "all": [point["risk"]["all"] for point in points],
                "few_rejected": [point["rejected_by_group"]["few"] for point in points],
            }
        rows[head] = row
    return rows


def table(path: Path = RESULTS) -> list[str]:
    """Return the section of docs/results.md; nothing without a measurement."""
    if not path.exists():
        return []
    heads = " | ".join(f"{100 * at:.0f} % handed over" for at in AT)
    lines = [
        HEAD,
        f"| features | head | {heads} | mean | difference | few |",
        f"|---|---|{'---|' * len(AT)}---|---|---|",
    ]
    for name, rows in json.loads(path.read_text(encoding="utf-8")).items():
        for head, row in rows.items():
            chow, costs = row["max-softmax"], row["plug-in"]
            both = [
                f"{100 * a:.1f} → {100 * b:.1f}"
                for a, b in zip(
                    [*chow["balanced"], chow["area"]["balanced"]],
                    [*costs["balanced"], costs["area"]["balanced"]],
                    strict=True,
                )
            ]
            low, high = row["difference"]["area_interval"]["balanced"]
            value = row["difference"]["area"]["balanced"]
            told = f"{100 * value:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
            place = AT.index(0.3)
            few = " → ".join(f"{100 * of['few_rejected'][place]:.0f}" for of in (chow, costs))
            lines.append(f"| {NAMES[name]} | {head} | {' | '.join(both)} | {told} | {few} |")
    return [*lines, ""]


def main(name: str, path: str, head: str | None = None) -> None:
    """Measure one file, and add it to the results."""
    rows = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    rows[name] = measured(Path(path), None if head is None else Path(head))
    ordered = {known: rows[known] for known in NAMES if known in rows}
    RESULTS.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
