"""Corrections compared: paired differences, McNemar's test, and few-shot against overall accuracy.

Beside the dimensions of `ltkit.records`: `P` points, the settings of one method; `G` the figures of
`ltkit.metrics.group_weights` that exist; `R` replicates of the bootstrap; `M` methods.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations, pairwise, permutations
from math import comb, erfc, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit import metrics
from ltkit.errors import InputError, nearest
from ltkit.evaluation import Entry, check_fit, label, objective, settings_of
from ltkit.frontier import corners, dominated_by, height, leaders, round_levels
from ltkit.records import (
    SHOT_GROUPS,
    Classifier,
    ClassTable,
    Correction,
    FeatureSet,
    FeatureSplit,
    Ints,
    ShotGroups,
    blocks,
    products,
    shifted,
    shot_groups,
)
from ltkit.settings import BINS, Select

SCHEMA = "ltkit.compare/1"
GROUPS = (*SHOT_GROUPS, "all", "balanced")

EXACT_BELOW = 25
"""Of fewer samples on which two classifiers differ, McNemar's test is exact: there the chi-square
distribution is no good approximation."""

DRAWN_AT_ONCE = 1 << 22

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@np.errstate(over="ignore", invalid="ignore")  # logits that are not finite are refused
def predictions(
    split: FeatureSplit, base: Classifier, corrections: Sequence[Correction]
) -> list[NDArray[np.int32]]:
    """Predict a split with every run of every correction; equal logits go to the lowest class.

    `ltkit.evaluation.predict` without ranks and confidences. Of the classes that a correction
    leaves as they are only the best logit counts, which all its runs share; a run that has the
    rows of the one before it, and another bias, shares its matrix product.

    Returns:
        (S, N) class ids for each correction.

    Raises:
        InputError: when a correction does not fit the features, or logits are not finite.
    """
    for correction in corrections:
        check_fit(correction, base)
    same = [
        [
            bool(run) and np.array_equal(c.weight[run], c.weight[run - 1])
            for run in range(len(c.runs))
        ]
        for c in corrections
    ]
    found: list[list[NDArray[np.int32]]] = [[] for _ in corrections]
    kinds = {base.normalize_features, *(c.normalize_features for c in corrections)}
    for _, features, _ in split.blocks():
        prepared = {k: replace(base, normalize_features=k).prepare(features) for k in kinds}
        features = prepared[base.normalize_features]
        shared = shifted(products(features, base.weight), base.bias)  # (B, C)
        for parts, correction, again in zip(found, corrections, same, strict=True):
            parts.append(_predict_block(correction, shared, prepared, again))
    return [np.concatenate(parts, axis=1) for parts in found]


def _predict_block(
    correction: Correction,
    shared: NDArray[Any],
    prepared: Mapping[bool, NDArray[np.float32]],
    same: Sequence[bool],
) -> NDArray[np.int32]:
    ids, features = correction.class_id, prepared[correction.normalize_features]
    kept = np.delete(np.arange(shared.shape[1]), ids)
    best, at = _best(shared[:, kept], kept)
    rows = np.empty((len(correction.runs), len(features)), np.int32)
    for run, (weight, bias) in enumerate(zip(correction.weight, correction.bias, strict=True)):
        if not same[run]:
            product = products(features, weight)  # (B, R)
        own, own_at = _best(shifted(product, bias), ids)
        rows[run] = np.where((own > best) | ((own == best) & (own_at < at)), own_at, at)
    return rows


def _best(logits: NDArray[Any], ids: Ints) -> tuple[NDArray[Any], Ints]:
    """Return each row's largest logit and whose it is; minus infinity where there is no column."""
    if not len(ids):
        return np.full(len(logits), -np.inf, np.float32), np.zeros(len(logits), np.int64)
    column = logits.argmax(axis=1)
    best = np.take_along_axis(logits, column[:, None], axis=1)[:, 0]
    if not np.isfinite(best).all():
        raise InputError("logits: not finite; the classifier is damaged, or the features too large")
    return best, ids[column]


@dataclass(frozen=True, slots=True)
class McNemar:
    """A test of whether two classifiers are right equally often.

    only_first, only_second: samples on which only that one is right.
    statistic: chi-square with one degree of freedom; None where the test is exact.
    p: two-sided.
    """

    only_first: int
    only_second: int
    statistic: float | None
    p: float


def mcnemar(first: Bools, second: Bools) -> McNemar:
    r"""Test whether two classifiers are right equally often on the same samples.

    With b and c samples on which only the first and only the second is right,

    .. math:: \chi^2 = (|b - c| - 1)^2 / (b + c)

    with one degree of freedom; the correction is at most the difference, so that b = c gives 0.
    Below `EXACT_BELOW` such samples, the two-sided binomial test of b out of b + c against 1/2.

    Args:
        first: (N,) whether the first is right.
        second: (N,) likewise.

    Example:
        >>> one, other = np.array([True] * 5 + [False]), np.array([False] * 5 + [True])
        >>> mcnemar(one, other)  # 2 * (1 + 6) / 2**6
        McNemar(only_first=5, only_second=1, statistic=None, p=0.21875)

    Source:
        McNemar, Psychometrika 12, 1947; the correction: Edwards, Psychometrika 13, 1948.
    """
    b, c = int((first & ~second).sum()), int((second & ~first).sum())
    differ = b + c
    if differ < EXACT_BELOW:
        tail = sum(comb(differ, i) for i in range(min(b, c) + 1)) / 2**differ
        return McNemar(b, c, None, min(1.0, 2 * tail))
    statistic = max(abs(b - c) - 1, 0) ** 2 / differ
    return McNemar(b, c, statistic, erfc(sqrt(statistic / 2)))


def majority(right: Bools) -> Bools:
    """Return where more than half of S runs are right; at exactly half, the first run decides.

    What McNemar's test takes for a setting of several seeds: a typical run. The vote over predicted
    classes would be an ensemble, another classifier than any of the runs.

    Args:
        right: (S, N).

    Example:
        >>> majority(np.array([[True, False, True], [False, True, True]])).tolist()
        [True, False, True]
    """
    share = right.mean(axis=0)
    decided: Bools = np.where(share == 0.5, right[0], share > 0.5)
    return decided


def bootstrap(
    right: Bools, labels: Ints, weights: Mapping[str, Floats], *, replicates: int, seed: int
) -> Floats:
    """Resample the samples of each class, the same ones for all runs; return every run's figures.

    Args:
        right: (S, N) whether each run is right.
        labels: (N,) true classes.
        weights: of `ltkit.metrics.group_weights`, G of them.
        replicates: R.
        seed: of the draws.

    Returns:
        (G, R, S).

    Example:
        >>> right, labels = np.array([[True, True], [False, False]]), np.array([0, 1])
        >>> weights = {"all": np.array([0.5, 0.5])}
        >>> bootstrap(right, labels, weights, replicates=2, seed=0).tolist()
        [[[1.0, 0.0], [1.0, 0.0]]]

    Source:
        Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 8 (stratified samples).
    """
    rng = np.random.default_rng(seed)
    found = np.zeros((len(weights), replicates, len(right)))
    order = np.argsort(labels, kind="stable")
    starts = np.searchsorted(labels[order], np.arange(1 + len(next(iter(weights.values())))))
    for class_id, (start, stop) in enumerate(pairwise(starts)):
        n = int(stop - start)
        if n == 0:
            continue
        own = right[:, order[start:stop]].T.astype(np.float32)  # (n, S)
        parts = [(g, w[class_id] / n) for g, w in enumerate(weights.values()) if w[class_id]]
        for rows in blocks(replicates, max(1, DRAWN_AT_ONCE // n)):
            count = rows.stop - rows.start
            drawn = rng.integers(0, n, size=(count, n)) + n * np.arange(count)[:, None]
            times = np.bincount(drawn.ravel(), minlength=count * n).reshape(count, n)
            hits = times.astype(np.float32) @ own  # (R, S), whole numbers
            for g, weight in parts:
                found[g, rows] += weight * hits
    return found


def mean_over_seeds(drawn: Floats, seed: Sequence[int]) -> Floats:
    """Return the mean over the S runs of a setting in each replicate, with the runs drawn too.

    S runs are drawn with replacement in each replicate, the same ones for equal `seed`. S values
    drawn from S have (S - 1) / S of their variance; their distance from the mean over all runs is
    stretched by sqrt(S / (S - 1)), so that the spread over replicates is that of the samples and
    std² / S of the seeds together. One run stays as it is.

    Args:
        drawn: (G, R, S), a setting's part of `bootstrap`.
        seed: of the draws.

    Returns:
        (G, R).

    Source:
        Rao and Wu, Resampling inference with complex survey data, JASA 83, 1988 (rescaling).
    """
    _, replicates, runs = drawn.shape
    mean: Floats = drawn.mean(axis=2)
    if runs == 1:
        return mean
    picks = np.random.default_rng(list(seed)).integers(0, runs, size=(1, replicates, runs))
    picked = np.take_along_axis(drawn, picks, axis=2).mean(axis=2)
    mean += sqrt(runs / (runs - 1)) * (picked - mean)
    return mean


@dataclass(frozen=True, eq=False)
class Point:
    """One setting of a method on the split that is compared; means over its runs.

    right: (N,) of `majority`.
    by_class: (C,) class accuracies, NaN where there is no sample.
    accuracy, std: by group, None where it is absent; no std of a single run.
    drawn: by group (R,) replicates; without groups whose classes have one sample each, which say
        nothing of the spread within a class.
    """

    label: str
    settings: Mapping[str, Any]
    runs: int
    right: Bools
    by_class: Floats
    accuracy: Mapping[str, float | None]
    std: Mapping[str, float | None] | None
    drawn: Mapping[str, Floats]


@dataclass(frozen=True, eq=False)
class Method:
    """The settings of one file, which of them stand for it in pairs, and which make its curve.

    val: accuracies of each setting on the validation split, where there is more than one setting.
    """

    name: str
    file: str
    points: Sequence[Point]
    val: Sequence[Mapping[str, float | None]] | None
    chosen: Sequence[int]
    walk: Ints

    def curve(self) -> tuple[Floats, Floats]:
        """Return the (H,) overall and few-shot accuracies of the walk on the compared split."""
        return _overall_and_few([self.points[number].accuracy for number in self.walk])


def compare(
    features: FeatureSet,
    split: str,
    entries: Sequence[Entry],
    *,
    bins: Sequence[int] = BINS,
    select: Select | None = "balanced",
    against: str | None = None,
    at: Sequence[float] | None = None,
    replicates: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Compare a features file's own head and corrections of it, pair by pair and as curves.

    What is chosen is chosen on the validation split: the setting that stands for a method in pairs,
    and the settings on its curve (`ltkit.frontier.corners`). Both are then measured on `split`.
    Without few-shot samples for validation, a curve is the hull of all settings on `split` itself,
    where of many the best are partly lucky.

    Runs that differ in the seed only are one setting, with their mean. All 95 % intervals are
    percentiles over one set of replicates: samples of `split` are drawn within their classes, the
    same ones for all methods (so differences are paired), and of several seeds the runs too
    (`mean_over_seeds`; the settings of one method share the drawn seeds). So they hold for new
    samples and new seeds; those of `ltkit.evaluation` are for the seeds at hand.

    Args:
        features: with a head.
        split: which split.
        entries: corrections, in the order to be shown.
        bins: of the shot groups.
        select: what a method's setting is chosen by; None: every setting stands for itself.
        against: who all others are compared with, a method or a setting; None: every pair.
        at: overall accuracies at which curves are compared; None: round ones.
        replicates: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        The document of ``ltkit compare --json``; the command's help has its keys.

    Raises:
        InputError: for an absent split or head, an empty split, no correction or one that does not
            fit, an unknown `against`, or settings to choose from without a validation split.
    """
    data, base = features.split(split), features.classifier()
    if not len(data):
        raise InputError(f"{features.source}: {split}: found no sample")
    if not entries:
        raise InputError(
            f"{features.source}: found no correction of it, expected one or more; make one with "
            "ltkit posthoc or ltkit alphanet fit, or name its file"
        )
    own = Correction(
        "baseline", np.arange(0), base.weight[None, :0], base.bias[None, :0], ({},),
        base.normalize_features,
    )  # fmt: skip
    entries = [Entry("baseline", features.source, own), *entries]
    groups = shot_groups(features.classes.train_count, bins)
    validated = [_validate(features, base, e.correction, groups, select) for e in entries]
    weights = metrics.group_weights(data.labels, base.num_classes, groups)
    measured = _measure(data, base, entries, weights, replicates, seed)
    val = features.splits.get("val")
    on_val = val is not None and bool(np.isin(val.labels, groups.few).any())
    methods = []
    for entry, points, (accuracy, chosen) in zip(entries, measured, validated, strict=True):
        scored = accuracy if accuracy and on_val else [p.accuracy for p in points]
        walk = corners(*_overall_and_few(scored)) if "few" in weights else np.arange(0)
        methods.append(Method(entry.name, entry.file, points, accuracy, chosen, walk))
    standing = [(m, m.points[p]) for m in methods for p in m.chosen]
    rival = None if against is None else _named(against, standing)
    frontier = None
    if "few" in weights:
        frontier = {"chosen_on": "val" if on_val else split}
        frontier |= _frontier(methods, None if rival is None else rival[0], at)
    compared = [point for _, point in standing]
    if rival is None:
        pairs = [(second, first) for first, second in combinations(compared, 2)]
    else:
        pairs = [(point, rival[1]) for point in compared if point is not rival[1]]
    counts = np.bincount(data.labels, minlength=base.num_classes)
    return {
        "schema": SCHEMA,
        "features": features.source,
        "split": split,
        "n": len(data),
        "bins": list(bins),
        "groups": {name: len(ids) for name, ids in groups.items()},
        "samples": {name: int(counts[ids].sum()) for name, ids in groups.items()},
        "bootstrap": {"replicates": replicates, "seed": seed},
        "select": select,
        "against": None if rival is None else rival[1].label,
        "untested_classes": int((counts == 0).sum()),
        "methods": _method_rows(methods),
        "pairs": [_pair_row(*pair, features.classes) for pair in pairs],
        "frontier": frontier,
    }


def _validate(
    features: FeatureSet,
    base: Classifier,
    correction: Correction,
    groups: ShotGroups,
    select: Select | None,
) -> tuple[list[dict[str, float | None]] | None, Sequence[int]]:
    """Return the settings' accuracies on the validation split, and which stand in pairs.

    No accuracies where there is one setting, or no such split.
    """
    settings = [runs for _, runs in settings_of(correction)]
    val = features.splits.get("val")
    if len(settings) == 1 or (select is None and not val):
        return None, range(len(settings))
    if not val:
        raise InputError(
            f"{features.source}: no validation split to choose a setting of {correction.method} "
            "on; pass --every-setting, or compare files with one setting each"
        )
    (predicted,) = predictions(val, base, [correction])
    weights = metrics.group_weights(val.labels, base.num_classes, groups)
    hits = metrics.class_accuracy(predicted == val.labels, val.labels, base.num_classes)
    accuracy = [metrics.summarize(hits[runs].mean(axis=0), weights) for runs in settings]
    if select is None:
        return accuracy, range(len(settings))
    score = [objective(p, val.labels, base.num_classes, groups, select) for p in predicted]
    return accuracy, [int(np.argmax([np.mean([score[r] for r in runs]) for runs in settings]))]


def _measure(
    data: FeatureSplit,
    base: Classifier,
    entries: Sequence[Entry],
    weights: Mapping[str, Floats],
    replicates: int,
    seed: int,
) -> list[list[Point]]:
    """Return the points of every method; all runs are resampled together."""
    predicted = predictions(data, base, [e.correction for e in entries])
    right = np.concatenate(predicted) == data.labels  # (S of all methods, N)
    drawn = bootstrap(right, data.labels, weights, replicates=replicates, seed=seed)
    counts = np.bincount(data.labels, minlength=base.num_classes)
    spread = [name for name, w in weights.items() if counts[w > 0].max() > 1]
    found, first = [], 0
    for number, entry in enumerate(entries):
        settings = list(settings_of(entry.correction))
        points = []
        for setting, runs in settings:
            rows = first + np.array(runs)
            hits = metrics.class_accuracy(right[rows], data.labels, base.num_classes)  # (S, C)
            means = mean_over_seeds(drawn[:, :, rows], (seed, number)).round(12)
            each = [metrics.summarize(h, weights) for h in hits]
            points.append(
                Point(
                    label(entry.name, setting, [s for s, _ in settings]),
                    setting,
                    len(runs),
                    majority(right[rows]),
                    hits.mean(axis=0),
                    metrics.summarize(hits.mean(axis=0), weights),
                    _deviation(each) if len(runs) > 1 else None,
                    {name: d for name, d in zip(weights, means, strict=True) if name in spread},
                )
            )
        found.append(points)
        first += len(entry.correction.runs)
    return found


def _overall_and_few(
    accuracies: Sequence[Mapping[str, float | None]],
) -> tuple[Floats, Floats]:
    """Return (P,) overall and few-shot accuracies; 0 for the latter without few-shot classes."""
    overall, few = np.array([(a["all"] or 0.0, a["few"] or 0.0) for a in accuracies]).T
    return overall, few


def _deviation(each: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    return {
        name: None if value is None else float(np.std([e[name] for e in each], ddof=1))  # type: ignore[arg-type]
        for name, value in each[0].items()
    }


def _named(wanted: str, standing: Sequence[tuple[Method, Point]]) -> tuple[Method, Point]:
    """Return who is meant by a label, or by the name of a method with one setting here."""
    found = [(m, p) for m, p in standing if wanted in (m.name, p.label)]
    if len(found) != 1:
        known = [p.label for _, p in found or standing]
        raise InputError(
            f"--against: found {wanted!r}, expected one of those compared; {nearest(wanted, known)}"
        )
    return found[0]


def _interval(values: Floats | None) -> list[float | None] | None:
    """Return the 95 % percentile interval; None for a bound that is infinite."""
    if values is None or not len(values):
        return None
    # With infinite values there is nothing between two order statistics.
    method = "linear" if np.isfinite(values).all() else "inverted_cdf"
    bounds = np.quantile(values, (0.025, 0.975), method=method)  # type: ignore[call-overload]
    return [float(b) if np.isfinite(b) else None for b in bounds]


def _method_rows(methods: Sequence[Method]) -> list[dict[str, Any]]:
    every = [point for method in methods for point in method.points]
    beaten = iter([-1] * len(every))
    if every[0].accuracy["few"] is not None:
        beaten = iter(dominated_by(*_overall_and_few([p.accuracy for p in every])).tolist())
    return [
        {
            "name": method.name,
            "file": method.file,
            "points": [
                {
                    "label": p.label,
                    "settings": dict(p.settings),
                    "runs": p.runs,
                    "accuracy": p.accuracy,
                    "std": p.std,
                    "interval": {name: _interval(p.drawn.get(name)) for name in GROUPS},
                    "val": method.val and method.val[number],
                    "in_pairs": number in method.chosen,
                    "on_curve": number in method.walk,
                    "dominated_by": None if (by := next(beaten)) < 0 else every[by].label,
                }
                for number, p in enumerate(method.points)
            ],
        }
        for method in methods
    ]


def _pair_row(first: Point, second: Point, classes: ClassTable) -> dict[str, Any]:
    gains = (first.by_class - second.by_class).round(12)  # (C,), NaN without samples

    def named(ids: Ints) -> list[dict[str, Any]]:
        order = ids[np.argsort(-np.abs(gains[ids]), kind="stable")]
        return [{"id": int(c), "name": classes.name(c), "gain": float(gains[c])} for c in order]

    pair: dict[str, Any] = {"first": first.label, "second": second.label}
    pair["difference"] = {
        name: None if a is None or b is None else round(a - b, 12)
        for (name, a), b in zip(first.accuracy.items(), second.accuracy.values(), strict=True)
    }
    drawn = {name: first.drawn[name] - second.drawn[name] for name in first.drawn}
    pair["interval"] = {name: _interval(drawn.get(name)) for name in GROUPS}
    pair["mcnemar"] = asdict(mcnemar(first.right, second.right))
    pair["classes"] = {
        "wins": named(np.flatnonzero(gains > 0)),
        "losses": named(np.flatnonzero(gains < 0)),
        "ties": int((gains == 0).sum()),
    }
    return pair


def _frontier(
    methods: Sequence[Method], rival: Method | None, at: Sequence[float] | None
) -> dict[str, Any]:
    """Compare the methods' curves.

    In a replicate, the overall accuracy at which methods are compared moves with the baseline's,
    for the draw of samples moves all methods' alike. A method that does not reach it is infinitely
    far behind; replicates that neither of two methods reaches are left out.
    """
    names, curves = [m.name for m in methods], [m.curve() for m in methods]
    best = leaders(curves)
    if at is None:  # lower, the first leader stays where it is
        at = round_levels(min(curves[n][0][0] for n in (0, best[0][2])), best[-1][1])
    levels = list(at)
    few = np.concatenate([height(x[None], y[None], np.array([levels])) for x, y in curves])
    drawn = _drawn_curves(methods, levels)
    rows = {name: number for number, name in enumerate(names)}

    def gap(first: str, second: str, level: int) -> dict[str, Any]:
        one, other = few[[rows[first], rows[second]], level]
        found = {"first": first, "second": second, "overall": levels[level]}
        if not (np.isfinite(one) and np.isfinite(other)):
            return found | {"gap": None, "interval": None}
        values = None
        if drawn is not None:
            ours, theirs = drawn[rows[first], :, level], drawn[rows[second], :, level]
            reached = np.isfinite(ours) | np.isfinite(theirs)
            values = ours[reached] - theirs[reached]
        return found | {"gap": round(float(one - other), 12), "interval": _interval(values)}

    if rival is None:
        pairs = list(permutations(names, 2))
    else:
        pairs = [(name, rival.name) for name in names if name != rival.name]
    return {
        "best": [{"from": a, "to": b, "method": names[who]} for a, b, who in best],
        "overall": levels,
        "few": {
            name: [round(float(v), 12) if np.isfinite(v) else None for v in row]
            for name, row in zip(names, few, strict=True)
        },
        "gaps": [gap(*pair, level) for pair in pairs for level in range(len(levels))],
    }


def _drawn_curves(methods: Sequence[Method], levels: Sequence[float]) -> Floats | None:
    """Return the (M, R, L) heights of all curves in the replicates; None where there are none."""
    own = methods[0].points[0]
    if not {"few", "all"} <= own.drawn.keys():
        return None
    moved = own.drawn["all"] - (own.accuracy["all"] or 0.0)  # (R,)
    there = (moved[:, None] + np.array(levels)).round(12)  # (R, L)
    found = []
    for method in methods:
        walk = [method.points[number].drawn for number in method.walk]
        overall, few = (np.stack([drawn[g] for drawn in walk], axis=1) for g in ("all", "few"))
        found.append(height(overall, few, there))
    return np.stack(found)
