"""Three heads, each better than the last, and what they predict for samples they have not seen.

Beside the dimensions of `ltkit.records`: `K` settings that a step chooses among, the first of which
changes nothing.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit import posthoc
from ltkit.errors import InputError
from ltkit.evaluation import label, metrics, predict_classes
from ltkit.records import (
    Base,
    Classifier,
    ClassTable,
    Correction,
    FeatureSet,
    FeatureSplit,
    Ints,
    stratified_folds,
)
from ltkit.records.progress import Report, silent

OFFSETS = ("logit-adjust", "bias")
"""Methods that add a number to each class's logit, the simplest first."""

BIAS = (0.1, 1.0, 10.0, 100.0)
"""Penalties of the second, every other one of its grid: each takes as long as all of the first."""

SHARES, PENALTIES = (0.25, 0.5, 0.75, 1.0), (0.02, 0.2, 2.0)
"""Of a class-balanced regression on held-out features, blended with the head with offsets."""

UNCHANGED = "unchanged"

Predicted = NDArray[np.int32]
Note = Callable[[str], None]


@dataclass(frozen=True)
class Setting:
    """What a step may choose: a method and its parameters."""

    method: str
    parameters: Mapping[str, Any]
    label: str


@dataclass(frozen=True, eq=False)
class Three:
    """What three heads predict.

    predicted: (3, N) by the model's own head, the same with offsets, and one fitted to balanced
        features; each sample by what was neither fitted to it nor chosen with it.
    chosen: of the two steps, in how many folds each setting is chosen, the most frequent first.
    """

    predicted: Predicted
    chosen: Sequence[Mapping[str, int]]


@dataclass(frozen=True, eq=False)
class Folds:
    """A split's samples in folds, and the split without each of them."""

    split: FeatureSplit
    dealt: Ints
    num_classes: int

    @property
    def count(self) -> int:
        """How many there are."""
        return int(self.dealt.max()) + 1

    def inside(self, fold: int) -> Ints:
        """Return the samples of a fold."""
        return np.flatnonzero(self.dealt == fold)

    def without(self, fold: int) -> FeatureSplit:
        """Return the samples of the others."""
        return self.split.at(np.flatnonzero(self.dealt != fold))

    def choose(self, predicted: Predicted) -> Ints:
        """Return for each fold the first setting with the best balanced accuracy in the others.

        Args:
            predicted: (K, N) by each setting, of samples that it was not fitted to.
        """
        right, best = predicted == self.split.labels, []
        for fold in range(self.count):
            rest = np.flatnonzero(self.dealt != fold)
            accuracy = metrics.class_accuracy(
                right[:, rest], self.split.labels[rest], self.num_classes
            )
            total = np.nansum(accuracy, axis=1)  # over the same classes for each setting
            best.append(int(total.round(12).argmax()))
        return np.array(best)

    def taken(self, predicted: Predicted, best: Ints) -> Predicted:
        """Return (N,) each fold's predictions by the setting that was chosen without it."""
        found: Predicted = predicted[best[self.dealt], np.arange(len(self.dealt))]
        return found


def predict_three(
    features: FeatureSet, split: str, *, folds: int, seed: int, bins: Sequence[int] | None,
    note: Note, report: Report = silent,
) -> Three:  # fmt: skip
    """Predict a split with three heads, in folds that they were not fitted to.

    Args:
        features: with a head, or a base in its place.
        split: name of the split, from which offsets and the last head are learned, too.
        folds: of it.
        seed: of the folds.
        bins: bounds of the medium shot group; None: the file's own.
        note: called with a note on each method that is left out.
        report: called before each step and at the end.

    Raises:
        InputError: without a head or the split.
    """
    sample, base = features.split(split), features.classifier()
    dealt = stratified_folds(sample.labels, min(folds, len(sample)), seed)
    parts = Folds(sample, dealt, len(features.classes))
    (own,) = predict_classes(sample, base, [Correction.baseline(base)])
    settings, tried = _with_offsets(features, parts, bins, note, report)
    tried = np.concatenate([own, tried])
    best = parts.choose(tried)
    first = parts.taken(tried, best)
    heads = [
        _head(features, settings[k], parts.without(fold), bins, report)
        for fold, k in enumerate(best)
    ]
    report("heads", 2, 3)
    anew, again = _anew(features, parts, heads, note, report)
    again = np.concatenate([first[None], again])
    report("heads", 3, 3)
    last = parts.choose(again)
    chosen = [_counted(settings, best), _counted(anew, last)]
    return Three(np.stack([own[0], first, parts.taken(again, last)]), chosen)


def _counted(settings: Sequence[Setting], best: Ints) -> dict[str, int]:
    """Return in how many folds each setting is chosen."""
    return dict(Counter(settings[k].label for k in best).most_common())


def _with_offsets(
    features: FeatureSet, parts: Folds, bins: Sequence[int] | None, note: Note, report: Report
) -> tuple[list[Setting], Predicted]:
    """Return the settings of methods that add offsets, and what each but the first predicts."""
    settings = [Setting(UNCHANGED, {}, UNCHANGED)]
    found = [np.empty((0, len(parts.dealt)), np.int32)]
    others = [parts.without(fold) for fold in range(parts.count)]
    heads = [features.classifier()] * parts.count
    for step, name in enumerate(OFFSETS):
        wanted = posthoc.plan(name, sweep=True)
        if name == "bias":
            wanted = replace(wanted, tried=[{"penalty": penalty} for penalty in BIAS])
        report("heads", step, 3)
        try:
            fits = posthoc.fit_each(features, wanted, others, bins=bins, report=report)
            found.append(_out_of_fold(parts, heads, fits))
        except InputError as error:
            note(f"{name} is left out: {error}")
            continue
        settings += [Setting(name, run, label(name, run, wanted.tried)) for run in wanted.tried]
    return settings, np.concatenate(found)


def _head(
    features: FeatureSet, setting: Setting, rest: FeatureSplit, bins: Sequence[int] | None,
    report: Report,
) -> Classifier:  # fmt: skip
    """Return the model's own head with the offsets that some samples teach."""
    if setting.method == UNCHANGED:
        return features.classifier()
    wanted = posthoc.plan(setting.method, setting.parameters)
    ((correction,),) = posthoc.fit_each(features, wanted, [rest], bins=bins, report=report)
    return correction.classifier(features.classifier(), 0)


def _anew(
    features: FeatureSet, parts: Folds, heads: Sequence[Classifier], note: Note, report: Report
) -> tuple[list[Setting], Predicted]:
    """Return the settings of heads fitted to the other folds, and what each but the first predicts.

    The regression is balanced over the classes; blended with the head that it is to better, it can
    do no worse for want of samples.
    """
    settings = [Setting(UNCHANGED, {}, UNCHANGED)]
    grid = [{"share": s, "penalty": p} for p, s in product(PENALTIES, SHARES)]
    wanted = replace(posthoc.plan("blend", {"tau": 0.0}), tried=grid, sweep=True)
    try:
        predicted = _out_of_fold(parts, heads, _blends(features, parts, heads, wanted, report))
    except InputError as error:
        note(f"no head is fitted to held-out features: {error}")
        return settings, np.empty((0, len(parts.dealt)), np.int32)
    settings += [Setting("blend", of, label("regression", of, grid)) for of in grid]
    return settings, predicted


def _blends(
    features: FeatureSet,
    parts: Folds,
    heads: Sequence[Classifier],
    wanted: posthoc.Plan,
    report: Report,
) -> Iterator[list[Correction]]:
    """Yield, for each fold, what a plan fits to the others in the place of the train split."""
    for fold, head in enumerate(heads):
        rest = parts.without(fold)
        counts = np.bincount(rest.labels, minlength=parts.num_classes)
        held_out = FeatureSet(
            {"train": rest}, ClassTable(counts), source=features.source,
            base=Base("with offsets", head),
        )  # fmt: skip
        yield next(posthoc.fit_each(held_out, wanted, [None], report=report))


def _out_of_fold(
    parts: Folds, heads: Sequence[Classifier], fits: Iterator[list[Correction]]
) -> Predicted:
    """Return (K, N) predictions of each fold by what was fitted to the others.

    Args:
        parts: the folds.
        heads: what is corrected, for each fold.
        fits: corrections of one run each, for each fold.
    """
    found = []
    for fold, (head, corrections) in enumerate(zip(heads, fits, strict=True)):
        some = parts.split.at(parts.inside(fold))
        found.append(np.concatenate(predict_classes(some, head, corrections)))
    order = np.argsort(np.concatenate([parts.inside(fold) for fold in range(parts.count)]))
    predicted: Predicted = np.concatenate(found, axis=1)[:, order]
    return predicted
