"""What a calibrated classifier says of samples: probabilities under equal priors, and statistics.

Beside the dimensions of `ltkit.records`: `R` replicates, `d` statistics.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import InputError
from ltkit.evaluation.probabilities import likelihoods as scored
from ltkit.posthoc import _on_val, _stacked, check_val
from ltkit.records import WIDE_BYTES, Classifier, FeatureSplit, Floats, Ints, stratified_folds
from ltkit.records.progress import Report, silent
from ltkit.settings import FOLDS

Doubles = NDArray[np.float64]

PENALTIES = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""Strengths with which offsets are held near their shot group's mean, to choose from."""

USUAL = 3.0
"""Taken where val is too small to choose on."""

STATISTICS = ("confidence", "length", "cosine", "margin")
"""Of a sample: the log of its largest probability before calibration, the log of its features'
length, the cosine of these with the predicted class's row, and the lead of the largest logit."""

ROWS = 4096
"""Samples at a time."""


@dataclass(frozen=True, eq=False)
class Calibrated:
    """A classifier whose probabilities are those under equal priors.

    own: as it was, which the statistics are of.
    classifier: its logits divided by the temperature, offsets added.
    penalty: with which offsets are held near their shot group's mean.
    groups: (C,) number of each class's shot group.
    seen: (P,) classes that are ever predicted and have validation samples.
    folds: of the validation samples, rows and the classifier calibrated on the others; none where
        there are too few to divide.
    """

    own: Classifier
    classifier: Classifier
    penalty: float
    groups: Ints
    seen: Ints
    folds: tuple[tuple[Ints, Classifier], ...] = ()

    @property
    def temperature(self) -> float:
        """T, by which logits are divided."""
        return 1 / _scale(self.own, self.classifier)


def calibrate(
    base: Classifier, val: FeatureSplit | None, counts: Ints, bins: tuple[int, int],
    report: Report = silent,
) -> Calibrated:  # fmt: skip
    """Fit a temperature, and an offset for each class, to validation data of equal class weights.

    The penalty is the one with which held-out folds are most likely.

    Args:
        base: the classifier.
        val: the split.
        counts: (C,) training images per class, which decide the shot groups.
        bins: the least and the greatest count of medium.
        report: called after each pass over the split.

    Raises:
        InputError: without a validation split, or with samples of fewer than two classes in it.

    Source:
        Alexandari, Kundaje and Shrikumar, ICML 2020, arXiv:1901.06852, sec. 2.1 (bias-corrected
        temperature scaling); the penalty is ltkit's own.
    """
    val = check_val(val)
    seen = _on_val.seen(base, val)
    if len(seen) < 2:
        raise InputError(
            f"val: found samples of {len(seen)} class that the classifier predicts, expected two "
            "or more: one class has no prior to adapt to"
        )
    rest = {"weighting": "classes", "few_below": bins[0], "many_above": bins[1]}
    tried = [rest | {"penalty": penalty} for penalty in PENALTIES]
    folds = _folds(base, val, counts, tried, report)
    best = PENALTIES.index(USUAL) if not folds else _best(base, val, folds)
    (found,) = _on_val.learned(base, val, counts, [tried[best]], one_scale=True, report=report)
    return Calibrated(
        base, found, PENALTIES[best], _on_val.group_numbers(counts, *bins), seen,
        tuple((fold.rows, fold.classifier(base, best)) for fold in folds),
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Fold:
    """What the other folds of the validation samples teach, with each penalty.

    rows: of the fold.
    scales: factors of the base's rows; biases: (C,) each.
    """

    rows: Ints
    scales: list[float]
    biases: list[Floats]

    def classifier(self, base: Classifier, which: int) -> Classifier:
        """Return the classifier of a penalty."""
        weight = (base.weight * self.scales[which]).astype(np.float32)
        return replace(base, weight=weight, bias=self.biases[which])


def _folds(
    base: Classifier, val: FeatureSplit, counts: Ints, tried: list[dict[str, object]],
    report: Report,
) -> list[_Fold]:  # fmt: skip
    """Return what is learned without each fold; nothing where no class has two samples."""
    if np.bincount(val.labels).max() < 2 or len(val) < 2 * FOLDS:
        return []
    fold, found = stratified_folds(val.labels, FOLDS), []
    for number in range(FOLDS):
        others = val.at(np.flatnonzero(fold != number))
        made = _on_val.learned(base, others, counts, tried, one_scale=True, report=report)
        scales = [_scale(base, one) for one in made]
        found.append(_Fold(np.flatnonzero(fold == number), scales, [one.bias for one in made]))
    return found


def _scale(base: Classifier, found: Classifier) -> float:
    """Return the factor of a classifier's rows."""
    before, after = (float(np.square(c.weight, dtype=float).sum()) for c in (base, found))
    return float(np.sqrt(after / before)) if before else 1.0


def _best(base: Classifier, val: FeatureSplit, folds: list[_Fold]) -> int:
    """Return the number of the penalty with which the folds' samples are most likely."""
    cost = np.zeros(len(PENALTIES))
    shares = 1 / np.bincount(val.labels, minlength=base.num_classes).clip(1)
    for fold in folds:
        held = val.at(fold.rows)
        for n in range(len(cost)):
            cost[n] += shares[held.labels] @ scored(held, fold.classifier(base, n))[0]
    return int(cost.argmin())


class Likelihoods:
    """(N, C) probabilities under equal priors and (N, d) statistics of samples.

    They are held while they fit the budget of `ltkit.posthoc._stacked`, and are otherwise computed
    again in each pass.

    Args:
        split: the samples; their labels are not looked at.
        calibrated: the classifier.
    """

    def __init__(self, split: FeatureSplit, calibrated: Calibrated) -> None:
        """Read the split for the statistics, and again for the probabilities, if these fit."""
        self.num_classes = calibrated.classifier.num_classes
        self._statistics = _statistics(split, calibrated.own)
        self._inputs = _stacked.Inputs(
            split, self.num_classes, lambda x: _probabilities(x, calibrated.classifier),
            what="logits",
        )  # fmt: skip

    def __len__(self) -> int:
        """N."""
        return len(self._inputs)

    def blocks(self) -> Iterator[tuple[int, Floats, Floats]]:
        """Yield (first row, (B, C) probabilities, (B, d) statistics)."""
        start = 0
        for p, _ in self._inputs.blocks(WIDE_BYTES // (4 * ROWS)):
            yield start, p, self._statistics[start : start + len(p)]
            start += len(p)


def _logits(features: NDArray[np.generic], classifier: Classifier) -> Floats:
    """Return (B, C) logits.

    Raises:
        InputError: for logits that are not finite.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        logits = classifier.logits(features)
    if not np.isfinite(logits).all():
        raise InputError("logits: not finite; the classifier is damaged, or the features too large")
    return logits


def _probabilities(features: NDArray[np.generic], classifier: Classifier) -> Floats:
    """Return (B, C) probabilities of (B, D) features."""
    return _stacked.softmax(_logits(features, classifier))


def _statistics(split: FeatureSplit, own: Classifier) -> Floats:
    """Return (N, d) statistics, as `STATISTICS` lists them."""
    found = np.empty((len(split), len(STATISTICS)), np.float32)
    for rows, features, _ in split.blocks(own.num_classes):
        found[rows] = _some_statistics(features, _logits(features, own), own)
    return found


def _some_statistics(features: NDArray[np.generic], logits: Floats, own: Classifier) -> Floats:
    """Return (B, d) statistics, as `STATISTICS` lists them."""
    x, top = own.prepare(features).astype(np.float64), logits.argmax(axis=1)
    tiny = np.finfo(np.float32).tiny
    row = own.weight[top].astype(np.float64)
    length = np.maximum(np.linalg.norm(x, axis=1), tiny)
    stored = np.linalg.norm(features.astype(np.float64), axis=1)
    cosine = np.einsum("bd,bd->b", x, row) / length / np.maximum(np.linalg.norm(row, axis=1), tiny)
    first, second = np.partition(logits.astype(np.float64), (-2, -1), axis=1)[:, :-3:-1].T
    lead = logits.astype(np.float64) - first[:, None]
    confidence = -np.log(np.exp(lead).sum(axis=1))
    found = [confidence, np.log(np.maximum(stored, tiny)), cosine, first - second]
    return np.stack(found, axis=1).astype(np.float32)
