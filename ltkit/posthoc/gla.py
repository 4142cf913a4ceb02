"""Generalised logit adjustment: a zero-shot and a fine-tuned head, each freed of its own prior.

The two err in different samples, so their sum errs less than either, once neither is for the
classes that it saw often. What a zero-shot head saw is not known; its prior is estimated on the
training samples, which it was not trained on.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ltkit.errors import InputError
from ltkit.posthoc import check_train, log_prior
from ltkit.posthoc._balanced import blend_of, blends
from ltkit.posthoc._on_val import ValLogits
from ltkit.records import Classifier, FeatureSplit, Ints
from ltkit.records.progress import Report, silent
from ltkit.settings import RANGES

ENSEMBLE = True
REPORTS = True

ITERATIONS = 1000

OPTIONS: dict[str, Any] = {"ftol": 1e-15, "gtol": 1e-9}
"""Of the search for a prior."""


def fit(
    base: Classifier,
    train: FeatureSplit | None,
    class_counts: Ints,
    tuned: Classifier | None = None,
    *,
    tau: float = 1.0,
    penalty: float = 0.02,
) -> Classifier:
    r"""Add the logits of a zero-shot and a fine-tuned head, less the log of each one's prior.

    .. math::
        z_c = z^{zs}_c - \log q_c + z^{ft}_c - \tau \log \pi_c, \quad
        q = \arg\min_{q \in \Delta} \frac{1}{C} \sum_c \frac{1}{n_c} \sum_{i: y_i = c}
            -\log p_c(z^{zs}_i - \log q)

    The risk is that of balanced data, so training samples are weighted; it is convex in log q.

    Args:
        base: the zero-shot head, as that of ``ltkit import --text-features``.
        train: (N, D) features and labels; every class needs a sample.
        class_counts: (C,) training images per class, all at least 1.
        tuned: the fine-tuned head; None: a class-balanced logistic regression on `train`, which has
            no prior to be freed of.
        tau: of the training prior in `tuned`: 1 after plain cross-entropy, 0 after a loss or
            samples that balance the classes.
        penalty: above 0, of that regression's weights, as in `blend`.

    Raises:
        InputError: when there is no train split, a class has no sample, the two heads take features
            in different forms, the zero-shot head's prior is not found, or a parameter is out of
            range.

    Example:
        >>> train = FeatureSplit(np.float32([[1], [-1], [-1]]), np.array([0, 1, 1]))
        >>> zero = Classifier(np.zeros((2, 1), np.float32), np.float32([1, 0]))  # it is for class 0
        >>> tuned = Classifier(np.float32([[2], [-2]]), np.zeros(2, np.float32))
        >>> c = fit(zero, train, np.array([1, 2]), tuned)
        >>> c.weight.tolist(), round(float(c.bias[0] - c.bias[1]), 4)  # 1 - 1 - log 1/3 + log 2/3
        ([[2.0], [-2.0]], 0.6931)

    Source:
        Zhu et al., NeurIPS 2023, arXiv:2310.08106, sec. 4 (the ensemble, and the estimate of q).
    """
    return fit_many(base, train, class_counts, [{"tau": tau, "penalty": penalty}], tuned)[0]


def fit_many(
    base: Classifier,
    train: FeatureSplit | None,
    class_counts: Ints,
    tried: Sequence[Mapping[str, Any]],
    tuned: Classifier | None = None,
    report: Report = silent,
) -> list[Classifier]:
    """Fit several settings, which share the zero-shot head's prior. `tried` as for `fit`."""
    train = check_train(train, base.num_classes)
    prior = log_prior(class_counts)
    alone = [{"share": 1.0, "penalty": settings["penalty"]} for settings in tried]
    for settings, regression in zip(tried, alone, strict=True):
        RANGES["tau"].check(settings["tau"], "tau")
        blend_of(regression)
    if tuned is not None:
        _check_form(base, tuned)
    log_q = estimated_log_prior(base, train, report)
    fitted = {} if tuned is not None else blends(base, train, alone, report)
    found = []
    for settings, regression in zip(tried, alone, strict=True):
        if tuned is None:
            weight, bias = fitted[blend_of(regression)]
        else:
            weight, bias = tuned.weight.astype(np.float64), tuned.bias - settings["tau"] * prior
        bias = bias + base.bias - log_q
        found.append(Classifier(
            (weight + base.weight).astype(np.float32), bias.astype(np.float32),
            base.normalize_features, base.experts,
        ))  # fmt: skip
    return found


def _check_form(base: Classifier, tuned: Classifier) -> None:
    """Refuse heads whose sum is no linear classifier."""
    if (base.normalize_features, base.experts) == (tuned.normalize_features, tuned.experts):
        return
    forms = ["as they are", "normalised"]
    raise InputError(
        f"gla: the zero-shot head takes features {forms[base.normalize_features]}, the fine-tuned "
        f"one {forms[tuned.normalize_features]}, so their sum is no linear head; train it "
        f"{'with' if base.normalize_features else 'without'} --cosine"
    )


def estimated_log_prior(
    base: Classifier, train: FeatureSplit, report: Report = silent
) -> NDArray[np.float64]:
    """Return the (C,) log of the class frequencies that a head's logits are best freed of.

    By L-BFGS in log q, a pass over the samples each; of class-balanced weight, as in `fit`.

    Raises:
        InputError: when logits are so far apart that the search does not end: many q are then as
            good as the best.
    """
    from scipy.optimize import minimize
    from scipy.special import logsumexp

    def passed(_: str, done: int, of: int) -> None:
        report("pass over train for the prior", done, of)

    every = np.arange(base.num_classes)
    problem, unscaled = ValLogits(base, train, every, "classes", passed), np.ones(len(every))

    def cost(log_q: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        value, _, gradient = problem.cost(unscaled, -log_q)
        return value / len(train), -gradient / len(train)

    start = np.zeros(base.num_classes)
    options = {**OPTIONS, "maxiter": ITERATIONS}
    found = minimize(cost, start, jac=True, method="L-BFGS-B", options=options)
    if found.nit >= ITERATIONS:
        raise InputError(
            f"gla: no prior of the zero-shot head is found in {ITERATIONS} iterations: its logits "
            "are too far apart to tell; fit posthoc temperature to it, and give --base that file"
        )
    log_prior_found: NDArray[np.float64] = found.x - logsumexp(found.x)
    return log_prior_found
