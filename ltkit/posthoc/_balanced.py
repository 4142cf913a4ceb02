"""The class-balanced logistic regression of several methods: its cost, its minimum, its blend."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import InputError
from ltkit.numerals import Range
from ltkit.posthoc._stacked import Double, Inputs, Single, balanced_moments, balanced_weights
from ltkit.records import CACHED_BYTES, Classifier, FeatureSplit, Ints, blocks
from ltkit.records.progress import Report, silent
from ltkit.threads import in_order

FAR = 20
"""Features this many powers of two above or below 1 are rescaled."""

TOLERANCE, ITERATIONS = 1e-8, 1000
"""Of the search for the minimum that is blended."""

WIDER = 4
"""A block has room for so many times its logits, for threads hold several blocks."""

FEW_BYTES = 2 * CACHED_BYTES
"""Bytes of the logits that are read off at a time; of fewer, threads wait for each other."""

Blend = tuple[float, float]
"""The regression's share of the logits, and the penalty of its weights."""


def blends(
    base: Classifier, train: FeatureSplit, tried: Sequence[Mapping[str, Any]],
    report: Report = silent,
) -> dict[Blend, tuple[Double, Double]]:  # fmt: skip
    r"""Return the mean of a head's rows and those of a class-balanced regression, and the biases.

    .. math:: (1 - \gamma) z_c + \gamma (v_c \cdot f + a_c)

    with the regression (V, a) of `BalancedLogistic` and the decay :math:`\lambda \sigma^2`, where
    :math:`\sigma^2` is the mean variance of a feature.

    Args:
        base: the head.
        train: (N, D) features and labels; every class has a sample.
        tried: settings with a ``share``, gamma, from 0 to 1, and a ``penalty``, lambda, above 0.
        report: called after each pass over the samples.

    Returns:
        (C, D) weight and (C,) bias in float64 of each pair of these; those of one penalty share a
        regression.
    """
    wanted = [blend_of(settings) for settings in tried]
    own = base.weight.astype(np.float64), base.bias.astype(np.float64)
    found = {pair: own for pair in wanted if not pair[0]}
    if len(found) == len(wanted):
        return found
    problem = BalancedLogistic(base, train, report)
    rows = problem.start
    for penalty in sorted({penalty for share, penalty in wanted if share}, reverse=True):
        decay = penalty * (problem.variance or 1.0)  # of features that are all alike
        rows = problem.minimum(rows, decay, TOLERANCE, ITERATIONS)
        for share in {share for share, other in wanted if share and other == penalty}:
            weight = (1 - share) * base.weight + share * rows[:, :-1]
            found[share, penalty] = weight, (1 - share) * base.bias + share * rows[:, -1]
    return found


def blend_of(settings: Mapping[str, Any]) -> Blend:
    """Return the share and the penalty of settings.

    Raises:
        InputError: when one is out of range.
    """
    share, penalty = settings["share"], settings["penalty"]
    Range(0, 1).check(share, "share")
    Range(1e-9, 1e9).check(penalty, "penalty")
    return float(share), float(penalty)


class BalancedLogistic:
    r"""A classifier's class-balanced mean cost as a function of rows (W, b), and its minimum.

    .. math:: \frac{1}{C} \sum_c \frac{1}{n_c} \sum_{i: y_i = c} -\log p_c(W f_i + b)
        + \frac{\lambda}{2} \lVert W \rVert^2

    Args:
        base: whose number of classes and form of features the classifier has.
        train: (N, D) features and labels; every class has a sample.
        report: called after each pass over the samples.

    start: (C, D + 1) zeros, from where the minimum may be sought.
    variance: of a feature, the mean over features, every class with the same weight.
    """

    def __init__(self, base: Classifier, train: FeatureSplit, report: Report = silent) -> None:
        """Read the features once for their moments."""
        self._passes, self._report = 0, report
        self._classes = base.num_classes
        self._weights = balanced_weights(train.labels, base.num_classes)
        self._inputs = Inputs(train, base.feature_size, base.prepare)
        _, centre, covariance = balanced_moments(
            self._inputs.blocks(), base.feature_size, self._weights
        )
        size = float(np.sqrt((np.diag(covariance).clip(0) + centre**2).max()))
        exponent = round(np.log2(size)) if size else 0
        self._unit = 2.0**-exponent if abs(exponent) > FAR else 1.0
        self._centre, self._covariance = centre * self._unit, covariance * self._unit**2
        if self._unit != 1:
            self._inputs = self._in_unit(base, train)
        self.start: Double = np.zeros((base.num_classes, base.feature_size + 1))
        self.variance = float(np.trace(covariance)) / base.feature_size

    def _in_unit(self, base: Classifier, train: FeatureSplit) -> Inputs:
        """Return the features scaled so that float32 products lose nothing."""

        def made_of(features: NDArray[Any]) -> Single:
            return (base.prepare(features).astype(np.float64) * self._unit).astype(np.float32)

        return Inputs(train, base.feature_size, made_of)

    def minimum(self, start: Double, decay: float, tolerance: float, iterations: int) -> Double:
        """Return the (C, D + 1) rows of the minimum, found by L-BFGS from given rows.

        Args:
            start: (C, D + 1) rows.
            decay: the lambda of the equation.
            tolerance: what an iteration has to lower the cost by for another to follow, in units of
                the cost, or of 1 where it is less.
            iterations: most iterations.

        Raises:
            InputError: when the iterations do not suffice.
        """
        from scipy.optimize import minimize

        units = np.append(np.full(start.shape[1] - 1, self._unit), 1.0)  # of a row's columns
        in_unit = decay * self._unit**2
        to_rows = self._coordinates(in_unit)

        def cost(flat: Double) -> tuple[float, Double]:
            value, gradient = self._cost(flat.reshape(start.shape) @ to_rows, in_unit)
            return value, (gradient @ to_rows.T).ravel()

        begin = np.linalg.solve(to_rows.T, (start / units).T).T.ravel()
        result = minimize(
            cost, begin, jac=True, method="L-BFGS-B",
            options={"maxiter": iterations, "maxfun": 4 * iterations, "ftol": tolerance, "gtol": 0},
        )  # fmt: skip
        if result.nit >= iterations:
            raise InputError(
                f"the logistic regression with decay {decay:g} is not at its optimum after "
                f"{iterations} iterations; set a stronger penalty, or more iterations"
            )
        rows: Double = result.x.reshape(start.shape) @ to_rows * units
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
        value, gradient = 0.0, np.zeros(rows.shape)
        work = partial(_cost_of_block, rows.astype(np.float32), self._weights.astype(np.float32))
        for of_block, by_weight, by_bias in in_order(work, self._inputs.blocks(WIDER * len(rows))):
            value += of_block
            gradient[:, :-1] += by_weight
            gradient[:, -1] += by_bias
        self._passes += 1
        self._report("pass over train", self._passes, 0)
        gradient /= len(self._inputs)
        gradient[:, :-1] += decay * rows[:, :-1]
        value = value / len(self._inputs) + 0.5 * decay * float((rows[:, :-1] ** 2).sum())
        return value, gradient


def _cost_of_block(
    rows: Single, weights: Single, block: tuple[Single, Ints]
) -> tuple[float, Single, Double]:
    """Return what a block adds to the cost of (C, D + 1) rows and to its gradients.

    A few samples at a time, whose numbers stay in a core's cache.
    """
    x, labels = block
    logits: Single = x @ rows[:, :-1].T
    share, total, own = weights[labels], np.empty_like(logits[:, 0]), np.empty_like(logits[:, 0])
    by_bias = np.zeros(len(rows))
    for part in blocks(len(labels), max(1, FEW_BYTES // logits[:1].nbytes)):
        z, of = logits[part], labels[part]
        samples = np.arange(len(of))
        z += rows[:, -1]
        z -= z.max(axis=1, keepdims=True)
        own[part] = z[samples, of]
        np.exp(z, out=z)
        total[part] = z.sum(axis=1)
        z *= (share[part] / total[part])[:, None]
        z[samples, of] -= share[part]
        by_bias += z.sum(axis=0, dtype=np.float64)
    value = float(share.astype(np.float64) @ (np.log(total) - own))
    by_weight: Single = logits.T @ x
    return value, by_weight, by_bias
