"""MARC: each class's margin is calibrated by a learned scale and shift."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ltkit.posthoc import _stacked, check_size, check_train, log_prior
from ltkit.posthoc._stacked import Run, Single
from ltkit.records import Classifier, FeatureSplit, Ints
from ltkit.records.progress import Report, silent

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
) -> Classifier:
    r"""Learn a scale and a shift for each class by balanced softmax.

    .. math:: z'_c = a_c z_c + b_c \lVert w_c \rVert, \quad
        L = -\log \frac{n_y e^{z'_y}}{\sum_j n_j e^{z'_j}}

    from a = 1 and b = 0, each sample once an epoch, by SGD as in `crt`; nothing else is trained,
    so the cached logits are all it takes. Predictions are those of z', without the counts.

    Args:
        base: the classifier to correct.
        train: (N, D) features and labels; every class needs a sample.
        class_counts: (C,) training images per class, all at least 1.
        learning_rate: learning rate of the first step.
        epochs: 0 changes nothing.
        batch_size: samples per step.
        weight_decay: weight decay of scales and shifts, towards 0.
        seed: seed of the samples' order.

    Raises:
        InputError: when there is no train split, a class has no sample or no training image, or a
            parameter is out of range.

    Example:
        >>> train = FeatureSplit(np.float32([[0], [0]]), np.array([0, 1]))
        >>> base = Classifier(np.float32([[2], [3]]), np.zeros(2, dtype=np.float32))
        >>> c = fit(base, train, np.array([3, 1]), epochs=1, learning_rate=1.0, weight_decay=0.0)
        >>> c.bias.tolist()  # b = -(3/4 - 1/2) * 2 and (1/2 - 1/4) * 3, in units of 2 and 3
        [-1.0, 2.25]

    Source:
        Wang et al., ACML 2022, arXiv:2112.07225.

        Epochs, batch size and weight decay are those of `crt` here, not the source's.
    """
    run = Run(learning_rate, epochs, batch_size, weight_decay, seed)
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
    shift = log_prior(class_counts).astype(np.float32)
    check_size("head/weight", float(np.abs(base.weight).max()), "multiply it by a number")
    norms = np.linalg.norm(base.weight.astype(np.float64), axis=1).astype(np.float32)

    def balanced_softmax(logits: Single, labels: Ints) -> Single:
        logits += shift
        return _stacked.cross_entropy(logits, labels)

    form, inputs = _stacked.ScaleAndShift(norms), _stacked.logits_of(base, train, runs[0].epochs)
    found = _stacked.train(
        inputs, form.start(), runs, form, balanced_softmax, balanced=False, report=report
    )
    return [form.classifier(base, parameters) for parameters in found]
