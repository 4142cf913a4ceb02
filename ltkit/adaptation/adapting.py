"""Adapting a classifier to how often classes occur among samples without labels."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, get_args

import numpy as np

from ltkit.adaptation import estimators, gains, shift, targets, validation
from ltkit.adaptation.answers import answer
from ltkit.adaptation.estimating import Estimate, estimate, gain_of_classes
from ltkit.adaptation.estimators import Drawn, Tail
from ltkit.adaptation.likelihoods import Calibrated, Doubles, Likelihoods, calibrate
from ltkit.errors import InputError, SettingError, nearest
from ltkit.evaluation import predict_classes
from ltkit.posthoc import check_val
from ltkit.records import Classifier, Correction, FeatureSet
from ltkit.records.progress import Report, silent
from ltkit.settings import (
    RANGES,
    AdaptSettings,
    PriorEstimator,
    as_json,
)

SCHEMA = "ltkit.adapt/1"

FEW = 100
"""Samples below which a note says so, and no share of a single class is compared with a tail."""

KEPT = (
    "it is not sure that adapting gains accuracy here: logits are divided by the temperature "
    "alone, and predictions stay"
)
"""Where the interval of the expected gain has 0 in it."""

SINGLE = (
    "shares of single classes take other changes of a class's images for changes of its frequency: "
    "check them on labelled images from the field"
)
"""Of every estimator but the tail."""

MUCH = 0.05
"""Held-out log-likelihood of a sample that shares of single classes gain over a tail, above which a
note says so. Pure tails gain up to 0.02 by errors of calibration (benchmarks/adaptation.py)."""


@dataclass(frozen=True, eq=False)
class Adapted:
    """A classifier adapted to a prior.

    correction: of every class, in one run; its arrays prior, prior_low and prior_high are the
        classes' shares and the ends of their 95 % intervals.
    document: plain data, what ``ltkit posthoc adapt --json`` prints.
    """

    correction: Correction
    document: dict[str, Any] = field(repr=False)

    def __str__(self) -> str:
        """Return what it says to a person, line by line."""
        return "\n".join(answer(self.document))


def adapt(
    features: FeatureSet,
    target: FeatureSet,
    split: str | None = None,
    *,
    start: tuple[Correction, int] | None = None,
    bins: Sequence[int] | None = None,
    settings: AdaptSettings = AdaptSettings(),  # noqa: B008 - it is frozen
    anyway: bool = False,
    report: Report = silent,
) -> Adapted:
    r"""Adapt a classifier to the prior of samples without labels.

    .. math:: z'_c = z_c / T + b_c + \log q_c

    with T and b learned on validation data of equal class weights, and the shares q on the target.
    Where it is not sure that this gains accuracy on validation samples weighted to q, logits are
    divided by T alone: without a sign of a gain, no prediction changes.

    Args:
        features: with a head or a base, and a validation split.
        target: features of the same model and classes; labels are not looked at.
        split: of the target; None: test, or the only one.
        start: another correction of the features, and which of its runs, in the place of the head.
        bins: bounds of the medium shot group; None: the file's own.
        settings: estimator, draws, and the level of the test.
        anyway: whether to adapt where the shift is not one of classes' shares alone.
        report: called with how much is done.

    Raises:
        InputError: for features of another model, an empty target, settings out of range, no
            validation split, or one class only.
        SettingError: for a shift that is not one of shares alone, unless `anyway`.
    """
    _check(settings)
    name = targets.split_of(target, split)
    notes = targets.check(features, target, name)
    base = features.classifier() if start is None else features.corrected(*start)
    val, counts = check_val(features.splits.get("val")), features.classes.train_count
    own = features.bins if bins is None else bins
    features.groups(own)
    calibrated = calibrate(base, val, counts, (own[0], own[1]), report)
    report("part", 1, 3)
    samples = Likelihoods(target.split(name), calibrated)
    draws = validation.draw(
        val, calibrated, replicates=settings.replicates, seed=settings.seed,
        confused=settings.estimator == "bbse",
    )  # fmt: skip
    tail = Tail.of(counts, base.told)
    columns = Drawn(draws.odds, settings.seed + 1)
    found = estimate(samples, tail, draws, settings, columns)
    report("part", 2, 3)
    tested = shift.test(samples, columns, draws, found.shares, found.drawn)
    where = target.source if target.source == targets.IN_MEMORY else f"{target.source}:{name}"
    if tested.p < settings.significance:
        notes.append(_refusal(where, tested, anyway))
    notes += _notes(features, calibrated, samples, tail, found, settings)
    gain = gains.expected(val, calibrated, found.shares)
    kept = gain is not None and gain.unsure
    if kept:
        notes.append(KEPT)
    correction = _correction(calibrated, found, kept)
    report("part", 3, 3)
    document = {
        "schema": SCHEMA, "features": features.source, "target": target.source, "split": name,
        "samples": len(samples), "kept": kept, "expected": None if gain is None else asdict(gain),
        "changed": _changed(target, name, base, correction),
        **_document(features, calibrated, found, tested, own),
        "settings": as_json(settings), "notes": notes,
    }  # fmt: skip
    return Adapted(correction, document)


def tempered(calibrated: Calibrated) -> Classifier:
    """Return the classifier with its logits divided by the temperature, and no more."""
    own, told = calibrated.own, calibrated.own.told
    weight = (own.weight / calibrated.temperature).astype(np.float32)
    bias = np.where(told, own.bias / calibrated.temperature, own.bias).astype(np.float32)
    return replace(own, weight=weight, bias=bias)


def _correction(calibrated: Calibrated, found: Estimate, kept: bool) -> Correction:
    """Return the adapted classifier, or where predictions are kept the tempered one."""
    made = gains.prior_corrected(calibrated.classifier, found.shares)
    low, high = found.ends
    extra = {"prior": found.shares[None], "prior_low": low[None], "prior_high": high[None]}
    correction = Correction.whole("adapt", tempered(calibrated) if kept else made)
    return replace(correction, extra=extra)


def _changed(target: FeatureSet, split: str, base: Classifier, correction: Correction) -> float:
    """Return the share of the target's samples that are predicted otherwise than before."""
    before, after = predict_classes(
        target.split(split), base, [Correction.baseline(base), correction]
    )
    return float((before[0] != after[0]).mean())


def _check(settings: AdaptSettings) -> None:
    """Refuse settings out of range.

    Raises:
        InputError: naming the first.
    """
    known = get_args(PriorEstimator)
    if settings.estimator not in known:
        raise InputError(
            f"estimator: found {settings.estimator!r}; {nearest(str(settings.estimator), known)}"
        )
    for name in ("strength", "significance", "replicates", "seed"):
        RANGES[name].check(getattr(settings, name), name)


def _refusal(where: str, tested: shift.ShiftTest, anyway: bool) -> str:
    """Return a note on a shift that is not one of shares alone.

    Raises:
        SettingError: unless the user insists.
    """
    chance = f"p {tested.p:.2g}" if tested.p >= 1e-9 else "p below 1e-9"
    said = (
        f"{where}: differs in more than how often classes occur ({chance}; the "
        f"{tested.most} of samples, by {abs(tested.z[tested.most]):.1f} standard deviations)"
    )
    if not anyway:
        raise SettingError(
            "to", f"{said}; check model, preprocessing and unknown classes, or insist with anyway"
        )
    return f"{said}; adapted all the same: the prior may be wrong"


def _notes(
    features: FeatureSet,
    calibrated: Calibrated,
    samples: Likelihoods,
    tail: Tail,
    found: Estimate,
    settings: AdaptSettings,
) -> list[str]:
    """Return what to tell the user of the estimate."""
    notes, n = list[str](), len(samples)
    unseen = int(calibrated.classifier.told.sum()) - len(calibrated.seen)
    if unseen:
        notes.append(
            f"{unseen} of {len(features.classes)} classes have no val sample: their offsets are "
            "the mean of their group's"
        )
    if n < FEW:
        notes.append(f"{n} samples: a prior of so few is unsure; see its intervals")
    if settings.estimator != "tail":
        return [*notes, SINGLE]
    if abs(found.slope[0] if found.slope else 0) > 0.99 * estimators.SLOPES[1]:
        notes.append("the tail is as steep as it can be: the samples may be of few classes")
    gain = gain_of_classes(samples, tail, settings.seed) if n >= FEW else 0.0
    if gain > MUCH:
        notes.append(
            f"a share for each class explains held-out samples better than a tail, by {gain:.2f} "
            "nats each: classes follow another order, or look otherwise; compare estimator map-em"
        )
    return notes


def _document(
    features: FeatureSet,
    calibrated: Calibrated,
    found: Estimate,
    tested: shift.ShiftTest,
    bins: Sequence[int],
) -> dict[str, Any]:
    """Return what was found as plain data."""
    counts, (low, high) = features.classes.train_count, found.ends
    trained = counts / max(1, counts.sum())
    groups = [
        {
            "group": group, "classes": len(ids), "train": float(trained[ids].sum()),
            "share": float(found.shares[ids].sum()), "interval": _ends(found.drawn[ids].sum(0)),
        }
        for group, ids in features.groups(bins).items() if len(ids)
    ]  # fmt: skip
    classes = [
        {
            "id": c, "name": features.classes.name(c), "train_count": int(counts[c]),
            "train": float(trained[c]), "share": float(found.shares[c]),
            "interval": [float(low[c]), float(high[c])],
        }
        for c in range(len(counts))
    ]  # fmt: skip
    slope = None if found.slope is None else {
        "value": found.slope[0], "interval": list(found.slope[1:])
    }  # fmt: skip
    return {
        "temperature": calibrated.temperature, "penalty": calibrated.penalty, "slope": slope,
        "groups": groups, "classes": classes, "shift": {"p": tested.p, "z": tested.z},
    }  # fmt: skip


def _ends(values: Doubles) -> list[float]:
    return [float(end) for end in np.quantile(values, (0.025, 0.975))]
