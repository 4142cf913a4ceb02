"""Fitting a method on a features file: its grid, the choice on validation data, several seeds."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit import evaluation, posthoc, registry
from ltkit.errors import InputError, SettingError
from ltkit.files.scratch import Parts
from ltkit.posthoc._by_seed import every_seed, own_seeds
from ltkit.posthoc._plan import BOUNDS, Plan
from ltkit.records import (
    Classifier,
    Correction,
    FeatureSet,
    FeatureSplit,
    Present,
    class_prior,
    joined,
    never_predicted,
    note_of_left_out,
    stratified_folds,
)
from ltkit.records.priors import as_text, in_words, names_file
from ltkit.records.progress import Report, silent
from ltkit.settings import FOLDS, Counts, Select

OF_TRAIN = "no moving mean of the features in the file: the mean of its train split is taken"


@dataclass(frozen=True, eq=False)
class Fitted:
    """The result of a plan.

    correction: all runs, or those of the chosen parameters.
    tried, scores: the parameters that were chosen from, and their scores on the validation split;
        none where there was no choice.
    chosen: the best of them.
    by_folds: whether each sample was scored by what was learned from others than it.
    notes: which classes are left out, and what was taken where there was nothing to choose on.
    """

    correction: Correction
    tried: Sequence[Mapping[str, Any]] = ()
    scores: Sequence[float] = ()
    chosen: Mapping[str, Any] | None = None
    by_folds: bool = False
    notes: tuple[str, ...] = ()


def fit_features(
    features: FeatureSet,
    wanted: Plan,
    *,
    select: Select = "balanced",
    bins: Sequence[int] | None = None,
    start: tuple[Correction, int] | None = None,
    by_default: bool = False,
    counts: Counts = "file",
    parts: Parts | None = None,
    report: Report = silent,
) -> Fitted:
    """Fit a method on a features file, as ``ltkit posthoc`` does.

    Classes without training images are left out: the method is fitted among the others. Their rows
    stay those of the classifier it starts from; one that starts anew never predicts them.

    Args:
        features: with a head or a base, unless the method starts anew; with a train split, where
            the method learns from it.
        wanted: of `plan`.
        select: what parameters are chosen by on the validation split.
        bins: bounds of the medium shot group; None: the file's own.
        start: another correction of these features, and which of its runs, to be corrected
            instead of the file's own head; of an ensemble, to go with it.
        by_default: without a validation split to choose on, take the method's own defaults, and
            say so in the result's notes, instead of refusing.
        counts: where the training prior is from: the file's counts, or ``estimate``, the mean
            softmax of the classifier to correct over the train split.
        parts: where each seed's fits are kept, and taken from, of a plan with several seeds.
        report: called after each step or pass of a method that takes many.

    Raises:
        InputError: without a validation split to choose on, without a classifier to start from, and
            for what the method refuses.
    """
    ready = _prepared(features, wanted, bins, start, by_default, counts, report)
    wanted, base, fits, name = ready.wanted, ready.base, ready.fits, ready.name
    val, choice = features.splits.get("val"), wanted.chooses
    scaled = hasattr(wanted.module, "row_scales") and choice and val is not None
    made: list[Correction] = []
    if parts is not None or wanted.seeds > 1:
        made = every_seed(fits, wanted, features, parts)
    elif not scaled:
        made = fits(wanted)
    if not choice or val is None:
        return Fitted(_named(made, name), notes=ready.notes)
    groups = features.groups(bins)
    if wanted.on_val:
        found = _out_of_fold(wanted, features, ready.present, base, val, report)
    elif scaled:
        found = evaluation.predict_scaled(val, base, *wanted.module.row_scales(base, wanted.runs))
    else:
        found = np.concatenate(evaluation.predict_classes(val, base, made))
    target = wanted.every.get("target", "uniform")
    prior = None if target == "uniform" else _target(target, features)
    every = [
        evaluation.objective(p, val.labels, base.num_classes, groups, select, prior) for p in found
    ]
    of = [range(n, n + wanted.seeds) for n in range(0, len(wanted.runs), wanted.seeds)]
    best, scores = evaluation.best(every, of)
    chosen = wanted.tried[best]
    runs = fits(replace(wanted, tried=[chosen])) if scaled else [made[n] for n in of[best]]
    correction = _named(runs, name)
    return Fitted(correction, wanted.tried, scores, chosen, wanted.on_val, ready.notes)


def fit_shard(
    features: FeatureSet,
    wanted: Plan,
    parts: Parts,
    *,
    bins: Sequence[int] | None = None,
    start: tuple[Correction, int] | None = None,
    by_default: bool = False,
    counts: Counts = "file",
    report: Report = silent,
) -> list[Path]:
    """Fit a shard's seeds of a plan, for `fit_features` to take up with parts resumed.

    Args:
        features: as `fit_features`; so are those below, but for `parts`.
        wanted: with several seeds.
        parts: those of a shard.
        bins: of the shot groups.
        start: what is corrected.
        by_default: what is taken without a validation split.
        counts: where the training prior is from.
        report: called after each step.

    Returns:
        The files of the shard's seeds.

    Raises:
        InputError: as `fit_features`, or when another process is the same shard.
    """
    ready = _prepared(features, wanted, bins, start, by_default, counts, report)
    return own_seeds(ready.fits, ready.wanted, features, parts)


@dataclass(frozen=True, eq=False)
class _Prepared:
    """What the fits of a plan need.

    wanted: with what the features say; name: of the result's method.
    base: the classifier that is corrected, of all classes; present: those it is fitted among.
    fits: returns a correction of one run for each of a plan's runs.
    notes: for the user.
    """

    wanted: Plan
    name: str
    base: Classifier
    present: Present
    fits: Callable[[Plan], list[Correction]]
    notes: tuple[str, ...]


def _prepared(
    features: FeatureSet, wanted: Plan, bins: Sequence[int] | None,
    start: tuple[Correction, int] | None, by_default: bool, counts: Counts, report: Report,
) -> _Prepared:  # fmt: skip
    """Check a plan, and return what its fits need; as `fit_features`."""
    _check_counts(wanted, counts)
    wanted = _settled(wanted, features, bins)
    base, beside = _starts(features, wanted, start)
    val = features.splits.get("val")
    present, notes = _present(features, wanted)
    if wanted.takes_mean and features.moving_mean is None:
        notes = (*notes, OF_TRAIN)
    if wanted.chooses and val is None and (wanted.on_both or not wanted.on_val):
        wanted, note = _by_default(wanted, features, by_default)
        notes = (*notes, note)

    def fits(plan: Plan) -> list[Correction]:
        return next(_runs(plan, features, present, base, beside, counts, [val], report))

    name = wanted.name if start is None else f"{start[0].method}+{wanted.name}"
    return _Prepared(wanted, name, base, present, fits, notes)


def _named(made: Sequence[Correction], name: str) -> Correction:
    """Return runs as one correction of a method."""
    return joined([replace(one, method=name) for one in made])


def fit_each(
    features: FeatureSet,
    wanted: Plan,
    vals: Sequence[FeatureSplit | None],
    *,
    bins: Sequence[int] | None = None,
    report: Report = silent,
) -> Iterator[list[Correction]]:
    """Fit every run of a plan with each of several validation splits, and choose none.

    Runs whose rows are the same have them in one place, where the method fits many together: a long
    grid of biases takes the memory of one head.

    Args:
        features: as `fit_features`.
        wanted: of `plan`.
        vals: parts of the validation split, or all of it; a method that does not learn from it is
            fitted as often, to the same.
        bins: as `fit_features`.
        report: as `fit_features`.

    Yields:
        For each validation split a correction of every class in one run, for each run.

    Raises:
        InputError: as `fit_features`.
    """
    wanted = _settled(wanted, features, bins)
    base, beside = _starts(features, wanted, None)
    present, _ = _present(features, wanted)
    yield from _runs(wanted, features, present, base, beside, "file", vals, report)


def _runs(
    wanted: Plan,
    features: FeatureSet,
    present: Present,
    base: Classifier,
    beside: Classifier | None,
    counts: Counts,
    vals: Sequence[FeatureSplit | None],
    report: Report = silent,
) -> Iterator[list[Correction]]:
    """Yield every run of a plan as a correction, for each validation split; as `_fit`."""
    others, name = never_predicted(features) if wanted.anew else base, wanted.name
    for fits in _fit(wanted, features, present, base, beside, counts, vals, report):
        yield [
            Correction.whole(name, present.widened(found, others), run)
            for found, run in zip(fits, wanted.runs, strict=True)
        ]


def _out_of_fold(
    wanted: Plan,
    features: FeatureSet,
    present: Present,
    base: Classifier,
    val: FeatureSplit,
    report: Report,
) -> NDArray[np.int32]:
    """Return (runs, N) predictions of a method that learns from val, for samples it has not seen.

    The split falls into folds that have each class in equal parts; those of a fold are predicted
    by what the others taught.
    """
    fold = stratified_folds(val.labels, FOLDS)
    found = np.empty((len(wanted.runs), len(val)), np.int32)
    numbers = np.unique(fold)
    vals = [val.at(np.flatnonzero(fold != number)) for number in numbers]
    fitted = _runs(wanted, features, present, base, None, "file", vals, report)
    for number, corrections in zip(numbers, fitted, strict=True):
        held = np.flatnonzero(fold == number)
        predicted = evaluation.predict_classes(val.at(held), base, corrections)
        found[:, held] = np.concatenate(predicted)
    return found


def _check_counts(wanted: Plan, counts: Counts) -> None:
    """Refuse an estimate of the prior where nothing takes it.

    Raises:
        SettingError: for a method that does more with counts, or nothing.
    """
    if counts == "estimate" and not wanted.prior_only:
        methods = map(str, registry.names(posthoc))
        able = [m for m in methods if getattr(registry.load(posthoc, m), "PRIOR", False)]
        raise SettingError(
            "counts", f"{wanted.name} takes no estimate of the prior; {', '.join(able)} do"
        )


def _settled(wanted: Plan, features: FeatureSet, bins: Sequence[int] | None) -> Plan:
    """Return a plan with what the features say: the bounds of the groups, a file's target.

    Raises:
        SettingError: when the bins are not two ascending counts.
    """
    features.groups(bins)
    usual = dict(zip(BOUNDS, features.bins if bins is None else bins, strict=True))
    named = registry.defaults(wanted.module.fit)
    free: dict[str, Any] = {
        name: usual[name] for name in BOUNDS if name in named and name not in wanted.every
    }
    target = wanted.every.get("target")
    if target is not None and names_file(target):
        free["target"] = as_text(_target(target, features))
    return replace(wanted, every={**wanted.every, **free})


def _target(target: str, features: FeatureSet) -> NDArray[np.float64]:
    table = features.classes
    return class_prior(target, table.train_count, name="target", class_names=table.names)


def _starts(
    features: FeatureSet, wanted: Plan, start: tuple[Correction, int] | None
) -> tuple[Classifier, Classifier | None]:
    """Return the classifier to correct, and the one that goes beside it in an ensemble."""
    if start is not None:
        base = features.corrected(*start)
        return (features.classifier(), base) if wanted.ensemble else (base, None)
    if wanted.anew and features.head is None and features.base is None:
        return features.empty_classifier(), None
    return features.classifier(), None


def _present(features: FeatureSet, wanted: Plan) -> tuple[Present, tuple[str, ...]]:
    """Return the classes that a method is fitted among, and a note on the others, if any."""
    present = Present.of(features)
    if wanted.head_only:
        present = Present(np.arange(present.num_classes), present.num_classes)
    if present.whole:
        return present, ()
    then = "never predicted" if wanted.anew else "their rows stay as they are"
    return present, (note_of_left_out(features.classes, present.left_out, then),)


def _by_default(wanted: Plan, features: FeatureSet, allowed: bool) -> tuple[Plan, str]:
    """Return the fit with the method's own defaults, and a note on it.

    Raises:
        InputError: when that is not allowed, or the method has no default.
    """
    names = list(wanted.tried[0])
    if not allowed or any(name not in wanted.every for name in names):
        raise InputError(
            f"{features.source}: no validation split to choose {names[0]} on; set {names[0]}, or "
            "keep all with sweep"
        )
    taken = ", ".join(f"{name} {wanted.every[name]:g}" for name in names)
    note = (
        f"no val split to choose {', '.join(names)} on: {taken} is taken, the default of "
        f"{wanted.name}; --set chooses another, --sweep keeps all"
    )
    return replace(wanted, tried=[{}]), note


def _fit(
    wanted: Plan,
    features: FeatureSet,
    present: Present,
    base: Classifier,
    beside: Classifier | None,
    counted: Counts,
    vals: Sequence[FeatureSplit | None],
    report: Report = silent,
) -> Iterator[list[Classifier]]:
    """Yield the classifier of each run among some classes, for each validation split.

    They are fitted together if that is supported.

    Args:
        wanted: the method and its runs.
        features: of all classes.
        present: the classes.
        base: of all classes, to correct.
        beside: of all classes, for an ensemble.
        counted: where the training prior is from.
        vals: of which methods learn that learn from the validation split.
        report: called after each step of a method that has epochs.
    """
    module, runs = wanted.module, wanted.runs
    train, counts = features.splits.get("train"), features.classes.train_count
    if not present.whole:
        train, *vals = (None if s is None else present.split(s) for s in (train, *vals))
        base, counts = present.classifier(base), counts[present.ids]
        beside = None if beside is None else present.classifier(beside)
        runs = [_among(present, run) for run in runs]
    if counted == "estimate":
        counts = _estimated_counts(base, train)
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused
        more = (report,) if hasattr(module, "REPORTS") else ()
        if wanted.on_both:
            yield from module.fit_folds(base, train, counts, runs, vals, *more)
            return
        for val in vals:
            data = val if wanted.on_val else train
            others: tuple[Any, ...] = (beside,) if wanted.ensemble else ()
            others = (features.moving_mean,) if wanted.takes_mean else others
            if hasattr(module, "fit_many"):
                yield module.fit_many(base, data, counts, runs, *others, *more)
            else:
                yield [module.fit(base, data, counts, *others, **run) for run in runs]


def _estimated_counts(base: Classifier, train: FeatureSplit | None) -> NDArray[Any]:
    """Return (C,) how many of the samples a classifier takes for each class.

    Raises:
        InputError: without a train split.
    """
    if train is None or not len(train):
        raise InputError("no train split to estimate the prior on; extract it, or use its counts")
    return evaluation.mean_softmax(train, base) * len(train)


def _among(present: Present, run: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters for some classes: of a target's numbers, theirs.

    Raises:
        InputError: when there is not one for each of all classes.
    """
    target = run.get("target")
    if target is None or in_words(target):
        return dict(run)
    posthoc.log_target(target, np.ones(present.num_classes, np.int64))
    numbers = target.split(",")
    return {**run, "target": ",".join(numbers[c] for c in present.ids)}
