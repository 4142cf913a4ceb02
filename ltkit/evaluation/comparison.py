"""Comparing corrections: paired differences, and few-shot against overall accuracy.

Beside the dimensions of `ltkit.records`: `R` replicates of the bootstrap; `M` methods.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import combinations, permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import InputError, SettingError, nearest
from ltkit.evaluation import documents, metrics
from ltkit.evaluation.conclusion import conclusion
from ltkit.evaluation.confusion import pair_rows
from ltkit.evaluation.entries import Entry, settings_of
from ltkit.evaluation.frontier import dominated_by, height, leaders, round_levels
from ltkit.evaluation.intervals import (
    Estimate,
    Moments,
    accuracy_estimate,
    difference_estimate,
    moments,
)
from ltkit.evaluation.mcnemar import mcnemar
from ltkit.evaluation.measured import Method, Point, few_on_val, methods_of, overall_and_few
from ltkit.evaluation.networks import every as networks
from ltkit.evaluation.networks import own_head, predict_entries, several
from ltkit.evaluation.prediction import predict_classes
from ltkit.evaluation.priors import described, prior_of
from ltkit.evaluation.resampling import interval
from ltkit.records import ClassTable, FeatureSet, Ints
from ltkit.settings import GROUPS, REPLICATES, Select

SCHEMA = "ltkit.compare/2"

Floats = NDArray[np.float64]


def compare(
    features: FeatureSet,
    split: str,
    entries: Sequence[Entry],
    *,
    bins: Sequence[int] | None = None,
    select: Select | None = "balanced",
    against: str | None = None,
    at: Sequence[float] | None = None,
    prior: str | None = None,
    replicates: int = REPLICATES,
    seed: int = 0,
) -> dict[str, Any]:
    """Compare a features file's own head and its corrections, in pairs and as curves.

    The setting that represents a method in pairs is chosen on the validation split. A method with
    one knob has a curve through all its settings; with several knobs, through those on the hull on
    the validation split, or without few-shot samples there on `split` itself, where of many the
    best are partly lucky (`ltkit.evaluation.frontier`).

    Runs that differ in the seed only are one setting, with their mean. The 95 % intervals of
    accuracies and differences are those of ``evaluate`` (`ltkit.evaluation.intervals`); those of
    gaps between curves are percentiles of a bootstrap of samples and seeds, the same ones for all
    methods (`ltkit.evaluation.resampling`).

    Args:
        features: with a head.
        split: name of the split.
        entries: corrections, in display order; also of other networks, and these themselves
            (`ltkit.evaluation.networks`).
        bins: bounds of the medium shot group; None: the file's own.
        select: accuracy that a method's setting is chosen by; None: compare every setting.
        against: the method or setting that all others are compared with; None: every pair.
        at: overall accuracies at which curves are compared; None: round ones.
        prior: how often classes occur in use, as `ltkit.records.class_prior` has it, under which
            settings are chosen and compared; None: as in the split.
        replicates: bootstrap replicates.
        seed: bootstrap seed.

    Returns:
        The document of ``ltkit compare --json``; the command's help has its keys.

    Raises:
        InputError: for an absent split or head, an empty split, no correction or one that does not
            fit, an unknown `against`, or settings to choose from without a validation split.
    """
    data, size = features.split(split), len(features.classes)
    if not len(data):
        raise InputError(f"{features.source}: {split}: found no sample")
    if not entries:
        raise InputError(
            f"{features.source}: found no correction of it, expected one or more; make one with "
            "ltkit posthoc or ltkit alphanet fit, or name its file"
        )
    entries = [own_head(features), *entries]
    groups = features.groups(bins)
    share = None if prior is None else prior_of(features, split, prior)
    weights = metrics.group_weights(data.labels, size, groups, share)
    methods = methods_of(features, split, entries, groups, select, replicates, seed, share)
    standing = [(m, m.points[p]) for m in methods for p in m.chosen]
    rival, other = (None, None) if against is None else _named(against, standing)
    frontier = None
    if "few" in weights:
        on_val = all(few_on_val(of, groups) for of in networks(features, entries))
        frontier = {"chosen_on": "val" if on_val else split, **_frontier(methods, rival, at)}
    document = documents.opening(SCHEMA, features, split, bins, replicates, seed) | {
        "select": select,
        "against": other and other.label,
        "networks": [of.source for of in networks(features, entries)],
        "untested_classes": documents.untested(data.labels, size),
        "prior": None if share is None else described(str(prior), share, data.labels),
        "methods": _method_rows(methods, weights),
        "pairs": [
            _pair_row(*pair, data.labels, weights, features.classes)
            for pair in _pairs([p for _, p in standing], other)
        ],
        "frontier": frontier,
        "confusions": _confusions(features, split, entries, methods),
    }
    return document | {"conclusion": conclusion(document)}


def _confusions(
    features: FeatureSet, split: str, entries: Sequence[Entry], methods: Sequence[Method]
) -> dict[str, Any] | None:
    """Return the pairs that the first of several networks confuses most; None for one network."""
    if not several(entries):
        return None
    standing, labels = [], []
    for entry, method in zip(entries, methods, strict=True):
        runs = [rows for _, rows in settings_of(entry.correction)]
        for place in method.chosen:
            standing.append(replace(entry, correction=entry.correction.only(runs[place])))
            labels.append(method.points[place].label)
    predicted = predict_entries(features, split, standing, predict_classes)
    pairs = pair_rows(predicted, features.split(split).labels, features.classes)
    return {"of": labels[0], "settings": labels, "pairs": pairs}


def _pairs(points: Sequence[Point], rival: Point | None) -> list[tuple[Point, Point]]:
    """Return pairs of each later against each earlier one; with a rival, all others against it."""
    if rival is None:
        return [(second, first) for first, second in combinations(points, 2)]
    return [(point, rival) for point in points if point is not rival]


def _named(wanted: str, standing: Sequence[tuple[Method, Point]]) -> tuple[Method, Point]:
    """Return the points meant by a label, or by the name of a method with a single setting."""
    found = [(m, p) for m, p in standing if wanted in (m.name, p.label)]
    if not found and wanted == "baseline":  # it has a name of its own
        found = [standing[0]]
    if len(found) != 1:
        known = [p.label for _, p in found or standing]
        raise SettingError(
            "against",
            f"found {wanted!r}, expected one of those compared; {nearest(wanted, known)}",
        )
    return found[0]


def _told(found: Mapping[str, Estimate]) -> dict[str, Any]:
    """Return a document's entries of estimates by group."""
    every = {name: found.get(name, Estimate(0.0, None)) for name in GROUPS}
    return {
        "interval": {name: e.interval and list(e.interval) for name, e in every.items()},
        "seed_share": {name: e.seed_share for name, e in every.items()},
    }


def _method_rows(methods: Sequence[Method], weights: Mapping[str, Floats]) -> list[dict[str, Any]]:
    every = [point for method in methods for point in method.points]
    beaten = iter([-1] * len(every))
    if every[0].accuracy["few"] is not None:
        beaten = iter(dominated_by(*overall_and_few([p.accuracy for p in every])).tolist())
    return [
        {
            "name": method.name,
            "file": method.file,
            "knob": method.knob,
            "points": [
                {
                    "label": p.label,
                    "settings": dict(p.settings),
                    "runs": len(p.right),
                    "accuracy": p.accuracy,
                    "std": p.std,
                    **_told({name: accuracy_estimate(p.found, w) for name, w in weights.items()}),
                    "metrics": p.figures.by_group,
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


def _pair_row(
    first: Point,
    second: Point,
    labels: Ints,
    weights: Mapping[str, Floats],
    classes: ClassTable,
) -> dict[str, Any]:
    pair: dict[str, Any] = {"first": first.label, "second": second.label}
    pair["difference"] = {
        name: None if a is None or b is None else round(a - b, 12)
        for (name, a), b in zip(first.accuracy.items(), second.accuracy.values(), strict=True)
    }
    found = _differences(first, second, labels, weights)
    pair |= _told(found)
    pair["p"] = {name: found[name].p if name in found else None for name in GROUPS}
    single = len(first.right) == len(second.right) == 1
    pair["mcnemar"] = asdict(mcnemar(first.right[0], second.right[0])) if single else None
    pair["classes"] = _classes_won(first.by_class - second.by_class, classes)
    return pair


def _differences(
    first: Point, second: Point, labels: Ints, weights: Mapping[str, Floats]
) -> dict[str, Estimate]:
    """Return the paired differences; seeds of one method that both have are paired, too."""
    seeds: list[Moments] = []
    if first.seeds == second.seeds or 1 in (len(first.right), len(second.right)):
        gains = first.right.astype(np.float64) - second.right
    else:
        gains = (first.right.mean(axis=0) - second.right.mean(axis=0))[None]
        seeds = [first.found, second.found]
    found = moments(gains, labels, len(first.by_class))
    return {name: difference_estimate(found, w, seeds) for name, w in weights.items()}


def _classes_won(gains: Floats, classes: ClassTable) -> dict[str, Any]:
    """Return the classes won, lost and tied, from (C,) gains that are NaN without samples."""
    gains = gains.round(12)

    def named(ids: Ints) -> list[dict[str, Any]]:
        order = ids[np.argsort(-np.abs(gains[ids]), kind="stable")]
        return [{"id": int(c), "name": classes.name(c), "gain": float(gains[c])} for c in order]

    return {
        "wins": named(np.flatnonzero(gains > 0)),
        "losses": named(np.flatnonzero(gains < 0)),
        "ties": int((gains == 0).sum()),
    }


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
        ends = None
        if drawn is not None:
            ours, theirs = drawn[rows[first], :, level], drawn[rows[second], :, level]
            reached = np.isfinite(ours) | np.isfinite(theirs)
            if reached.any():
                ends = interval(ours[reached] - theirs[reached])
        return found | {"gap": round(float(one - other), 12), "interval": ends}

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
    """Return the (M, R, L) curve heights in the replicates; None if a needed group has none."""
    own = methods[0].points[0]
    if not {"few", "all"} <= own.drawn.keys():
        return None
    moved = own.drawn["all"] - (own.accuracy["all"] or 0.0)  # (R,)
    there = (moved[:, None] + np.array(levels)).round(12)  # (R, L)
    return np.stack([height(*method.drawn_curve(), there) for method in methods])
