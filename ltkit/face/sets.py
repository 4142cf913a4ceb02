"""Sets of classes with a wanted coverage, as calls."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ltkit.errors import InputError
from ltkit.evaluation import one_run
from ltkit.face.arrays import Array, numbers
from ltkit.files import rules
from ltkit.files.bases import Start, with_base
from ltkit.prediction_sets import KIND, Conformal, Wanted, sets_of_logits
from ltkit.prediction_sets import conformal as _conformal
from ltkit.prediction_sets import predict_sets as _predict_sets
from ltkit.records import Classifier, Correction, FeatureSet, Ints, Rule
from ltkit.settings import (
    COVERAGE,
    SET_FOLDS,
    ConformalSettings,
    Heads,
    SetGoal,
    SetScore,
    SetThreshold,
)

Chosen = Mapping[str, float] | Heads | None
"""Which of several runs: settings as ``{"rho": 1}``, the best on val, or the mean of the heads."""


def conformal(
    features: FeatureSet,
    correction: Correction | str | Path | None = None,
    *,
    coverage: float = COVERAGE,
    score: SetScore | None = None,
    threshold: SetThreshold | None = None,
    goal: SetGoal = "groups",
    settings: ConformalSettings | None = None,
    split: str = "val",
    recalibrate_on: FeatureSet | None = None,
    run: Chosen = None,
    bins: Sequence[int] | None = None,
    folds: int = SET_FOLDS,
    base: Start | None = None,
) -> Conformal:
    """Calibrate sets of classes that have the true one with a wanted coverage, of rare ones, too.

    Args:
        features: with a head, or with `base`, and a validation split.
        correction: whose answers become sets, or its file; None: the head's.
        coverage: part of the images whose set is to have the true class.
        score: of a class, by name; None: all are tried on val, by cross-fitting.
        threshold: on it, by name; None: all are tried.
        goal: of which images together the coverage is wanted, where several are tried.
        settings: of scores and thresholds.
        split: whose figures are in the document: val, by cross-fitting, or test.
        recalibrate_on: features whose val stands for that of these.
        run: which of several runs of the correction.
        bins: bounds of the medium shot group; None: the file's own.
        folds: parts of val.
        base: a classifier in the place of the head, or its file.

    Returns:
        ``print`` shows the answer; ``.rule`` goes into `predict_sets`, and to a file by
        `ltkit.files.rules.write`; ``.document`` is what ``ltkit conformal --json`` prints.

    Raises:
        InputError: for settings out of range, without val, or with one class alone.
    """
    features = with_base(features, base)
    one, made_with = None, dict[str, Any]()
    if correction is not None:
        one = _one(features, correction, run)
        made_with = _settings(correction)
    if recalibrate_on is not None:
        features = features.recalibrated(recalibrate_on)
    wanted = Wanted(
        coverage, score, threshold, goal, split, bins, folds, settings or ConformalSettings()
    )
    fresh = recalibrate_on is not None
    return _conformal(features, one, wanted, made_with=made_with, fresh=fresh)


def predict_sets(
    features: FeatureSet | Array,
    rule: Rule | Conformal | str | Path,
    classifier: Classifier | Correction | str | Path | None = None,
    *,
    split: str = "test",
    run: Chosen = None,
    base: Start | None = None,
) -> list[Ints]:
    """Return the set of each image: class ids, the most likely first.

    Args:
        features: with a head or `base`; or (N, C) logits of the classifier that the rule is for,
            of which nothing but the number of classes can be checked.
        rule: of `conformal`, or its file.
        classifier: a correction or its file, or a classifier; None: the head.
        split: which images of the features.
        run: which of several runs of the correction.
        base: a classifier in the place of the head, or its file.

    Raises:
        InputError: for a rule of another model, other classes, or logits that are not finite.
        FormatError: for a file that is not sound.

    Example:
        >>> rule = Rule("sets", {"score": "softmax", "thresholds": [0.5, 0.5]}, "", 2)
        >>> [one.tolist() for one in predict_sets([[2.0, 0.0], [0.0, 0.1]], rule)]
        [[0], [1]]
    """
    rule = rule.rule if isinstance(rule, Conformal) else rule
    found = rule if isinstance(rule, Rule) else rules.read(Path(rule), KIND)
    if not isinstance(features, FeatureSet):
        if classifier is not None or base is not None:
            raise InputError("classifier: found one beside logits, which are its own; leave it out")
        return sets_of_logits(numbers(features), found)
    features = with_base(features, base)
    if classifier is None:
        classifier = features.classifier()
    elif not isinstance(classifier, Classifier):
        classifier = features.corrected(_one(features, classifier, run))
    found.check(features, classifier)
    return _predict_sets(features.split(split), classifier, found)


def _one(features: FeatureSet, correction: Correction | str | Path, run: Chosen) -> Correction:
    """Return one run of a correction, or of its file."""
    from ltkit.files import classifiers

    if not isinstance(correction, Correction):
        correction = classifiers.read_for(Path(correction), features)
    known = run if isinstance(run, Mapping) else {}
    return one_run(correction, known, None if isinstance(run, Mapping) else run, features)


def _settings(correction: Correction | str | Path) -> dict[str, Any]:
    """Return what a correction's file was made with; nothing of one in memory."""
    from ltkit.files import classifiers

    return {} if isinstance(correction, Correction) else classifiers.settings_of(Path(correction))
