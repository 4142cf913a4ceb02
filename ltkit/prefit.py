"""Estimators around a classifier of scikit-learn that is fitted already: sets, other frequencies.

`estimator` is one with ``classes_`` and ``decision_function`` or ``predict_proba``, fitted on a
long-tailed sample. ``fit`` takes other labelled samples, those that it has not seen. `class_counts`
are the (C,) counts of its training samples, in the order of its classes; None: those of ``fit``.

Example:
    >>> from sklearn.linear_model import LogisticRegression
    >>> rng = np.random.default_rng(0)
    >>> y = np.repeat([0, 1, 2], 200)
    >>> X = rng.normal(size=(600, 3)) + 3 * np.eye(3)[y]
    >>> model = LogisticRegression().fit(X[::2], y[::2])
    >>> sets = SetClassifier(model, coverage=0.9).fit(X[1::2], y[1::2])
    >>> sets.predict_set(X[:1]).tolist(), bool(sets.predict_set(X)[range(600), y].mean() > 0.85)
    ([[True, False, False]], True)
"""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_array, check_is_fitted

from ltkit import adaptation, prediction_sets
from ltkit.errors import InputError
from ltkit.narrowing import as_float32
from ltkit.records import Classifier, ClassTable, FeatureSet, FeatureSplit, Head
from ltkit.settings import (
    COVERAGE,
    AdaptSettings,
    PriorEstimator,
    SetScore,
    SetThreshold,
)

LEAST = float(np.finfo(np.float32).tiny)
"""Probability below which its log counts as this one's."""


class _Prefit(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """What both share: the logits of the classifier inside, as features of an identity head."""

    estimator: Any
    class_counts: ArrayLike | None
    classes_: NDArray[Any]

    def _held(self, X: ArrayLike, y: ArrayLike) -> FeatureSet:
        """Return the logits of labelled samples as val, and learn the classes."""
        if not hasattr(self.estimator, "classes_"):
            raise NotFittedError(
                f"estimator: {type(self.estimator).__name__} is not fitted; fit it first, on other "
                "samples"
            )
        self.classes_ = np.asarray(self.estimator.classes_)
        given = check_array(y, ensure_2d=False, dtype=None)
        labels = np.searchsorted(self.classes_, given).clip(max=len(self.classes_) - 1)
        unknown = np.flatnonzero(self.classes_[labels] != given)
        if len(unknown):
            raise InputError(
                f"y: row {unknown[0]}: found {given[unknown[0]]}, not a class of the estimator"
            )
        count = len(self.classes_)
        counts = np.bincount(labels, minlength=count)
        if self.class_counts is not None:
            counts = np.asarray(self.class_counts, np.int64)
            if counts.shape != (count,) or (counts < 0).any():
                raise InputError(
                    f"class_counts: found {counts.shape}, expected a count for each of {count} "
                    "classes"
                )
        head = Head(np.eye(count, dtype=np.float32), np.zeros(count, np.float32))
        split = FeatureSplit(self._logits_of(X), labels.astype(np.int64))
        return FeatureSet({"val": split}, ClassTable(counts), head, source="samples")

    def _logits_of(self, X: ArrayLike) -> NDArray[np.float32]:
        """Return (N, C) logits of the classifier inside.

        Raises:
            InputError: when it has neither scores nor probabilities of each class.
        """
        inside, count = self.estimator, len(self.classes_)
        if hasattr(inside, "decision_function"):
            logits = np.asarray(inside.decision_function(X), np.float64)
            if logits.ndim == 1:  # of two classes, the second's score less the first's
                logits = np.stack([-logits / 2, logits / 2], axis=1)
        elif hasattr(inside, "predict_proba"):
            logits = np.log(np.maximum(np.asarray(inside.predict_proba(X), np.float64), LEAST))
        else:
            raise InputError(
                f"estimator: {type(inside).__name__}: found no decision_function or predict_proba; "
                "choose one that has scores of classes"
            )
        if logits.shape[1:] != (count,):
            raise InputError(
                f"estimator: found scores of {logits.shape}, expected a column for each of {count} "
                "classes"
            )
        return as_float32(logits, "scores", "scale them")


class SetClassifier(_Prefit):
    """Sets of classes that have the true one with a wanted coverage.

    `coverage`, `score` and `threshold` are those of ``ltkit conformal``; docs/production.md says
    what each guarantees.

    Attributes:
        rule_: what `ltkit.predict_sets` applies to logits.
        document_: coverage and sizes by shot group, by cross-fitting on the samples of ``fit``.
    """

    def __init__(
        self, estimator: Any = None, *, coverage: float = COVERAGE, score: SetScore = "softmax",
        threshold: SetThreshold = "fuzzy", class_counts: ArrayLike | None = None,
    ) -> None:  # fmt: skip
        """Store the arguments."""
        self.estimator, self.class_counts = estimator, class_counts
        self.coverage, self.score, self.threshold = coverage, score, threshold

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Calibrate the thresholds on samples that the classifier has not seen.

        Args:
            X: (N, D) as the classifier takes them.
            y: (N,) labels of its classes.

        Raises:
            NotFittedError: when the classifier is not fitted.
            InputError: for labels of no class, or settings out of range.
        """
        features = self._held(X, y)
        wanted = prediction_sets.Wanted(self.coverage, self.score, self.threshold)
        found = prediction_sets.conformal(features, wanted=wanted, fresh=True)
        self.rule_, self.document_ = found.rule, found.document
        return self

    def predict_set(self, X: ArrayLike) -> NDArray[np.bool_]:
        """Return (N, C) which classes are in the set of each sample."""
        check_is_fitted(self)
        logits = self._logits_of(X)
        found = np.zeros(logits.shape, np.bool_)
        for row, classes in enumerate(prediction_sets.sets_of_logits(logits, self.rule_)):
            found[row, classes] = True
        return found

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return what the classifier inside predicts."""
        check_is_fitted(self)
        found: NDArray[Any] = self.classes_[self._logits_of(X).argmax(axis=1)]
        return found


class AdaptedClassifier(_Prefit):
    """A classifier that follows the class frequencies of samples without labels.

    `prior` is the estimator of ``ltkit posthoc adapt``; with `anyway`, more than frequencies may
    have changed.

    Attributes:
        prior_: (C,) the shares of classes, once `adapt` was called.
        document_: what ``ltkit posthoc adapt --json`` prints.
    """

    def __init__(
        self, estimator: Any = None, *, prior: PriorEstimator = "tail", anyway: bool = False,
        class_counts: ArrayLike | None = None, random_state: int = 0,
    ) -> None:  # fmt: skip
        """Store the arguments."""
        self.estimator, self.class_counts = estimator, class_counts
        self.prior, self.anyway, self.random_state = prior, anyway, random_state

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Take labelled samples that the classifier has not seen; frequencies stay as they are.

        Args:
            X: (N, D) as the classifier takes them.
            y: (N,) labels of its classes.

        Raises:
            NotFittedError: when the classifier is not fitted.
            InputError: for labels of no class.
        """
        self._features = self._held(X, y)
        self.classifier_: Classifier = self._features.classifier()
        return self

    def adapt(self, X: ArrayLike) -> Self:
        """Learn how often classes occur among samples without labels, and follow that.

        Raises:
            SettingError: when more than frequencies has changed, unless `anyway`.
        """
        check_is_fitted(self)
        target = adaptation.of_array(self._features, self._logits_of(X))
        found = adaptation.adapt(
            self._features, target, anyway=self.anyway,
            settings=AdaptSettings(estimator=self.prior, seed=self.random_state),
        )  # fmt: skip
        self.classifier_ = self._features.corrected(found.correction)
        self.prior_, self.document_ = found.correction.extra["prior"][0], found.document
        return self

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the (N, C) probabilities of classes."""
        check_is_fitted(self)
        logits = self.classifier_.logits(self._logits_of(X)).astype(np.float64)
        shares: NDArray[np.float64] = softmax(logits, axis=1)
        return shares

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the most likely class of each sample."""
        found: NDArray[Any] = self.classes_[self.predict_proba(X).argmax(axis=1)]
        return found
