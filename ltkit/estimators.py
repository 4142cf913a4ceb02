"""Post-hoc methods and AlphaNet as scikit-learn estimators: fit, predict, clone, grid search.

There is one class for each module of `ltkit.posthoc`, ``TauNormClassifier`` for ``tau-norm``, made
when it is first asked for (`names` lists them), and `AlphaNetClassifier`. Methods that learn from
validation data have none: the samples of ``fit`` are training samples. A class's parameters are
the keyword parameters of the module's ``fit``, and `base`, the classifier to correct:

- a `Classifier` or `Head` of ltkit, with a row for each class of y in ascending order of labels;
- an estimator of scikit-learn with ``coef_`` and ``intercept_``; a clone of it is fitted first;
- None, for scikit-learn's logistic regression with its defaults, where the method needs a base. It
  has plain cross-entropy, which all of these methods expect of a head: after a class-balanced one,
  those that take the training prior out of the logits would do so twice.

The training counts are those of y.

Example:
    >>> from ltkit.estimators import LogitAdjustClassifier
    >>> head = Classifier(np.zeros((2, 1), np.float32), np.zeros(2, np.float32))  # equal logits
    >>> model = LogitAdjustClassifier(base=head, tau=1.0)
    >>> model = model.fit([[0.0], [0.0], [0.0], [0.0]], ["ant", "ant", "ant", "bee"])
    >>> model.decision_function([[0.0]]), model.predict([[0.0]])  # log 3
    (array([1.098...]), array(['bee'], dtype='<U3'))
    >>> model.predict_proba([[0.0]]).round(2).tolist()
    [[0.25, 0.75]]
"""

import inspect
import warnings
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.linear_model import LogisticRegression
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from ltkit import alphanet, neighbors, posthoc, registry
from ltkit.errors import InputError
from ltkit.narrowing import as_float32
from ltkit.neighbors.class_means import class_means
from ltkit.records import Classifier, FeatureSplit, Head
from ltkit.settings import BINS, AlphaNetSettings, Metric, NeighborSettings

SCORES = ("ncm", "ridge", "tau-norm")
"""Methods whose logits are not log-probabilities; they have no ``predict_proba``."""

METRICS = ("euclidean", "cosine", "random")


def _initialiser(parameters: Mapping[str, Any]) -> Callable[..., None]:
    """Return an ``__init__`` that stores its arguments unchanged, as scikit-learn requires."""
    named = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    for name, default in {"base": None, **parameters}.items():
        named.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default))
    signature = inspect.Signature(named)

    def __init__(self: object, **given: Any) -> None:
        bound = signature.bind(self, **given)
        bound.apply_defaults()
        for name in list(bound.arguments)[1:]:
            setattr(self, name, bound.arguments[name])

    __init__.__signature__ = signature  # type: ignore[attr-defined]
    return __init__


class _Corrected(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """What the estimators share: a base, its correction, and linear scores."""

    base: Any
    classes_: NDArray[Any]
    classifier_: Classifier
    probabilities = True
    anew = False

    def _split(self, X: ArrayLike, y: ArrayLike) -> FeatureSplit:
        """Check the training samples and learn the classes."""
        features, given = validate_data(self, X, y, copy=True)
        check_classification_targets(given)
        self.classes_, labels = np.unique(given, return_inverse=True)
        return FeatureSplit(_single(features, "X"), labels.astype(np.int64))

    def _base(self, train: FeatureSplit) -> Classifier:
        if self.base is None and self.anew:
            shape = (len(self.classes_), self.n_features_in_)
            return Classifier(np.zeros(shape, np.float32), np.zeros(shape[0], np.float32))
        if isinstance(self.base, Classifier | Head):
            found = self.base.fold() if isinstance(self.base, Head) else self.base
        else:
            linear = LogisticRegression() if self.base is None else clone(self.base)
            linear.fit(train.features, train.labels)
            weight, bias = (getattr(linear, n, np.zeros(0)) for n in ("coef_", "intercept_"))
            if weight.ndim != 2:
                raise InputError(
                    f"base: {type(linear).__name__}: found no coef_ (classes, features), expected "
                    "a linear classifier"
                )
            if len(weight) == 1:  # two classes have one row, the difference
                weight, bias = np.concatenate([-weight, weight]) / 2, np.append(-bias, bias) / 2
            found = Classifier(_single(weight, "coef_"), _single(bias, "intercept_"))
        expected = (len(self.classes_), self.n_features_in_)
        if found.weight.shape != expected:
            raise InputError(
                f"base: found a weight of {found.weight.shape}, expected {expected}: a row for "
                "each class of y, a column for each feature"
            )
        return found

    def _keep(self, classifier: Classifier) -> Self:
        if not (np.isfinite(classifier.weight).all() and np.isfinite(classifier.bias).all()):
            raise InputError(
                f"{type(self).__name__}: gives numbers that are not finite; choose other parameters"
            )
        self.classifier_ = classifier
        return self

    def _logits(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return (N, C) logits in float64, so that a sample's do not depend on the others."""
        check_is_fitted(self)
        head, features = self.classifier_, _single(validate_data(self, X, reset=False), "X")
        prepared, weight = (x.astype(np.float64) for x in (head.prepare(features), head.weight))
        logits: NDArray[np.float64] = prepared @ weight.T + head.bias
        return logits

    def decision_function(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return (N, C) logits; with two classes (N,), the second's minus the first's."""
        logits = self._logits(X)
        return logits if len(self.classes_) != 2 else logits[:, 1] - logits[:, 0]

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the (N,) classes with the largest logits, the first of equals."""
        best = self._logits(X).argmax(axis=1)
        classes: NDArray[Any] = self.classes_[best]
        return classes

    @available_if(lambda self: self.probabilities)  # type: ignore[untyped-decorator]
    def predict_proba(self, X: ArrayLike) -> NDArray[np.float64]:
        """Return the (N, C) softmax of the logits."""
        shares: NDArray[np.float64] = softmax(self._logits(X), axis=1)
        return shares


class _Posthoc(_Corrected):
    """The estimator of a method of `ltkit.posthoc`."""

    method: Callable[..., Classifier]

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Correct the base classifier.

        Args:
            X: (N, D) finite features.
            y: (N,) class labels of any kind.

        Raises:
            ValueError: for what scikit-learn rejects.
            InputError: for what the method rejects, or a base that does not fit.
        """
        train = self._split(X, y)
        base, counts = self._base(train), np.bincount(train.labels)
        parameters = self.get_params(deep=False)
        del parameters["base"]
        return self._keep(self.method(base, train, counts, **parameters))


class AlphaNetClassifier(_Corrected):
    """AlphaNet: combines rare classes' rows with those of similar frequent classes.

    Classes with fewer than `few_below` samples are corrected by their `k` nearest others; where all
    or none are so rare the base is kept, with a warning. `metric` is ``euclidean``, ``cosine`` or
    ``random``; the other parameters are those of `AlphaNetSettings`.

    Attributes:
        few_classes_: (F,) the corrected classes, out of ``classes_``.
        alpha_: (F, K) coefficients of their neighbours, nearest first.
    """

    few_below: int
    k: int
    metric: Metric
    __init__ = _initialiser(
        {"few_below": BINS[0], "k": NeighborSettings.k, "metric": NeighborSettings.metric}
        | {field.name: field.default for field in fields(AlphaNetSettings)}
    )

    def fit(
        self, X: ArrayLike, y: ArrayLike, X_val: ArrayLike | None = None,
        y_val: ArrayLike | None = None,
    ) -> Self:  # fmt: skip
        """Learn the corrections.

        Args:
            X: (N, D) finite features.
            y: (N,) class labels of any kind.
            X_val: (M, D) features that the epoch is chosen on; without them it is the last.
            y_val: (M,) their labels.

        Raises:
            ValueError: for what scikit-learn rejects.
            InputError: for parameters out of range, as a `k` above the number of other classes; a
                base that does not fit; validation labels that are not in y.
        """
        settings = AlphaNetSettings(**{f.name: getattr(self, f.name)
                                       for f in fields(AlphaNetSettings)})  # fmt: skip
        posthoc.check_choice("metric", self.metric, METRICS)
        train = self._split(X, y)
        base, val = self._base(train), self._validation(X_val, y_val)
        means, counts = class_means(train, base.num_classes)
        few = np.flatnonzero(counts < self.few_below)
        self.few_classes_, self.alpha_ = self.classes_[few], np.zeros((len(few), 0))
        if len(few) in (0, len(counts)):
            warnings.warn(
                f"AlphaNet: {len(few)} of {len(counts)} classes have fewer than few_below samples, "
                "so none is corrected",
                stacklevel=2,
            )
            self.few_classes_, self.alpha_ = self.few_classes_[:0], self.alpha_[:0]
            return self._keep(base)
        others = np.setdiff1d(np.arange(len(counts)), few)
        wanted = NeighborSettings(self.k, self.metric, settings.seed)
        near = neighbors.nearest(means, few, others, wanted)
        correction = alphanet.fit(base, near, train, val, [settings])
        self.alpha_ = correction.extra["alpha"][0]
        return self._keep(correction.classifier(base, 0))

    def _validation(self, X: ArrayLike | None, y: ArrayLike | None) -> FeatureSplit | None:
        if X is None or y is None:
            return None
        features, given = validate_data(self, X, y, reset=False, copy=True)
        labels = np.searchsorted(self.classes_, given).clip(max=len(self.classes_) - 1)
        unknown = np.flatnonzero(self.classes_[labels] != given)
        if len(unknown):
            raise InputError(
                f"y_val: row {unknown[0]}: found {given[unknown[0]]}, not a class of y"
            )
        return FeatureSplit(_single(features, "X_val"), labels.astype(np.int64))


def _single(values: NDArray[Any], name: str) -> NDArray[np.float32]:
    """Return numbers as float32, or refuse those that it loses."""
    return as_float32(values, name, "multiply all of them by one large number")


def names() -> list[str]:
    """Return the names of all estimators.

    Example:
        >>> names()[:3]
        ['AlphaNetClassifier', 'BlendClassifier', 'CrtClassifier']
    """
    return ["AlphaNetClassifier", *_methods()]


def _methods() -> dict[str, str]:
    """Return the methods of `ltkit.posthoc` that learn from training samples by class name.

    Those that learn from other samples, or need what a network's training left, are no estimators.
    """
    return {
        f"{n.title().replace('-', '')}Classifier": n
        for n in registry.names(posthoc)
        if not {"ON_VAL", "MEAN"} & vars(registry.load(posthoc, n)).keys()
    }


def __getattr__(name: str) -> Any:
    """Make the estimator of a post-hoc method, once."""
    method = _methods().get(name)
    if method is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = registry.load(posthoc, method)
    signature = inspect.signature(module.fit)
    parameters = {
        p.name: p.default for p in signature.parameters.values() if p.kind is p.KEYWORD_ONLY
    }

    made = type(
        name,
        (_Posthoc,),
        {
            "__doc__": f"{module.__doc__}\n\nThe parameters are those of `{module.__name__}.fit`.",
            "__module__": __name__,
            "__init__": _initialiser(parameters),
            "method": staticmethod(module.fit),
            "probabilities": method not in SCORES,
            "anew": hasattr(module, "ANEW"),
        },
    )
    globals()[name] = made
    return made
