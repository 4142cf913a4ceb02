"""The scores of a model and its corrections on a split: what ``ltkit evaluate`` prints."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import InputError, SettingError
from ltkit.evaluation import documents, measures, metrics, priors
from ltkit.evaluation.entries import Entry, knobs, label, settings_of
from ltkit.evaluation.grouping import Grouping
from ltkit.evaluation.intervals import (
    Estimate,
    accuracy_estimate,
    difference_estimate,
    moments,
)
from ltkit.evaluation.measured import validated
from ltkit.evaluation.networks import every as networks
from ltkit.evaluation.networks import own_head, predict_entries, same_samples
from ltkit.evaluation.prediction import Predictions, predict, predict_classes
from ltkit.evaluation.resampling import bootstrap_jointly, interval, resampled_groups
from ltkit.records import Correction, FeatureSet, Ints, ShotGroups
from ltkit.settings import GROUPS, REPLICATES, Select

SCHEMA = "ltkit.evaluate/2"

SELECT: Select = "balanced"
"""Accuracy on the validation split by which one of a correction's settings is chosen."""

EQUAL_SIZE = 0.05
"""Allowed deviation from an equally large balanced set: rounding, and images for val."""


def evaluate(
    features: FeatureSet,
    split: str,
    entries: Sequence[Entry],
    *,
    bins: Sequence[int] | None = None,
    grouping: Grouping | None = None,
    topk: Sequence[int] | None = None,
    references: Sequence[FeatureSet] = (),
    prior: str | None = None,
    shifts: bool = False,
    figures: Sequence[str] = (),
    replicates: int = REPLICATES,
    seed: int = 0,
) -> tuple[dict[str, Any], dict[str, NDArray[np.float64]]]:
    """Score the features file's own head and every correction on a split.

    Accuracies are weighted means of class accuracies, and have, like paired differences to the
    baseline, the 95 % interval of `ltkit.evaluation.intervals`. A correction's runs that differ in
    the seed only make one row: the mean, and the standard deviation over seeds. Of a correction's
    rows, the best on the validation split by balanced accuracy is marked; without it, all are.

    Args:
        features: with a head.
        split: name of the split.
        entries: corrections, and other networks (`networks`), in display order.
        bins: bounds of the medium shot group; None: the file's own.
        grouping: for grouped accuracy.
        topk: top-k accuracies to compute; None: top-1, and top-5 with five classes or more.
        references: features of models trained on the balanced set of equal size, on the same
            test samples, for relative accuracy: in each group against the best of them.
        prior: how often classes occur in use, as of `ltkit.records.class_prior`; None: as here.
        shifts: also score under each prior of `priors.SHIFTS`.
        figures: of `ltkit.settings.METRICS`, beyond those that every document has, or by class.
        replicates: bootstrap replicates.
        seed: bootstrap seed.

    Returns:
        The document of ``evaluate --json`` (fractions in 0..1, absent groups None), and the (C,)
        class accuracies of each row by its name, for `class_table`; with references also theirs,
        and the relative ones.

    Raises:
        InputError: for an absent split or head, an empty split, a correction that does not fit,
            a k that is no number of classes, a reference that is none.
    """
    data, base = features.split(split), features.classifier()
    if not len(data):
        raise InputError(f"{features.source}: {split}: found no sample")
    topk = _checked_topk(topk, base.num_classes)
    groups = features.groups(bins)
    share = None if prior is None else priors.prior_of(features, split, prior)
    weights = metrics.group_weights(data.labels, base.num_classes, groups, share)
    samples = priors.sample_weights(data.labels, share, base.num_classes)
    asked = measures.checked(figures)
    judge = measures.Judge(data, groups, weights, samples, asked, replicates, seed)
    reference = np.array([_reference_hits(r, split, features) for r in references])  # (M, N)
    scorer = _Scorer(
        data.labels, base.num_classes, weights, groups, grouping, topk, reference,
        replicates, seed, samples,
    )  # fmt: skip
    rows, by_class, more = _score(features, split, entries, scorer, judge)
    _mark_chosen(rows, features, entries, groups, share)
    if shifts:
        _add_shifts(rows, features, split, by_class)
    if references:
        by_class |= _relative_columns(reference, data.labels, by_class)
    by_class |= more
    document = documents.opening(SCHEMA, features, split, bins, replicates, seed) | {
        "networks": [of.source for of in networks(features, entries)],
        "untested_classes": documents.untested(data.labels, base.num_classes),
        "prior": None if share is None else priors.described(str(prior), share, data.labels),
        "rows": rows,
    }
    if references:
        document["relative_to"] = [
            {"features": r.source, "accuracy": scorer.accuracy(hits[None])}
            for r, hits in zip(references, reference, strict=True)
        ]
    return document, by_class


def _relative_columns(
    reference: NDArray[np.float64], labels: Ints, by_class: Mapping[str, NDArray[np.float64]]
) -> dict[str, NDArray[np.float64]]:
    """Return the class accuracies of (M, N) references' hits, and those relative to them."""
    best = metrics.class_accuracy(reference, labels, len(next(iter(by_class.values()))))
    return {"reference": best.max(axis=0)} | {
        f"{name} relative": metrics.relative_accuracy(accuracy, best)
        for name, accuracy in by_class.items()
    }


def _checked_topk(topk: Sequence[int] | None, num_classes: int) -> Sequence[int]:
    """Return the top-k accuracies to compute.

    Raises:
        SettingError: for a k that is no number of classes.
    """
    if topk is None:
        return (1, 5) if num_classes >= 5 else (1,)
    if not all(1 <= k <= num_classes for k in topk):
        raise SettingError(
            "topk",
            f"found {','.join(map(str, topk))}, expected numbers from 1 to {num_classes}",
        )
    return topk


def _add_shifts(
    rows: Sequence[dict[str, Any]],
    features: FeatureSet,
    split: str,
    by_class: Mapping[str, NDArray[np.float64]],
) -> None:
    """Add each row's accuracy under test priors forward and backward."""
    found = priors.shifted_accuracies(by_class, priors.shifts(features, split))
    for row, shifted in zip(rows, found, strict=True):
        row["priors"] = shifted


def _mark_chosen(
    rows: Sequence[dict[str, Any]],
    features: FeatureSet,
    entries: Sequence[Entry],
    groups: ShotGroups,
    share: NDArray[np.float64] | None,
) -> None:
    """Add to each row its accuracy on the validation split, and whether its setting is chosen."""
    rows[0].update(label=features.baseline, val=None, chosen=True)
    left = 1
    for entry in entries:
        settings, network = (
            [of for of, _ in settings_of(entry.correction)],
            entry.network or features,
        )
        select = SELECT if network.splits.get("val") else None
        val, chosen, _ = validated(network, entry.correction, groups, select, share)
        for number, row in enumerate(rows[left : left + len(settings)]):
            row["label"] = label(entry.name, row["settings"], settings)
            row["val"], row["chosen"] = val and val[number], number in chosen
        left += len(settings)


ByClass = dict[str, NDArray[np.float64]]


def _score(
    features: FeatureSet,
    split: str,
    entries: Sequence[Entry],
    scorer: "_Scorer",
    judge: measures.Judge,
) -> tuple[list[dict[str, Any]], ByClass, ByClass]:
    """Return a row for the own head and every setting, (C,) class accuracies, and other figures."""
    data, base = features.split(split), features.classifier()
    own, *others = predict_entries(features, split, [own_head(features), *entries], predict)
    right = (own.predicted == data.labels).astype(np.float64)
    about = {"name": features.baseline, "file": features.baseline_source, "settings": {}}
    found = judge.figures(own.predicted, own.confidence, [base])
    rows = [about | scorer.row(own, None) | found.row(features.classes)]
    by_class = {features.baseline: metrics.class_accuracy(right[0], data.labels, base.num_classes)}
    more = judge.columns(features.baseline, found)
    for entry, predictions in zip(entries, others, strict=True):
        network, every = entry.network or features, list(settings_of(entry.correction))
        own_judge = replace(judge, split=same_samples(features, network, split))
        for settings, runs in every:
            chosen = predictions.of(runs)
            row = {"name": entry.name, "file": entry.file, "settings": settings}
            classifiers = (network.corrected(entry.correction, run) for run in runs)
            found = own_judge.figures(chosen.predicted, chosen.confidence, classifiers)
            rows.append(row | scorer.row(chosen, right[0]) | found.row(features.classes))
            hits = (chosen.predicted == data.labels).mean(axis=0)
            told = knobs(settings, [other for other, _ in every])
            name = " ".join([entry.name, *(f"{knob}={value}" for knob, value in told.items())])
            if name in by_class:  # a method of that name, or numbers alike in six digits
                name += f" ({len(by_class)})"
            by_class[name] = metrics.class_accuracy(hits, data.labels, base.num_classes)
            more |= judge.columns(name, found)
    return rows, by_class, more


def class_table(
    features: FeatureSet,
    split: str,
    by_class: Mapping[str, NDArray[np.float64]],
    bins: Sequence[int] | None = None,
) -> tuple[list[str], list[list[Any]]]:
    """Return the heading and the rows of a table of class accuracies, one row per class.

    Args:
        features: the scored features.
        split: the scored split.
        by_class: from `evaluate`.
        bins: bounds of the medium shot group; None: the file's own.
    """
    classes = features.classes
    groups = features.groups(bins)
    group_of = {int(c): name for name, ids in groups.items() for c in ids}
    counts = np.bincount(features.split(split).labels, minlength=len(classes))
    heading = ["class", "name", "group", "train_count", f"{split}_count", *by_class]
    rows = [
        [
            c, classes.name(c), group_of[c], classes.train_count[c], counts[c],
            *(values[c] for values in by_class.values()),
        ]
        for c in range(len(classes))
    ]  # fmt: skip
    return heading, rows


def _reference_hits(reference: FeatureSet, split: str, features: FeatureSet) -> NDArray[np.float64]:
    """Return (N,) whether a reference model is right.

    Raises:
        InputError: when it was tested on other samples, or not trained on a balanced set as large
            as that of the features.
    """
    same = same_samples(features, reference, split)
    counts, total = reference.classes.train_count, int(features.classes.train_count.sum())
    if np.ptp(counts) > 1 or abs(int(counts.sum()) - total) > EQUAL_SIZE * total:
        raise InputError(
            f"{reference.source}: trained on {counts.sum()} images, {counts.min()} to "
            f"{counts.max()} a class, expected about {total / len(counts):.0f} of each; train it "
            "on profile=balanced"
        )
    base = reference.classifier()
    ((predicted,),) = predict_classes(same, base, [Correction.baseline(base)])
    hits: NDArray[np.float64] = (predicted == same.labels).astype(np.float64)
    return hits


@dataclass(frozen=True, eq=False)
class _Scorer:
    """Turns predictions into the figures of a row."""

    labels: Ints
    num_classes: int
    weights: Mapping[str, NDArray[np.float64]]
    groups: ShotGroups
    grouping: Grouping | None
    topk: Sequence[int]
    references: NDArray[np.float64]
    replicates: int
    seed: int
    samples: NDArray[np.float64]

    def row(self, found: Predictions, baseline: NDArray[np.float64] | None) -> dict[str, Any]:
        """Score S runs; `baseline` is (N,) whether the own head is right, None for itself."""
        right = (found.predicted == self.labels).astype(np.float64)  # (S, N)
        row: dict[str, Any] = {"runs": len(right), "accuracy": self.accuracy(right)}
        row["std"] = self._deviation(right)
        row["interval"], row["seed_share"] = _told(self._accuracies(right))
        if baseline is not None:
            row["difference"] = self.accuracy(right - baseline)
            told = _told(self._differences(right - baseline))
            row["difference_interval"], row["difference_seed_share"] = told
        for k in self.topk:
            if k > 1:
                row[f"top{k}"] = self.accuracy((found.rank < k).astype(np.float64))
        row["calibration"] = self._calibration(found, right)
        if len(self.references):
            row["relative"] = self._relative(right)
        if self.grouping is not None:
            related = self.grouping.related
            hits = related[self.labels, found.predicted].astype(np.float64)
            size = float(related.sum(axis=1).mean())
            row["grouped"] = {
                **self.grouping.described,
                "accuracy": self.accuracy(hits),
                "std": self._deviation(hits),
                "interval": _told(self._accuracies(hits))[0],
                "mean_group_size": size,
                "chance": size / self.num_classes,
            }
        return row

    def accuracy(self, values: NDArray[np.float64]) -> dict[str, float | None]:
        """Return the mean of (S, N) hits in every group; None for an absent group."""
        mean = metrics.class_accuracy(values.mean(axis=0), self.labels, self.num_classes)
        return metrics.summarize(mean, self.weights)

    def _relative(self, right: NDArray[np.float64]) -> dict[str, Any]:
        """Return accuracies of (S, N) hits relative to the references', None where those are 0."""
        values = np.stack([right.mean(axis=0), *self.references])  # (1 + M, N)
        drawn = bootstrap_jointly(
            values, self.labels, self.num_classes, replicates=self.replicates, seed=self.seed
        )
        means = np.nan_to_num(metrics.class_accuracy(values, self.labels, self.num_classes))
        known: dict[str, Any] = {"accuracy": {}, "interval": {}}
        for name, weights in self.weights.items():
            ratio, drawn_ratios = (
                metrics.relative_accuracy(of[0] @ weights, of[1:] @ weights)
                for of in (means, drawn)
            )
            if not np.isnan(ratio):
                known["accuracy"][name] = round(float(ratio), 12)
            if name in self.spread and not np.isnan(drawn_ratios).any():
                known["interval"][name] = interval(drawn_ratios)
        return {what: {name: found.get(name) for name in GROUPS} for what, found in known.items()}

    def _deviation(self, values: NDArray[np.float64]) -> dict[str, float | None] | None:
        every = metrics.class_accuracy(values, self.labels, self.num_classes)
        return metrics.deviations([metrics.summarize(row, self.weights) for row in every])

    def _accuracies(self, hits: NDArray[np.float64]) -> dict[str, Estimate]:
        found = moments(hits, self.labels, self.num_classes)
        return {name: accuracy_estimate(found, weight) for name, weight in self.weights.items()}

    def _differences(self, gains: NDArray[np.float64]) -> dict[str, Estimate]:
        found = moments(gains, self.labels, self.num_classes)
        return {name: difference_estimate(found, weight) for name, weight in self.weights.items()}

    @cached_property
    def spread(self) -> list[str]:
        """The groups whose relative accuracy has an interval."""
        return resampled_groups(self.labels, self.weights)

    def _calibration(
        self, found: Predictions, right: NDArray[np.float64]
    ) -> dict[str, float | None]:
        """Return the mean calibration error of the predictions in every group, None without any.

        By the class that is predicted: a confidence is right or wrong of what was predicted; among
        the samples of rare classes, known only to the labels, no confidence can be right.
        """
        every = np.arange(self.num_classes)
        groups = [(name, ids) for name, ids in self.groups.items() if name in self.weights]
        errors: dict[str, float | None] = {}
        for name, ids in [*groups, ("all", every)]:
            inside = np.isin(found.predicted, ids)  # (S, N)
            each = [
                metrics.calibration_error(c[i], r[i] > 0, self.samples[i])
                for c, r, i in zip(found.confidence, right, inside, strict=True)
                if self.samples[i].any()  # a prior may leave classes out
            ]
            errors[name] = float(np.mean(each)) if each else None
        return errors


def _told(
    found: Mapping[str, Estimate],
) -> tuple[dict[str, list[float] | None], dict[str, float | None]]:
    """Return, for a document, the intervals of all groups and the seeds' share in each."""
    none = Estimate(0.0, None)
    every = {name: found.get(name, none) for name in GROUPS}
    return (
        {name: e.interval and list(e.interval) for name, e in every.items()},
        {name: e.seed_share for name, e in every.items()},
    )
