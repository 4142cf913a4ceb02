"""Predictions of classifiers on a split, and the scores made of them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit import metrics
from ltkit.errors import InputError
from ltkit.records import (
    SHOT_GROUPS,
    Classifier,
    Correction,
    FeatureSet,
    FeatureSplit,
    Ints,
    ShotGroups,
    products,
    shifted,
    shot_groups,
)
from ltkit.settings import BINS, Select

SCHEMA = "ltkit.evaluate/1"

EQUAL_SIZE = 0.05
"""How much a balanced set of equal size may be smaller or larger: rounding, and images for val."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a classifier says of N samples, for S runs.

    predicted: (S, N) class ids; equal logits go to the lowest.
    rank: (S, N) how many classes come before the true one.
    confidence: (S, N) largest softmax probability.
    """

    predicted: Ints
    rank: Ints
    confidence: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Grouping:
    """Which predictions count as right for a grouped accuracy.

    related: (C, C) bool, row the true class.
    described: what is printed with it (by, rule, level).
    """

    related: NDArray[np.bool_]
    described: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Entry:
    """A correction to be evaluated, with the name and file it is shown under."""

    name: str
    file: str
    correction: Correction


@np.errstate(over="ignore", invalid="ignore")  # logits that are not finite are refused
def predict(
    split: FeatureSplit, base: Classifier, corrections: Sequence[Correction] = ()
) -> tuple[Predictions, list[Predictions]]:
    """Predict a split with the base classifier and with every run of every correction.

    The features are read once, block by block. Where a correction changes some rows only, the
    base's logits serve for the others.

    Returns:
        The base's predictions (S = 1), and those of each correction.

    Raises:
        InputError: when a correction does not fit the features, or logits are not finite.
    """
    base_only = Correction(
        "baseline", np.arange(0), base.weight[None, :0], base.bias[None, :0], ({},),
        base.normalize_features,
    )  # fmt: skip
    every = [base_only, *corrections]
    for correction in every:
        check_fit(correction, base)
    parts: list[list[Predictions]] = [[] for _ in every]
    for _, features, labels in split.blocks():
        prepared = {
            n: _with(base, n).prepare(features) for n in {c.normalize_features for c in every}
        }
        own = products(prepared[base.normalize_features], base.weight)
        shared = shifted(own, base.bias)  # (B, C)
        for found, correction in zip(parts, every, strict=True):
            found.append(_predict_block(correction, shared, prepared, labels))
    joined = [
        Predictions(*(np.concatenate([getattr(b, f) for b in found], axis=1) for f in _FIELDS))
        for found in parts
    ]
    return joined[0], joined[1:]


_FIELDS = ("predicted", "rank", "confidence")


def _with(base: Classifier, normalize: bool) -> Classifier:
    return Classifier(base.weight, base.bias, normalize, base.experts)


def check_fit(correction: Correction, base: Classifier) -> None:
    """Refuse a correction of other features.

    Raises:
        InputError: when its rows are not as long as the base's, or it has classes beyond them.
    """
    misfit = correction.misfit(base.num_classes, base.feature_size)
    if misfit is not None:
        raise InputError(f"{correction.method}: {misfit}; it was fitted on other features")


def _predict_block(
    correction: Correction,
    shared: NDArray[Any],
    prepared: Mapping[bool, NDArray[np.float32]],
    labels: Ints,
) -> Predictions:
    features = prepared[correction.normalize_features]
    rows = []
    for weight, bias in zip(correction.weight, correction.bias, strict=True):
        own = shifted(products(features, weight), bias)  # (B, R)
        if len(correction.class_id) == shared.shape[1]:
            logits = own
        elif len(correction.class_id):
            logits = shared.astype(np.promote_types(shared.dtype, own.dtype))  # a copy
            logits[:, correction.class_id] = own
        else:
            logits = shared
        rows.append(_read_off(logits, labels))
    return Predictions(*(np.stack(column) for column in zip(*rows, strict=True)))


def _read_off(logits: NDArray[Any], labels: Ints) -> tuple[Ints, Ints, NDArray[Any]]:
    """Return predictions, ranks and confidences of (B, C) logits."""
    predicted = logits.argmax(axis=1)
    best = np.take_along_axis(logits, predicted[:, None], axis=1)
    if not np.isfinite(best).all():
        raise InputError("logits: not finite; the classifier is damaged, or the features too large")
    own = np.take_along_axis(logits, labels[:, None], axis=1)
    rank = (logits > own).sum(axis=1)
    tied = (logits == own).sum(axis=1) > 1
    if tied.any():  # equal logits: the lower class id comes first
        before = np.arange(logits.shape[1]) < labels[tied, None]
        rank[tied] += ((logits[tied] == own[tied]) & before).sum(axis=1)
    confidence = 1 / np.exp(logits - best).sum(axis=1)
    return predicted, rank, confidence


def evaluate(
    features: FeatureSet,
    split: str,
    entries: Sequence[Entry],
    *,
    bins: Sequence[int] = BINS,
    grouping: Grouping | None = None,
    topk: Sequence[int] | None = None,
    references: Sequence[FeatureSet] = (),
    replicates: int = 2000,
    seed: int = 0,
) -> tuple[dict[str, Any], dict[str, NDArray[np.float64]]]:
    """Score the features file's own head and every correction on a split.

    Each accuracy is a weighted mean of class accuracies; its 95 % interval, and that of its
    difference to the baseline, come from a bootstrap over the test samples of each class, paired
    for differences. A correction's runs that differ in the seed only make one row: the mean, and
    the standard deviation over seeds.

    Args:
        features: with a head.
        split: which split.
        entries: corrections, in the order to be shown.
        bins: of the shot groups.
        grouping: for grouped accuracy.
        topk: which top-k accuracies to give; None: top-1, and top-5 of five classes or more.
        references: features of models trained on the balanced set of equal size, on the same
            test samples, for relative accuracy: in each group against the best of them.
        replicates: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        The document of ``evaluate --json`` (fractions in 0..1, absent groups None), and the (C,)
        class accuracies of each row by its name, for ``--per-class``; with references also
        theirs, and the relative ones.

    Raises:
        InputError: for an absent split or head, an empty split, a correction that does not fit,
            a k that is no number of classes, a reference that is none.
    """
    data, base = features.split(split), features.classifier()
    if not len(data):
        raise InputError(f"{features.source}: {split}: found no sample")
    if topk is None:
        topk = (1, 5) if base.num_classes >= 5 else (1,)
    if not all(1 <= k <= base.num_classes for k in topk):
        raise InputError(
            f"--topk: found {','.join(map(str, topk))}, expected numbers from 1 to "
            f"{base.num_classes}"
        )
    groups = shot_groups(features.classes.train_count, bins)
    weights = metrics.group_weights(data.labels, base.num_classes, groups)
    reference = np.array([_reference_hits(r, split, features) for r in references])  # (M, N)
    scorer = _Scorer(
        data.labels, base.num_classes, weights, grouping, topk, reference, replicates, seed
    )
    own, found = predict(data, base, [e.correction for e in entries])
    right = (own.predicted == data.labels).astype(np.float64)
    rows = [{"name": "baseline", "file": features.source, "settings": {}} | scorer.row(own, None)]
    by_class = {"baseline": metrics.class_accuracy(right[0], data.labels, base.num_classes)}
    for entry, predictions in zip(entries, found, strict=True):
        every = list(settings_of(entry.correction))
        for settings, runs in every:
            chosen = Predictions(*(getattr(predictions, f)[runs] for f in _FIELDS))
            row = {"name": entry.name, "file": entry.file, "settings": settings}
            rows.append(row | scorer.row(chosen, right[0]))
            hits = (chosen.predicted == data.labels).mean(axis=0)
            told = knobs(settings, [other for other, _ in every])
            name = " ".join([entry.name, *(f"{knob}={value}" for knob, value in told.items())])
            if name in by_class:  # a method of that name, or numbers alike in six digits
                name += f" ({len(by_class)})"
            by_class[name] = metrics.class_accuracy(hits, data.labels, base.num_classes)
    if references:
        best = metrics.class_accuracy(reference, data.labels, base.num_classes)
        relative = {
            f"{name} relative": metrics.relative_accuracy(accuracy, best)
            for name, accuracy in by_class.items()
        }
        by_class |= {"reference": best.max(axis=0)} | relative
    document = {
        "schema": SCHEMA,
        "features": features.source,
        "split": split,
        "n": len(data),
        "bins": list(bins),
        "groups": {name: len(ids) for name, ids in groups.items()},
        "samples": {name: int(np.isin(data.labels, ids).sum()) for name, ids in groups.items()},
        "bootstrap": {"replicates": replicates, "seed": seed},
        "untested_classes": int((np.bincount(data.labels, minlength=base.num_classes) == 0).sum()),
        "rows": rows,
    }
    if references:
        document["relative_to"] = [
            {"features": r.source, "accuracy": scorer.accuracy(hits[None])}
            for r, hits in zip(references, reference, strict=True)
        ]
    return document, by_class


def _reference_hits(reference: FeatureSet, split: str, features: FeatureSet) -> NDArray[np.float64]:
    """Return (N,) whether a reference model is right.

    Raises:
        InputError: when it was tested on other samples, or not trained on a balanced set as large
            as that of the features.
    """
    data, same = features.split(split), reference.split(split)
    known = data.ids is not None and same.ids is not None
    if (
        len(reference.classes) != len(features.classes)
        or not np.array_equal(data.labels, same.labels)
        or (known and not np.array_equal(data.ids, same.ids))  # type: ignore[arg-type]
    ):
        raise InputError(
            f"{reference.source}: {split}: found other samples than in {features.source}, expected "
            "the same; extract both from one dataset"
        )
    counts, total = reference.classes.train_count, int(features.classes.train_count.sum())
    if np.ptp(counts) > 1 or abs(int(counts.sum()) - total) > EQUAL_SIZE * total:
        raise InputError(
            f"{reference.source}: trained on {counts.sum()} images, {counts.min()} to "
            f"{counts.max()} a class, expected about {total / len(counts):.0f} of each; train it "
            "on profile=balanced"
        )
    own, _ = predict(same, reference.classifier())
    hits: NDArray[np.float64] = (own.predicted[0] == same.labels).astype(np.float64)
    return hits


def settings_of(correction: Correction) -> Iterator[tuple[dict[str, Any], list[int]]]:
    """Yield (settings without the seed, runs that have them), smallest settings first."""
    found: dict[str, tuple[dict[str, Any], list[int]]] = {}
    for number, run in enumerate(correction.runs):
        settings = {k: v for k, v in sorted(run.items()) if k != "seed"}
        found.setdefault(repr(settings), (settings, []))[1].append(number)
    yield from sorted(found.values(), key=lambda item: [float(v) for _, v in shown(item[0])])


def shown(settings: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Return the settings that tell rows of one method apart: its knobs."""
    return [(k, settings[k]) for k in ("k", "rho", "tau") if k in settings]


def knobs(settings: Mapping[str, Any], every: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return as text the settings that tell rows of one method apart, and these from `every`.

    Example:
        >>> knobs({"penalty": 0.1, "share": 0.5, "tau": 1.0}, [{"penalty": 10.0, "share": 0.5}])
        {'penalty': '0.1', 'tau': '1'}
    """
    usual, others = dict(shown(settings)), list(every)
    return {
        knob: f"{value:g}" if isinstance(value, int | float) else str(value)
        for knob, value in settings.items()
        if knob in usual or any(other.get(knob) != value for other in others)
    }


def label(name: str, settings: Mapping[str, Any], every: Iterable[Mapping[str, Any]]) -> str:
    """Return a name for a setting: the method's, and its `knobs`.

    Example:
        >>> label("ridge", {"penalty": 0.1}, [{"penalty": 10.0}])
        'ridge penalty 0.1'
    """
    return " ".join([name, *(f"{knob} {value}" for knob, value in knobs(settings, every).items())])


def labels(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what the rows of a document are called."""
    return [label(row["name"], row["settings"], siblings(row, rows)) for row in rows]


def siblings(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the settings of the rows of a document that come of the same file as a row."""
    of = row["name"], row.get("file")
    return [other["settings"] for other in rows if (other["name"], other.get("file")) == of]


@dataclass(frozen=True, eq=False)
class _Scorer:
    """Turns predictions into the figures of a row."""

    labels: Ints
    num_classes: int
    weights: Mapping[str, NDArray[np.float64]]
    grouping: Grouping | None
    topk: Sequence[int]
    references: NDArray[np.float64]
    replicates: int
    seed: int

    def row(self, found: Predictions, baseline: NDArray[np.float64] | None) -> dict[str, Any]:
        """Score S runs; `baseline` is (N,) whether the own head is right, None for itself."""
        right = (found.predicted == self.labels).astype(np.float64)  # (S, N)
        row: dict[str, Any] = {"runs": len(right), "accuracy": self.accuracy(right)}
        row["std"] = self._deviation(right)
        row["interval"] = self._interval(right.mean(axis=0))
        if baseline is not None:
            gain = right.mean(axis=0) - baseline
            row["difference"] = self.accuracy(gain[None])
            row["difference_interval"] = self._interval(gain)
        for k in self.topk:
            if k > 1:
                row[f"top{k}"] = self.accuracy((found.rank < k).astype(np.float64))
        pairs = list(zip(found.confidence, right, strict=True))
        row["calibration"] = {
            name: float(np.mean([self._ece(*pair, weights) for pair in pairs]))
            for name, weights in self.weights.items()
            if name != "balanced"
        }
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
                "interval": self._interval(hits.mean(axis=0)),
                "mean_group_size": size,
                "chance": size / self.num_classes,
            }
        return row

    def accuracy(self, values: NDArray[np.float64]) -> dict[str, float | None]:
        """Return the mean of (S, N) hits in every group; None where it is absent."""
        mean = metrics.class_accuracy(values.mean(axis=0), self.labels, self.num_classes)
        return metrics.summarize(mean, self.weights)

    def _relative(self, right: NDArray[np.float64]) -> dict[str, Any]:
        """Return accuracies of (S, N) hits relative to the references', None where these are 0."""
        values = np.stack([right.mean(axis=0), *self.references])  # (1 + M, N)
        drawn = metrics.bootstrap_jointly(
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
            if self._spreads(name) and not np.isnan(drawn_ratios).any():
                known["interval"][name] = np.quantile(drawn_ratios, (0.025, 0.975)).tolist()
        names = (*SHOT_GROUPS, "all", "balanced")
        return {what: {name: found.get(name) for name in names} for what, found in known.items()}

    def _deviation(self, values: NDArray[np.float64]) -> dict[str, float | None] | None:
        if len(values) < 2:
            return None
        runs = [metrics.summarize(row, self.weights) for row in
                metrics.class_accuracy(values, self.labels, self.num_classes)]  # fmt: skip
        return {
            name: None if value is None else float(np.std([run[name] for run in runs], ddof=1))  # type: ignore[arg-type]
            for name, value in runs[0].items()
        }

    def _interval(self, values: NDArray[np.float64]) -> dict[str, list[float] | None]:
        drawn = metrics.bootstrap_classes(
            values, self.labels, self.num_classes, replicates=self.replicates, seed=self.seed
        )
        return {
            name: metrics.interval(drawn, self.weights[name]) if self._spreads(name) else None
            for name in (*SHOT_GROUPS, "all", "balanced")
        }

    def _spreads(self, name: str) -> bool:
        """Tell whether a group has a spread: classes of one sample say nothing of that within."""
        counts = np.bincount(self.labels, minlength=self.num_classes)
        return name in self.weights and bool(counts[self.weights[name] > 0].max() > 1)

    def _ece(
        self,
        confidence: NDArray[np.float64],
        right: NDArray[np.float64],
        weights: NDArray[np.float64],
    ) -> float:
        inside = weights[self.labels] > 0
        return metrics.calibration_error(confidence[inside], right[inside] > 0)


def objective(
    predicted: Ints, labels: Ints, num_classes: int, groups: ShotGroups, select: Select
) -> float:
    """Return what a setting is chosen by on validation data.

    ``all``: accuracy over samples; ``balanced``: mean over classes; ``few``: mean over few-shot
    classes; ``harmonic``: harmonic mean of the shot groups' accuracies.

    Raises:
        InputError: when `select` names a group without classes or samples.
    """
    by_class = metrics.class_accuracy(predicted == labels, labels, num_classes)
    summary = metrics.summarize(by_class, metrics.group_weights(labels, num_classes, groups))
    if select == "harmonic":
        present = [v for n, _ in groups.items() if (v := summary[n]) is not None]
        return len(present) / sum(1 / v for v in present) if present and all(present) else 0.0
    value = summary[select]
    if value is None:
        raise InputError(f"--select {select}: no such class in the validation split; use all")
    return value


def run_accuracies(
    split: FeatureSplit, base: Classifier, correction: Correction, groups: ShotGroups
) -> list[dict[str, float | None]]:
    """Return the accuracy of every group for each run of a correction; None where it is absent."""
    _, (found,) = predict(split, base, [correction])
    weights = metrics.group_weights(split.labels, base.num_classes, groups)
    return [
        metrics.summarize(
            metrics.class_accuracy(predicted == split.labels, split.labels, base.num_classes),
            weights,
        )
        for predicted in found.predicted
    ]


def choose(
    candidates: Sequence[tuple[dict[str, Any], Classifier]],
    val: FeatureSplit,
    score: Callable[[Ints], float],
) -> tuple[int, list[float]]:
    """Return which candidate scores best on validation data, the first of equals, and all scores.

    Args:
        candidates: (parameters, classifier), all of one feature size.
        val: the validation split.
        score: of (N,) predictions, for example a partial of `objective`.
    """
    first = candidates[0][1]
    corrections = [as_correction("a candidate", c, [p]) for p, c in candidates]
    _, found = predict(val, first, corrections)
    scores = [score(p.predicted[0]) for p in found]
    return int(np.argmax(scores)), scores


def as_correction(
    method: str, classifier: Classifier, runs: Sequence[Mapping[str, Any]]
) -> Correction:
    """Return a whole classifier as a correction of every class, in one run.

    Raises:
        InputError: when its numbers are not finite.
    """
    if not (np.isfinite(classifier.weight).all() and np.isfinite(classifier.bias).all()):
        raise InputError(f"{method}: gives numbers that are not finite; choose other parameters")
    return Correction(
        method,
        np.arange(classifier.num_classes),
        classifier.weight[None],
        classifier.bias[None],
        tuple(runs),
        classifier.normalize_features,
    )
