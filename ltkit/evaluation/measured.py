"""The settings of corrections, measured on a split, and what was chosen of them.

Beside the dimensions of `ltkit.records`: `P` points, the settings of one method; `H` points of a
curve; `R` replicates of the bootstrap.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import InputError
from ltkit.evaluation import choice, metrics
from ltkit.evaluation.entries import Entry, label, settings_of
from ltkit.evaluation.frontier import corners, knob_of
from ltkit.evaluation.intervals import Moments, moments
from ltkit.evaluation.measures import Figures, Judge
from ltkit.evaluation.networks import predict_entries
from ltkit.evaluation.prediction import predict_classes
from ltkit.evaluation.priors import sample_weights
from ltkit.evaluation.resampling import bootstrap, mean_over_seeds, resampled_groups
from ltkit.records import Correction, FeatureSet, FeatureSplit, Ints, ShotGroups
from ltkit.settings import Select

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Point:
    """One setting of a method on the compared split; means over its runs.

    seeds: number of the method, and the seeds of its S runs.
    right: (S, N) whether each run is right.
    by_class: (C,) class accuracies, NaN where there is no sample.
    found: what intervals need of `right`.
    accuracy, std: by group, None where it is absent; no std of a single run.
    drawn: by group of `resampled_groups`, (R,) replicates.
    figures: beside accuracy, of predictions.
    """

    label: str
    settings: Mapping[str, Any]
    seeds: tuple[int, tuple[Any, ...]]
    right: Bools
    by_class: Floats
    found: Moments
    accuracy: Mapping[str, float | None]
    std: Mapping[str, float | None] | None
    drawn: Mapping[str, Floats]
    figures: Figures


@dataclass(frozen=True, eq=False)
class Method:
    """The settings of one file: which represent it in pairs, and which make up its curve.

    val: accuracies of each setting on the validation split, where there is more than one setting.
    knob: what its settings differ in, where that is one number.
    walk: (H,) the points of its curve, in its order.
    redrawn: (R, P) overall and few-shot accuracies on replicates of the validation split, where the
        curve was chosen there.
    """

    name: str
    file: str
    points: Sequence[Point]
    val: Sequence[Mapping[str, float | None]] | None
    chosen: Sequence[int]
    knob: str | None
    walk: Ints
    redrawn: tuple[Floats, Floats] | None

    def curve(self) -> tuple[Floats, Floats]:
        """Return the walk's (H,) overall and few-shot accuracies on the compared split."""
        return overall_and_few([self.points[number].accuracy for number in self.walk])

    def drawn_curve(self) -> tuple[Floats, Floats]:
        """Return (R, H) overall and few-shot accuracies of the walk in the replicates.

        Where it was chosen on the validation split, it is chosen anew on each replicate of that.
        """
        overall, few = (np.stack([p.drawn[g] for p in self.points], axis=1) for g in ("all", "few"))
        if self.redrawn is None:
            return overall[:, self.walk], few[:, self.walk]
        walks = [corners(x, y) for x, y in zip(*self.redrawn, strict=True)]
        longest = max(map(len, walks))  # the shorter ones stay at their ends
        at = np.stack([np.pad(walk, (0, longest - len(walk)), mode="edge") for walk in walks])
        return np.take_along_axis(overall, at, axis=1), np.take_along_axis(few, at, axis=1)


def few_on_val(features: FeatureSet, groups: ShotGroups) -> bool:
    """Tell whether the validation split has samples of few-shot classes."""
    val = features.splits.get("val")
    return val is not None and bool(np.isin(val.labels, groups.few).any())


def methods_of(
    features: FeatureSet,
    split: str,
    entries: Sequence[Entry],
    groups: ShotGroups,
    select: Select | None,
    replicates: int,
    seed: int,
    prior: Floats | None = None,
) -> list[Method]:
    """Return every file's settings, measured on the split, and what was chosen on val."""
    data, size = features.split(split), len(features.classes)
    weights = metrics.group_weights(data.labels, size, groups, prior)
    shares = sample_weights(data.labels, prior, size)
    predicted = predict_entries(features, split, entries, predict_classes)
    judge = Judge(data, groups, weights, shares)
    measured = _measure(judge, predicted, entries, replicates, seed)
    found = []
    for number, (entry, points) in enumerate(zip(entries, measured, strict=True)):
        of = entry.network or features
        val, chosen, right = validated(of, entry.correction, groups, select, prior)
        settings = [point.settings for point in points]
        knob, redrawn = knob_of(settings), None
        if knob is not None or len(points) == 1:
            walk = np.argsort([each[knob] for each in settings] if knob else [0], kind="stable")
        else:
            there = val if few_on_val(of, groups) else None
            walk = corners(*overall_and_few(there or [point.accuracy for point in points]))
            if there and there[0]["few"] is not None and right is not None:
                every = [runs for _, runs in settings_of(entry.correction)]
                redrawn = _redrawn(
                    of.splits["val"], right, every, groups, replicates, (seed, number), prior
                )
        walk = walk if points[0].accuracy["few"] is not None else np.arange(0)
        found.append(Method(entry.name, entry.file, points, val, chosen, knob, walk, redrawn))
    return found


def _redrawn(
    val: FeatureSplit,
    right: Bools,
    settings: Sequence[Sequence[int]],
    groups: ShotGroups,
    replicates: int,
    seed: tuple[int, int],
    prior: Floats | None,
) -> tuple[Floats, Floats]:
    """Return (R, P) overall and few-shot accuracies of settings on replicates of val.

    The runs drawn are those drawn on the compared split.
    """
    size = sum(len(ids) for _, ids in groups.items())
    weights = metrics.group_weights(val.labels, size, groups, prior)
    wanted = {name: weights[name] for name in ("all", "few")}
    drawn = bootstrap(right, val.labels, wanted, replicates=replicates, seed=(*seed, 1))
    means = np.stack([mean_over_seeds(drawn[:, :, runs], seed) for runs in settings], axis=-1)
    overall, few = means.round(12)
    return overall, few


def validated(
    features: FeatureSet,
    correction: Correction,
    groups: ShotGroups,
    select: Select | None,
    prior: Floats | None,
) -> tuple[list[dict[str, float | None]] | None, Sequence[int], Bools | None]:
    """Return the settings' validation accuracies, and which represent the method in pairs.

    Without several settings, or without such a split, there are no accuracies. Last, (S, N) whether
    each run is right there.
    """
    settings = [runs for _, runs in settings_of(correction)]
    val = features.splits.get("val")
    if len(settings) == 1 or (select is None and not val):
        return None, range(len(settings)), None
    if not val:
        raise InputError(
            f"{features.source}: no validation split to choose a setting of {correction.method} "
            "on; compare every setting, or files with one setting each"
        )
    base = features.classifier()
    (predicted,) = predict_classes(val, base, [correction])
    weights = metrics.group_weights(val.labels, base.num_classes, groups, prior)
    right = predicted == val.labels
    hits = metrics.class_accuracy(right, val.labels, base.num_classes)
    accuracy = [metrics.summarize(hits[runs].mean(axis=0), weights) for runs in settings]
    if select is None:
        return accuracy, range(len(settings)), right
    scores = [
        choice.objective(p, val.labels, base.num_classes, groups, select, prior) for p in predicted
    ]
    return accuracy, [choice.best(scores, settings)[0]], right


def _measure(
    judge: Judge,
    predicted: Sequence[NDArray[Any]],
    entries: Sequence[Entry],
    replicates: int,
    seed: int,
) -> list[list[Point]]:
    """Return the points of every method; all runs are resampled together."""
    data, weights = judge.split, judge.weights
    size = len(next(iter(weights.values())))
    right = np.concatenate(predicted) == data.labels  # (S of all methods, N)
    drawn = bootstrap(right, data.labels, weights, replicates=replicates, seed=seed)
    spread = resampled_groups(data.labels, weights)
    found, first = [], 0
    for number, entry in enumerate(entries):
        settings = list(settings_of(entry.correction))
        points = []
        for setting, runs in settings:
            rows = first + np.array(runs)
            hits = metrics.class_accuracy(right[rows], data.labels, size)  # (S, C)
            means = mean_over_seeds(drawn[:, :, rows], (seed, number)).round(12)
            each = [metrics.summarize(h, weights) for h in hits]
            points.append(
                Point(
                    label(entry.name, setting, [s for s, _ in settings]),
                    setting,
                    (number, tuple(entry.correction.runs[run].get("seed") for run in runs)),
                    right[rows],
                    hits.mean(axis=0),
                    moments(right[rows], data.labels, size),
                    metrics.summarize(hits.mean(axis=0), weights),
                    metrics.deviations(each),
                    {name: d for name, d in zip(weights, means, strict=True) if name in spread},
                    judge.figures(predicted[number][runs]),
                )
            )
        found.append(points)
        first += len(entry.correction.runs)
    return found


def overall_and_few(
    accuracies: Sequence[Mapping[str, float | None]],
) -> tuple[Floats, Floats]:
    """Return (P,) overall and few-shot accuracies; the latter 0 without few-shot classes."""
    overall, few = np.array([(a["all"] or 0.0, a["few"] or 0.0) for a in accuracies]).T
    return overall, few
