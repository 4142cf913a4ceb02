"""AlphaNet-plus against every correction, and each of its parts against what could stand there.

Validation and test images of a features file are pooled; ten draws of 20 images a class are the
validation split, the rest is test. What is reported is few-shot accuracy on test at equal overall
accuracy: the mean over overall accuracies from 0.5 to 4 points below the best that the corrections
it is compared with reach. Every method has one knob, and its curve goes through all settings in the
knob's order, as that of `ltkit compare`. Where a curve does not reach an overall accuracy, its
few-shot accuracy counts as 0 there; of a single rival, only what it reaches is compared. Intervals
are quantiles over the draws and, within each, a bootstrap of test images and of seeds.

    python benchmarks/alphanet_plus.py parts NAME=FEATURES.h5[,BASE.h5] ...
    python benchmarks/alphanet_plus.py compared NAME=FEATURES.h5[,BASE.h5] ...

write benchmarks/results/alphanet_plus.json, a file at a time; what is there stays, and a part that
is there is not measured again.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from machine import machine
from numpy.typing import NDArray

import ltkit
from ltkit import alphanet, posthoc, registry
from ltkit.evaluation import predict_classes, settings_of
from ltkit.evaluation.frontier import height
from ltkit.neighbors import nearest
from ltkit.neighbors.class_means import class_means
from ltkit.posthoc import alphanet_plus
from ltkit.posthoc._balanced import blends
from ltkit.records import Classifier, Correction, FeatureSet, FeatureSplit, Ints
from ltkit.settings import NeighborSettings

TARGET = Path(__file__).parent / "results" / "alphanet_plus.json"
OWN, RANDOM, RAISED = "alphanet-plus", "random shares", "no rows, rare classes raised by tau"
RIVALS = ("logit-adjust", "tau-norm", "crt", "lws", "marc", "weight-balancing", "blend")
RHOS = (0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
SEEDS, DRAWS, PER_CLASS, REPLICATES, LEVELS = 10, 10, 20, 100, 15
BELOW = (0.005, 0.04)
"""The range of overall accuracies, below the best of the rivals."""
K, PART, PENALTY, SHARE = 5, 0.25, 0.02, 0.75
TAUS = tuple(i / 8 for i in range(-4, 17))

Double = NDArray[np.float64]
Bools = NDArray[np.bool_]


class Pool:
    """A features file whose validation and test images are one split, and draws of it."""

    def __init__(self, features: FeatureSet) -> None:
        """Pool the images; draw; and draw replicates of the rest of each draw."""
        parts = [features.split(name) for name in ("val", "test")]
        rows = np.concatenate([part.features[0 : len(part)] for part in parts])
        self.every = FeatureSplit(rows, np.concatenate([part.labels for part in parts]))
        self.features = replace(features, splits={"train": features.split("train")})
        self.base, self.groups = features.classifier(), features.groups()
        labels, rng = self.every.labels, np.random.default_rng(0)
        self.few = np.isin(labels, self.groups.few)
        self.vals, self.weights = [], []
        for _ in range(DRAWS):
            order = rng.permutation(len(labels))
            order = order[np.argsort(labels[order], kind="stable")]
            counts = np.bincount(labels)
            rank = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
            self.vals.append(np.sort(order[rank < PER_CLASS]))
            self.weights.append(_replicates(np.sort(order[rank >= PER_CLASS]), labels, rng))

    def right(self, corrections: Sequence[Correction]) -> Bools:
        """Return (runs, N) which images the runs of corrections are right on."""
        found = np.concatenate(predict_classes(self.every, self.base, corrections))
        right: Bools = found == self.every.labels
        return right


def _replicates(test: Ints, labels: Ints, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return (N, 1 + R) how often each image counts: once, then as drawn within its class."""
    weights = np.zeros((len(labels), 1 + REPLICATES), np.float32)
    weights[test, 0] = 1
    for class_id in np.unique(labels):
        own = test[labels[test] == class_id]
        weights[own, 1:] = rng.multinomial(len(own), np.full(len(own), 1 / len(own)), REPLICATES).T
    return weights


@dataclass(frozen=True, eq=False)
class Curve:
    """Overall and few-shot accuracies of a method's settings: (draws, 1 + R, settings) each."""

    overall: Double
    few: Double


def curve(pool: Pool, runs: Sequence[tuple[Bools, Sequence[Sequence[int]]]]) -> Curve:
    """Return a method's curve.

    Args:
        pool: with the draws.
        runs: for each draw, or once for all, what the runs are right on, and each setting's runs.
    """
    rng, overall, few = np.random.default_rng(1), [], []
    for draw, weights in enumerate(pool.weights):
        right, settings = runs[draw if len(runs) > 1 else 0]
        hits = right.astype(np.float32)
        every = hits @ weights / weights.sum(axis=0)
        rare = hits[:, pool.few] @ weights[pool.few] / weights[pool.few].sum(axis=0)
        seeds = [len(of) for of in settings]
        chosen = rng.integers(0, max(seeds), (REPLICATES, max(seeds)))
        means = [
            np.stack([_over_seeds(found, list(of), chosen) for of in settings], axis=1)
            for found in (every, rare)
        ]
        overall.append(means[0])
        few.append(means[1])
    return Curve(np.stack(overall), np.stack(few))


def _over_seeds(found: NDArray[Any], runs: Sequence[int], chosen: Ints) -> Double:
    """Return (1 + R,) means over a setting's runs: all of them, then as drawn for replicates."""
    own = found[runs]
    drawn = own[chosen % len(runs), 1 + np.arange(REPLICATES)[:, None]].mean(axis=1)
    return np.append(own[:, 0].mean(), drawn)


def swept(pool: Pool, correction: Correction) -> Curve:
    """Return the curve of a correction whose runs have one knob, and seeds."""
    settings = [of for _, of in settings_of(correction)]
    return curve(pool, [(pool.right([correction]), settings)])


def reached(own: Curve, levels: Double) -> Double:
    """Return (draws, 1 + R, L) few-shot accuracies at overall ones; 0 where it does not reach."""
    flat = (values.reshape(-1, values.shape[-1]) for values in (own.overall, own.few))
    found = np.maximum(height(*flat, levels.reshape(-1, levels.shape[-1])), 0)
    return np.asarray(found.reshape(levels.shape))


def levels_below(rivals: Sequence[Curve]) -> Double:
    """Return (draws, 1 + R, L) the overall accuracies at which curves are compared."""
    top = np.max([rival.overall.max(axis=-1) for rival in rivals], axis=0)
    return np.asarray(top[..., None] - np.linspace(*BELOW, LEVELS))


def over(own: Curve, others: Sequence[Curve], levels: Double) -> dict[str, Any]:
    """Return what a curve has more than the best of others at each level: mean and interval."""
    mine, theirs = reached(own, levels), np.max([reached(c, levels) for c in others], axis=0)
    there = theirs > 0 if len(others) == 1 else np.ones(theirs.shape, bool)
    gain = np.where(there, mine - theirs, 0).sum(axis=-1) / np.maximum(there.sum(axis=-1), 1)
    low, high = np.quantile(gain[:, 1:], [0.025, 0.975])
    return {
        "few": float(mine[:, 0].mean()), "gain": float(gain[:, 0].mean()),
        "interval": [float(low), float(high)], "reached": float(there[:, 0].mean()),
        "between_draws": float(gain[:, 0].std(ddof=1)),
    }  # fmt: skip


class Problem:
    """What variants of the method are made of."""

    def __init__(self, pool: Pool) -> None:
        """Fit what all variants share."""
        features = pool.features
        self.pool, self.features, self.base = pool, features, pool.base
        self.train, self.counts = features.split("train"), features.classes.train_count
        self.groups = pool.groups
        self.means, _ = class_means(self.train, len(self.counts))
        tried = [{"share": share, "penalty": PENALTY} for share in (0.0, SHARE, 1.0)]
        self.onto = {key[0]: of for key, of in blends(self.base, self.train, tried).items()}
        self.rows, self.prior = self.base.weight.astype(np.float64), posthoc.log_prior(self.counts)

    def val(self, draw: int, per_class: int = PER_CLASS) -> FeatureSplit:
        """Return the validation images of a draw, or some of each class."""
        split = self.pool.every.at(self.pool.vals[draw])
        order = np.argsort(split.labels, kind="stable")
        sizes = np.bincount(split.labels)
        rank = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return split.at(np.sort(order[rank < per_class]))

    def near(self, k: int = K, metric: str = "euclidean", seed: int = 0) -> Double:
        """Return the mean rows of the k nearest frequent classes, or of k at random."""
        settings = NeighborSettings(min(k, len(self.groups.base)), metric, seed)  # type: ignore[arg-type]
        found = nearest(self.means, self.groups.few, self.groups.base, settings)
        return self.lent(self.rows[found.base_class].mean(axis=1))

    def lent(self, rows: Double) -> Double:
        """Return (C, D) rows for rare classes, zeros for others."""
        found = np.zeros_like(self.rows)
        found[self.groups.few] = rows
        return found

    def confused(self, val: FeatureSplit, by: Classifier | None = None) -> Double:
        """Return (F, B) what rare classes are taken for, by the head or another."""
        return alphanet_plus.confusions(by or self.base, val, self.groups)[0]

    def curve_of(self, made: "Made") -> Curve:
        """Return the curve of a variant over tau."""
        runs = []
        for draw in range(DRAWS if made.of_val else 1):
            heads = [
                Correction.whole("", self.head(rows, tau, made), {})
                for tau in TAUS
                for rows in made.rows(draw)
            ]
            seeds = len(heads) // len(TAUS)
            settings = [range(n * seeds, (n + 1) * seeds) for n in range(len(TAUS))]
            runs.append((self.pool.right(heads), settings))
        return curve(self.pool, runs)

    def head(self, rows: Double, tau: float, made: "Made") -> Classifier:
        """Return a variant with one tau."""
        (weight, bias), scale = self.onto[made.onto], made.part * max(tau, 0.0)
        raised = np.zeros(len(self.counts))
        raised[self.groups.few] = made.raised * max(tau, 0.0)
        return Classifier(
            np.float32(weight + scale * rows), np.float32(bias + raised - tau * self.prior),
            self.base.normalize_features, self.base.experts,
        )  # fmt: skip


@dataclass(frozen=True)
class Made:
    """How a variant is made.

    rows: of a draw, gives (C, D) rows to add, several for several seeds.
    of_val: whether they depend on the draw.
    """

    rows: Callable[[int], Sequence[Double]]
    of_val: bool = False
    onto: float = SHARE
    part: float = PART
    raised: float = 0.0


def once(rows: Double, **others: float) -> Made:
    """Return a variant that does not depend on the validation split."""
    return Made(lambda draw: [rows], **others)


def alphas(problem: Problem, metric: str = "euclidean") -> list[Double]:
    """Return (C, D) what AlphaNet adds to the rows, for each seed; the last epoch's."""
    k = min(K, len(problem.groups.base))
    fits = alphanet.fit_features(problem.features, k=k, rhos=(0.5,), seeds=SEEDS, metric=metric)
    return [problem.lent(rows - problem.rows[fits.class_id]) for rows in fits.weight]


def convex(problem: Problem, decay: float = 1e-3) -> Double:
    """Return (C, D) rows: coefficients of neighbours that a balanced loss is least with.

    The blended head with tau 0.5 is in place, so that they are fitted to what is missing there.
    """
    from scipy.optimize import minimize

    settings = NeighborSettings(min(K, len(problem.groups.base)))
    near = nearest(problem.means, problem.groups.few, problem.groups.base, settings)
    (weight, bias), train, few = problem.onto[SHARE], problem.train, near.few_class
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
    alpha = found.x.reshape(size)
    return problem.lent(np.einsum("fk,fkd->fd", alpha, problem.rows[near.base_class]))


def variants(problem: Problem) -> dict[str, Callable[[], Made]]:
    """Return the method, and it with one part in turn that is something else."""
    few, base, counts = problem.groups.few, problem.groups.base, problem.counts
    rows, val = problem.rows, problem.val
    blended = problem.head(0 * rows, 0.5, once(0 * rows))
    rng = np.random.default_rng(0)

    def taken(share: Callable[[int], Double], of: Double = rows, **others: float) -> Made:
        return Made(lambda draw: [problem.lent(share(draw) @ of[base])], of_val=True, **others)

    def usual(draw: int) -> Double:
        return problem.confused(val(draw))

    def top(draw: int, k: int) -> Double:
        share = usual(draw)
        least = np.sort(share, axis=1)[:, -k, None]
        return (share >= least) / k

    def by_class(factor: Double) -> Made:
        return taken(lambda draw: usual(draw) * (factor / factor.mean())[:, None])

    def medium(draw: int) -> Sequence[Double]:
        groups = replace(problem.groups, few=np.sort(np.append(few, problem.groups.medium)))
        groups = replace(groups, medium=np.arange(0))
        share, _ = alphanet_plus.confusions(problem.base, val(draw), groups)
        found = np.zeros_like(rows)
        found[groups.few] = share @ rows[groups.base]
        return [found]

    distance = nearest(problem.means, few, base, NeighborSettings(1)).distance[:, 0]
    shuffled = [rng.permuted(usual(0), axis=1) for _ in range(SEEDS)]
    own = problem.lent(rows[few])
    return {
        OWN: lambda: taken(usual),
        **{f"part {part}": (lambda part=part: taken(usual, part=part))
           for part in (0.1, 0.5, 1.0)},
        **{f"{n} validation images a class": (
            lambda n=n: taken(lambda draw: problem.confused(val(draw, n)))) for n in (2, 5, 10)},
        **{f"the {k} greatest shares, made equal": (lambda k=k: taken(lambda draw: top(draw, k)))
           for k in (1, 3, 5, 10) if k <= len(base)},
        "shares by the blend": lambda: taken(lambda draw: problem.confused(val(draw), blended)),
        "rows of the blend": lambda: taken(usual, blended.weight.astype(np.float64)),
        "part by count": lambda: by_class(1 / np.sqrt(counts[few])),
        "part by nearness": lambda: by_class(1 / distance),
        "own row taken back": lambda: Made(
            lambda draw: [problem.lent(usual(draw) @ rows[base]) - own], of_val=True),
        "medium classes too": lambda: Made(medium, of_val=True),
        "onto the head itself": lambda: taken(usual, onto=0.0),
        "onto the regression alone": lambda: taken(usual, onto=1.0),
        "and rare classes raised by tau / 2": lambda: taken(usual, raised=0.5),
        RANDOM: lambda: Made(lambda draw: [problem.lent(s @ rows[base]) for s in shuffled]),
        RAISED: lambda: once(0 * rows, raised=1.0),
        **{f"{k} nearest means": (lambda k=k: once(problem.near(k)))
           for k in (1, 3, 5, 8, 12, 20) if k <= len(base)},
        "5 nearest by cosine": lambda: once(problem.near(metric="cosine")),
        "5 at random": lambda: Made(
            lambda draw: [problem.near(metric="random", seed=s) for s in range(SEEDS)]),
        "AlphaNet's coefficients, mean of 10 seeds": lambda: once(
            np.mean(alphas(problem), axis=0)),
        "AlphaNet's coefficients, single seeds": lambda: _each(alphas(problem)),
        "the same of random neighbours, mean of 10": lambda: once(
            np.mean(alphas(problem, "random"), axis=0)),
        "coefficients by a convex fit onto the blend": lambda: once(convex(problem)),
    }  # fmt: skip


def _each(rows: Sequence[Double]) -> Made:
    return Made(lambda draw: rows)


def explored(features: FeatureSet, known: Mapping[str, Any]) -> dict[str, Any]:
    """Compare variants of the method with the blend, but those that are known."""
    pool = Pool(features)
    problem = Problem(pool)
    rival = swept(pool, posthoc.blend(pool.features, sweep=True))
    levels, rows = levels_below([rival]), dict[str, Any]()
    for name, make in variants(problem).items():
        show(name)
        there = known.get("rows", {}).get(name)
        rows[name] = there or over(problem.curve_of(make()), [rival], levels)
    return {"blend": float(reached(rival, levels)[:, 0].mean()), "rows": rows}


def compared(features: FeatureSet, known: Mapping[str, Any]) -> dict[str, Any]:
    """Compare the method with each correction, with AlphaNet, and with its controls."""
    del known  # all are compared at the levels of all
    pool, seconds = Pool(features), dict[str, float]()
    problem, curves = Problem(pool), dict[str, Curve]()
    for name in RIVALS:
        show(name)
        module = registry.load(posthoc, name)
        seeds = SEEDS if "seed" in registry.defaults(module.fit) else 1
        curves[name] = swept(pool, module(pool.features, sweep=True, seeds=seeds))
    rivals = list(curves.values())
    show(OWN)
    plan, vals = posthoc.plan(OWN, sweep=True), [problem.val(draw) for draw in range(DRAWS)]
    fits = posthoc.fit_each(pool.features, plan, vals)
    settings = [[n] for n in range(len(plan.tried))]
    mine = curve(pool, [(pool.right(each), settings) for each in fits])
    started = time.perf_counter()
    ltkit.posthoc.alphanet_plus(features)
    seconds[f"{OWN}, tau chosen"] = time.perf_counter() - started
    show("alphanet")
    started = time.perf_counter()
    k = min(K, len(problem.groups.base))
    published = alphanet.fit_features(features, k=k, rhos=RHOS, seeds=SEEDS)
    seconds[f"alphanet, {len(RHOS)} rho, {SEEDS} seeds"] = time.perf_counter() - started
    curves["alphanet"] = swept(pool, published)
    for name in (RANDOM, RAISED):
        curves[name] = problem.curve_of(variants(problem)[name]())
    levels = levels_below(rivals)
    return {
        "levels": levels[:, 0].mean(axis=0).tolist(),
        "best": {name: float(c.overall[:, 0].max(axis=-1).mean()) for name, c in curves.items()}
        | {OWN: float(mine.overall[:, 0].max(axis=-1).mean())},
        "over": {name: over(mine, [c], levels) for name, c in curves.items()},
        "over_the_best": over(mine, rivals, levels),
        "seconds": seconds,
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


WAYS: Mapping[str, Callable[[FeatureSet, Mapping[str, Any]], dict[str, Any]]] = {
    "parts": explored, "compared": compared,
}  # fmt: skip


def kept(target: Path) -> dict[str, Any]:
    """Return what has been measured."""
    if not target.exists():
        return {way: {} for way in WAYS}
    document: dict[str, Any] = json.loads(target.read_text(encoding="utf-8"))
    return document


def main() -> int:
    """Measure, and write the document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("files", nargs="+", metavar="NAME=FEATURES.h5[,BASE.h5]")
    parser.add_argument("--target", type=Path, default=TARGET)
    asked = parser.parse_args()
    for word in asked.files:
        name, features = read(word)
        where = machine()
        found = WAYS[asked.way](features, kept(asked.target)[asked.way].get(name, {}))
        document = kept(asked.target)
        document[asked.way][name] = found | {"machine": where}
        asked.target.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
