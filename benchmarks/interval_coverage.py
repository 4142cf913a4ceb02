"""How often intervals hold: coverage of 95 % intervals, size of tests, gaps between curves.

Made test sets of 30 classes, whose accuracies are drawn anew in each draw. Samples are easy or hard
for every seed and for both methods, and a seed shifts a method on all samples. Both methods are
equally accurate, so that the share of draws with p < 0.05 is the size of the test: as often as the
interval of the difference leaves out 0.

Gaps: the 10,000 test images of the bundled features are the population, of which test sets and
validation sets (20 images a class) are drawn; the truth is worked out on all of them. A gap is that
of curves where overall accuracy is so far above the baseline's.

A cell that has its draws is not computed again; the seed of a cell is made of its name. Processes
may share the cells: --shard 1/4 and so on, then the same without it; see `in_shards`.

    OMP_NUM_THREADS=1 python benchmarks/interval_coverage.py [--small] [--shard I/N]
"""

import argparse
import json
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from importlib import resources
from pathlib import Path
from typing import Any
from unittest.mock import patch

import in_shards
import numpy as np
from machine import machine
from numpy.typing import NDArray
from scipy.stats import norm

from ltkit import posthoc
from ltkit.evaluation import Entry, compare, measured, predict_classes
from ltkit.evaluation.frontier import corners, height
from ltkit.evaluation.intervals import accuracy_estimate, difference_estimate, moments
from ltkit.evaluation.mcnemar import mcnemar
from ltkit.files import features as features_file
from ltkit.records import Correction, FeatureSet, FeatureSplit
from ltkit.shards import Shard

TARGET = Path(__file__).parent / "results" / "interval_coverage.json"
DRAWS, CLASSES = 1000, 30
GAP_DRAWS, REPLICATES, VAL_IMAGES = 500, 400, 20

SIZES: Mapping[str, list[int]] = {
    "100": [100] * CLASSES,
    "20": [20] * CLASSES,
    "5": [5] * CLASSES,
    "3": [3] * CLASSES,
    "2": [2] * CLASSES,
    "1 and 3, half each": [1, 3] * (CLASSES // 2),
    "1, a tenth 3": [3, *[1] * 9] * (CLASSES // 10),
}
"""Test images of each class."""

SEEDS = (2, 3, 5, 10)
EFFECTS: Mapping[str, float] = {"none": 0.0, "small": 0.02, "large": 0.2}
"""How far a seed moves a method, in standard deviations of a sample's margin: accuracies have a
deviation of 0, 0.6 and 6 points or so."""

METHODS = ("baseline", "logit-adjust", "tau-norm", "group-bias")
GAPS = (("logit-adjust", "tau-norm"), ("logit-adjust", "group-bias"), ("logit-adjust", "baseline"))
ABOVE = (-0.01, 0.01, 0.02)
"""Overall accuracies above the baseline's at which curves are compared."""

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def hits(
    rng: np.random.Generator, sizes: list[int], seeds: int, effect: float
) -> tuple[list[Bools], NDArray[np.int64], float]:
    """Return (S, N) hits of two methods, the labels, and the accuracy of both."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    margin = norm.ppf(rng.uniform(0.05, 0.85, size=len(sizes)))  # of a class
    scale = np.sqrt(1 + 2**2 + (effect * np.sqrt(5)) ** 2)
    shared = margin[labels] * scale + 2 * rng.normal(size=len(labels))
    right = [
        shared
        + effect * np.sqrt(5) * rng.normal(size=(seeds, 1))
        + rng.normal(size=(seeds, len(labels)))
        > 0
        for _ in range(2)
    ]
    return right, labels, float(norm.cdf(margin).mean())


def accuracies(
    name: str, draws: int, sizes: list[int], seeds: int, effect: float
) -> dict[str, Any]:
    """Count the draws whose intervals hold, and those whose tests reject."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    weights = np.full(len(sizes), 1 / len(sizes))
    found = {"accuracy": 0, "rejected": 0, "mcnemar rejected": 0}
    widths = []
    for _ in range(draws):
        right, labels, truth = hits(rng, sizes, seeds, effect)
        each = [moments(r, labels, len(sizes)) for r in right]
        low, high = accuracy_estimate(each[0], weights).interval or (0.0, 0.0)
        gains = (right[0].mean(axis=0) - right[1].mean(axis=0))[None]
        difference = difference_estimate(
            moments(gains, labels, len(sizes)), weights, each if seeds > 1 else ()
        )
        found["accuracy"] += low <= truth <= high
        found["rejected"] += (difference.p or 0) < 0.05
        found["mcnemar rejected"] += seeds == 1 and mcnemar(*(r[0] for r in right)).p < 0.05
        widths.append(high - low)
    return {"draws": draws, **found, "median width": round(float(np.median(widths)), 4)}


class Population:
    """The bundled test images, and what every setting of three methods says of them."""

    def __init__(self) -> None:
        """Fit the methods and predict."""
        path = Path(str(resources.files("ltkit") / "data" / "demo" / "feats.h5"))
        self.features = features_file.read(path)
        base, test = self.features.classifier(), self.features.split("test")
        self.labels = test.labels
        self.entries = [
            Entry(method, f"{method}.h5", sweep(self.features, method)) for method in METHODS[1:]
        ]
        corrections = [Correction.baseline(base), *(e.correction for e in self.entries)]
        self.predicted = predict_classes(test, base, corrections)
        self.groups = self.features.groups()
        self.by_class = np.argsort(self.labels, kind="stable").reshape(base.num_classes, -1)

    def draw(self, rng: np.random.Generator, per_class: int) -> NDArray[np.int64]:
        """Return images, so many of each class, with replacement."""
        places = rng.integers(0, self.by_class.shape[1], size=(len(self.by_class), per_class))
        return np.take_along_axis(self.by_class, places, axis=1).ravel()

    def figures(self, number: int, images: NDArray[np.int64]) -> tuple[Floats, Floats]:
        """Return (P,) overall and few-shot accuracies of a method's settings on images."""
        right = self.predicted[number][:, images] == self.labels[images]
        few = np.isin(self.labels[images], self.groups.few)
        return right.mean(axis=1), right[:, few].mean(axis=1)

    def truth(self, name: str, above: float) -> float:
        """Return the height of a method's curve among all images; of hulls, the median of vals."""
        number, everything = METHODS.index(name), np.arange(len(self.labels))
        level = np.array([[self.figures(0, everything)[0][0] + above]])
        overall, few = self.figures(number, everything)
        walks = [np.arange(len(few))]
        if name == "group-bias":  # two knobs
            rng = np.random.default_rng(0)
            walks = [corners(*self.figures(number, self.draw(rng, 20))) for _ in range(500)]
        return float(np.median([height(overall[None, w], few[None, w], level) for w in walks]))

    def lookup(self, split: FeatureSplit, _: Any, corrections: Sequence[Correction]) -> list[Any]:
        """Return predictions as `predict_classes` does, from those of all images."""
        images = np.asarray(split.ids).astype(np.int64)
        known = {id(e.correction): n for n, e in enumerate(self.entries, start=1)}
        return [self.predicted[known.get(id(c), 0)][:, images] for c in corrections]

    def drawn(self, rng: np.random.Generator, per_class: int) -> FeatureSet:
        """Return features whose test and validation images are drawn."""
        splits = {}
        for split, count in (("val", VAL_IMAGES), ("test", per_class)):
            images = self.draw(rng, count)
            rows = np.zeros((len(images), self.features.feature_size), np.float32)  # never read
            splits[split] = FeatureSplit(rows, self.labels[images], images.astype(str))
        return replace(self.features, splits=splits)


def sweep(features: FeatureSet, method: str) -> Correction:
    """Return every setting of a method on its grid."""
    return posthoc.fit_features(features, posthoc.plan(method, sweep=True)).correction


population = cache(Population)


def gaps(name: str, draws: int, per_class: int) -> dict[str, Any]:
    """Count the draws whose intervals of gaps between curves hold."""
    among = population()
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    truth = {(m, above): among.truth(m, above) for m in METHODS for above in ABOVE}
    found: dict[str, dict[str, int]] = {}
    for number in range(draws):
        features = among.drawn(rng, per_class)
        right = among.lookup(
            features.split("test"), None, [Correction.baseline(features.classifier())]
        )
        own = float((right[0] == features.split("test").labels).mean())
        levels = [round(own + above, 12) for above in ABOVE]
        with patch.object(measured, "predict_classes", among.lookup):
            document = compare(
                features, "test", among.entries, at=levels, replicates=REPLICATES, seed=number
            )
        for gap in document["frontier"]["gaps"]:
            above = ABOVE[levels.index(gap["overall"])]
            first, second = gap["first"], gap["second"]
            if (first, second) not in GAPS or gap["interval"] is None:
                continue
            low, high = gap["interval"]
            true = truth[first, above] - truth[second, above]
            cell = found.setdefault(
                f"{first} - {second} at {100 * above:+g}", {"draws": 0, "held": 0}
            )
            cell["draws"] += 1
            cell["held"] += (low is None or low <= true) and (high is None or true <= high)
    return {"draws": draws, "gaps": found}


def cells(small: bool) -> Iterator[tuple[str, Callable[[str, int], dict[str, Any]], int]]:
    """Yield each cell's name, what computes it, and how many draws it has."""
    draws, few = (20, 2) if small else (DRAWS, GAP_DRAWS)
    for size in ("100", "2") if small else SIZES:
        for seeds in (1, 2) if small else (1, *SEEDS):
            for effect in EFFECTS if seeds > 1 else ("none",):
                name = f"{size} images, {seeds} seeds, {effect} effect"
                yield (
                    name,
                    partial(accuracies, sizes=SIZES[size], seeds=seeds, effect=EFFECTS[effect]),
                    draws,
                )
    for per_class in (20,) if small else (20, 100):
        yield f"gaps, {per_class} images", partial(gaps, per_class=per_class), few


def main(target: Path, small: bool, shard: Shard | None = None) -> None:
    """Compute the cells that are not there yet, or a shard of them; write them once all are."""
    done: dict[str, Any] = {
        "command": "OMP_NUM_THREADS=1 python benchmarks/interval_coverage.py",
        "cells": {},
    }
    if target.is_file():
        done = json.loads(target.read_text(encoding="utf-8"))
    done["machine"] = machine()
    missing = {
        name: (compute, draws)
        for name, compute, draws in cells(small)
        if done["cells"].get(name, {}).get("draws", 0) < draws
    }

    def measure(point: in_shards.Point) -> dict[str, Any]:
        name = point["cell"]
        compute, draws = missing[name]
        found = compute(name, draws)
        print(name, found, file=sys.stderr, flush=True)
        return found

    points = [{"cell": name, "draws": draws} for name, (_, draws) in missing.items()]
    folder = target.with_suffix(".parts")
    found = in_shards.measured(folder, points, measure, shard, {"replicates": REPLICATES})
    if shard is None:
        done["cells"] |= dict(zip(missing, found, strict=True))
        target.write_text(json.dumps(done, indent=1) + "\n", encoding="utf-8")
        in_shards.remove(folder)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--small", action="store_true")
    in_shards.add_option(parser)
    asked = parser.parse_args()
    main(TARGET, asked.small, asked.shard)
