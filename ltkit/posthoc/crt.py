"""Classifier re-training: a new head, trained on class-balanced samples."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ltkit.posthoc import _stacked, check_range, check_train
from ltkit.posthoc._stacked import Run
from ltkit.records import Classifier, FeatureSplit, Ints
from ltkit.records.progress import Report, silent

ANEW = True
REPORTS = True
GRID = {"learning_rate": _stacked.LEARNING_RATES}


def fit(
    base: Classifier,
    train: FeatureSplit | None,
    class_counts: Ints,
    *,
    learning_rate: float = Run.learning_rate,
    epochs: int = Run.epochs,
    batch_size: int = Run.batch_size,
    weight_decay: float = Run.weight_decay,
    seed: int = Run.seed,
    epoch_length: str = Run.epoch_length,
) -> Classifier:
    r"""Train weight and bias from zero by cross-entropy on class-balanced samples.

    .. math:: \min_{W, b} \frac{1}{C} \sum_c \frac{1}{n_c} \sum_{i: y_i = c} -\log p_c(W f_i + b)
        + \frac{\lambda}{2} \lVert (W, b) \rVert^2

    by SGD with momentum 0.9 and a learning rate that falls to 0 along a cosine. An epoch has N / C
    samples of each class, or as many as the largest class has; a class's samples as equally often
    as that allows.

    Args:
        base: used only for its number of classes and the form of its features.
        train: (N, D) features and labels; every class needs a sample.
        class_counts: not used; the samples decide.
        learning_rate: learning rate of the first step.
        epochs: at least 1.
        batch_size: samples per step.
        weight_decay: the lambda of the equation.
        seed: seed of the samples' order.
        epoch_length: ``data``, an epoch has N draws; ``released``, C times the largest class's
            number, as in the released code: 11 times more on ImageNet-LT.

    Raises:
        InputError: when there is no train split, a class has no sample in it, or a parameter is
            out of range.

    Example:
        >>> train = FeatureSplit(np.float32([[1], [-1], [-1]]), np.array([0, 1, 1]))
        >>> base = Classifier(np.zeros((2, 1), dtype=np.float32), np.zeros(2, dtype=np.float32))
        >>> c = fit(base, train, np.array([1, 2]), epochs=1, batch_size=4, learning_rate=1.0)
        >>> c.weight.tolist(), c.bias.tolist()  # one step from p = 1/2: mean of (y - p) f
        ([[0.5], [-0.5]], [0.0, 0.0])

    Source:
        Kang et al., ICLR 2020, arXiv:1910.09217, sec. 4 (classifier re-training).

        The defaults are those of the released code for ImageNet-LT, but for the length of an epoch:
        its 10 are 110 or so of N draws there, ``--set epoch-length=released``. It starts
        from random rows, which a convex problem does not need and with which classes could not
        change places.
    """
    run = Run(learning_rate, epochs, batch_size, weight_decay, seed, epoch_length)
    return fit_many(base, train, class_counts, [vars(run)])[0]


def fit_many(
    base: Classifier,
    train: FeatureSplit | None,
    class_counts: Ints,
    tried: Sequence[Mapping[str, Any]],
    report: Report = silent,
) -> list[Classifier]:
    """Fit several learning rates and seeds in one pass; each of `tried` is as for `fit`."""
    train, runs = check_train(train, base.num_classes), _stacked.runs_of(tried)
    check_range("epochs", runs[0].epochs, 1)
    inputs = _stacked.features_and_one(base, train)
    start = np.zeros((base.num_classes, inputs.width), np.float32)
    form = _stacked.Linear()
    found = _stacked.train(inputs, start, runs, form, balanced=True, report=report)
    return [form.classifier(base, rows) for rows in found]
