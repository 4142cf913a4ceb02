r"""A part of AlphaNet's correction on a head of your choice, and a prior offset for the rest.

.. math:: w'_c = w^{onto}_c + s \sum_i \alpha_{ci} v_i, \quad z' = z - \tau \log \pi

AlphaNet learns on the base, whose rows v_i are added; the head that gets the correction may be a
better one. With s = 1, tau = 0 and the base itself it is AlphaNet as published.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit import evaluation
from ltkit.alphanet.composed_scores import right_by_class, score_of
from ltkit.alphanet.networks import added_rows
from ltkit.errors import InputError, SettingError
from ltkit.files import bases
from ltkit.files.bases import Start
from ltkit.records import (
    LEARNED,
    Base,
    Classifier,
    Correction,
    FeatureSet,
    Present,
    class_prior,
    note_of_left_out,
)
from ltkit.settings import COMPOSED_OFFSETS, COMPOSED_SCALES, RANGES, Auto, Select

Floats = NDArray[np.float64]

COMPOSED = ("scale", "prior_offset", "onto")
"""Settings of a run that say how it was composed; ``onto`` is a file's digest, None the base."""


@dataclass(frozen=True, eq=False)
class Choice:
    """What was chosen for runs that differ in the seed only.

    settings: of the runs, without the seed.
    tried, scores: every scale, prior offset, or pair of both, and what it scores, the mean over the
        seeds.
    best: the place of the chosen one.
    """

    settings: Mapping[str, Any]
    tried: Sequence[Mapping[str, float]]
    scores: Sequence[float]
    best: int


Chosen = Callable[[Choice], None]


@dataclass(frozen=True, eq=False)
class Composition:
    """How much of a correction goes onto which head; everything is checked before a fit.

    onto: the head, None for the base itself.
    log_prior: (C,) of the training counts, 0 for classes without images; None without an offset.
    """

    features: FeatureSet
    onto: Base | None
    scale: float | Auto
    prior_offset: float | Auto
    select: Select
    bins: Sequence[int] | None
    log_prior: Floats | None

    def of(self, correction: Correction, chosen: Chosen = lambda choice: None) -> Correction:
        """Return the composition of a fit's correction.

        Args:
            correction: of `ltkit.alphanet.fit`.
            chosen: called with what was chosen, for each rho.

        Raises:
            InputError: when it holds no coefficients, or is composed already.
        """
        check_uncomposed(correction)
        if self.onto is None and self.scale == 1 and self.prior_offset == 0:
            return correction  # AlphaNet as published
        runs = len(correction.runs)
        fixed = {"scale": self.scale, "prior_offset": self.prior_offset}
        numbers = {n: np.full(runs, np.nan if v == "auto" else float(v)) for n, v in fixed.items()}
        if "auto" in fixed.values():
            for choice, some in self._choices(correction):
                for name, value in choice.tried[choice.best].items():
                    numbers[name][some] = value
                chosen(choice)
        base = self.features.classifier()
        scales, offsets = numbers["scale"], numbers["prior_offset"]
        return composed(correction, base, self.onto, scales, offsets, self.log_prior)

    def _choices(self, correction: Correction) -> list[tuple[Choice, list[int]]]:
        """Return what is best on the validation split for each rho, and its runs."""
        scales = COMPOSED_SCALES if self.scale == "auto" else (self.scale,)
        offsets = COMPOSED_OFFSETS if self.prior_offset == "auto" else (self.prior_offset,)
        pairs = list(product(scales, offsets))
        asked = [n for n in COMPOSED[:2] if getattr(self, n) == "auto"]
        tried = [
            {n: v for n, v in zip(COMPOSED, pair, strict=False) if n in asked} for pair in pairs
        ]
        base, val = self.features.classifier(), self.features.split("val")
        head = base if self.onto is None else self.onto.classifier
        log_prior = np.zeros(base.num_classes) if self.log_prior is None else self.log_prior
        right = right_by_class(val, base, head, correction, scales, offsets, log_prior)
        groups = self.features.groups(self.bins)
        scores = score_of(right, val.labels, groups, self.select)  # (S, tried)
        found = []
        for settings, runs in evaluation.settings_of(correction):
            means = scores[runs].mean(axis=0).round(12).tolist()
            found.append((Choice(settings, tried, means, _best(pairs, means)), runs))
        return found


def _best(tried: Sequence[tuple[float, float]], scores: Sequence[float]) -> int:
    """Return the best scale and offset; of equals the smallest scale, then the offset nearest 0.

    Example:
        >>> _best([(0.5, -0.25), (0.5, 0.0), (0.5, 0.25)], [0.5, 0.4, 0.5])
        2
    """

    def order(number: int) -> tuple[float, ...]:
        scale, offset = tried[number]
        return -scores[number], scale, abs(offset), -offset

    return min(range(len(tried)), key=order)


def planned(
    features: FeatureSet,
    onto: Start | None,
    scale: float | Auto,
    prior_offset: float | Auto,
    select: Select = "balanced",
    bins: Sequence[int] | None = None,
    note: Callable[[str], None] = lambda message: None,
) -> Composition:
    """Check what is asked of a composition, before anything is fitted.

    Raises:
        SettingError: for numbers out of range, ``auto`` without a validation split, a group that
            it has no class of, an offset where a class has no log prior, and a head of some
            classes only, of several runs or of another form.
        FormatError: for a head's file that is not sound.
        InputError: for one of other features.
    """
    for name, value in (("scale", scale), ("prior_offset", prior_offset)):
        _check_number(features, name, value)
    if "auto" in (scale, prior_offset):
        labels = features.split("val").labels  # a perfect score: is there what to choose by?
        size, groups = len(features.classes), features.groups(bins)
        evaluation.objective(labels, labels, size, groups, select)
    log_prior = None
    if prior_offset != 0:
        log_prior = log_prior_of(features, note)
    return Composition(
        features, head_of(features, onto), scale, prior_offset, select, bins, log_prior
    )


def _check_number(features: FeatureSet, name: str, value: float | Auto) -> None:
    within = RANGES["alpha_scale" if name == "scale" else name]
    if value == "auto":
        if not len(features.splits.get("val", ())):
            raise SettingError(
                name, f"auto chooses on a val split, {features.source} has none; give a number"
            )
    elif isinstance(value, str) or value not in within:
        raise SettingError(name, f"found {str(value)[:60]}, expected auto, or {within}")


def log_prior_of(features: FeatureSet, note: Callable[[str], None]) -> Floats:
    """Return the (C,) log prior of the classes with training images; 0 for the others."""
    present, counts = Present.of(features), features.classes.train_count
    empty = present.ids[counts[present.ids] == 0]
    if len(empty):
        raise SettingError(
            "prior_offset",
            f"found no training image of class {empty[0]}, so it has no log prior; {len(empty)} "
            "such classes; take 0",
        )
    if not present.whole:
        then = "the prior offset leaves their logits as they are"
        note(note_of_left_out(features.classes, present.left_out, then))
    logs = np.zeros(len(counts))
    logs[present.ids] = np.log(class_prior("train", counts[present.ids]))
    return logs


def head_of(features: FeatureSet, onto: Start | None) -> Base | None:
    """Return the head that gets the correction; None where it is the base itself."""
    if onto is None:
        return None
    head, base = bases.read_start(features, onto, "onto"), features.classifier()
    forms = [(c.normalize_features, c.experts) for c in (head.classifier, base)]
    if forms[0][0] != forms[1][0] or (forms[0][0] and forms[0] != forms[1]):
        raise SettingError(
            "onto",
            f"{head.source}: its features are {_form(head.classifier)}, those of the base "
            f"{_form(base)}, so its rows cannot be added; take a head of the base's form",
        )
    same = np.array_equal(head.classifier.weight, base.weight)
    return None if same and np.array_equal(head.classifier.bias, base.bias) else head


def _form(classifier: Classifier) -> str:
    parts = f" in {classifier.experts} parts" if classifier.experts > 1 else ""
    return f"normalised{parts}" if classifier.normalize_features else "as they are"


def check_uncomposed(correction: Correction) -> None:
    """Refuse what cannot be composed.

    Raises:
        InputError: when it holds no coefficients, or is composed already.
    """
    if correction.composed:
        raise InputError(
            f"{correction.method}: is composed already, expected what alphanet fit learned; fit "
            "it anew, with the scale and the offset you want"
        )
    if not {"alpha", "neighbor"} <= correction.extra.keys():
        raise InputError(
            f"{correction.method}: holds no coefficients, expected a fit of alphanet fit or apply"
        )


def inputs_of(correction: Correction, features: FeatureSet) -> dict[str, str]:
    """Return the digests of the files that a correction was made from, by role."""
    onto = correction.runs[0]["onto"] if correction.composed else None
    return features.inputs | ({"onto": onto} if onto else {})


def compose(
    correction: Correction,
    features: FeatureSet,
    *,
    onto: Start | None = None,
    scale: float | Auto = 1.0,
    prior_offset: float | Auto = 0.0,
    select: Select = "balanced",
    bins: Sequence[int] | None = None,
    note: Callable[[str], None] = lambda message: None,
    chosen: Chosen = lambda choice: None,
) -> Correction:
    """Add a part of a fit's correction to a head, and offset every class by its log prior.

    Where the head is the base and the offset 0, the result has the rows of the corrected classes
    alone. Otherwise it has those of every class, and stands without a base.

    Args:
        correction: of `ltkit.alphanet.fit`, not composed.
        features: that it was fitted on, with the base it was fitted on.
        onto: the head that gets the correction, of every class in one run, made from the same
            features; None: the base itself.
        scale: s, the part of the correction; ``auto`` takes what scores best on the validation
            split, for each rho, the mean over its seeds: the smallest of equals.
        prior_offset: tau, how much of the log of a class's training frequency is taken from its
            logit; of classes without images none is. ``auto`` as for the scale: of equals, with
            the smallest scale, the one nearest 0.
        select: accuracy that ``auto`` chooses by.
        bins: bounds of the medium shot group, for the choice; None: the file's own.
        note: called with a note on classes without training images.
        chosen: called with what was chosen, for each rho.

    Raises:
        InputError: as `planned`, and for a correction that cannot be composed.

    Example:
        >>> from ltkit.face import features
        >>> found = features(train=(np.eye(2), [0, 1]), weight=[[1, 0], [0, 1]])
        >>> fit = Correction(
        ...     "alphanet", np.array([1]), np.float32([[[-1, 1]]]), np.zeros((1, 1)), ({"rho": 1},),
        ...     extra={"alpha": np.float32([[[-1]]]), "neighbor": np.array([[[0]]])},
        ... )
        >>> compose(fit, found, onto=Classifier(3 * np.eye(2), np.ones(2)), scale=0.5).weight
        array([[[ 3. ,  0. ],
                [-0.5,  3. ]]], dtype=float32)
    """
    wanted = planned(features, onto, scale, prior_offset, select, bins, note)
    return wanted.of(correction, chosen)


@np.errstate(over="ignore", invalid="ignore")  # who writes the rows refuses what is not finite
def composed(
    correction: Correction,
    base: Classifier,
    onto: Base | None,
    scales: Floats,
    offsets: Floats,
    log_prior: Floats | None,
) -> Correction:
    """Compose a correction, each run with its own numbers.

    Args:
        correction: of F classes in S runs, not composed.
        base: what it was learned on.
        onto: the head that gets it; None: the base.
        scales: (S,).
        offsets: (S,).
        log_prior: (C,); None where all offsets are 0.
    """
    head = base if onto is None else onto.classifier
    few, every = correction.class_id, np.arange(base.num_classes)
    ids = few if onto is None and not offsets.any() else every
    weight = np.repeat(head.weight[None, ids].astype(np.float32), len(scales), axis=0)
    bias = np.repeat(head.bias[None, ids].astype(np.float64), len(scales), axis=0)
    place = np.searchsorted(ids, few)
    for run, (scale, offset) in enumerate(zip(scales, offsets, strict=True)):
        if scale:
            rows, shift = _part(correction, base, run)
            weight[run, place] = weight[run, place] + scale * rows
            bias[run, place] += scale * shift
        if offset and log_prior is not None:
            bias[run] -= offset * log_prior
    numbers = zip(scales.tolist(), offsets.tolist(), strict=True)
    digest = None if onto is None else onto.digest
    runs = tuple(
        {**run, **dict(zip(COMPOSED, (*pair, digest), strict=True))}
        for run, pair in zip(correction.runs, numbers, strict=True)
    )
    name = correction.method if onto is None else f"{onto.name}+{correction.method}"
    return Correction(
        name, ids, weight, bias.astype(np.float32), runs, head.normalize_features,
        _kept(correction),
    )  # fmt: skip


def _part(correction: Correction, base: Classifier, run: int) -> tuple[Floats, Floats]:
    """Return what a run adds to the rows (F, D) and biases (F,) of its classes, in float64."""
    alpha, near = (correction.extra[name][run] for name in ("alpha", "neighbor"))
    own = base.bias[correction.class_id].astype(np.float64)
    return added_rows(base, near, alpha[None])[0], correction.bias[run] - own


def _kept(correction: Correction) -> dict[str, NDArray[Any]]:
    """Return the arrays of a composition: those that were learned are apart."""
    ids = np.repeat(correction.class_id[None], len(correction.runs), axis=0)
    kept = {f"{LEARNED}class_id": ids}
    for name, values in correction.extra.items():
        learned = name in ("alpha", "neighbor") or name.startswith("network.")
        kept[f"{LEARNED * learned}{name}"] = values
    return kept
