"""Class-balanced multinomial logistic regression with an L2 penalty, solved to its optimum."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ltkit.errors import InputError
from ltkit.posthoc import check_range, check_train
from ltkit.posthoc._balanced import BalancedLogistic
from ltkit.records import Classifier, FeatureSplit, Ints
from ltkit.records.progress import Report, silent

ANEW = True
REPORTS = True

OUTWEIGHED = 1e9
"""Largest penalty, in units of the features' variance, that leaves any weights."""

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
        base: used only for its number of classes and the form of its features.
        train: (N, D) features and labels; every class needs a sample.
        class_counts: not used; the samples decide.
        inverse_penalty: above 0, the C of the equation and of scikit-learn.
        tolerance: what an iteration has to lower the mean cost by for another to follow, in units
            of the cost, or of 1 where it is less.
        iterations: most iterations; about one pass over the features each.

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
    report: Report = silent,
) -> list[Classifier]:
    """Fit several penalties, each from the optimum of the next stronger; `tried` as for `fit`."""
    train = check_train(train, base.num_classes)
    for settings in tried:
        check_range("inverse_penalty", settings["inverse_penalty"], 1e-12, 1e12)
        check_range("tolerance", settings["tolerance"], 0)
        check_range("iterations", settings["iterations"], 1)
    problem = BalancedLogistic(base, train, report)
    found: dict[int, Classifier] = {}
    start = problem.start
    for number in sorted(range(len(tried)), key=lambda n: float(tried[n]["inverse_penalty"])):
        settings = tried[number]
        decay = 1 / (settings["inverse_penalty"] * len(train))
        if decay > OUTWEIGHED * problem.variance > 0:
            raise InputError(
                f"inverse_penalty: found {settings['inverse_penalty']:g}, with which the penalty "
                f"outweighs features of variance {problem.variance:.2g}; import them in another "
                "unit, or use ridge or blend, which have none"
            )
        start = problem.minimum(start, decay, settings["tolerance"], settings["iterations"])
        found[number] = Classifier(
            start[:, :-1].astype(np.float32), start[:, -1].astype(np.float32),
            base.normalize_features, base.experts,
        )  # fmt: skip
    return [found[n] for n in range(len(tried))]
