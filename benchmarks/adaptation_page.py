"""The section of docs/results.md on adapting to a prior that has changed."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from adaptation import CLOSE, DEALS, DRAWS, ESTIMATORS, NAMES, RESULTS, SIZE

HEAD = f"""\
## Adapting to a prior that has changed

Made by `python benchmarks/adaptation.py`. [`ltkit posthoc adapt`](production.md) is calibrated on
the validation split; targets are {DRAWS} draws of {SIZE} test images each, by class, none twice.
Mean accuracy in %: *none*, the head as it is; *adapted*, without labels of the target; *oracle*,
with the true prior. Then in how many of the draws adapted is at least none, and at most oracle, in
brackets where {100 * CLOSE:.1f} points of chance are allowed for, and the worst draw beside none.
The training prior is the target that has not shifted; *random* priors are drawn evenly from all
there are, and follow no tail.
"""

ESTIMATES = f"""\
### Which estimator

Of {" / ".join(f"`{how}`" for how in ESTIMATORS)}: mean L1 distance of the estimated prior from the
true one, by sample size; then mean accuracy in % with {SIZE} samples (`em` and `bbse`: of fewer
draws). `tail` learns one number, and is the default. Where classes follow no tail, `map-em` is
better, on features whose classes look as they do on val. Tiny ImageNet-LT's own test images look
otherwise, class by class: there it loses more than it gains elsewhere.
"""

TEST = f"""\
### The test of the shift

In {DEALS} deals of validation and test images, each with a target of {SIZE} under three priors: in
how many the shift was refused as not one of frequencies (p below 0.01). Where nothing else was
changed that is the size of the test. *noise*: of 0.2 standard deviations on each feature; *moved*:
features moved by 0.1; *scaled*: by 1.05; *strangers*: a fifth of the samples lies halfway between
two others. The last column is how often the 95 % interval of the few-shot share has the true one.
"""

KINDS = ("none", "noise", "offset", "scale", "strangers")


def table(path: Path = RESULTS) -> list[str]:
    """Return the section; nothing without a measurement."""
    if not path.exists():
        return []
    rows = json.loads(path.read_text(encoding="utf-8"))
    shifts = {name: row["shifts"] for name, row in rows.items() if "shifts" in row}
    tests = {name: row["test"] for name, row in rows.items() if "test" in row}
    lines = [HEAD, *_accuracies(shifts), "", ESTIMATES, *_estimators(shifts), ""]
    return [*lines, TEST, *_tests(tests), ""] if tests else lines


def _accuracies(shifts: Mapping[str, Any]) -> Iterator[str]:
    yield "| features | prior | none | adapted | oracle | ≥ none | ≤ oracle | worst |"
    yield "|---|---|---|---|---|---|---|---|"
    for name, row in shifts.items():
        for one in row["accuracies"]:
            none, found, oracle = (_percent(one["accuracy"][k]) for k in ("none", "tail", "oracle"))
            compared = [
                f"{100 * strict:.0f} % ({100 * close:.0f} %)"
                for strict, close in (one["at_least_none"], one["at_most_oracle"])
            ]
            cells = [NAMES[name], one["prior"], none, found, oracle, *compared,
                     f"{100 * one['worst']:+.1f}"]  # fmt: skip
            yield f"| {' | '.join(cells)} |"


def _estimators(shifts: Mapping[str, Any]) -> Iterator[str]:
    sizes = dict.fromkeys(one["samples"] for row in shifts.values() for one in row["by_size"])
    yield f"| features | prior | {' | '.join(map(str, sizes))} | accuracy, {SIZE} |"
    yield f"|---|---|{'---|' * len(sizes)}---|"
    for name, row in shifts.items():
        for prior in dict.fromkeys(one["prior"] for one in row["by_size"]):
            own = {one["samples"]: one["l1"] for one in row["by_size"] if one["prior"] == prior}
            cells = [" / ".join(f"{own[size][how]:.2f}" for how in ESTIMATORS) for size in sizes]
            (accuracy,) = (one["accuracy"] for one in row["accuracies"] if one["prior"] == prior)
            cells.append(" / ".join(_percent(accuracy[how]) for how in ESTIMATORS))
            yield f"| {NAMES[name]} | {prior} | {' | '.join(cells)} |"


def _tests(tests: Mapping[str, Any]) -> Iterator[str]:
    yield "| features | prior | nothing | noise | moved | scaled | strangers | covered |"
    yield "|---|---|---|---|---|---|---|---|"
    for name, row in tests.items():
        for prior in dict.fromkeys(one["prior"] for one in row):
            own = {one["kind"]: one for one in row if one["prior"] == prior}
            cells = [f"{100 * own[kind]['refused']:.0f} %" for kind in KINDS]
            covered = f"{100 * own['none']['covered']:.0f} %"
            yield f"| {NAMES[name]} | {prior} | {' | '.join(cells)} | {covered} |"


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"
