"""Adapting to a prior that has changed: none, adapted and oracle, and the test of the shift.

    python benchmarks/adaptation.py shifts|test NAME FEATURES.h5 [HEAD.h5]

The classifier is calibrated on the validation split; targets are drawn from the test split, by
class, under made priors. Of the test of the shift, size and power are measured with the validation
and test images dealt anew each time, since two given splits differ by chance once and for all.
benchmarks/results/adaptation.json has an entry for each file; others are kept.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

import ltkit
from ltkit.adaptation import estimators, gains, likelihoods, shift, validation
from ltkit.adaptation.estimating import estimate
from ltkit.adaptation.estimators import Columns, Drawn, Tail
from ltkit.records import FeatureSet, FeatureSplit, class_prior
from ltkit.settings import AdaptSettings

RESULTS = Path(__file__).parent / "results" / "adaptation.json"
PRIORS = ("train", "forward:50", "forward:10", "forward:2", "uniform", "backward:2", "backward:10",
          "backward:50")  # fmt: skip
ESTIMATORS = ("tail", "map-em", "em", "bbse")
SIZES = (30, 100, 300, 1000, 2500)
DRAWS, FEW_DRAWS, SIZE, DEALS = 200, 40, 1000, 100
CLOSE = 0.005
"""Accuracy that chance moves a draw by, below which two are called equal."""

NAMES = {
    "cifar100_lt": "bundled CIFAR-100-LT, ResNet-32",
    "cifar100_lt_if50": "CIFAR-100-LT, imbalance 50, ResNet-20",
    "tiny_dealt": "Tiny ImageNet-LT, ResNet-32, val and test dealt anew",
    "tiny_imagenet_lt": "Tiny ImageNet-LT, ResNet-32, its own test, of other images than val",
    "frozen_lite0": "CIFAR-100-LT, frozen EfficientNet-Lite0 and a new head",
}


class Held:
    """Likelihoods of some samples, held."""

    def __init__(self, p: Any, s: Any) -> None:
        """Take (N, C) probabilities and (N, d) statistics."""
        self.p, self.s, self.num_classes = p, s, p.shape[1]

    def __len__(self) -> int:
        """N."""
        return len(self.p)

    def blocks(self) -> Iterator[tuple[int, Any, Any]]:
        """Yield all."""
        yield 0, self.p, self.s

    def at(self, rows: Any) -> "Held":
        """Return some samples."""
        return Held(self.p[rows], self.s[rows])


def held(split: FeatureSplit, calibrated: likelihoods.Calibrated) -> Held:
    """Return the likelihoods of a split."""
    parts = list(likelihoods.Likelihoods(split, calibrated).blocks())
    return Held(*(np.concatenate([part[n] for part in parts]) for n in (1, 2)))


def drawn(labels: Any, prior: Any, size: int, rng: np.random.Generator) -> Any:
    """Return rows of a sample under a prior, none twice; of a class at most all."""
    counts = np.bincount(labels, minlength=len(prior))
    wanted = np.minimum(rng.multinomial(size, prior), counts)
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    rank = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    return order[rank < wanted[labels[order]]]


def shares_of(some: Held, how: str, tail: Tail, val: Any) -> Any:
    """Return the (C,) shares that an estimator finds, as `estimate` does beside its draws."""
    if how == "bbse":
        means = some.p.mean(axis=0, dtype=float)[:, None]
        return estimators.bbse(means, val.confusion, val.there)[:, 0]
    start = tail.shares(tail.slope(some))
    if how == "tail":
        return start[:, 0]
    strength = AdaptSettings.strength if how == "map-em" else 0.0
    return estimators.em(some, Columns.of(some.num_classes), start, strength)[:, 0]


def _right(classifier: Any, split: FeatureSplit) -> Any:
    """Return (N,) whether a classifier is right."""
    found = [classifier.logits(x).argmax(axis=1) for _, x, _ in split.blocks()]
    return np.concatenate(found) == split.labels


class Problem:
    """A features file: its calibrated classifier, and its test samples."""

    def __init__(self, features: FeatureSet) -> None:
        """Calibrate on val."""
        self.features, table = features, features.classes
        base, self.val, test = features.classifier(), features.split("val"), features.split("test")
        self.calibrated = likelihoods.calibrate(
            base, self.val, table.train_count, tuple(features.bins)
        )
        self.labels, self.samples = test.labels, held(test, self.calibrated)
        self.before = np.concatenate([base.logits(x).argmax(axis=1) for _, x, _ in test.blocks()])
        self.tail = Tail.of(table.train_count, base.told)
        self.before_val = _right(base, self.val)
        self.val_p = np.empty((len(self.val), len(table)), np.float32)
        for rows, one in self.calibrated.folds:
            fold = replace(self.calibrated, classifier=one)
            self.val_p[rows] = held(self.val.at(rows), fold).p
        self.draws = validation.draw(
            self.val, self.calibrated, replicates=100, seed=0, confused=True
        )

    def prior(self, said: str, rng: np.random.Generator) -> Any:
        """Return a made prior, or one that follows no order."""
        counts = self.features.classes.train_count
        return (
            rng.dirichlet(np.ones(len(counts))) if said == "random" else class_prior(said, counts)
        )

    def kept(self, shares: Any) -> bool:
        """Return whether predictions stay, since it is not sure that adapting gains anything."""
        after = (self.val_p * np.maximum(shares, 1e-9)).argmax(axis=1) == self.val.labels
        right = np.array([self.before_val, after], float)
        return gains.gain_of(right, self.val.labels, shares).unsure

    def trial(
        self, said: str, size: int, hows: tuple[str, ...], rng: Any
    ) -> dict[str, list[float]]:
        """Return [accuracy, L1] without adapting, with the true prior, and of each estimator."""
        prior = self.prior(said, rng)
        rows = drawn(self.labels, prior, size, rng)
        some, labels = self.samples.at(rows), self.labels[rows]
        none = float((self.before[rows] == labels).mean())

        def judged(shares: Any, known: bool = False) -> list[float]:
            right = (some.p * np.maximum(shares, 1e-9)).argmax(axis=1) == labels
            kept = not known and self.kept(shares)
            return [none if kept else float(right.mean()), float(np.abs(shares - prior).sum())]

        found = {"none": [none, float("nan")], "oracle": judged(prior, known=True)}
        return found | {how: judged(shares_of(some, how, self.tail, self.draws)) for how in hows}


def accuracies(problem: Problem) -> list[dict[str, Any]]:
    """Return, for each made prior, accuracies without and with adapting, and how draws compare."""
    rows = []
    for number, said in enumerate((*PRIORS, "random")):
        rng = np.random.default_rng([1, number])
        trials = [problem.trial(said, SIZE, ESTIMATORS[:2] if n >= FEW_DRAWS else ESTIMATORS, rng)
                  for n in range(DRAWS)]  # fmt: skip
        each = {how: np.array([t[how] for t in trials if how in t]) for how in trials[0]}
        none, found, oracle = (each[how][:, 0] for how in ("none", "tail", "oracle"))
        rows.append({
            "prior": said,
            "accuracy": {how: round(float(v[:, 0].mean()), 5) for how, v in each.items()},
            "l1": {how: round(float(each[how][:, 1].mean()), 4) for how in ESTIMATORS},
            "at_least_none": [float((found >= none - slack).mean()) for slack in (0, CLOSE)],
            "at_most_oracle": [float((found <= oracle + slack).mean()) for slack in (0, CLOSE)],
            "worst": round(float((found - none).min()), 5),
        })  # fmt: skip
    return rows


def by_size(problem: Problem) -> list[dict[str, Any]]:
    """Return the mean L1 of each estimator by sample size."""
    rows = []
    for said in ("forward:10", "backward:10", "random"):
        for size in SIZES:
            rng = np.random.default_rng([2, size])
            trials = [problem.trial(said, size, ESTIMATORS, rng) for _ in range(FEW_DRAWS // 2)]
            l1 = {how: round(float(np.mean([t[how][1] for t in trials])), 4) for how in ESTIMATORS}
            rows.append({"prior": said, "samples": size, "l1": l1})
    return rows


def dealt(features: FeatureSet, rng: np.random.Generator) -> FeatureSet:
    """Return features whose validation and test images are dealt anew, as many of each class."""
    val, test = features.split("val"), features.split("test")
    labels = np.concatenate([val.labels, test.labels])
    every = np.concatenate([val.features[:], test.features[:]])
    order = rng.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    counts, own = (np.bincount(s, minlength=len(features.classes)) for s in (labels, val.labels))
    rank = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    first = rank < own[labels[order]]
    splits = {name: FeatureSplit(every[rows], labels[rows])
              for name, rows in (("val", order[first]), ("test", order[~first]))}  # fmt: skip
    return replace(features, splits=splits)


def spoilt(kind: str, x: Any, rng: np.random.Generator) -> Any:
    """Return features under another shift than one of classes."""
    spread = x.std(axis=0)
    if kind == "noise":
        x = x + 0.2 * spread * rng.normal(size=x.shape)
    elif kind == "offset":
        x = x + 0.1 * spread
    elif kind == "scale":
        x = 1.05 * x
    elif kind == "strangers":  # a fifth is of no class: halfway between images of two
        n = len(x) // 5
        x = np.concatenate([x[n:], (x[rng.permutation(len(x))[:n]] + x[:n]) / 2])
    return x.astype(np.float32)


def test_of_shift(features: FeatureSet) -> list[dict[str, Any]]:
    """Return size and power of the test of the shift, and coverage of the groups' shares."""
    found: dict[tuple[str, str], list[list[float]]] = {}
    for deal in range(DEALS):
        rng = np.random.default_rng([3, deal])
        new = dealt(features, rng)
        base, counts, settings = new.classifier(), new.classes.train_count, AdaptSettings(seed=deal)
        calibrated = likelihoods.calibrate(base, new.split("val"), counts, tuple(new.bins))
        val = validation.draw(new.split("val"), calibrated, replicates=200, seed=deal)
        tail, few = Tail.of(counts, base.told), new.groups().few
        for said in ("forward:10", "uniform", "backward:10"):
            prior = class_prior(said, counts)
            rows = drawn(new.split("test").labels, prior, SIZE, rng)
            x = new.split("test").features[np.sort(rows)].astype(float)
            for kind in ("none", "noise", "offset", "scale", "strangers"):
                split = FeatureSplit(spoilt(kind, x, rng), np.zeros(len(x), np.int64))
                some, columns = held(split, calibrated), Drawn(val.odds, deal)
                got = estimate(some, tail, val, settings, columns)
                p = shift.test(some, columns, val, got.shares, got.drawn).p
                low, high = np.quantile(got.drawn[few].sum(axis=0), (0.025, 0.975))
                found.setdefault((said, kind), []).append([p, low <= prior[few].sum() <= high])
    return [
        {"prior": said, "kind": kind, "refused": float((np.array(v)[:, 0] < 0.01).mean()),
         "below_5": float((np.array(v)[:, 0] < 0.05).mean()),
         "covered": float(np.array(v)[:, 1].mean())}
        for (said, kind), v in found.items()
    ]  # fmt: skip


def measured(features: FeatureSet) -> dict[str, Any]:
    """Return everything of a features file."""
    problem = Problem(features)
    return {"accuracies": accuracies(problem), "by_size": by_size(problem)}


PARTS = {"shifts": measured, "test": test_of_shift}


def main(part: str, name: str, path: str, head: str | None = None) -> None:
    """Measure one part of one file, and add it to the results."""
    features = ltkit.with_base(ltkit.read(path), head)
    if name.endswith("_dealt"):
        features = dealt(features, np.random.default_rng(0))
    found = PARTS[part](features)
    rows = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    rows.setdefault(name, {})[part] = found
    ordered = {known: rows[known] for known in NAMES if known in rows}
    RESULTS.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
