"""AlphaNet-plus against every correction, and each of its parts against what could stand there.

Few-shot accuracy on test at equal overall accuracy: the mean over overall accuracies from 0.5 to 4
points below the best that the corrections it is compared with reach, in each replicate of the
bootstrap the best of that. Curves are those of `ltkit compare`: one knob in its order, several
knobs chosen on the validation split. Intervals are of the bootstrap over test images, over seeds,
and over the validation images that a curve is chosen on. A curve counts with few-shot accuracy 0
where it does not reach an overall accuracy; of a single rival, only what it reaches is compared.

    python benchmarks/alphanet_plus.py parts NAME=FEATURES.h5[,BASE.h5] ...
    python benchmarks/alphanet_plus.py compared NAME=FEATURES.h5[,BASE.h5] ...

write benchmarks/results/alphanet_plus.json, a file at a time; what is there stays.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine
from numpy.typing import NDArray

import ltkit
from ltkit import alphanet, posthoc, registry
from ltkit.evaluation import Entry, mean_softmax
from ltkit.evaluation.frontier import height
from ltkit.evaluation.measured import Method, methods_of
from ltkit.neighbors import nearest
from ltkit.neighbors.class_means import class_means
from ltkit.posthoc._balanced import blends
from ltkit.posthoc.alphanet_plus import GRID
from ltkit.records import Classifier, Correction, FeatureSet, Neighbors, joined
from ltkit.settings import NeighborSettings

TARGET = Path(__file__).parent / "results" / "alphanet_plus.json"
OWN = "alphanet-plus"
RIVALS = ("logit-adjust", "tau-norm", "crt", "lws", "marc", "weight-balancing", "blend")
CONTROLS = ("random neighbours", "no neighbours, rare classes raised by tau")
SEEDS = 10
BELOW = (0.005, 0.04)
"""The range of overall accuracies, below the best of the rivals."""
LEVELS, REPLICATES = 15, 1000
K, PART, PENALTY, SHARE = 5, 0.25, 0.02, 0.75

Double = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Part:
    """What is added to a head: rows and biases of all classes, times a part of tau.

    onto: the share of the regression in the blend that they are added to.
    """

    rows: Double
    bias: Double
    onto: float = SHARE
    part: float = PART


class Problem:
    """A features file, and what its variants are made of."""

    def __init__(self, features: FeatureSet) -> None:
        """Fit what all variants share."""
        self.features, self.base = features, features.classifier()
        self.train, self.counts = features.split("train"), features.classes.train_count
        self.groups = features.groups()
        self.means, _ = class_means(self.train, len(self.counts))
        tried = [{"share": share, "penalty": PENALTY} for share in (0.0, SHARE, 1.0)]
        self.onto = {key[0]: of for key, of in blends(self.base, self.train, tried).items()}
        self.rows = self.base.weight.astype(np.float64)
        self.prior = posthoc.log_prior(self.counts)

    def near(self, k: int = K, metric: str = "euclidean", seed: int = 0) -> Neighbors:
        """Return the neighbours of the rare classes."""
        groups = self.groups
        settings = NeighborSettings(k, metric, seed)  # type: ignore[arg-type]
        return nearest(self.means, groups.few, groups.base, settings)

    def mean_rows(self, near: Neighbors, rows: Double | None = None) -> Double:
        """Return (C, D) the mean row of each class's neighbours; 0 for classes without."""
        found = np.zeros_like(self.rows)
        found[near.few_class] = (self.rows if rows is None else rows)[near.base_class].mean(axis=1)
        return found

    def lifted(self, classes: NDArray[Any], lift: float) -> Double:
        """Return (C,) a number for some classes, 0 for others."""
        found = np.zeros(len(self.counts))
        found[classes] = lift
        return found

    def swept(self, name: str, parts: Sequence[Part]) -> Entry:
        """Return every tau of a part, a run for each of several draws of it."""
        runs = []
        for tau, (draw, part) in product(GRID["tau"], enumerate(parts)):
            weight, bias = self.onto[part.onto]
            scale = part.part * max(tau, 0.0)
            head = Classifier(
                np.float32(weight + scale * part.rows),
                np.float32(bias + scale * part.bias - tau * self.prior),
                self.base.normalize_features, self.base.experts,
            )  # fmt: skip
            run = {"tau": tau} | ({"seed": draw} if len(parts) > 1 else {})
            runs.append(Correction.whole(name, head, run))
        return Entry(name, "", joined(runs))


def alphas(problem: Problem, metric: str = "euclidean") -> list[Double]:
    """Return (C, D) what AlphaNet adds to the rows, for each seed."""
    fits = alphanet.fit_features(problem.features, rhos=(0.5,), seeds=SEEDS, metric=metric)
    found = []
    for rows in fits.weight:
        added = np.zeros_like(problem.rows)
        added[fits.class_id] = rows - problem.rows[fits.class_id]
        found.append(added)
    return found


def confused(problem: Problem) -> Neighbors:
    """Return the frequent classes that val images of a rare class are taken for most."""
    val, few = problem.features.split("val"), problem.groups.few
    base, chosen = problem.groups.base, []
    for class_id in few:
        own = val.at(np.flatnonzero(val.labels == class_id))
        share = mean_softmax(own, problem.base)
        chosen.append(base[np.argsort(-share[base], kind="stable")[:K]])
    return Neighbors(few, np.stack(chosen), np.zeros((len(few), K), np.float32))


def convex(problem: Problem, near: Neighbors, decay: float = 1e-3) -> Double:
    """Return (C, D) rows: coefficients of neighbours that a balanced loss is least with.

    The blended head with tau 0.5 is in place, so that they are fitted to what is missing there.
    """
    from scipy.optimize import minimize

    weight, bias = problem.onto[SHARE]
    train, few = problem.train, near.few_class
    raw = problem.base.prepare(train.features[0 : len(train)]).astype(np.float64)
    fixed = raw @ weight.T + bias - 0.5 * problem.prior
    scores = (raw @ problem.rows.T)[:, near.base_class]  # (N, F, K)
    share = 1 / problem.counts[train.labels] / len(problem.counts)
    samples, size = np.arange(len(train)), scores.shape[1:]
    decay = decay * float((scores**2).mean())

    def cost(flat: Double) -> tuple[float, Double]:
        alpha, logits = flat.reshape(size), fixed.copy()
        logits[:, few] += np.einsum("nfk,fk->nf", scores, alpha)
        logits -= logits.max(axis=1, keepdims=True)
        true = logits[samples, train.labels]
        np.exp(logits, out=logits)
        total = logits.sum(axis=1)
        value = float(share @ (np.log(total) - true)) + decay * float((alpha**2).sum()) / 2
        logits *= (share / total)[:, None]
        logits[samples, train.labels] -= share
        return value, (np.einsum("nf,nfk->fk", logits[:, few], scores) + decay * alpha).ravel()

    found = minimize(cost, np.zeros(scores[0].size), jac=True, method="L-BFGS-B")
    rows = np.zeros_like(problem.rows)
    rows[few] = np.einsum("fk,fkd->fd", found.x.reshape(size), problem.rows[near.base_class])
    return rows


def variants(problem: Problem) -> dict[str, Callable[[], list[Part]]]:
    """Return the parts of the method, each in turn with another in its place."""
    few, medium = problem.groups.few, problem.groups.medium
    near, none = problem.near(), problem.lifted(problem.groups.few, 0.0)
    rows, own = problem.mean_rows(near), np.zeros_like(problem.rows)
    own[few] = problem.rows[few]
    blended = problem.onto[SHARE][0]
    distance = near.distance[:, 0].astype(np.float64)

    def one(rows: Double, lift: float = 0.0, onto: float = SHARE, part: float = PART) -> list[Part]:
        return [Part(rows, problem.lifted(few, lift), onto, part)]

    def by_class(factor: Double) -> list[Part]:
        scaled = np.ones((len(problem.counts), 1))
        scaled[few, 0] = factor / factor.mean()
        return one(rows * scaled)

    def both() -> list[Part]:
        some = np.concatenate([few, medium])
        settings = NeighborSettings(min(K, len(problem.groups.many)))
        found = nearest(problem.means, some, problem.groups.many, settings)
        return one(problem.mean_rows(found))

    return {
        OWN: lambda: one(rows),
        "no neighbours, rare classes raised by tau / 2": lambda: one(0 * rows, 2.0),
        "no neighbours, rare classes raised by tau": lambda: one(0 * rows, 4.0),
        "neighbours, and rare classes raised by tau / 2": lambda: one(rows, 2.0),
        "part 0.1": lambda: one(rows, part=0.1),
        "part 0.4": lambda: one(rows, part=0.4),
        "random neighbours": lambda: [
            Part(problem.mean_rows(problem.near(metric="random", seed=s)), none)
            for s in range(SEEDS)
        ],
        "neighbours by cosine": lambda: one(problem.mean_rows(problem.near(metric="cosine"))),
        "neighbours by confusion on val": lambda: one(problem.mean_rows(confused(problem))),
        **{
            f"k {k}": (lambda k=k: one(problem.mean_rows(problem.near(k))))
            for k in (1, 2, 3, 8, 12, 20)
            if k <= len(problem.groups.base)
        },
        "AlphaNet's coefficients, mean of 10 seeds": lambda: one(np.mean(alphas(problem), axis=0)),
        "AlphaNet's coefficients, single seeds": lambda: [
            Part(added, none) for added in alphas(problem)
        ],
        "the same, random neighbours, mean of 10": lambda: one(
            np.mean(alphas(problem, "random"), axis=0)
        ),
        "coefficients by a convex fit onto the blend": lambda: one(convex(problem, near), part=1.0),
        "own row taken back": lambda: one(rows - own),
        "rows of the blend": lambda: one(problem.mean_rows(near, blended)),
        "medium classes too": both,
        "scale by count": lambda: by_class(1 / np.sqrt(problem.counts[few])),
        "scale by nearness": lambda: by_class(1 / distance),
        "onto the head itself": lambda: one(rows, onto=0.0),
        "onto the regression alone": lambda: one(rows, onto=1.0),
    }


def rivals(features: FeatureSet) -> list[Entry]:
    """Return the sweep of every correction that it is compared with."""
    found = []
    for name in RIVALS:
        seeded = "seed" in registry.defaults(registry.load(posthoc, name).fit)
        show(name)
        fits = getattr(posthoc, name.replace("-", "_"))(
            features, sweep=True, seeds=SEEDS if seeded else 1
        )
        found.append(Entry(name, "", fits))
    return found


def differences(own: Method, others: Sequence[Method], rivals: Sequence[Method]) -> dict[str, Any]:
    """Return what a method has more than the best of others, mean over the levels, and interval.

    Args:
        own: the method.
        others: whose best is compared at each level.
        rivals: whose best overall accuracy the levels lie below.
    """
    levels, drawn_levels = range_of(rivals)
    single = len(others) == 1
    found = []
    for drawn, at in ((False, levels[None]), (True, drawn_levels)):
        theirs = np.max([reached(method, at, drawn) for method in others], axis=0)
        gain = reached(own, at, drawn) - theirs
        there = theirs > 0 if single else np.ones(theirs.shape, bool)
        found.append(np.where(there, gain, 0).sum(axis=1) / np.maximum(there.sum(axis=1), 1))
    low, high = np.quantile(found[1], [0.025, 0.975])
    mine = reached(own, levels[None], False)[0]
    return {
        "few": float(mine.mean()), "gain": float(found[0][0]),
        "interval": [float(low), float(high)], "at": mine.tolist(),
    }  # fmt: skip


def reached(method: Method, levels: Double, drawn: bool) -> Double:
    """Return (R, L) few-shot accuracies at (R, L) overall ones; 0 where a curve does not reach."""
    x, y = method.drawn_curve() if drawn else (line[None] for line in method.curve())
    return np.maximum(height(x, y, levels), 0)


def range_of(rivals: Sequence[Method]) -> tuple[Double, Double]:
    """Return the (L,) overall accuracies at which curves are compared, and (R, L) of replicates."""
    below = np.linspace(*BELOW, LEVELS)
    top = max(float(method.curve()[0].max()) for method in rivals)
    drawn = np.max([method.drawn_curve()[0].max(axis=1) for method in rivals], axis=0)
    return top - below, drawn[:, None] - below


def measured(features: FeatureSet, entries: Sequence[Entry]) -> list[Method]:
    """Return the curves of corrections on test."""
    return methods_of(features, "test", entries, features.groups(), None, REPLICATES, 0)


def compared(features: FeatureSet) -> dict[str, Any]:
    """Compare the method with each correction, with AlphaNet, and with random neighbours."""
    problem, seconds = Problem(features), {}
    started = time.perf_counter()
    own = Entry(OWN, "", posthoc.alphanet_plus(features, sweep=True))
    seconds[OWN] = time.perf_counter() - started
    started = time.perf_counter()
    rhos = (0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
    published = Entry("alphanet", "", alphanet.fit_features(features, rhos=rhos, seeds=SEEDS))
    seconds["alphanet, 8 rho, 10 seeds"] = time.perf_counter() - started
    parts = variants(problem)
    controls = [problem.swept(name, parts[name]()) for name in CONTROLS]
    methods = measured(features, [own, *rivals(features), published, *controls])
    others = [method for method in methods if method.name in RIVALS]
    named = {method.name: method for method in methods}
    mine = named.pop(OWN)
    levels, _ = range_of(others)
    return {
        "levels": levels.tolist(),
        "few": {n: float(reached(m, levels[None], False).mean()) for n, m in named.items()},
        "best": {n: float(m.curve()[0].max()) for n, m in named.items()},
        "over": {name: differences(mine, [method], others) for name, method in named.items()},
        "over_the_best": differences(mine, others, others),
        "seconds": seconds,
    }


def explored(features: FeatureSet) -> dict[str, Any]:
    """Compare variants of the method with the blend."""
    problem = Problem(features)
    blend = Entry("blend", "", posthoc.blend(features, sweep=True))
    (rival,) = measured(features, [blend])
    levels, _ = range_of([rival])
    rows: dict[str, Any] = {}
    for name, parts in variants(problem).items():
        show(name)
        (method,) = measured(features, [problem.swept(name, parts())])
        rows[name] = differences(method, [rival], [rival])
    return {
        "levels": levels.tolist(),
        "blend": float(reached(rival, levels[None], False).mean()),
        "rows": rows,
    }


def show(what: str) -> None:
    """Tell what is done."""
    print(what, file=sys.stderr, flush=True)


def read(word: str) -> tuple[str, FeatureSet]:
    """Return the name and the features of NAME=FEATURES.h5[,BASE.h5]."""
    name, _, files = word.partition("=")
    path, _, base = files.partition(",")
    features = ltkit.read(path)
    return name, ltkit.with_base(features, base) if base else features


WAYS: Mapping[str, Callable[[FeatureSet], dict[str, Any]]] = {
    "parts": explored, "compared": compared,
}  # fmt: skip


def main() -> int:
    """Measure, and write the document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("files", nargs="+", metavar="NAME=FEATURES.h5[,BASE.h5]")
    parser.add_argument("--target", type=Path, default=TARGET)
    asked = parser.parse_args()
    for word in asked.files:
        name, features = read(word)
        document: dict[str, Any] = {way: {} for way in WAYS}
        if asked.target.exists():
            document = json.loads(asked.target.read_text(encoding="utf-8"))
        where = machine()
        found = WAYS[asked.way](features)
        document[asked.way][name] = found | {"machine": where}
        asked.target.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
