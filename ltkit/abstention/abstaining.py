"""Abstention on a features file: curves, and the rejector for a budget or a wanted error."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.abstention.choosing import budget_for, rejector_at
from ltkit.abstention.fitting import mean_counts
from ltkit.abstention.measuring import METHODS, Judge, as_row, curve, difference, point
from ltkit.abstention.posteriors import (
    Floats,
    Groups,
    Posteriors,
    by_group,
    posterior_blocks,
    posteriors,
)
from ltkit.abstention.rejectors import KIND, Rejector
from ltkit.abstention.risks import Sample, risks
from ltkit.errors import InputError, SettingError
from ltkit.evaluation.documents import opening
from ltkit.evaluation.probabilities import AT_ONCE
from ltkit.records import (
    Classifier,
    FeatureSet,
    Rule,
    blocks,
    classifier_digest,
    stratified_folds,
)
from ltkit.records.progress import Report, silent
from ltkit.settings import FOLDS, RANGES, Rejection, RiskOf

SCHEMA = "ltkit.risk-coverage/1"
PER_FOLD = 2
"""Samples of a fold, at least."""


@dataclass(frozen=True, eq=False)
class Abstention:
    """Curves of abstention, and the rejector that was asked for.

    document: plain data, what ``ltkit analyze risk-coverage --json`` prints.
    rule: the rejector; None where neither a budget nor an error was said.
    """

    document: dict[str, Any] = field(repr=False)
    rule: Rule | None = None


@dataclass(frozen=True)
class Asked:
    """What a rejector is to keep to, and how it is found.

    budget: the share that is handed over; risk: the wanted error among the answers instead.
    of: which error. method: how samples are ranked. folds, seed: of val.
    """

    budget: float | None = None
    risk: float | None = None
    of: RiskOf = "balanced"
    method: Rejection = "plug-in"
    folds: int = FOLDS
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            SettingError: for a number out of its range, or both a budget and an error.
        """
        for name in ("budget", "risk", "folds", "seed"):
            if (value := getattr(self, name)) is not None:
                RANGES[name].check(value, name)
        if self.budget is not None and self.risk is not None:
            raise SettingError("risk", "found a budget, too; say one of them")


def risk_coverage(
    features: FeatureSet,
    classifier: Classifier,
    asked: Asked = Asked(),
    *,
    split: str = "val",
    bins: Sequence[int] | None = None,
    report: Report = silent,
) -> Abstention:
    """Return the error among the answers by how much is handed over, for two rejectors.

    Args:
        features: with val, on which the costs are found.
        classifier: whose answers are judged.
        asked: of the rejector to ship.
        split: whose curves are shown; on val each sample is judged without its fold.
        bins: bounds of the medium shot group; None: the file's own.
        report: called before each step and at the end.

    Raises:
        InputError: without val or the split, samples in it, or two classes.
        SettingError: when no budget reaches the wanted error.
    """
    groups = Groups.among(features.groups(bins), len(features.classes))
    trained = _judge(features, classifier, groups, asked)
    judge = trained if split == "val" else _of(features, split, classifier, groups, trained)
    curves = {}
    for step, method in enumerate(METHODS):
        report("curves", step, len(METHODS) + 1)
        curves[method] = curve(judge, method)
    document = _document(features, split, bins, judge, trained)
    document["methods"] = [as_row(name, found, judge.sample) for name, found in curves.items()]
    one, other = (curves[name] for name in reversed(METHODS))
    document["difference"] = difference(one, other, judge.sample)
    report("curves", len(METHODS), len(METHODS) + 1)
    made, document["rejector"] = _rejector(trained, groups, asked)
    report("curves", len(METHODS) + 1, len(METHODS) + 1)
    if made is None:
        return Abstention(document)
    if split != "val":
        document["rejector"][split] = _measured(judge, made)
    settings = {"method": asked.method, "budget": asked.budget, "risk": asked.risk, "of": asked.of,
                "folds": asked.folds, "seed": asked.seed}  # fmt: skip
    rule = Rule(
        KIND, made.content(), classifier_digest(classifier), len(features.classes),
        features.classes.names, settings, features.inputs,
    )  # fmt: skip
    return Abstention(document, rule)


def _judge(features: FeatureSet, classifier: Classifier, groups: Groups, asked: Asked) -> Judge:
    """Return the judge of val, in folds.

    Raises:
        InputError: without val, two classes, or samples enough for the folds.
    """
    if len(features.classes) < 2:
        raise InputError(f"{features.source}: found one class, expected two: nothing to answer")
    val = _samples(features, "val")
    if len(val) < PER_FOLD * asked.folds:
        raise InputError(
            f"{features.source}: val: found {len(val)} samples, expected {PER_FOLD * asked.folds} "
            f"for {asked.folds} folds; extract more"
        )
    found, sample = posteriors(val, classifier, groups), Sample.of(val.labels, groups)
    fold = stratified_folds(val.labels, asked.folds, asked.seed)
    counts = mean_counts(features.classes.train_count, groups)
    return Judge(found, sample, found, sample, counts, fold)


def _samples(features: FeatureSet, split: str) -> Any:
    """Return a split with samples.

    Raises:
        InputError: when there is none, or it is empty.
    """
    if split not in features.splits or not len(features.splits[split]):
        present = ", ".join(name for name, of in features.splits.items() if len(of)) or "none"
        raise InputError(
            f"{features.source}: {split}: absent or empty; there are: {present}; rejectors are "
            "found on val, images that the network was not trained on: extract it"
        )
    return features.split(split)


def _of(
    features: FeatureSet, split: str, classifier: Classifier, groups: Groups, trained: Judge
) -> Judge:
    """Return the judge of another split, with what val teaches.

    Raises:
        InputError: without the split, or samples in it.
    """
    sample = _samples(features, split)
    return Judge(
        posteriors(sample, classifier, groups), Sample.of(sample.labels, groups),
        trained.learned, trained.taught, trained.counts,
    )  # fmt: skip


def _document(
    features: FeatureSet, split: str, bins: Sequence[int] | None, judge: Judge, trained: Judge
) -> dict[str, Any]:
    """Return a document's first entries."""
    document = opening(SCHEMA, features, split, bins, 0, 0)
    del document["bootstrap"]
    notes = []
    absent = [n for n, u in zip(judge.sample.names, trained.taught.share, strict=True) if not u]
    if absent:
        notes.append(f"no val sample of {', '.join(absent)} classes: treated like the others")
    if len(judge.sample.names) == 1:
        notes.append("all classes are in one shot group: the plug-in ranks as the max softmax does")
    if split == "train":
        notes.append("the network has learned the train images: its errors on others are greater")
    return document | {"figures": list(judge.sample.figures()), "notes": notes}


def _rejector(
    judge: Judge, groups: Groups, asked: Asked
) -> tuple[Rejector | None, dict[str, Any] | None]:
    """Return the rejector that was asked for, and what the document says of it.

    Raises:
        SettingError: when no budget reaches the wanted error.
    """
    budget, ends = asked.budget, None
    if asked.risk is not None:
        found = curve(judge, asked.method)
        budget, ends = budget_for(judge, asked.method, found, asked.risk, asked.of)
    if budget is None:
        return None, None
    made, said = rejector_at(judge, groups, asked.method, budget)
    wanted = {"risk": asked.risk, "of": asked.of, "budget_interval": ends}
    return made, said | {"wanted": None if asked.risk is None else wanted}


def _measured(judge: Judge, made: Rejector) -> dict[str, Any]:
    """Return what a rejector with its threshold does on a split."""
    kept = made.costs.scores(judge.found) <= made.threshold
    wrong = made.costs.answers(judge.found) != judge.sample.labels
    return point(judge.sample, kept, risks(judge.sample, kept, wrong), {})


@dataclass(frozen=True, eq=False)
class Rejections:
    """What a rejector does with samples.

    rejected: (N,) whether a sample is handed over.
    answers: (N,) the class that is answered else.
    scores: (N,) above the threshold where it is handed over.
    """

    rejected: NDArray[np.bool_]
    answers: NDArray[np.int32]
    scores: Floats


def rejections(
    features: FeatureSet, rule: Rule, classifier: Classifier, split: str = "test"
) -> Rejections:
    """Apply a rejector to a split, whose labels are not read.

    Args:
        features: of the network that it was made for.
        rule: of kind ``rejector``.
        classifier: whose answers are judged; the one that it was made for.
        split: of the features.

    Raises:
        InputError: when the rule is of another kind or classifier.
        FormatError: when its content is no rejector.
    """
    made = _made(rule)
    rule.check(features, classifier)
    parts = posterior_blocks(features.split(split), classifier, made.groups)
    return _joined(made, (found for _, found in parts))


def rejections_of_logits(logits: NDArray[Any], rule: Rule) -> Rejections:
    """Apply a rejector to the logits of the classifier that it was made for.

    Args:
        logits: (N, C); nothing but their number of classes can be checked.
        rule: of kind ``rejector``.

    Raises:
        InputError: when the rule is of another kind, or for logits of other classes, or that are
            not finite.
        FormatError: when its content is no rejector.
    """
    made = _made(rule)
    if logits.ndim != 2 or logits.shape[1] != rule.num_classes:
        raise InputError(
            f"logits: found {logits.shape}, expected a column for each of the {rule.num_classes} "
            f"classes of {rule.source}"
        )
    if not np.isfinite(logits).all():
        raise InputError("logits: found NaN or infinity, expected finite numbers")
    parts = blocks(len(logits), max(1, AT_ONCE // (8 * rule.num_classes)))
    return _joined(made, (by_group(logits[p].astype(np.float64), made.groups) for p in parts))


def _made(rule: Rule) -> Rejector:
    """Return the rejector of a rule.

    Raises:
        InputError: when the rule is of another kind.
        FormatError: when its content is no rejector.
    """
    if rule.kind != KIND:
        raise InputError(f"{rule.source}: found a rule of kind {rule.kind}, expected {KIND}")
    return Rejector.of_rule(rule)


def _joined(made: Rejector, parts: Iterable[Posteriors]) -> Rejections:
    """Return what a rejector does with the samples of several blocks."""
    scores, answers = [np.empty(0)], [np.empty(0, np.int32)]
    for found in parts:
        scores.append(made.costs.scores(found))
        answers.append(made.costs.answers(found))
    every = np.concatenate(scores)
    return Rejections(every > made.threshold, np.concatenate(answers), every)
