"""Which sets to ship: scores and thresholds tried on val by cross-fitting, and the rule they give.

The thresholds of a fold's images come from the other folds, so that the figures are those of images
that calibrated nothing; the rule's own thresholds come from all of val.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import InputError, SettingError, nearest
from ltkit.evaluation.documents import opening
from ltkit.evaluation.probabilities import logit_blocks, softmax
from ltkit.prediction_sets import heads
from ltkit.prediction_sets.answers import answer
from ltkit.prediction_sets.choosing import best
from ltkit.prediction_sets.figures import Floats, Outcome, figures
from ltkit.prediction_sets.scores import SCORES, Score, scored, training_shares
from ltkit.prediction_sets.sets import KIND, Sets, content_of, read_content
from ltkit.prediction_sets.thresholds import THRESHOLDS, Calibration, needed, promise
from ltkit.records import (
    Classifier,
    Correction,
    FeatureSet,
    FeatureSplit,
    Ints,
    Rule,
    classifier_digest,
    stratified_folds,
)
from ltkit.records.progress import Report, silent
from ltkit.settings import (
    COVERAGE,
    RANGES,
    SET_FOLDS,
    ConformalSettings,
    SetGoal,
    SetScore,
    SetThreshold,
    as_json,
    check,
)
from ltkit.threads import in_order

Bools = NDArray[np.bool_]

SCHEMA = "ltkit.conformal/1"
GOALS: tuple[SetGoal, ...] = ("images", "groups", "classes")

Pair = tuple[SetScore, SetThreshold]

CHOSEN = (
    "on the images that calibrate them, which can cost coverage some tenths of a point; a named "
    "score and threshold cost none"
)
"""What a note says of a choice; benchmarks/conformal.py measures it."""

SAME: Pair = ("pas", "class-wise")
"""A factor of a class's scores is one of its own threshold: the sets are those of ``softmax``."""


@dataclass(frozen=True, eq=False)
class Conformal:
    """Sets with a wanted coverage.

    rule: what `ltkit.predict_sets` applies, and `ltkit.files.rules.write` writes.
    document: plain data, what ``ltkit conformal --json`` prints.
    """

    rule: Rule
    document: dict[str, Any] = field(repr=False)

    def __str__(self) -> str:
        """Return what it says to a person, line by line."""
        return "\n".join(answer(self.document))


@dataclass(frozen=True)
class Wanted:
    """What sets are wanted.

    coverage: part of the images whose set is to have the true class.
    score, threshold: which; None: all are tried.
    goal: of which images together the coverage is wanted, where several are tried.
    split: whose figures are shown: val by cross-fitting, or test.
    bins: bounds of the medium shot group; None: the file's own.
    folds: parts of val.
    settings: of scores and thresholds.
    """

    coverage: float = COVERAGE
    score: SetScore | None = None
    threshold: SetThreshold | None = None
    goal: SetGoal = "groups"
    split: str = "val"
    bins: Sequence[int] | None = None
    folds: int = SET_FOLDS
    settings: ConformalSettings = field(default_factory=ConformalSettings)

    @property
    def pairs(self) -> list[Pair]:
        """The scores and thresholds to try, but for those that give the sets of others."""
        scores = list(SCORES) if self.score is None else [self.score]
        every = list(THRESHOLDS) if self.threshold is None else [self.threshold]
        found = list(product(scores, every))
        return found if self.score is not None else [pair for pair in found if pair != SAME]

    def check(self) -> None:
        """Refuse what is out of range or unknown.

        Raises:
            SettingError: naming it.
        """
        for name, number in (("coverage", self.coverage), ("folds", self.folds)):
            if number not in RANGES[name]:
                raise SettingError(name, f"found {number:g}, expected {RANGES[name]}")
        check(self.settings)
        for name, said, known in (
            ("score", self.score, SCORES), ("threshold", self.threshold, THRESHOLDS),
            ("goal", self.goal, GOALS),
        ):  # fmt: skip
            if said is not None and said not in known:
                raise SettingError(name, f"found {said}; {nearest(said, known)}")
        if self.split not in ("val", "test"):
            raise SettingError(
                "split", f"found {self.split}, expected val, by cross-fitting, or test"
            )


def conformal(
    features: FeatureSet,
    correction: Correction | None = None,
    wanted: Wanted | None = None,
    *,
    made_with: Mapping[str, Any] | None = None,
    fresh: bool = False,
    report: Report = silent,
) -> Conformal:
    """Calibrate sets of classes on val, and say what they come to.

    Args:
        features: with val, and a head or a base unless the correction is whole.
        correction: in one run; None: the head itself.
        wanted: which sets.
        made_with: settings of the correction's file; None: unknown.
        fresh: whether val is of images that the correction has nothing of.
        report: called before each step and at the end.

    Raises:
        SettingError: for a setting out of its range.
        InputError: without val or with one class alone.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> y = rng.integers(0, 3, 600)
        >>> x = np.float32(rng.normal(size=(600, 3)) + 2 * np.eye(3)[y])
        >>> from ltkit.records import ClassTable, Head
        >>> table = ClassTable(np.array([900, 90, 9]))
        >>> head = Head(np.float32(2 * np.eye(3)), np.zeros(3, np.float32))
        >>> features = FeatureSet({"val": FeatureSplit(x, y)}, table, head)
        >>> found = conformal(features, wanted=Wanted(0.8, "softmax", "class-wise"))
        >>> abs(found.document["rows"][0]["coverage"]["all"] - 0.8) < 0.05
        True
    """
    wanted = wanted or Wanted()
    wanted.check()
    val = _sample(features, "val")
    notes = _notes(features, val, wanted)
    fold = stratified_folds(val.labels, min(wanted.folds, len(val)))
    whole = features.classifier() if correction is None else features.corrected(correction)
    held, note = [whole] * (int(fold.max()) + 1), None
    if correction is not None and not fresh:
        held, note = heads.by_fold(features, correction, fold, made_with or {})
    elif correction is None and features.base is not None and not fresh:
        note = heads.note_of_base(features.base.name)
    notes += [] if note is None else [note]
    report("scores", 0, 3)
    tried = _Tried(features, wanted, val, fold, held)
    report("scores", 1, 3)
    pairs = wanted.pairs
    own = tried.cross_fitted() if wanted.split == "val" or len(pairs) > 1 else []
    report("scores", 2, 3)
    choice, proven, unserved = 0, note is None, None
    if len(pairs) > 1:
        choice, unserved = best(own, pairs, wanted.goal, wanted.coverage)
        notes += [f"chosen among {len(pairs)} {CHOSEN}", *([] if unserved is None else [unserved])]
    sets = [tried.sets(*pair) for pair in pairs]
    if wanted.split == "test":
        own = tried.measured(_sample(features, "test"), whole, sets)
    report("scores", 3, 3)
    rows = [
        {
            "score": pair[0], "threshold": pair[1], "recommended": number == choice,
            "guaranteed": promise(pair[1], wanted.coverage, short=True),
            "promise": promise(pair[1], wanted.coverage),
            "always": int(np.isinf(one.thresholds).sum()), **found,
        }
        for number, (pair, one, found) in enumerate(zip(pairs, sets, own, strict=True))
    ]  # fmt: skip
    document = _document(features, wanted, val, notes, rows)
    document |= {"proven": proven, "served": unserved is None}
    rule = _rule(features, whole, wanted, sets[choice], rows[choice], proven)
    return Conformal(rule, document)


def measure(
    features: FeatureSet, classifier: Classifier, rule: Rule, split: str = "test",
    bins: Sequence[int] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Return what a rule's sets come to on labelled images, as `figures` has it.

    Args:
        features: with the split.
        classifier: the one that the rule is for.
        rule: of `conformal`.
        split: whose images are measured.
        bins: bounds of the medium shot group; None: the file's own.

    Raises:
        InputError: for a rule of another model, or without images.
        FormatError: for a rule that is not sound.
    """
    rule.check(features, classifier)
    (found,) = _outcomes(_sample(features, split), classifier, [read_content(rule)])
    return figures(found, features.classes, features.groups(bins))


class _Tried:
    """The scores of val's images, and what pairs of score and threshold come to."""

    def __init__(
        self, features: FeatureSet, wanted: Wanted, val: FeatureSplit, fold: Ints,
        held: Sequence[Classifier],
    ) -> None:  # fmt: skip
        """Score each fold's images with its classifier."""
        self._table, self._groups = features.classes, features.groups(wanted.bins)
        self._wanted, self._fold, self._held, self._val = wanted, fold, held, val
        prior, settings = training_shares(self._table.train_count), wanted.settings
        names = dict.fromkeys(name for name, _ in wanted.pairs)
        self._scores = {
            name: Score(name, prior, settings.rank_penalty, settings.free_ranks) for name in names
        }
        self._true = {name: np.empty(len(val)) for name in names}
        for number, rows in self._folds():
            for at, found in in_order(self._of_labels, logit_blocks(val.at(rows), held[number])):
                for name, of_labels in zip(self._scores, found, strict=True):
                    self._true[name][rows[at]] = of_labels

    def _of_labels(self, block: tuple[slice, Floats, Ints]) -> tuple[slice, list[Floats]]:
        """Return the rows of a block of logits, and each score of the true classes."""
        rows, logits, labels = block
        every, samples = scored(self._scores.values(), softmax(logits)), np.arange(len(labels))
        return rows, [found[samples, labels] for found in every]

    def _folds(self) -> Iterator[tuple[int, Ints]]:
        for number in range(len(self._held)):
            yield number, np.flatnonzero(self._fold == number)

    def sets(self, name: SetScore, threshold: SetThreshold, without: int | None = None) -> Sets:
        """Return the sets that val calibrates, or all of it but a fold."""
        rows, score = self._fold != without, self._scores[name]
        given = Calibration(
            self._true[name][rows], self._val.labels[rows], self._table.train_count,
            self._wanted.coverage, score.most, self._wanted.settings,
        )  # fmt: skip
        return Sets(score, THRESHOLDS[threshold](given))

    def cross_fitted(self) -> list[dict[str, Any]]:
        """Return the figures of each pair on val, each fold's with what the others calibrate."""
        outcomes = [_empty(self._val.labels) for _ in self._wanted.pairs]
        for number, rows in self._folds():
            sets = [self.sets(*pair, without=number) for pair in self._wanted.pairs]
            part = self._val.at(rows)
            for whole, found in zip(
                outcomes, _outcomes(part, self._held[number], sets), strict=True
            ):
                whole.covered[rows], whole.size[rows] = found.covered, found.size
        return [figures(found, self._table, self._groups) for found in outcomes]

    def measured(
        self, split: FeatureSplit, classifier: Classifier, sets: Sequence[Sets]
    ) -> list[dict[str, Any]]:
        """Return the figures of each pair on another split."""
        found = _outcomes(split, classifier, sets)
        return [figures(one, self._table, self._groups) for one in found]


def _empty(labels: Ints) -> Outcome:
    return Outcome(labels, np.zeros(len(labels), bool), np.zeros(len(labels), np.int32))


def _outcomes(split: FeatureSplit, classifier: Classifier, sets: Sequence[Sets]) -> list[Outcome]:
    """Return what several sets come to on the images of a split, in one pass.

    Those with the same score are next to each other, so that it is computed once.
    """
    found = [_empty(split.labels) for _ in sets]
    for rows, counted in in_order(partial(_counted, sets), logit_blocks(split, classifier)):
        for outcome, (covered, size) in zip(found, counted, strict=True):
            outcome.covered[rows], outcome.size[rows] = covered, size
    return found


def _counted(
    sets: Sequence[Sets], block: tuple[slice, Floats, Ints]
) -> tuple[slice, list[tuple[Bools, Ints]]]:
    """Return the rows of a block of logits, and whether each set has the true class, and its size.

    Args:
        sets: those of a score next to each other.
        block: rows, (B, C) logits, (B,) labels.
    """
    rows, logits, labels = block
    samples, counted = np.arange(len(labels)), list[tuple[Bools, Ints]]()
    kinds = [list(kind) for _, kind in groupby(sets, lambda one: id(one.score))]
    for kind, scores in zip(
        kinds, scored((kind[0].score for kind in kinds), softmax(logits)), strict=True
    ):
        for one in kind:
            members = scores <= one.thresholds
            counted.append((members[samples, labels], members.sum(axis=1)))
    return rows, counted


def _sample(features: FeatureSet, split: str) -> FeatureSplit:
    """Return a split that has images of two classes or more.

    Raises:
        InputError: when it has not.
    """
    source, found = features.source, features.splits.get(split)
    if found is None or not len(found):
        present = ", ".join(name for name, of in features.splits.items() if len(of)) or "none"
        told = "name the split val, or extract test"
        if split == "val":
            told = "sets are calibrated on images that the network has not seen: extract val"
        raise InputError(f"{source}: {split}: absent or empty; there are: {present}; {told}")
    if split == "val" and len(np.unique(found.labels)) < 2:
        raise InputError(
            f"{source}: val: found images of class {found.labels[0]} alone, expected two classes "
            "or more; extract a val split of all classes"
        )
    return found


def _notes(features: FeatureSet, val: FeatureSplit, wanted: Wanted) -> list[str]:
    """Return what is assumed, and which classes have too few images for a guarantee."""
    counts = np.bincount(val.labels, minlength=len(features.classes))
    least, notes = needed(wanted.coverage), list[str]()
    few, names = int((counts < least).sum()), {threshold for _, threshold in wanted.pairs}
    if few and names & {"class-wise", "interpolated"}:
        notes.append(
            f"{few} of {len(counts)} classes have fewer than the {least} val images that a "
            f"guarantee of {wanted.coverage:g} for a class needs: class-wise, they are in every set"
        )
    left = int(counts.min()) * (wanted.folds - 1) // wanted.folds
    if not few and left < least and "class-wise" in names and wanted.split == "val":
        notes.append(
            f"{wanted.folds} folds leave some classes fewer than {least} images: class-wise sets "
            "look larger here than they will be; raise the folds"
        )
    once = wanted.folds >= counts.max()  # each image of a class is alone in its fold
    if wanted.split == "val" and "class-wise" in names and once and not few:
        notes.append(
            "class-wise sets have the coverage on val by construction, with as many folds as a "
            "class has images; --split test measures it"
        )
    if (features.classes.train_count == 0).any() and "pas" in {name for name, _ in wanted.pairs}:
        notes.append("classes without training images count as having one, in pas")
    return notes


def _document(
    features: FeatureSet, wanted: Wanted, val: FeatureSplit, notes: list[str],
    rows: list[dict[str, Any]],
) -> dict[str, Any]:  # fmt: skip
    """Return plain data of what was found."""
    document = opening(SCHEMA, features, wanted.split, wanted.bins, 0, 0)
    del document["bootstrap"]  # the intervals are closed forms
    return document | {
        "coverage": wanted.coverage, "goal": wanted.goal, "calibrated_on": "val",
        "calibration": len(val), "folds": wanted.folds, "settings": as_json(wanted.settings),
        "notes": notes, "rows": rows,
    }  # fmt: skip


def _rule(
    features: FeatureSet, whole: Classifier, wanted: Wanted, sets: Sets, row: Mapping[str, Any],
    proven: bool,
) -> Rule:  # fmt: skip
    """Return the rule of the recommended sets."""
    told = {"coverage": wanted.coverage, "threshold": row["threshold"], "promise": row["promise"],
            "proven": proven}  # fmt: skip
    settings = as_json(wanted.settings) | {"goal": wanted.goal, "tried": len(wanted.pairs)}
    return Rule(
        KIND, content_of(sets, told), classifier_digest(whole), len(features.classes),
        features.classes.names, settings, features.inputs,
    )  # fmt: skip
