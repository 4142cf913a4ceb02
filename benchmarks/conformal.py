"""Whether conformal sets keep their promises, and what they come to on real features.

    python benchmarks/conformal.py simulate [--draws 1000] CIFAR.h5
    python benchmarks/conformal.py choice CIFAR.h5
    python benchmarks/conformal.py learned CIFAR.h5
    python benchmarks/conformal.py features NAME FEATURES.h5 [HEAD.h5]

Images are drawn from a population that is known whole, so that the coverage of each draw's
thresholds is known, too, and nothing but the draw is left to chance. A part of
benchmarks/results/conformal.json is written anew; the others are kept. The first three may be
shared by processes: --shard 1/4 and so on, then the same without it; see `in_shards`.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import in_shards
import numpy as np

import ltkit
from ltkit.evaluation.probabilities import logit_blocks, softmax
from ltkit.posthoc import bias
from ltkit.prediction_sets import Wanted, conformal
from ltkit.prediction_sets.calibrating import GOALS
from ltkit.prediction_sets.scores import SCORES, Score, training_shares
from ltkit.prediction_sets.thresholds import THRESHOLDS, Calibration, promise
from ltkit.records import FeatureSet, FeatureSplit
from ltkit.settings import SetThreshold
from ltkit.shards import Shard

RESULTS = Path(__file__).parent / "results" / "conformal.json"
COVERAGE = 0.9
HEAD = """\
## Sets that have the true class in 90 %

Made by `python benchmarks/conformal.py`. [`ltkit conformal`](production.md) calibrates on images
drawn from a population that is known whole, 1,000 times; here is the mean coverage over draws, in
%, with its standard error, and, of the score softmax, that of the rarest 30 % of the classes and of
the class with the least. A class-wise threshold of too few images lets its class into every set, so
that coverage is above 90 % where classes are rare.
"""
BY_GROUP = """\
On real features, calibrated on `val`, measured on `test`: coverage by shot group in %, mean sizes,
and in % the sets of one class and of none. What is recommended for each shot group is bold. The
test images of Tiny ImageNet are its official validation images, and the network's epoch was chosen
on `val`, on which it is 2 points more accurate: coverage is a point or two below what is wanted.
"""
COSTS = """\
What choosing and learning on the images that calibrate costs, on the bundled features, whose `val`
and `test` are divided anew in each draw (wanted: 90 %):
"""
NAMES = {
    "cifar100_lt": "bundled CIFAR-100-LT, ResNet-32",
    "cifar100_lt_if50": "CIFAR-100-LT, imbalance 50, ResNet-20",
    "tiny_imagenet_lt": "Tiny ImageNet-LT, ResNet-32",
    "frozen_lite0": "CIFAR-100-LT, frozen EfficientNet-Lite0 and a new head",
}
POPULATIONS = {
    "made": "made: 20 classes, 300 to 3 of 1,000, 500 images",
    "tail": "CIFAR-100-LT, frequencies as in training, 600 images",
    "even": "CIFAR-100-LT, all classes alike, 2,000 images",
}
SIZES = (2000, 400)
"""Images that offsets are learned from, and sets calibrated on."""

SHOWN = (
    ("softmax", "marginal"), ("pas", "marginal"), ("aps", "marginal"), ("raps", "fuzzy"),
    ("softmax", "clustered"), ("softmax", "fuzzy"), ("pas", "interpolated"),
    ("softmax", "class-wise"),
)  # fmt: skip
"""Of the pairs, those in the table by group."""


Pair = tuple[str, SetThreshold]
PAIRS: Sequence[Pair] = list(product(SCORES, THRESHOLDS))


@dataclass(frozen=True, eq=False)
class Population:
    """All images there are.

    p: (M, C) probabilities; labels: (M,); weights: (M,) how often each is drawn, with sum 1.
    train_count: (C,); size: images of a draw.
    """

    p: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    train_count: np.ndarray
    size: int


def made(seed: int = 0, images: int = 40_000) -> Population:
    """Return Gaussian classes of a long tail, with the probabilities of a head that is off."""
    rng, counts = np.random.default_rng(seed), np.geomspace(300, 3, 20).round().astype(int)
    labels = rng.choice(20, images, p=counts / counts.sum())
    x = rng.normal(size=(images, 20)) + 2 * np.eye(20)[labels]
    logits = 1.3 * x + 0.7 * np.log(counts) + rng.normal(size=20)
    even = np.full(images, 1 / images)
    return Population(softmax(logits), labels, even, counts, 500)


def real(features: FeatureSet, *, tail: bool) -> Population:
    """Return the test images of features, all classes alike or as often as in training."""
    split, size = features.split("test"), len(features.classes)
    blocks = [softmax(logits) for _, logits, _ in logit_blocks(split, features.classifier())]
    counts = features.classes.train_count
    weights = (counts if tail else np.ones(size))[split.labels].astype(float)
    weights /= np.bincount(split.labels, minlength=size)[split.labels]
    return Population(
        np.concatenate(blocks), split.labels, weights / weights.sum(), counts,
        600 if tail else 2000,
    )  # fmt: skip


def kept(
    of: Population, draws: int, pairs: Sequence[Pair] = PAIRS, seed: int = 0
) -> list[dict[str, Any]]:
    """Return the mean coverage over draws of scores and thresholds, and of each class.

    Every pair sees the same draws, whichever others there are.
    """
    rng, classes = np.random.default_rng(seed), len(of.train_count)
    share = np.bincount(of.labels, of.weights, classes)
    scores = {name: Score(name, training_shares(of.train_count)) for name, _ in pairs}
    true = {name: score.of_labels(of.p, of.labels) for name, score in scores.items()}
    found = {pair: np.empty((draws, classes)) for pair in pairs}
    for draw in range(draws):
        rows = rng.choice(len(of.labels), of.size, p=of.weights)
        for (name, how), by_class in found.items():
            given = Calibration(
                true[name][rows], of.labels[rows], of.train_count, COVERAGE, scores[name].most
            )
            inside = true[name] <= THRESHOLDS[how](given)[of.labels]
            by_class[draw] = np.bincount(of.labels, of.weights * inside, classes) / share
    rare = np.argsort(of.train_count)[: max(classes * 3 // 10, 1)]
    rows = []
    for (name, how), by_class in found.items():
        whole = by_class @ share
        rows.append({
            "score": name, "threshold": how, "draws": draws, "coverage": whole.mean(),
            "error": whole.std(ddof=1) / draws**0.5, "rare": by_class[:, rare].mean(),
            "lowest_class": by_class.mean(axis=0).min(),
            "lowest_class_error": by_class.std(axis=0, ddof=1).max() / draws**0.5,
        })  # fmt: skip
    return rows


def parted(features: FeatureSet, seed: int, images: int) -> FeatureSet:
    """Return features whose val, of so many images, and test are drawn anew from both."""
    rng, splits = np.random.default_rng(seed), features.splits
    x = np.concatenate([np.asarray(splits[n].features[:]) for n in ("val", "test")])
    y = np.concatenate([splits[n].labels for n in ("val", "test")])
    order = rng.permutation(len(y))
    first, rest = order[:images], order[images:]
    again = {"val": FeatureSplit(x[first], y[first]), "test": FeatureSplit(x[rest], y[rest])}
    return FeatureSet({**splits, **again}, features.classes, features.head, features.settings)


def choice(features: FeatureSet, point: in_shards.Point) -> dict[str, Any]:
    """Return the coverage on new images of what is recommended on the images that calibrate it."""
    goal, draws = point["goal"], point["draws"]
    chosen, coverage, lowest = dict[str, int](), list[float](), list[float]()
    for draw in range(draws):
        part = parted(features, draw, SIZES[0])
        found = conformal(part, wanted=Wanted(COVERAGE, goal=goal, split="test", folds=10))
        row = next(row for row in found.document["rows"] if row["recommended"])
        name = f"{row['score']} {row['threshold']}"
        chosen[name] = chosen.get(name, 0) + 1
        coverage.append(row["coverage"]["all"])
        lowest.append(min(row["coverage"][group] for group in ("few", "medium", "many")))
    return {"goal": goal, "draws": draws, "chosen": chosen, **_mean(coverage),
            "lowest_group": float(np.mean(lowest))}  # fmt: skip


def learned(features: FeatureSet, point: in_shards.Point) -> dict[str, Any]:
    """Return the coverage on new images of a head that has learned offsets from val."""
    images, penalty, draws = point["images"], point["penalty"], point["draws"]
    coverage: dict[bool, list[float]] = {True: [], False: []}
    for draw in range(draws):
        part = parted(features, draw, images)
        one = bias(part, **({} if penalty is None else {"penalty": penalty}))
        for fresh, every in coverage.items():
            wanted = Wanted(COVERAGE, "softmax", "marginal", split="test", folds=5)
            found = conformal(part, one, wanted, fresh=fresh)
            every.append(found.document["rows"][0]["coverage"]["all"])
    return {"images": images, "penalty": penalty, "draws": draws,
            "as_if_new": _mean(coverage[True]),
            "without_fold": _mean(coverage[False])}  # fmt: skip


def _mean(values: list[float]) -> dict[str, float]:
    return {"coverage": float(np.mean(values)),
            "error": float(np.std(values, ddof=1) / len(values) ** 0.5)}  # fmt: skip


def by_group(path: str, head: str | None) -> dict[str, Any]:
    """Return what each pair comes to on the test split of a features file."""
    features = ltkit.read(path)
    found = ltkit.conformal(features, split="test", base=head).document
    keys = ("score", "threshold", "recommended", "coverage", "coverage_interval", "size", "single",
            "empty", "always")  # fmt: skip
    rows = [{k: row[k] for k in keys} | {"worst": row["worst_class"]["coverage"]}
            for row in found["rows"]]  # fmt: skip
    goals = {}
    for goal in GOALS:
        of = ltkit.conformal(features, base=head, goal=goal).document["rows"]
        goals[goal] = next([r["score"], r["threshold"]] for r in of if r["recommended"])
    return {"classes": len(features.classes), "rows": rows, "goals": goals}


def table(path: Path = RESULTS) -> list[str]:
    """Return the section of docs/results.md; nothing without a measurement."""
    if not path.exists():
        return []
    found = json.loads(path.read_text(encoding="utf-8"))
    lines = [
        HEAD,
        "| images | thresholds | guaranteed | softmax | aps | raps | pas | rare | lowest class |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, rows in found.get("simulate", {}).items():
        lines += [_kept_row(name, how, rows) for how in THRESHOLDS]
    lines += [
        "", BY_GROUP,
        "| features | sets | few | medium | many | all | worst class | size few | size all "
        "| single | empty |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for name, file in found.get("features", {}).items():
        shown = [
            r for r in file["rows"] if (r["score"], r["threshold"]) in SHOWN or r["recommended"]
        ]
        lines += [_row(name, row) for row in sorted(shown, key=lambda row: row["size"]["all"])]
    return [*lines, "", *_costs(found), ""]


def _kept_row(name: str, how: SetThreshold, rows: list[dict[str, Any]]) -> str:
    """Return a row of the table over draws."""
    of = {row["score"]: row for row in rows if row["threshold"] == how}
    cells = [
        POPULATIONS[name], how, promise(how, COVERAGE, short=True), *(_told(of[s]) for s in SCORES),
        _percent(of["softmax"]["rare"]), _percent(of["softmax"]["lowest_class"]),
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _row(name: str, row: dict[str, Any]) -> str:
    """Return a row of the table by group."""
    label = f"{row['score']} {row['threshold']}"
    cells = [
        NAMES[name], f"**{label}**" if row["recommended"] else label,
        *(_percent(row["coverage"][group]) for group in ("few", "medium", "many", "all")),
        _percent(row["worst"]), *(f"{row['size'][group]:.1f}" for group in ("few", "all")),
        _percent(row["single"]), _percent(row["empty"]),
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _costs(found: dict[str, Any]) -> list[str]:
    """Return what choosing and learning on the images that calibrate costs."""
    lines = [COSTS]
    for row in found.get("choice", []):
        chosen = ", ".join(f"{name} {n}" for name, n in sorted(row["chosen"].items()))
        lines.append(
            f"- recommended for {row['goal']}, among 19, on the images that calibrate: coverage "
            f"{_told(row)} over {row['draws']} draws, of the lowest shot group "
            f"{_percent(row['lowest_group'])} ({chosen});"
        )
    for row in found.get("learned", []):
        penalty = "chosen" if row["penalty"] is None else f"{row['penalty']:g}"
        lines.append(
            f"- offsets of each class (`bias`, penalty {penalty}) learned from the {row['images']} "
            f"images that calibrate: {_told(row['as_if_new'])} as if they were new, "
            f"{_told(row['without_fold'])} with heads fitted anew without each fold, over "
            f"{row['draws']} draws;"
        )
    return [*lines[:-1], lines[-1].removesuffix(";") + "."]


def _told(row: dict[str, float]) -> str:
    return f"{_percent(row['coverage'], 2)} ± {_percent(row['error'], 2)}"


def _percent(value: float, digits: int = 1) -> str:
    return f"{100 * value:.{digits}f}"


def write(part: str, value: Any) -> None:
    """Write a part of the results anew."""
    found = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    text = json.dumps(found | {part: value}, indent=1, default=float)
    RESULTS.write_text(json.dumps(_rounded(json.loads(text)), indent=1) + "\n", encoding="utf-8")


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 5)
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    return [_rounded(part) for part in value] if isinstance(value, list) else value


def points(part: str, draws: int) -> list[in_shards.Point]:
    """Return the points of a part that may be shared."""
    if part == "choice":
        return [{"goal": goal, "draws": draws} for goal in GOALS]
    if part == "learned":
        return [{"images": images, "penalty": penalty, "draws": draws}
                for images, penalty in product(SIZES, (None, 0.1))]  # fmt: skip
    return [
        {"images": images, "score": score, "threshold": how, "draws": draws}
        for images, (score, how) in product(POPULATIONS, PAIRS)
    ]


def measure(part: str, features: FeatureSet, draws: int, shard: Shard | None) -> None:
    """Measure a part, or a shard of it; write it once all is there."""
    folder = RESULTS.with_name(f"{RESULTS.stem}.{part}.parts")
    every = points(part, draws)

    def simulated(point: in_shards.Point) -> dict[str, Any]:
        name = point["images"]
        population = made() if name == "made" else real(features, tail=name == "tail")
        return kept(population, draws, [(point["score"], point["threshold"])])[0]

    of = (
        simulated
        if part == "simulate"
        else partial({"choice": choice, "learned": learned}[part], features)
    )
    found = in_shards.measured(
        folder, every, of, shard, {"part": part, "features": features.inputs}
    )
    if shard is not None:
        return
    if part == "simulate":
        names = dict.fromkeys(point["images"] for point in every)
        pairs = list(zip(every, found, strict=True))
        write(part, {name: [row for p, row in pairs if p["images"] == name] for name in names})
    else:
        write(part, found)
    in_shards.remove(folder)


def main() -> None:
    """Measure one part."""
    parser = argparse.ArgumentParser()
    parser.add_argument("part", choices=["simulate", "choice", "learned", "features"])
    parser.add_argument("given", nargs="+")
    parser.add_argument("--draws", type=int, default=1000)
    in_shards.add_option(parser)
    args = parser.parse_args()
    if args.part == "features":
        name, path, *head = args.given
        found = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
        rows = found.get("features", {}) | {name: by_group(path, head[0] if head else None)}
        return write("features", {known: rows[known] for known in NAMES if known in rows})
    return measure(args.part, ltkit.read(args.given[0]), args.draws, args.shard)


if __name__ == "__main__":
    main()
