"""Class-balanced multinomial logistic regression with an L2 penalty, to its optimum."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ltkit.errors import InputError
from ltkit.posthoc import check_range, check_train
from ltkit.posthoc._stacked import Double, Inputs, balanced_moments, balanced_weights
from ltkit.records import Classifier, FeatureSplit, Ints

GRID = {"inverse_penalty": (1e-4, 1e-3, 1e-2, 1e-1, 1.0)}


def fit(
    base: Classifier,
    train: FeatureSplit | None,
    class_counts: Ints,
    *,
    inverse_penalty: float = 1.0,
    tolerance: float = 1e-8,
    iterations: int = 1000,
) -> Classifier:
    r"""Minimise the class-balanced cross-entropy and the squared norm of the weights.

    .. math:: \min_{W, b} C \sum_i v_{y_i} (-\log p_{y_i}(W f_i + b))
        + \frac{1}{2} \lVert W \rVert^2, \quad v_c = \frac{N}{C_{classes} n_c}

    by L-BFGS on all samples, in coordinates in which the cost's curvature at W = 0 is nearly the
    identity; that takes some tens of passes over the features. They are multiplied in float32, and
    sums kept in float64, which leaves the cost some 1e-6 of it above its minimum, more where the
    penalty is so weak that the minimum is flat.

    Args:
        base: not used but for its number of classes and the form of its features.
        train: (N, D) features and labels; every class needs a sample.
        class_counts: not used; the samples decide.
        inverse_penalty: above 0, the C of the equation and of scikit-learn.
        tolerance: what an iteration has to lower the mean cost by for another to follow, in units
            of the cost, or of 1 where it is less.
        iterations: at most; about one pass over the features each.

    Raises:
        InputError: when there is no train split, a class has no sample in it, a parameter is out
            of range, or the optimum is not reached.

    Example:
        >>> train = FeatureSplit(np.float32([[1], [-1], [-1]]), np.array([0, 1, 1]))
        >>> base = Classifier(np.zeros((2, 1), dtype=np.float32), np.zeros(2, dtype=np.float32))
        >>> c = fit(base, train, np.array([1, 2]))
        >>> w = float(c.weight[0, 0])
        >>> round(w, 2), round(3 / (1 + float(np.exp(2 * w))), 2)  # w = sum v (y - p) f = 3 (1 - p)
        (0.65, 0.65)

    Source:
        Liu and Nocedal, Mathematical Programming 1989, doi:10.1007/BF01589116 (L-BFGS).

        The problem is that of scikit-learn's LogisticRegression with ``class_weight="balanced"``.
    """
    settings = {
        "inverse_penalty": inverse_penalty, "tolerance": tolerance, "iterations": iterations,
    }  # fmt: skip
    return fit_many(base, train, class_counts, [settings])[0]


def fit_many(
    base: Classifier,
    train: FeatureSplit | None,
    class_counts: Ints,
    tried: Sequence[Mapping[str, Any]],
) -> list[Classifier]:
    """Fit several penalties, each from the optimum of the next stronger; `tried` as for `fit`."""
    train = check_train(train, base.num_classes)
    for settings in tried:
        check_range("inverse_penalty", settings["inverse_penalty"], 1e-12, 1e12)
        check_range("tolerance", settings["tolerance"], 0)
        check_range("iterations", settings["iterations"], 1)
    inputs = Inputs(train, base.feature_size, base.prepare)
    problem = _Problem(inputs, base.num_classes)
    found: dict[int, Classifier] = {}
    start = np.zeros((base.num_classes, base.feature_size + 1))
    for number in sorted(range(len(tried)), key=lambda n: float(tried[n]["inverse_penalty"])):
        start = problem.minimum(start, **tried[number])
        found[number] = Classifier(
            start[:, :-1].astype(np.float32), start[:, -1].astype(np.float32),
            base.normalize_features, base.experts,
        )  # fmt: skip
    return [found[n] for n in range(len(tried))]


class _Problem:
    """The mean cost of a classifier as a function of rows (W, b), and its minimum."""

    def __init__(self, inputs: Inputs, num_classes: int) -> None:
        self._inputs, self._classes = inputs, num_classes
        self._weights = balanced_weights(inputs.labels, num_classes)
        _, self._centre, self._covariance = balanced_moments(
            inputs.blocks(), inputs.width, self._weights
        )

    def minimum(
        self, start: Double, inverse_penalty: float, tolerance: float, iterations: int
    ) -> Double:
        """Return the (C, D + 1) rows of the optimum, found from others."""
        from scipy.optimize import minimize

        decay = 1 / (inverse_penalty * len(self._inputs))
        to_rows = self._coordinates(decay)

        def cost(flat: Double) -> tuple[float, Double]:
            value, gradient = self._cost(flat.reshape(start.shape) @ to_rows, decay)
            return value, (gradient @ to_rows.T).ravel()

        result = minimize(
            cost, np.linalg.solve(to_rows.T, start.T).T.ravel(), jac=True, method="L-BFGS-B",
            options={"maxiter": iterations, "maxfun": 4 * iterations, "ftol": tolerance, "gtol": 0},
        )  # fmt: skip
        if result.nit >= iterations:
            raise InputError(
                f"logistic: not at the optimum of inverse_penalty {inverse_penalty:g} after "
                f"{iterations} iterations; set a smaller inverse_penalty, or more iterations"
            )
        rows: Double = result.x.reshape(start.shape) @ to_rows
        return rows

    def _coordinates(self, decay: float) -> Double:
        """Return the (D + 1, D + 1) matrix that takes coordinates to rows (W, b).

        At W = 0 every p is 1 / C, and the cost's second derivative in a row is the features'
        covariance over C, and the decay. With its Cholesky factor L and W = T / L it is the
        identity in T. Taken around their mean, features have no curvature in common with the bias.
        """
        size = len(self._centre)
        curvature = self._covariance / self._classes
        least = decay + 1e-7 * np.trace(curvature) / size  # features may be collinear
        to_rows = np.zeros((size + 1, size + 1))
        to_rows[:-1, :-1] = np.linalg.inv(np.linalg.cholesky(curvature + least * np.eye(size)))
        to_rows[:-1, -1] = -to_rows[:-1, :-1] @ self._centre
        to_rows[-1, -1] = np.sqrt(self._classes)
        return to_rows

    def _cost(self, rows: Double, decay: float) -> tuple[float, Double]:
        """Return the mean cost of (C, D + 1) rows, and its gradient."""
        weight, bias = rows[:, :-1].astype(np.float32), rows[:, -1].astype(np.float32)
        value, gradient = 0.0, np.zeros(rows.shape)
        for x, labels in self._inputs.blocks():
            samples = np.arange(len(labels))
            logits = x @ weight.T
            logits += bias
            logits -= logits.max(axis=1, keepdims=True)
            true = logits[samples, labels]
            np.exp(logits, out=logits)
            total = logits.sum(axis=1)
            share = self._weights[labels].astype(np.float32)
            value += float(share.astype(np.float64) @ (np.log(total) - true))
            logits *= (share / total)[:, None]
            logits[samples, labels] -= share
            gradient[:, :-1] += logits.T @ x
            gradient[:, -1] += logits.sum(axis=0, dtype=np.float64)
        gradient /= len(self._inputs)
        gradient[:, :-1] += decay * rows[:, :-1]
        value = value / len(self._inputs) + 0.5 * decay * float((rows[:, :-1] ** 2).sum())
        return value, gradient
