"""Learnable weight scaling: each class's logit times a learned scale."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ltkit.posthoc import _stacked, check_train
from ltkit.posthoc._stacked import Run
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
    epochs: int = 5,
    batch_size: int = Run.batch_size,
    weight_decay: float = Run.weight_decay,
    seed: int = Run.seed,
    epoch_length: str = Run.epoch_length,
) -> Classifier:
    r"""Learn a scale for each class by cross-entropy on class-balanced samples.

    .. math:: z'_c = s_c (w_c \cdot f + b_c), \quad w'_c = s_c w_c, \quad b'_c = s_c b_c

    Nothing but s is trained, from 1, as in `crt`: the cached logits are all it takes.

    Args:
        base: the classifier to correct.
        train: (N, D) features and labels; every class needs a sample.
        class_counts: not used; the samples decide.
        learning_rate: learning rate of the first step.
        epochs: 0 changes nothing.
        batch_size: samples per step.
        weight_decay: weight decay of the scales, towards 0.
        seed: seed of the samples' order.
        epoch_length: ``data``, an epoch has N draws; ``released``, C times the largest class's
            number, as in the released code: 11 times more on ImageNet-LT.

    Raises:
        InputError: when there is no train split, a class has no sample in it, or a parameter is
            out of range.

    Example:
        >>> train = FeatureSplit(np.float32([[1, 0], [0, 1]]), np.array([0, 1]))
        >>> base = Classifier(np.eye(2, dtype=np.float32), np.zeros(2, dtype=np.float32))
        >>> c = fit(base, train, np.array([1, 1]), epochs=1, learning_rate=1.0, weight_decay=0.0)
        >>> [round(w, 4) for w in c.weight.diagonal().tolist()]  # 1 + 1/2 (1 - e / (1 + e))
        [1.1345, 1.1345]

    Source:
        Kang et al., ICLR 2020, arXiv:1910.09217, sec. 4 (learnable weight scaling).

        The defaults are those of the released code for ImageNet-LT, which scales the bias, too, but
        for the length of an epoch: its 5 are 55 or so of N draws there, ``--set
        epoch-length=released``.
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
    form = _stacked.ScaleAndShift(np.zeros(base.num_classes, np.float32))
    inputs = _stacked.logits_of(base, train, runs[0].epochs)
    found = _stacked.train(inputs, form.start(), runs, form, balanced=True, report=report)
    return [form.classifier(base, parameters) for parameters in found]
