"""How good the choices of `ltkit recommend` are: against the best in hindsight, over draws of val.

Validation and test images of a features file are pooled. A draw takes 20 images a class as the
validation split, chooses on them as `ltkit recommend` does, and measures on all others. Regret is
what the best candidate in hindsight gains more; of an objective with limits, the best that keeps
them on test, and beside it the best that keeps them with as much to spare as the rule must leave
for the noise of its validation images. The interval that is printed beside the gain should hold
what test shows in 95 % of the draws, but for the noise of test itself, which is stated beside it.

    python benchmarks/regret.py NAME=FEATURES.h5[,BASE.h5] ... [--draws 20] [--hits DIR] [--small]

adds draws to benchmarks/results/regret.json, and goes on where it was stopped. Processes may share
the draws: --shard 1/4 and so on, then the same without it; see `in_shards`. --hits keeps which
images every candidate is right on, draw by draw, so that a change of the rule is judged without a
new fit. --small makes three draws of two quick methods on the bundled features, and writes to
standard output.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path
from statistics import NormalDist
from typing import Any

import in_shards
import numpy as np
from machine import machine
from numpy.typing import NDArray

import ltkit
from ltkit import posthoc, registry
from ltkit.evaluation import metrics, predict_classes
from ltkit.recommendation import documents
from ltkit.recommendation.choosing import Chooser
from ltkit.recommendation.family import BASELINE, Candidate, Family, fit_of, gather
from ltkit.recommendation.objectives import Aim, Limit
from ltkit.recommendation.wanted import Wanted
from ltkit.records import ClassTable, Correction, FeatureSet, FeatureSplit, Ints, stratified_folds
from ltkit.settings import RECOMMENDED

TARGET = Path(__file__).parent / "results" / "regret.json"
PER_CLASS = 20
WISHES = {
    "balanced": Wanted("balanced"),
    "few, all -0.5": Wanted("few", keep={"all": -0.5}),
}
PENALTIES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
SMALL = ("logit-adjust", "group-bias")


@dataclass(frozen=True, eq=False)
class Pool:
    """A features file whose validation and test images are one split, and what is right there.

    right: (K, N) of the candidates that learn from train alone, the baseline first.
    """

    features: FeatureSet
    candidates: Sequence[Candidate]
    right: NDArray[np.bool_]
    learning: Sequence[str]

    @property
    def split(self) -> FeatureSplit:
        """All images that are not for training."""
        return self.features.split("val")


def pooled(features: FeatureSet, methods: Sequence[str]) -> Pool:
    """Return the pool of a features file, with every candidate fitted that does not need val."""
    parts = [features.split(name) for name in ("val", "test") if name in features.splits]
    rows = np.concatenate([part.features[0 : len(part)] for part in parts])
    every = FeatureSplit(rows, np.concatenate([part.labels for part in parts]))
    splits = {"train": features.split("train"), "val": every}
    made = replace(features, splits=splits)
    learning = [m for m in methods if getattr(registry.load(posthoc, m), "ON_VAL", False)]
    others = [m for m in methods if m not in learning]
    family = gather(made, others, np.zeros(len(every), np.int64), report=show)
    return Pool(made, family.candidates, family.right, learning)


def show(what: str, done: int, total: int) -> None:
    """Tell how far the fits are."""
    print(f"{what} {done}/{total}", file=sys.stderr, flush=True)


def draw(pool: Pool, number: int, hits: Path | None = None) -> dict[str, Any]:
    """Choose on one draw of validation images; measure on the others.

    Args:
        pool: what is drawn from.
        number: of the draw.
        hits: where what every candidate is right on lies, or is put.
    """
    labels, rng = pool.split.labels, np.random.default_rng(number)
    order = rng.permutation(len(labels))
    ranks = np.empty(len(labels), np.int64)
    by_class = order[np.argsort(labels[order], kind="stable")]
    sizes = np.bincount(labels)
    ranks[by_class] = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    val, test = np.flatnonzero(ranks < PER_CLASS), np.flatnonzero(ranks >= PER_CLASS)
    chosen = replace(
        pool.features,
        splits={"train": pool.features.split("train"), "val": pool.split.at(val)},
    )
    if hits is not None and hits.exists():
        family, tested = restored(hits, len(val), len(test))
    else:
        family, tested = of_draw(pool, chosen, val, test)
    if hits is not None and not hits.exists():
        stored(hits, family, tested)
    found = {}
    for name, wish in WISHES.items():
        if wish.aim in ("balanced", *(g for g, ids in chosen.groups().items() if len(ids))):
            found[name] = judged(chosen, wish, family, tested, labels[val], labels[test])
    return found


def of_draw(
    pool: Pool, chosen: FeatureSet, val: Ints, test: Ints
) -> tuple[Family, NDArray[np.bool_]]:
    """Return the candidates on a draw, and the (K, N) test images that each is right on."""
    base, rest = chosen.classifier(), pool.split.at(test)
    dealt = stratified_folds(chosen.split("val").labels, Wanted().folds, Wanted().seed)
    candidates, order = list(pool.candidates), [BASELINE]
    right, tested = [pool.right[:, val]], [pool.right[:, test]]
    if pool.learning:
        own = gather(chosen, pool.learning, dealt)
        candidates += own.candidates[1:]
        right.append(own.right[1:])
        for method in own.order[1:]:
            fit, _ = fit_of(method)
            predicted = np.concatenate(
                predict_classes(rest, base, next(fit(chosen, [chosen.split("val")])))
            )
            tested.append(predicted == rest.labels)
    names = {candidate.method for candidate in candidates}
    order += [method for method in RECOMMENDED if method in names]
    return Family(candidates, np.concatenate(right), order, []), np.concatenate(tested)


def stored(path: Path, family: Family, tested: NDArray[np.bool_]) -> None:
    """Keep a draw's candidates and what they are right on, eight images a byte."""
    path.parent.mkdir(parents=True, exist_ok=True)
    named = [[c.method, c.settings] for c in family.candidates]
    np.savez(
        path,
        candidates=np.array(json.dumps([named, list(family.order)])),
        right=np.packbits(family.right, axis=1),
        tested=np.packbits(tested, axis=1),
    )


def restored(path: Path, val: int, test: int) -> tuple[Family, NDArray[np.bool_]]:
    """Return what `stored` has kept of a draw with so many images."""
    with np.load(path) as kept:
        named, order = json.loads(str(kept["candidates"]))
        right = np.unpackbits(kept["right"], axis=1, count=val).astype(bool)
        tested = np.unpackbits(kept["tested"], axis=1, count=test).astype(bool)
    return Family([Candidate(*each) for each in named], right, order, []), tested


def judged(
    chosen: FeatureSet, wish: Wanted, family: Family, tested: NDArray[np.bool_], val: Ints,
    test: Ints,
) -> dict[str, Any]:  # fmt: skip
    """Return one choice, its estimate, and what test shows of it and of the best in hindsight."""
    groups, size = chosen.groups(), len(chosen.classes)
    weights = metrics.group_weights(val, size, groups)
    limits = [Limit(group, points / 100) for group, points in (wish.keep or {}).items()]
    aim = Aim(wish.aim, weights)
    chooser = Chooser(family.right, val, family.method, aim, limits, wish.confidence)
    choice = chooser.choose(wish.repeats, wish.folds, wish.seed + 1)
    document = documents.of_choice(chosen, wish, chooser, choice, family)
    gains = tested.astype(np.float64) - tested[0]
    by_class = metrics.class_accuracy(gains, test, size)
    true = np.nan_to_num(by_class) @ weights[wish.aim]
    held, sure = np.ones((2, len(true)), bool)
    margin = NormalDist().inv_cdf(wish.confidence)
    for limit in limits:
        seen = np.nan_to_num(by_class) @ weights[limit.group]
        held &= seen >= limit.least
        seen -= margin * standard_errors(chooser.gains, val, weights[limit.group])
        sure &= seen >= limit.least
    sure[0] = True  # the baseline costs nothing
    best, as_sure = (int(np.where(kept, true, -np.inf).argmax()) for kept in (held, sure))
    own = gains[choice.chosen.candidate][None]
    keep = document["choice"]["keep"]
    return {
        "choice": document["choice"]["label"],
        "method": document["choice"]["method"],
        "keep": keep,
        "gain": 0.0 if keep else float(true[choice.chosen.candidate]),
        "of_choice": float(true[choice.chosen.candidate]),
        "estimate": document["objective_gain"],
        "interval": document["objective_interval"],
        "test_error": float(standard_errors(own, test, weights[wish.aim])[0]),
        "best": float(true[best]),
        "best_as_sure": float(true[as_sure]),
        "best_method": family.candidates[best].method,
        "held": bool(held[0 if keep else choice.chosen.candidate]),
    }


def standard_errors(
    gains: NDArray[Any], labels: Ints, weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the (K,) standard errors of weighted means of (K, N) gains over classes."""
    size, found = len(weights), gains.astype(np.float64)
    means, squares = (metrics.class_accuracy(found**p, labels, size) for p in (1, 2))
    variances = np.nan_to_num((squares - means**2) / np.bincount(labels, minlength=size))
    return np.sqrt(variances @ weights**2)


def problems(given: Sequence[str]) -> Iterator[tuple[str, FeatureSet]]:
    """Yield every features file, and two forms of the first whose baseline is right already."""
    first = None
    for word in given:
        name, _, files = word.partition("=")
        path, _, base = files.partition(",")
        features = ltkit.read(path)
        features = ltkit.with_base(features, base) if base else features
        first = first or (name, features)
        yield name, features
    if first is not None:
        name, features = first
        yield f"{name}, corrected", corrected(features)
        yield f"{name}, balanced", balanced(features)


def corrected(features: FeatureSet) -> FeatureSet:
    """Return features whose base is what is recommended for them, to be judged on test alone."""
    found = ltkit.recommend(features)
    based = ltkit.with_base(features, found.correction)
    splits = {name: features.split(name) for name in ("train", "test")}
    return replace(based, splits=splits)


def balanced(features: FeatureSet) -> FeatureSet:
    """Return the problem with 40 training images of every class, taken from test."""
    test, size = features.split("test"), len(features.classes)
    order = np.argsort(test.labels, kind="stable")
    within = np.arange(len(order)) - np.searchsorted(test.labels[order], test.labels[order])
    train, rest = np.sort(order[within < 40]), np.sort(order[within >= 40])
    splits = {"train": test.at(train), "test": test.at(rest)}
    table = ClassTable(np.full(size, 40), features.classes.names)
    made = FeatureSet(splits, table, None, {"bins": [20, 100]}, source=features.source)
    return ltkit.with_base(made, posthoc.logistic(made, inverse_penalty=penalty_of(made)))


def penalty_of(features: FeatureSet) -> float:
    """Return the inverse penalty of a logistic head that five folds of train are best with."""
    train = features.split("train")
    dealt = stratified_folds(train.labels, 5, 0)
    hits = dict.fromkeys(PENALTIES, 0)
    for fold in range(5):
        inside, left = (np.flatnonzero(x) for x in (dealt != fold, dealt == fold))
        splits = {"train": train.at(inside), "val": train.at(left)}
        table = replace(features.classes, train_count=np.bincount(train.labels[inside]))
        some, out = replace(features, splits=splits, classes=table), train.at(left)
        for penalty in hits:
            head = ltkit.with_base(some, posthoc.logistic(some, inverse_penalty=penalty))
            base = head.classifier()
            (predicted,) = predict_classes(out, base, [Correction.baseline(base)])
            hits[penalty] += int((predicted == out.labels).sum())
    return max(hits, key=lambda penalty: hits[penalty])


def summary(draws: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return a row of the table: means over draws."""
    regret = [d["best"] - d["gain"] for d in draws]
    covered, apart = [], []
    for d in draws:
        low, high = d["interval"]
        covered.append(low <= d["of_choice"] <= high)
        more = 1.96 * d["test_error"]
        apart.append(
            d["estimate"] - np.hypot(d["estimate"] - low, more)
            <= d["of_choice"]
            <= d["estimate"] + np.hypot(high - d["estimate"], more)
        )
    methods = [d["method"] for d in draws]
    return {
        "draws": len(draws),
        "regret": float(np.mean(regret)),
        "gain": float(np.mean([d["gain"] for d in draws])),
        "best": float(np.mean([d["best"] for d in draws])),
        "regret_as_sure": float(np.mean([d["best_as_sure"] - d["gain"] for d in draws])),
        "estimate": float(np.mean([d["estimate"] for d in draws])),
        "of_choice": float(np.mean([d["of_choice"] for d in draws])),
        "covered": float(np.mean(covered)),
        "covered_with_noise_of_test": float(np.mean(apart)),
        "keep": float(np.mean([d["keep"] for d in draws])),
        "held": float(np.mean([d["held"] for d in draws])),
        "methods": {m: methods.count(m) for m in sorted(set(methods))},
    }


def main() -> int:
    """Draw, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", metavar="NAME=FEATURES.h5[,BASE.h5]")
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--target", type=Path, default=TARGET)
    parser.add_argument("--hits", type=Path, metavar="DIR")
    in_shards.add_option(parser)
    asked = parser.parse_args()
    if asked.small and asked.shard:
        parser.error("--small: so few draws are not shared; leave --shard out")
    bundled = resources.files("ltkit") / "data" / "demo" / "feats.h5"
    given = asked.files or [f"cifar100_lt={bundled}"]
    kept: dict[str, Any] = {"machine": machine(), "per_class": PER_CLASS, "draws": {}}
    if not asked.small and asked.target.exists():
        kept = json.loads(asked.target.read_text(encoding="utf-8"))
    for name, features in problems(given):
        done = kept["draws"].setdefault(name, [])
        if asked.small:
            drawn = drawing(name, features, SMALL, [None] * 3)
            done += [drawn({"draw": number}) for number in range(3)]
        elif len(done) < asked.draws:
            more(name, features, done, asked)
        kept["rows"] = rows_of(kept["draws"])
        if not asked.small and not asked.shard:
            asked.target.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    if asked.small:
        print(json.dumps(kept["rows"], indent=1))
    return 0


def more(
    name: str, features: FeatureSet, done: list[dict[str, Any]], asked: argparse.Namespace
) -> None:
    """Add the draws of a features file that are not done, or leave a shard of them beside."""
    numbers = range(len(done), asked.draws)
    hits = [asked.hits and asked.hits / f"{name}.{number}.npz" for number in range(asked.draws)]
    known = all(file and file.exists() for file in hits[len(done) :])
    folder = asked.target.with_name(f"{asked.target.stem}.{name.replace(', ', '-')}.parts")
    found = in_shards.measured(
        folder,
        [{"draw": number} for number in numbers],
        drawing(name, features, () if known else RECOMMENDED, hits),
        asked.shard,
        {"name": name, "inputs": features.inputs, "methods": list(RECOMMENDED)},
    )
    if not asked.shard:
        done += found
        in_shards.remove(folder)


def drawing(
    name: str, features: FeatureSet, methods: Sequence[str], hits: Sequence[Path | None]
) -> Callable[[in_shards.Point], dict[str, Any]]:
    """Return what makes a draw; the candidates are fitted with the first."""
    pool = cache(lambda: pooled(features, methods))

    def one(point: in_shards.Point) -> dict[str, Any]:
        number = point["draw"]
        found = draw(pool(), number, hits[number])
        show(name, number + 1, len(hits))
        return found

    return one


def rows_of(draws: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return the rows of the table, of the draws that there are."""
    return {
        name: {wish: summary([d[wish] for d in done]) for wish in WISHES if wish in done[0]}
        for name, done in draws.items()
        if done
    }


if __name__ == "__main__":
    sys.exit(main())
