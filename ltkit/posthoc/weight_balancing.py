"""Weight balancing, second stage: class-balanced loss, strong weight decay, bounded row norms."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ltkit.errors import InputError
from ltkit.posthoc import _stacked, check_range, check_size, check_train
from ltkit.posthoc._stacked import Double, Run, Single
from ltkit.records import Classifier, FeatureSplit, Ints, lengths
from ltkit.records.progress import Report, silent

REPORTS = True
GRID = {"learning_rate": (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)}
"""Around the 0.01 of the released code, and below: there the decay of 0.1 all but removes rows that
were not trained with strong decay before."""


def fit(
    base: Classifier,
    train: FeatureSplit | None,
    class_counts: Ints,
    *,
    learning_rate: float = 0.01,
    epochs: int = 10,
    batch_size: int = 64,
    weight_decay: float = 0.1,
    beta: float = 0.9999,
    threshold: float = 0.1,
    seed: int = Run.seed,
) -> Classifier:
    r"""Continue training weight and bias from the classifier, bounding the norms of rows.

    .. math::
        L = \frac{1}{B} \sum_i v_{y_i} \frac{1}{C} \sum_c -\log \bigl( [c = y_i] p_c
            + [c \ne y_i] (1 - p_c) \bigr), \quad
        v_c \propto \frac{1 - \beta}{1 - \beta^{n_c}}, \; \sum_c v_c = C

    by SGD as in `crt`, each sample once an epoch. After each epoch rows longer than d are set to
    that length, with d a part of the way from the least to the greatest norm of the rows at the
    start.

    Args:
        base: the classifier to correct; in the source its network was trained with weight decay
            5e-3.
        train: (N, D) features and labels; every class needs a sample.
        class_counts: (C,) training images per class, all at least 1.
        learning_rate: learning rate of the first step.
        epochs: 0 changes nothing.
        batch_size: samples per step.
        weight_decay: weight decay of weight and bias.
        beta: 0 to 1 of the class weights; 0 gives weights 1, 1 in proportion to ``1 / n_c``.
        threshold: 0 to 1, d's place on the way from the least to the greatest norm.
        seed: seed of the samples' order.

    Raises:
        InputError: when there is no train split, a class has no sample or no training image, or a
            parameter is out of range.

    Example:
        >>> train = FeatureSplit(np.float32([[0, 0], [0, 0]]), np.array([0, 1]))
        >>> base = Classifier(np.float32([[4, 0], [0, 2]]), np.zeros(2, dtype=np.float32))
        >>> c = fit(base, train, np.array([1, 1]), epochs=1, weight_decay=0.0, threshold=0.5)
        >>> c.weight.tolist()  # no feature, no gradient; d = 2 + 1/2 (4 - 2)
        [[3.0, 0.0], [0.0, 2.0]]

    Source:
        Alshammari et al., CVPR 2022, arXiv:2203.14197, sec. 4.

        The defaults, the loss (a binary cross-entropy on softmax, about C times less steep than the
        class-balanced one) and the projection once an epoch are those of the released code.
    """
    run = Run(learning_rate, epochs, batch_size, weight_decay, seed)
    own = {"beta": beta, "threshold": threshold}
    return fit_many(base, train, class_counts, [vars(run) | own])[0]


def fit_many(
    base: Classifier,
    train: FeatureSplit | None,
    class_counts: Ints,
    tried: Sequence[Mapping[str, Any]],
    report: Report = silent,
) -> list[Classifier]:
    """Fit several learning rates and seeds in one pass; each of `tried` is as for `fit`."""
    train, runs = check_train(train, base.num_classes), _stacked.runs_of(tried)
    threshold = tried[0]["threshold"]
    check_range("threshold", threshold, 0, 1)
    weights = _class_weights(class_counts, tried[0]["beta"]).astype(np.float32)
    check_size("head/weight", float(np.abs(base.weight).max()), "multiply it by a number")
    norms = lengths(base.weight)
    longest = norms.min() + threshold * (norms.max() - norms.min())

    def project(parameters: Single) -> None:
        norms = lengths(parameters[..., :-1])
        parameters[..., :-1] *= np.minimum(1, longest / np.where(norms > 0, norms, np.inf))

    def binary(logits: Single, labels: Ints) -> Single:
        return _binary(logits, labels, weights)

    start = np.hstack([base.weight, base.bias[:, None]])
    inputs = _stacked.features_and_one(base, train)
    form = _stacked.Linear()
    found = _stacked.train(
        inputs, start, runs, form, binary, balanced=False, after_epoch=project, report=report
    )
    return [form.classifier(base, rows) for rows in found]


def _binary(logits: Single, labels: Ints, weights: Single) -> Single:
    """Return the gradients of the weighted binary cross-entropy of softmax, its mean over B C."""
    samples = np.arange(len(labels))
    p = _stacked.softmax(logits)  # (B, L, C)
    slope = p / np.maximum(1 - p, 1e-7)  # p times the cost's derivative in p
    slope[samples, :, labels] = -1
    p *= -slope.sum(axis=2, keepdims=True)
    p += slope
    p *= (weights[labels] / p.shape[2] / len(labels))[:, None, None]
    return p


def _class_weights(class_counts: Ints, beta: float) -> Double:
    check_range("beta", beta, 0, 1)
    if class_counts.min() < 1:
        empty = np.flatnonzero(class_counts < 1)
        raise InputError(
            f"class {empty[0]}: no training image, so no weight; {len(empty)} such classes"
        )
    counts = class_counts.astype(np.float64)
    if beta == 0:
        return np.ones(len(counts))
    # expm1 keeps the digits of 1 - beta^n that a beta near 1 would lose; 1 - beta cancels.
    effective = counts if beta == 1 else -np.expm1(counts * np.log(beta))
    weights: Double = len(counts) / effective / (1 / effective).sum()
    return weights
