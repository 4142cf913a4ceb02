"""The recommendation: a correction of a features file, and the document that explains it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ltkit.errors import InputError
from ltkit.evaluation import metrics
from ltkit.recommendation import documents
from ltkit.recommendation.answers import answer
from ltkit.recommendation.choosing import Chooser
from ltkit.recommendation.family import (
    BASELINE,
    Candidate,
    Report,
    fit_of,
    gather,
    methods_of,
    shifted,
)
from ltkit.recommendation.objectives import Aim, Floats, Limit
from ltkit.recommendation.wanted import Wanted
from ltkit.records import Correction, FeatureSet, class_prior, stratified_folds
from ltkit.settings import KEEP_OF_RARE, Objective

WITHOUT_VAL = "logit-adjust"
"""What is recommended where there is nothing to choose on; its tau of 1 is that of the theory."""


@dataclass(frozen=True, eq=False)
class Recommendation:
    """What to ship.

    correction: one run; without rows where the baseline is to be kept.
    keep: whether the baseline is to be kept.
    document: plain data, what ``ltkit recommend --json`` prints.
    """

    correction: Correction
    keep: bool
    document: dict[str, Any] = field(repr=False)

    def __str__(self) -> str:
        """Return what it says to a person, line by line."""
        return "\n".join(answer(self.document))


def recommend(
    features: FeatureSet,
    wanted: Wanted = Wanted(),  # noqa: B008 - it is frozen
    *,
    report: Report = lambda what, done, total: None,
) -> Recommendation:
    """Choose the correction to ship, on validation data, and say how sure the choice is.

    Args:
        features: with a head, or a base in its place. Without a validation split nothing can be
            chosen: the answer is then logit adjustment with tau 1, without an estimate.
        wanted: the objective, its limits, and what is tried.
        report: called with what is fitted, how many methods are done, and how many there are.

    Raises:
        SettingError: for an objective or a limit on a group without classes, or an unknown method.
        InputError: when a method that was asked for refuses the features, or none accepts them.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> y = np.repeat([0, 1], [200, 20])
        >>> x = np.float32(rng.normal(size=(220, 2)) + 1.5 * np.eye(2)[y])
        >>> val_y = np.repeat([0, 1], 200)
        >>> val_x = np.float32(rng.normal(size=(400, 2)) + 1.5 * np.eye(2)[val_y])
        >>> from ltkit.records import ClassTable, FeatureSplit, Head
        >>> head = Head(np.float32([[1.5, 0], [0, 1.5]]), np.log(np.float32([200, 20]) / 220))
        >>> splits = {"train": FeatureSplit(x, y), "val": FeatureSplit(val_x, val_y)}
        >>> f = FeatureSet(splits, ClassTable(np.array([200, 20])), head)
        >>> found = recommend(f, Wanted(methods=["logit-adjust"]))
        >>> found.keep, found.document["choice"]["method"]
        (False, 'logit-adjust')
    """
    methods = methods_of(wanted.methods, wanted.with_alphanet)
    prior = _prior(features, wanted)
    shift = None if prior is None else _log_prior(prior)
    if "val" not in features.splits or not len(features.splits["val"]):
        return _without_val(features, wanted, shift)
    val = features.split("val")
    weights = metrics.group_weights(
        val.labels, len(features.classes), features.groups(wanted.bins), prior
    )
    aim = Aim(wanted.aim, weights)
    limits = _limits(aim.name, wanted.keep)
    dealt = stratified_folds(val.labels, wanted.folds, wanted.seed)
    family = gather(
        features, methods, dealt, strict=wanted.methods is not None, shift=shift,
        bins=wanted.bins, report=report,
    )  # fmt: skip
    if len(family.candidates) == 1:
        raise InputError(f"{features.source}: no method fits it; {family.notes[0]}")
    chooser = Chooser(family.right, val.labels, family.method, aim, limits, wanted.confidence)
    choice = chooser.choose(wanted.repeats, wanted.folds, wanted.seed + 1)
    document = documents.of_choice(features, wanted, chooser, choice, family)
    keep = document["choice"]["keep"]
    chosen = family.candidates[0 if keep else choice.chosen.candidate]
    return Recommendation(_fitted(features, chosen, shift, wanted.bins), keep, document)


def _prior(features: FeatureSet, wanted: Wanted) -> Floats | None:
    """Return the (C,) shares of the classes in use, where they are said.

    Raises:
        InputError: for what is no prior of these classes.
        SettingError: for that of test, which is never read.
    """
    if wanted.prior is None:
        return None
    table = features.classes
    return class_prior(wanted.prior, table.train_count, class_names=table.names)


def _log_prior(prior: Floats) -> Floats:
    """Return (C,) what is added to biases for a prior: logs about 0, the least for absent ones."""
    logs = np.log(np.maximum(prior, prior[prior > 0].min() * 1e-3))
    return np.asarray(logs - logs.mean())


def _limits(objective: Objective, keep: Mapping[str, float] | None) -> list[Limit]:
    if keep is None:
        rare = objective in ("few", "worst-group", "worst-class")
        keep = KEEP_OF_RARE if rare else {}
    return [Limit(group, points / 100) for group, points in keep.items()]


def _fitted(
    features: FeatureSet, chosen: Candidate, shift: Floats | None, bins: Sequence[int] | None
) -> Correction:
    """Return the chosen candidate's correction, fitted on all there is."""
    base = features.classifier()
    if chosen.method == BASELINE:
        return replace(Correction.baseline(base), method="recommended (keep)")
    fit, _ = fit_of(chosen.method, chosen.parameters, bins)
    (correction,) = next(fit(features, [features.splits.get("val")]))
    if chosen.offset and shift is not None:
        (correction,) = shifted([correction], base, shift)
    run = {"of": chosen.method, **correction.runs[0]} | ({"offset": 1} if chosen.offset else {})
    return Correction(
        f"recommended ({chosen.method})", correction.class_id, correction.weight, correction.bias,
        (run,), correction.normalize_features,
    )  # fmt: skip


def _without_val(features: FeatureSet, wanted: Wanted, shift: Floats | None) -> Recommendation:
    """Recommend what needs no choice."""
    chosen = Candidate(WITHOUT_VAL, {"tau": 1.0}, offset=shift is not None)
    document = documents.without_val(features, wanted, chosen)
    return Recommendation(_fitted(features, chosen, shift, wanted.bins), False, document)
